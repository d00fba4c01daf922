"""The private names of Python that longpole uses, in one place: what to look at when a new Python comes."""

# pyright: reportPrivateUsage=false, reportUnknownMemberType=false

from __future__ import annotations

import atexit
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType

frame_at: Callable[[int], FrameType] = sys._getframe
frames_of_threads: Callable[[], Mapping[int, FrameType]] = sys._current_frames
run_exit_functions: Callable[[], None] = atexit._run_exitfuncs
