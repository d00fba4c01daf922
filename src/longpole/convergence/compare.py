"""Two sides against each other: which reaches the target sooner, and whether by its steps or by its step time. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from longpole.analysis.converge_results import Comparison, Part
from longpole.convergence.intervals import Shift, welch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from longpole.analysis.converge_results import Crossing, SeedRun, Side

ALPHA = 0.05
SAME = 0.05  # an interval that stays this close to 1 is told as no difference
METHOD = (
    "Welch's t test on the logarithms over the seeds, 95 %; log(seconds) = log(steps) + log(seconds a step), "
    "so the two ratios multiply to the third"
)
CENSORED = (
    "Welch's t test on the logarithms over the seeds, 95 %; a run that never reached the target counts with the "
    "seconds it ran, which is less than it needs"
)


def compare(before: Side, after: Side) -> Comparison:
    """`after` against `before`. No verdict where the spread over the seeds is larger than the difference."""
    found = _compare(before, after)
    found.fewer_steps, found.pairs = fewer_steps(before, after)
    return found


def fewer_steps(before: Side, after: Side) -> tuple[int, int]:
    """On how many seeds `after` needed fewer steps, of how many that both ran with; never reached is more than any."""
    needed = {run.seed: math.inf if run.reached is None else run.reached.step for run in before.runs}
    pairs = [(needed[run.seed], run.reached) for run in after.runs if run.seed in needed]
    return sum(reached is not None and reached.step < steps for steps, reached in pairs), len(pairs)


def _compare(before: Side, after: Side) -> Comparison:
    a, b = _crossings(before), _crossings(after)
    if len(a) < len(before.runs) or len(b) < len(after.runs):
        return _with_unreached(before, after)
    seconds, steps = _part(_seconds(a), _seconds(b)), _part(_steps(a), _steps(b))
    step_time = _part(_step_times(a), _step_times(b))
    verdict = _verdict(seconds)
    sentence = _sentence(before, after, verdict, seconds) + _because(verdict, steps, step_time)
    return Comparison(before.label, after.label, verdict, sentence, METHOD, seconds, steps, step_time)


def _crossings(side: Side) -> list[Crossing]:
    """Those with time in them: of a run that begins at its target there is no logarithm."""
    return [run.reached for run in side.runs if run.reached and run.reached.step > 0 and run.reached.seconds > 0]


def _seconds(found: Sequence[Crossing]) -> list[float]:
    return [one.seconds for one in found]


def _steps(found: Sequence[Crossing]) -> list[float]:
    return [float(one.step) for one in found]


def _step_times(found: Sequence[Crossing]) -> list[float]:
    return [one.seconds / one.step for one in found]


def _part(before: Sequence[float], after: Sequence[float]) -> Part:
    shift = welch([math.log(value) for value in before], [math.log(value) for value in after])
    return _as_part(shift)


def _as_part(shift: Shift) -> Part:
    low, high = (None if end is None else math.exp(min(max(end, -700), 700)) for end in (shift.low, shift.high))
    return Part(math.exp(shift.difference), shift.difference, low, high, shift.p)


def _verdict(seconds: Part) -> str:
    if seconds.p is None or seconds.low is None or seconds.high is None:
        return "not known"
    if seconds.p < ALPHA:
        return "sooner" if seconds.ratio < 1 else "later"
    return "not different" if seconds.low > 1 - SAME and seconds.high < 1 + SAME else "not known"


def _sentence(before: Side, after: Side, verdict: str, seconds: Part) -> str:
    interval = "" if seconds.low is None or seconds.high is None else f" ({seconds.low:.2f} to {seconds.high:.2f})"
    ratio = f"{seconds.ratio:.2f}{interval} times the seconds of {before.label}"
    if verdict in ("sooner", "later"):
        return f"{after.label} reaches the target {verdict} than {before.label}: {ratio}, {_p(seconds.p)}."
    if verdict == "not different":
        return f"{after.label} and {before.label} need the same time: {ratio}."
    if seconds.p is None:
        return f"No verdict: {after.label} took {ratio}, and with so few seeds the spread is not known; use --seeds."
    return f"No verdict: {after.label} took {ratio}, and the spread over the seeds is larger than that difference."


def _because(verdict: str, steps: Part, step_time: Part) -> str:
    if verdict not in ("sooner", "later"):
        return ""
    return f" It takes {steps.ratio:.2f} times the steps, and a step {step_time.ratio:.2f} times as long."


def _p(p: float | None) -> str:
    return "p not known" if p is None else "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _with_unreached(before: Side, after: Side) -> Comparison:
    """Where one side reached it in every run, the runs of the other count with the seconds that they ran in vain."""
    a, b = len(_crossings(before)), len(_crossings(after))
    counts = " and ".join(
        f"{side.label} reached the target in {k} of {len(side.runs)} runs" for side, k in ((before, a), (after, b))
    )
    one_is_whole = (a == len(before.runs)) != (b == len(after.runs))
    seconds = _part(_at_least(before), _at_least(after)) if _can_be_placed(before, after) else None
    verdict = _verdict(seconds) if seconds is not None and one_is_whole else "not known"
    slower = "later" if b < len(after.runs) else "sooner"  # what may be said of `after`: the other way is bounded below
    if verdict != slower or seconds is None:
        said = f"No verdict: {counts}. Give more steps (--max-steps) or an easier target (--target)."
        return Comparison(before.label, after.label, "not known", said, CENSORED)
    winner = before.label if verdict == "later" else after.label
    ratio = seconds.ratio if verdict == "later" else 1 / seconds.ratio
    said = f"{winner} reaches the target sooner: {counts}. The other takes at least {ratio:.2f} times the seconds."
    return Comparison(before.label, after.label, verdict, said, CENSORED, seconds)


def _can_be_placed(before: Side, after: Side) -> bool:
    return all(value > 0 for side in (before, after) for value in _at_least(side)) and bool(before.runs and after.runs)


def _at_least(side: Side) -> list[float]:
    return [_least_seconds(run) for run in side.runs]


def _least_seconds(run: SeedRun) -> float:
    return run.reached.seconds if run.reached else run.seconds
