"""Two studies side by side: what changed, row by row, and whether the steps are enough to say so."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from longpole.analysis.compare_stats import ALPHA, LEAST_STEPS, Difference, adjusted, compare_values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from longpole.analysis.study import Study

SCHEMA = "longpole.comparison"
VERSION = 1
SAME_WITHIN = 0.05  # of its own time, that a row must stay within to be called the same
LEAST_CHANGE = 0.01  # a smaller change is no change; and a row that may not change by so much of the step is the same
DEVICE_PARTS = ("compute", "communication", "exposed_communication", "memory_copy", "idle")
SECTIONS = ("step", "phase", "device", "op class", "layer", "op")


class Row(msgspec.Struct):
    """One part of the step in A and in B, milliseconds a step; None: there is none of it."""

    section: str  # one of SECTIONS
    name: str
    before_ms: float | None
    after_ms: float | None
    verdict: str  # faster | slower | same | not known | only in A | only in B
    ratio: float | None = None  # B over A
    low: float | None = None  # 95 % interval of the ratio; None: too few steps, or no times of single steps
    high: float | None = None
    p: float | None = None  # adjusted for the number of rows in the section
    steps_before: int = 0
    steps_after: int = 0

    @property
    def delta_ms(self) -> float:
        return (self.after_ms or 0.0) - (self.before_ms or 0.0)


class Comparison(msgspec.Struct):
    """What changed from A to B."""

    schema: str = SCHEMA
    version: int = VERSION
    before: str = "A"
    after: str = "B"
    sentence: str = ""
    verdict: str = "not known"  # of the step: faster | slower | same | not known
    rows: list[Row] = []
    warnings: list[str] = []  # conditions that differ
    failures: list[str] = []  # rules of --fail-if that B breaks
    undecided: list[str] = []  # rules on rows about which nothing is known


@dataclass(frozen=True, slots=True)
class Part:
    """One part in one study. `samples` are its times in single steps; `spread` the interval of its mean over `n`."""

    ms: float | None
    samples: Sequence[float] = ()
    spread: tuple[float, float] | None = None
    n: int = 0


def compare(before: Study, after: Study, names: tuple[str, str] = ("A", "B")) -> Comparison:
    """Every part of both studies, each with a verdict; and the sentence that sums them up."""
    rows: list[Row] = []
    for section, parts_of in PARTS:
        rows += _section(section, parts_of(before), parts_of(after), _step_ms(before))
    found = Comparison(before=names[0], after=names[1], rows=rows, warnings=differing_conditions(before, after))
    step = next((row for row in rows if row.section == "step"), None)
    if step is not None:
        found.verdict = step.verdict
    found.sentence = _sentence(found, step)
    return found


def _step_ms(study: Study) -> float | None:
    part = _step(study).get("step")
    return part.ms if part is not None else None


def _step(study: Study) -> Mapping[str, Part]:
    """The step by its undisturbed samples; of traces, by the steps of the slowest rank."""
    wall = study.step.wall_ms
    samples = [one.ms for one in study.step.samples if one.kind == "measured"]
    if not samples:
        samples = max(([step.ms for step in rank.steps] for rank in study.ranks), key=_middle, default=[])
    middle = wall.median if wall.median is not None else _middle(samples) if samples else None
    spread = (wall.low, wall.high) if wall.low is not None and wall.high is not None else None
    return {"step": Part(middle, samples, spread, wall.n)} if middle is not None else {}


def _middle(values: Sequence[float]) -> float:
    return float(np.median(values)) if len(values) else 0.0


def _phases(study: Study) -> Mapping[str, Part]:
    steps = study.step.wall_ms.n
    return {
        one.phase: Part(
            one.ms, one.samples, (one.low, one.high) if one.low is not None and one.high is not None else None, steps
        )
        for one in study.phases
    }


def _device(study: Study) -> Mapping[str, Part]:
    """Device time by step, the mean of the ranks."""
    found: dict[str, Part] = {}
    for name in DEVICE_PARTS:
        by_step: dict[int, list[float]] = {}
        for rank in study.ranks:
            for step in rank.steps:
                if step.timeline is not None:
                    by_step.setdefault(step.step, []).append(getattr(step.timeline, name).ms)
        samples = [float(np.mean(values)) for _, values in sorted(by_step.items())]
        if samples:
            found[name] = Part(float(np.mean(samples)), samples)
    return found


def _op_classes(study: Study) -> Mapping[str, Part]:
    return {one.op_class: Part(one.ms, one.samples) for one in study.op_classes}


def _layers(study: Study) -> Mapping[str, Part]:
    return {one.layer: Part(one.total_ms, one.samples) for one in study.layers if not one.container and one.layer}


def _ops(study: Study) -> Mapping[str, Part]:
    """Ops by name and role; layers and shapes of a name are added up."""
    found: dict[str, Part] = {}
    for one in study.ops:
        name = one.op if one.role in ("", "none", "forward") else f"{one.op} ({one.role})"
        old = found.get(name)
        if old is None:
            found[name] = Part(one.ms, one.samples)
        else:
            both = len(old.samples) == len(one.samples)
            samples = [a + b for a, b in zip(old.samples, one.samples, strict=True)] if both else []
            found[name] = Part((old.ms or 0.0) + one.ms, samples)
    return found


PARTS: Sequence[tuple[str, Callable[[Study], Mapping[str, Part]]]] = (
    ("step", _step),
    ("phase", _phases),
    ("device", _device),
    ("op class", _op_classes),
    ("layer", _layers),
    ("op", _ops),
)


def _section(section: str, before: Mapping[str, Part], after: Mapping[str, Part], step_ms: float | None) -> list[Row]:
    """Rows of one section, the largest changes first."""
    names = [*before, *(name for name in after if name not in before)]
    pairs = [(name, before.get(name), after.get(name)) for name in names]
    pairs = [(name, a, b) for name, a, b in pairs if (a and a.ms) or (b and b.ms)]
    differences = [difference(a, b) if a and b else Difference(None) for _, a, b in pairs]
    chances = adjusted([one.p for one in differences])
    rows = [
        _row(section, name, a, b, found, p, step_ms)
        for (name, a, b), found, p in zip(pairs, differences, chances, strict=True)
    ]
    return sorted(rows, key=lambda row: -abs(row.delta_ms))


def difference(before: Part, after: Part) -> Difference:
    """By the times of single steps where both have them, else by the intervals of both means."""
    if before.samples and after.samples:
        return compare_values(before.samples, after.samples)
    plain = after.ms / before.ms if before.ms and after.ms is not None else None
    one, other = _deviation(before), _deviation(after)
    if plain is None or plain <= 0 or one is None or other is None:
        return Difference(plain)
    error = float(np.hypot(one, other))
    reach = NormalDist().inv_cdf(1 - ALPHA / 2) * error
    middle = float(np.log(plain))
    p = 2 * (1 - NormalDist().cdf(abs(middle) / error)) if error > 0 else (0.0 if middle else 1.0)
    return Difference(plain, float(np.exp(middle - reach)), float(np.exp(middle + reach)), p, before.n, after.n)


def _deviation(part: Part) -> float | None:
    """Standard error of the logarithm of a part's mean, from its 95 % interval; None where that is not known."""
    if part.spread is None or part.n < LEAST_STEPS or not part.ms:
        return None
    low, high = part.spread
    if not 0 < low <= high:
        return None
    return float(np.log(high / low)) / (2 * NormalDist().inv_cdf(1 - ALPHA / 2))


def _row(
    section: str,
    name: str,
    before: Part | None,
    after: Part | None,
    found: Difference,
    p: float | None,
    step_ms: float | None,
) -> Row:
    a, b = (part.ms if part else None for part in (before, after))
    verdict = "only in B" if before is None else "only in A" if after is None else verdict_of(found, p, a, step_ms)
    return Row(section, name, a, b, verdict, found.ratio, found.low, found.high, p, found.before, found.after)


def verdict_of(found: Difference, p: float | None, before_ms: float | None, step_ms: float | None) -> str:
    """faster, slower, same or not known: a change must be beyond noise, and sameness be shown, too."""
    if found.ratio is None or found.low is None or found.high is None:
        return "not known"
    beyond_noise = p is not None and p <= ALPHA and not found.low <= 1 <= found.high
    if beyond_noise and abs(found.ratio - 1) >= LEAST_CHANGE:
        return "slower" if found.ratio > 1 else "faster"
    within = found.low >= 1 / (1 + SAME_WITHIN) and found.high <= 1 + SAME_WITHIN
    largest = max(abs(found.low - 1), abs(found.high - 1)) * (before_ms or 0.0)
    matters = step_ms is None or largest > LEAST_CHANGE * step_ms
    return "same" if within or (not matters and found.low <= 1 <= found.high) else "not known"


CONDITIONS: Sequence[tuple[str, Callable[[Study], object]]] = (
    ("machine", lambda study: study.machine.name),
    ("cores", lambda study: study.machine.cores),
    ("threads", lambda study: study.machine.threads),
    ("device", lambda study: study.run.device),
    ("framework", lambda study: study.run.framework),
    ("batch size", lambda study: study.run.batch_size),
    ("ranks", lambda study: study.run.world_size),
    ("model", lambda study: study.run.model),
    ("parameters", lambda study: study.run.parameters),
    ("how it was recorded", lambda study: study.run.source),
)


def differing_conditions(before: Study, after: Study) -> list[str]:
    """Sentences on what differs apart from the times; what one of the two does not know is not a difference."""
    found: list[str] = []
    for name, value in CONDITIONS:
        a, b = value(before), value(after)
        if a is not None and b is not None and a != b:
            found.append(f"Not alike: {name} is {a} in A and {b} in B.")
    return found


def _sentence(found: Comparison, step: Row | None) -> str:
    if step is None or step.before_ms is None or step.after_ms is None:
        return "How A and B compare is not known: at least one of them has no step."
    times = f"{_ms(step.before_ms)} to {_ms(step.after_ms)} a step"
    if step.verdict in ("faster", "slower") and step.ratio and step.low and step.high:
        factors = [step.ratio, step.low, step.high]
        factors = factors if step.verdict == "slower" else [1 / step.ratio, 1 / step.high, 1 / step.low]
        amount = "less" if step.delta_ms < 0 else "more"
        where = _where(found, step)
        return (
            f"B is {factors[0]:.2f} times {step.verdict} ({factors[1]:.2f} to {factors[2]:.2f}): {times}, "
            f"{_ms(abs(step.delta_ms))} {amount}{where}."
        )
    if step.verdict == "same" and step.low and step.high:
        return f"B takes as long as A: {times}, a ratio of {step.low:.3f} to {step.high:.3f}."
    few = f"{step.steps_before} and {step.steps_after} steps" if step.steps_before or step.steps_after else "no steps"
    reason = f"the ratio is {step.low:.2f} to {step.high:.2f}" if step.low and step.high else f"{few} are too few"
    return f"Whether B is faster or slower is not known: {times}, but {reason}."


def _where(found: Comparison, step: Row) -> str:
    """In which phase most of the change is: one that makes up at least a third of it."""
    phases = [row for row in found.rows if row.section == "phase" and row.delta_ms * step.delta_ms > 0]
    most = max(phases, key=lambda row: abs(row.delta_ms), default=None)
    if most is None or abs(most.delta_ms) < abs(step.delta_ms) / 3:
        return ""
    sign = "+" if most.delta_ms > 0 else "−"
    return f"; {sign}{_ms(abs(most.delta_ms))} in {most.name}"


def _ms(value: float) -> str:
    return f"{value:.0f} ms" if value >= 99.5 else f"{value:.3g} ms"
