"""Chrome traces of other programs: the format is anybody's, and only torch.profiler's events can be told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from longpole.errors import LongpoleError
from longpole.trace import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray


def refuse_foreign(path: Path, kind: NDArray[np.uint8], unknown: Mapping[str, int], fields: Mapping[str, Any]) -> None:
    """Raises LongpoleError where no event is one that torch.profiler writes.

    `unknown` counts the events of each category that no version of it knows; `fields` are those round the events.
    """
    if not unknown or "schemaVersion" in fields or np.any(kind != Kind.OTHER):
        return
    categories = sorted(unknown, key=lambda word: (-unknown[word], word))
    said = ", ".join(repr(word[:40]) for word in categories[:3]) if any(categories) else "none at all"
    raise LongpoleError(
        f"{path} is a Chrome trace, but not of torch.profiler: none of its {len(kind)} events is an operator, a "
        f"kernel or a range of it (their categories: {said}); open what torch.profiler wrote"
    )
