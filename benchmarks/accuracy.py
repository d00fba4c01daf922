"""How exact the figures are: planted delays, what longpole reports of them, and what they really took.

    python benchmarks/accuracy.py [--rounds 3] [--only NAME ...]

A planted script writes how long each of its delays took. These are taken on the very steps whose time the report
is made of, and of what comes only now and then on all steps; a delay after the optimizer's step falls into the next
one. What else the phase holds (a forward pass also multiplies) is taken from the same script with no delay, in turn
with the other: A B A B; or the script's own clock round the whole phase is what is held against, where it has one
(after a pause the same line takes longer, with cold caches: 0.3 ms of it were measured). The verdict holds the median
difference against the larger of 2 % and 0.3 ms.

Other load spoils the figures. With `chrt --fifo 50` before the command, where that is allowed, it waits its turn.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PLANTED = Path(__file__).resolve().parents[1] / "tests" / "planted"
STEPS = 80  # of each script
SHARE, FLOOR_MS = 0.02, 0.3
BUSY = 0.75  # load for each core before the run: above it no verdict is given


@dataclass(frozen=True)
class Case:
    """One delay of one script. `late` delays run after the optimizer's step: they belong to the step after.

    `whole` is the script's own clock round all that the phase holds.
    """

    script: str
    delay: str
    phase: str
    layer: str | None = None
    late: bool = False
    every: int = 1  # runs once in so many steps
    whole: str | None = None


CASES = (
    Case("everything", "data", "data"),
    Case("everything", "forward", "forward", "slow"),
    Case("everything", "backward", "backward", "slow"),
    Case("everything", "optimizer", "optimizer"),
    Case("everything", "other", "other", late=True),
    Case("dataset_delay", "data", "data"),
    Case("batch_function_delay", "data", "data"),
    Case("batch_between", "data", "data"),
    Case("functional", "data", "data", whole="batch"),
    Case("threads_train", "data", "data"),
    Case("accumulation", "data", "data"),
    Case("forward_delay", "forward", "forward", "slow"),
    Case("backward_delay", "backward", "backward", "slow"),
    Case("hook_backward_delay", "backward", "backward", "slow"),
    Case("gan", "forward", "forward", "Discriminator"),
    Case("optimizer_delay", "optimizer", "optimizer"),
    Case("logging_delay", "other", "other", late=True),
    Case("logging_before_backward", "other", "other"),
    Case("eval_delay", "evaluation", "evaluation", late=True, every=5),
    Case("checkpoint_delay", "checkpoint", "checkpoint", late=True, every=5),
)


def run(script: str, *, delayed: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """The report of one run and the script's own record of its delays."""
    with tempfile.TemporaryDirectory() as folder:
        study, truth = Path(folder) / "study.json", Path(folder) / "truth.json"
        command = ["-m", "longpole", "run", "-q", "--no-save", "--json", str(study), str(PLANTED / f"{script}.py")]
        none = [] if delayed else ["--delay-ms", "0"]
        found = subprocess.run(
            [sys.executable, "-X", "faulthandler", *command, "--steps", str(STEPS), *none],
            env={
                **os.environ,
                "PLANTED_TRUTH": str(truth),
                "OMP_NUM_THREADS": "1",
            },  # else other load stalls its barriers
            cwd=folder,
            check=False,
            capture_output=True,
            text=True,
        )
        if found.returncode:
            raise SystemExit(f"{script} ended with {found.returncode}:\n{found.stderr}")
        return json.loads(study.read_text()), json.loads(truth.read_text())["delays"]


def steps_seen(truth: dict[str, Any], case: Case, steps: int) -> list[float]:
    """Milliseconds of the delay in each step of the script, the first being 0."""
    each: list[float] = truth[case.whole or case.delay]["each_ms"]
    turns = steps // case.every
    calls = max(round(len(each) / turns), 1)  # a GAN's discriminator is called three times a step
    if case.delay == "data" and case.script == "batch_between":
        each = each[1:]  # the first batch is fetched before the loop
    found = [0.0] * (steps + 1)
    for turn in range(min(turns, len(each) // calls)):
        step = (turn + 1) * case.every - 1 + case.late
        found[step] += sum(each[turn * calls : (turn + 1) * calls])
    return found


def wanted_ms(study: dict[str, Any], truth: dict[str, Any], case: Case) -> float:
    """The mean of the delay over the steps that the report's times are made of.

    What comes now and then is reported as it falls to a step of the loop, however many of it the timed steps met.
    """
    first = 1 if case.script == "gan" else 0  # the turn in which the second optimizer is met counts as two
    each = steps_seen(truth, case, steps=STEPS)
    if case.every > 1:
        return statistics.fmean(each[case.late : case.late + STEPS])
    measured = [sample["step"] for sample in study["step"]["samples"] if sample["kind"] == "measured"]
    return statistics.fmean(each[step - first] for step in measured)


def reported_ms(study: dict[str, Any], case: Case) -> float:
    if case.layer is None:
        return sum(phase["ms"] for phase in study["phases"] if phase["phase"] == case.phase)
    [layer] = [layer for layer in study["layers"] if layer["layer"] == case.layer]
    own = "own_" if layer["container"] else ""
    return layer[f"{own}{case.phase}_ms"] or 0.0


def differences(script: str, rounds: int) -> dict[Case, list[tuple[float, float]]]:
    """(planted, reported without what is there anyway) of each round."""
    cases = [case for case in CASES if case.script == script]
    found: dict[Case, list[tuple[float, float]]] = {case: [] for case in cases}
    for _ in range(rounds):
        (study, truth), (bare, none) = run(script, delayed=True), run(script, delayed=False)
        for case in cases:
            anyway = 0.0 if case.whole else reported_ms(bare, case) - wanted_ms(bare, none, case)
            found[case].append((wanted_ms(study, truth, case), reported_ms(study, case) - anyway))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", metavar="SCRIPT", default=None)
    args = parser.parse_args()
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    busy = load > BUSY and os.sched_getscheduler(0) != os.SCHED_FIFO
    print(f"load {load:.2f} a core" + (": too busy for a verdict, the figures are shown all the same" if busy else ""))
    print(f"{'script':26}{'delay':12}{'planted ms':>12}{'reported ms':>13}{'difference':>12}{'allowed':>9}  verdict")
    missed = 0
    for script in dict.fromkeys(case.script for case in CASES if args.only is None or case.script in args.only):
        for case, rounds in differences(script, args.rounds).items():
            planted, reported = (statistics.median(column) for column in zip(*rounds, strict=True))
            difference = statistics.median(found - wanted for wanted, found in rounds)
            allowed = max(SHARE * planted, FLOOR_MS)
            good = abs(difference) <= allowed
            missed += not good
            verdict = "too busy" if busy else "ok" if good else "MISSED"
            figures = f"{planted:12.3f}{reported:13.3f}{difference:+12.3f}{allowed:9.3f}"
            print(f"{script:26}{case.delay:12}{figures}  {verdict}", flush=True)
    return 0 if busy or not missed else 1


if __name__ == "__main__":
    sys.exit(main())
