"""Does the line through some batches say how long a step takes at another one?

    python benchmarks/sweep_left_out.py [--batches 4,8,16,24,32] [--rounds 3] [--threads 1] [SCRIPT ARGS]

Runs the script (examples/char_gpt.py, small, where none is named) at each batch, every round in an order of its own, in
fresh processes as `longpole sweep` does. Then leaves out each batch but the smallest and the largest in turn, fits the
others, and compares: `yes` where the prediction is within 5 % of what was measured, `noise` where it is not, but the
measured mean lies in the interval that the fit gives for it, `NO` where it does neither. An interval wider than half of
the step says nothing: `too busy`. Exit code 1 for a NO.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from longpole.sweep.axes import Axis
from longpole.sweep.fits import fit_batches, predict
from longpole.sweep.running import Plan, begin, run_points

ROOT = Path(__file__).parent.parent
SCRIPT = [str(ROOT / "examples" / "char_gpt.py"), "--layers", "2", "--embed", "96", "--block-size", "64"]
CLOSE = 0.05
WIDEST = 0.5


def verdict(measured: float, predicted: float, low: float | None, high: float | None) -> str:
    if abs(predicted / measured - 1) <= CLOSE:
        return "yes"
    if low is None or high is None or (high - low) / measured > WIDEST:
        return "too busy"
    return "noise" if low <= measured <= high else "NO"


def compare(batches: list[int], times: list[float], left_out: int) -> str:
    """One line of the table, with the verdict at its end."""
    others = [(float(b), ms) for b, ms in zip(batches, times, strict=True) if b != left_out]
    here = [ms for b, ms in zip(batches, times, strict=True) if b == left_out]
    fit = fit_batches([b for b, _ in others], [ms for _, ms in others])
    assert fit is not None
    found, measured = predict(fit, left_out, runs=len(here)), sum(here) / len(here)
    said = verdict(measured, found.value, found.low, found.high)
    low, high = (f"{end:.1f}" if end is not None else "-" for end in (found.low, found.high))
    off = found.value / measured - 1
    return f"{left_out:>6} {measured:>10.2f} {found.value:>10.2f} {low:>9} to {high:<9} {off:>+7.1%}  {said}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", default="4,8,16,24,32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--flag", default="--batch-size", help="the script's own; empty for its DataLoader")
    parser.add_argument("script", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    script = options.script or SCRIPT
    values = tuple(int(value) for value in options.batches.split(","))
    axes = (Axis("batch", values, options.flag or None), Axis("threads", (options.threads,)))
    plan = Plan(script[0], tuple(script[1:]), False, axes, options.rounds, steps=12, warmup=3)
    with tempfile.TemporaryDirectory() as folder:
        done = begin(Path(folder), plan)
        found = run_points(plan, Path(folder), done, 3600, time.monotonic, lambda _: None)
        runs = [run for run in found if run.step_ms]
    batches, times = [run.batch or 0 for run in runs], [run.step_ms or 0.0 for run in runs]
    for batch in sorted(set(batches)):
        here = [ms for b, ms in zip(batches, times, strict=True) if b == batch]
        print(f"batch {batch:>4}: " + ", ".join(f"{ms:.2f}" for ms in here) + " ms")
    print(" batch   measured  predicted   interval             off")
    lines = [compare(batches, times, batch) for batch in sorted(set(batches))[1:-1]]
    print("\n".join(lines))
    return int(any(line.endswith("NO") for line in lines))


if __name__ == "__main__":
    sys.exit(main())
