"""What a network takes and returns: its tensors, and a part of its batch."""

from __future__ import annotations

from typing import Any

import torch


def cut(value: Any, examples: int, part: range) -> Any:
    """These examples of every tensor whose first dimension runs over `examples`; all else as it is."""
    if isinstance(value, torch.Tensor):
        return value[part.start : part.stop] if value.dim() and value.shape[0] == examples else value
    if type(value) is dict:
        return {key: cut(one, examples, part) for key, one in value.items()}
    if type(value) is list or type(value) is tuple:
        return type(value)(cut(one, examples, part) for one in value)
    return value


def tensors(value: Any) -> list[torch.Tensor]:
    """Every tensor in what a network returned, in order; mappings such as transformers' ModelOutput among them."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [found for one in value for found in tensors(one)] if isinstance(value, (list, tuple)) else []
