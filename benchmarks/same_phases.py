"""Whether a live run and a trace of plain torch.profiler give one script the same phases.

    OMP_NUM_THREADS=1 python benchmarks/same_phases.py [--rounds 5] [--within 0.02]

Each round runs `tests/scripts/own_profiler.py` under `longpole run`, whose own trace and Perfetto trace are opened
again, and by itself with torch.profiler, whose Chrome trace is opened: A B A B. All three are held against each
other; and, to see who is wrong where they differ, each against a stopwatch in the same sort of process: the live run
against the script alone, the plain trace against the script under the profiler. Data, transfer and other are one: a
plain trace has no mark where a batch is made without a DataLoader.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "tests" / "scripts" / "own_profiler.py"
MARKED = ("forward", "loss", "backward", "clip", "optimizer")
STAMPED = ("", "forward", "loss", "optimizer", "backward", "optimizer")  # between one stamp of the script and the next
RECORDED = slice(8, 20)  # steps that the script's schedule records
Shares = dict[str, float]


def call(*words: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL, env=environment)


def shares_of(study: Path) -> Shares:
    found = {phase["phase"]: phase["share"] for phase in json.loads(study.read_text())["phases"]}
    return _with_other({name: found.get(name, 0.0) for name in MARKED})


def stopwatch(times: Path) -> Shares:
    """Shares of the recorded steps, each without the profiler's own `step`: the last one ends the recording there."""
    stamps = json.loads(times.read_text())[RECORDED]
    whole = sum(stamp[-1] - stamp[0] for stamp in stamps)
    sums: Shares = dict.fromkeys(MARKED, 0.0)
    for stamp in stamps:
        for name, (begin, end) in zip(STAMPED, pairwise(stamp), strict=True):
            if name:
                sums[name] += (end - begin) / whole
    return _with_other(sums)


def _with_other(named: Shares) -> Shares:
    return {**named, "other": 1 - sum(named.values())}


def one_round(folder: Path) -> dict[str, Shares]:
    run, alone, timed = folder / "run.json", folder / "alone.json", folder / "timed.json"
    traces = {"trace": folder / "own.longpole", "perfetto": folder / "p.json.gz", "plain": folder / "plain.json"}
    options = [word for name in ("trace", "perfetto") for word in (f"--{name}", str(traces[name]))]
    call("-m", "longpole", "run", "-q", "--no-save", "--json", str(run), *options, str(SCRIPT), "--steps", "40")
    call(str(SCRIPT), "--steps", "24", "--times", str(alone))
    call(str(SCRIPT), "--steps", "24", "--times", str(timed), "--profile", str(traces["plain"]))
    found = {"run": shares_of(run)}
    for name, trace in traces.items():
        study = folder / f"{name}.study.json"
        call("-m", "longpole", "open", "-q", str(trace), "--json", str(study))
        found[name] = shares_of(study)
    return {**found, "stopwatch alone": stopwatch(alone), "stopwatch profiled": stopwatch(timed)}


def apart(one: Shares, other: Shares) -> float:
    return max(abs(one[phase] - other[phase]) for phase in one)


def verdict(found: dict[str, list[Shares]], name: str, truth: str, within: float) -> bool:
    differences = [apart(*pair) for pair in zip(found[name], found[truth], strict=True)]
    middle = statistics.median(differences)
    spread = f"{100 * min(differences):.2f} to {100 * max(differences):.2f}"
    said = "same" if middle <= within else "DIFFERENT"
    print(f"{name} against {truth}: {100 * middle:.2f} points apart at most (rounds {spread}): {said}")
    return middle <= within


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--within", type=float, default=0.02, help="of the step")
    args = parser.parse_args()
    found: dict[str, list[Shares]] = {}
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as folder:
            for name, shares in one_round(Path(folder)).items():
                found.setdefault(name, []).append(shares)
    print(f"medians of {args.rounds} rounds, % of the step")
    for name, rounds in found.items():
        middle = {phase: 100 * statistics.median(one[phase] for one in rounds) for phase in rounds[0]}
        print(f"{name:20}" + "  ".join(f"{phase} {share:5.2f}" for phase, share in middle.items()))
    pairs = [(name, "stopwatch alone") for name in ("run", "trace", "perfetto")] + [("plain", "stopwatch profiled")]
    pairs += [("trace", "run"), ("perfetto", "run"), ("plain", "run")]
    same = [verdict(found, name, truth, args.within) for name, truth in pairs]
    moved = statistics.median(map(apart, found["stopwatch profiled"], found["stopwatch alone"]))
    print(f"recording by torch.profiler itself moves shares by {100 * moved:.2f} points")
    again = [100 * apart(*pair) for pair in pairwise(found["stopwatch alone"])]
    if again:
        print(f"the script alone, in one process and the next, differs by {statistics.median(again):.2f} points")
    return 0 if all(same) else 1


if __name__ == "__main__":
    sys.exit(main())
