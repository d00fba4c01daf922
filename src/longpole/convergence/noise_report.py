"""From sampled updates to a NoiseReport: layers, the test of depth, what could not be measured, in sentences."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.noise_results import DepthTest, NoiseReport
from longpole.convergence.noise_depth import depth_correlation, depth_test, ordered
from longpole.convergence.noise_estimator import DECAY
from longpole.convergence.noise_layers import layer_noise, step_weights, total_noise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from longpole.analysis.noise_results import LayerNoise
    from longpole.convergence.noise_layers import Measured, NamedLayer
    from longpole.convergence.noise_watch import Sample

HALVES_NOTE = (
    "Batch normalization makes the examples of a batch depend on one another, so the network was run again on halves "
    "of its batch, with the script's own loss; buffers and random numbers were put back."
)
FIRST, LATER = "first half", "later half"  # of the sampled steps
MOST_NAMED = 6  # layers named in a note


@dataclass(frozen=True, slots=True)
class Seen:
    """What the watch saw, without tensors or modules."""

    samples: Sequence[Sample]
    layers: Sequence[NamedLayer]  # in forward order
    steps: int
    every: int
    measuring_share: float | None = None
    reasons: Sequence[str] = ()  # why sampled updates gave nothing
    ran_again: bool = False  # on halves of the batch


def noise_report(seen: Seen) -> NoiseReport:
    """The report; where nothing could be measured, its `notes` say why."""
    batch = _usual([sample.examples for sample in seen.samples if sample.examples])
    samples = [sample for sample in seen.samples if sample.examples == batch]
    weights = step_weights(samples)
    rows = [layer_noise(layer, depth, samples, weights, batch) for depth, layer in enumerate(seen.layers)]
    measured = [one for one in rows if not one[0].not_covered]
    elements = sum(layer.elements for layer in seen.layers)
    report = NoiseReport(
        method=_method(samples, again=seen.ran_again),
        batch=batch,
        part=_part(samples),
        steps=seen.steps,
        sampled=len(samples),
        every=seen.every,
        decay=DECAY,
        total=total_noise(measured, samples, batch),
        layers=[row for row, _ in rows],
        covered_share=sum(row.parameters for row, _ in measured) / elements if elements else None,
        depth=_depth(measured, LATER) if measured else None,
        depth_at_first=_depth(measured, FIRST) if measured else None,
        measuring_share=seen.measuring_share,
    )
    report.sentence = _sentence(report)
    report.notes = _notes(seen, report)
    return report


def _usual(values: Sequence[int]) -> int | None:
    return Counter(values).most_common(1)[0][0] if values else None


def _method(samples: Sequence[Sample], *, again: bool) -> str:
    if not any(sample.by_parameter for sample in samples):
        return "none"
    return "micro-batches" if samples[-1].from_micro_batches else "halves run again" if again else "parts of the batch"


def _part(samples: Sequence[Sample]) -> float | None:
    sizes = [size for sample in samples for parts in sample.by_parameter.values() for size in parts.sizes]
    return float(np.mean(sizes)) if sizes else None


def _depth(measured: Sequence[Measured], when: str) -> DepthTest:
    """Tested over weight matrices and kernels alone: a bias or a table of embeddings is noisy in a way of its own."""
    found = depth_test(*_moments([one for one in measured if one[0].is_matrix], when))
    signal, variance = _moments(measured, when)
    if len(measured) >= 3 and signal.size:
        found.all_layers_correlation = depth_correlation(signal, variance)
    return found


def _moments(measured: Sequence[Measured], when: str) -> tuple[np.ndarray, np.ndarray]:
    """|G|² and tr(Σ) by (layer, step), over the first or the later half of the steps that all of these layers have."""
    shared = sorted(set.intersection(*(set(found) for _, found in measured))) if measured else []
    half = len(shared) // 2
    shared = shared[half:] if when == LATER else shared[:half]
    signal = ordered([[found[step].squared_norm for step in shared] for _, found in measured])
    return signal, ordered([[found[step].variance for step in shared] for _, found in measured])


def _sentence(report: NoiseReport) -> str:
    if report.total is None:
        return "Gradient noise could not be measured here."
    scale, batch = report.total, report.batch or 0
    if scale.noise_scale is None or scale.high is None:
        least = f"at least {scale.low:,.0f} examples" if scale.low is not None else "beyond what was measured"
        return (
            f"The noise scale is {least}: over {scale.steps} sampled steps the gradient is not told from 0 "
            f"behind its noise. More steps (--noise-every) would narrow it."
        )
    times = scale.noise_scale / batch if batch else 0.0
    beside = f"{times:.2g} times" if times >= 1 else f"{times:.2g} of"
    return (
        f"The noise scale is {scale.noise_scale:,.3g} examples ({scale.low or 0:,.3g} to {scale.high:,.3g}), "
        f"{beside} the batch of {batch}."
    )


def _notes(seen: Seen, report: NoiseReport) -> list[str]:
    notes = [f"Not measured: {reason}." for reason in sorted(seen.reasons)]
    by_reason: dict[str, list[LayerNoise]] = {}
    for row in report.layers:
        if row.not_covered and report.method != "none":
            by_reason.setdefault(row.not_covered, []).append(row)
    for reason, rows in by_reason.items():
        names = ", ".join(row.path or row.type for row in rows[:MOST_NAMED])
        more = f" and {len(rows) - MOST_NAMED} more" if len(rows) > MOST_NAMED else ""
        notes.append(f"Not covered: {names}{more}: {reason}.")
    if seen.ran_again:
        notes.append(HALVES_NOTE)
    if not seen.samples and not seen.reasons:
        notes.append(f"Only {seen.steps} steps were seen; noise is sampled from the third on.")
    other = len(seen.samples) - report.sampled
    if other:
        notes.append(f"{other} sampled steps had a batch of another size and are left out.")
    return notes
