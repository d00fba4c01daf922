"""One batch's gradient and those of its parts, by parameter, held against the gradient that the script got."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from longpole.convergence.noise_estimator import Parts
from longpole.convergence.noise_groups import part_gradients, parts_of
from longpole.convergence.noise_uses import is_unchanged

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from longpole.convergence.noise_uses import Use

AGREES = 0.02  # |sum of the parts - the script's gradient| / |the script's gradient|, at most; bfloat16 has 0.004
ROUNDING = 1e-4  # of the largest beside it: of a bias before a normalization, whose gradient is 0, rounding is left
Fired = tuple["Use", torch.Tensor]  # a use, and the gradient that its output got


def squared(tensor: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor.detach().float())) ** 2


def split(
    fired: Sequence[Fired], deltas: dict[int, torch.Tensor], examples: int | None
) -> tuple[dict[int, Parts], dict[int, str]]:
    """Norms of the batch's parts by parameter, where they sum to `deltas`, what backward added to each gradient.

    Returns them and, for every other parameter, a reason.
    """
    if examples is None or examples < 2:
        return {}, dict.fromkeys(deltas, "a batch of one example cannot be divided")
    parts = parts_of(examples)
    found: dict[int, Parts] = {}
    reasons: dict[int, str] = {}
    for identities in _used_together(fired, deltas):
        uses = [one for one in fired if identities[0] in one[0].parameters]
        sums, reason = _sums(identities, uses, parts, examples)
        largest = max(squared(deltas[identity]) for identity in identities)
        for identity in identities:
            if sums is None:
                reasons[identity] = reason
            elif _agree(sums[identity], deltas[identity], largest):
                found[identity] = _means(sums[identity], [len(part) for part in parts])
            else:
                reasons[identity] = "only part of its gradient comes from calls that can be watched"
    return found, reasons


def before_mixing(fired: Sequence[Fired]) -> set[int]:
    """Parameters used before an operation that mixes the examples of a batch, or by it.

    `fired` is in the order of backward, the reverse of the forward pass.
    """
    mixing = [index for index, (use, _) in enumerate(fired) if use.mixes_examples]
    return {one for use, _ in fired[mixing[0] :] for one in use.parameters} if mixing else set()


def _used_together(fired: Sequence[Fired], identities: Iterable[int]) -> list[list[int]]:
    """Parameters in lots that are used by the same calls, so that no call is gone through twice."""
    lots: dict[tuple[int, ...], list[int]] = {}
    for identity in identities:
        calls = tuple(index for index, (use, _) in enumerate(fired) if identity in use.parameters)
        lots.setdefault(calls or (-1, identity), []).append(identity)
    return list(lots.values())


def _sums(
    identities: Sequence[int], uses: Sequence[Fired], parts: Sequence[range], examples: int
) -> tuple[dict[int, list[torch.Tensor]] | None, str]:
    """Each parameter's gradient over each part, all its uses summed; None and a reason where it cannot be told."""
    if not uses:
        return None, "it is used in a way that is not watched"
    total: dict[int, list[torch.Tensor]] = {}
    for use, gradient in uses:
        if use.batch is None or use.batch.examples != examples:
            return None, "it is used with batches of several sizes"
        if not is_unchanged(use):
            return None, "its input was overwritten"
        found = part_gradients(use, gradient, parts)
        if found is None:
            return None, "its input does not run over the batch"
        for identity in identities:
            mine = [one[identity] for one in found]
            before = total.get(identity)
            total[identity] = mine if before is None else [a + b for a, b in zip(before, mine, strict=True)]
    return total, ""


def _means(sums: Sequence[torch.Tensor], sizes: Sequence[int]) -> Parts:
    """A part's gradient over its share of the examples is the mean over its own examples, as the whole's is."""
    examples = sum(sizes)
    norms = tuple(squared(one) * (examples / size) ** 2 for one, size in zip(sums, sizes, strict=True))
    return Parts(tuple(sizes), norms, squared(torch.stack(list(sums)).sum(0)))


def _agree(sums: Sequence[torch.Tensor], delta: torch.Tensor, largest: float) -> bool:
    """`largest` is the squared norm of the largest gradient of the same calls: beside it, rounding is nothing."""
    wanted = delta.float()
    difference = torch.stack(list(sums)).sum(0).reshape(wanted.shape) - wanted
    size = max(largest, *(squared(one) for one in sums))
    return squared(difference) <= max(AGREES**2 * squared(wanted), ROUNDING**2 * size)
