"""The number of threads that torch computes with, whatever the script asks for."""

from __future__ import annotations

import torch


def set_threads(threads: int) -> None:
    """Sets it now, and makes the script's own calls of `torch.set_num_threads` do nothing."""
    torch.set_num_threads(threads)
    torch.set_num_threads = lambda _num: None  # pyright: ignore[reportAttributeAccessIssue]
