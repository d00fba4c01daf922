"""What measuring costs the one who is measured.

    python benchmarks/overhead.py [--network mlp] [--only phases|after|ops] [--pairs 40]

Blocks of bare and of measured steps in turn, A B B A, in one process; a pair of neighbouring blocks gives one ratio of
their median steps, and what is reported is the median of the ratios with a 95 % interval (bootstrap over pairs).

    phases   level 0, the phase marks, against nothing: at most 1.01 where a step takes 5 ms or more
    after    a process in which a whole window was measured and is over, against one without longpole: 1.00
    ops      level 2 against torch.profiler alone, both with shapes, started and stopped round each step:
             at most 1.00, for the step itself and for the whole turn with starting, stopping and reading

A step under 5 ms may cost what one of 5 ms may, 50 microseconds a turn. The `empty` network shows that best: a busy
machine blurs a hundredth of 10 ms. A verdict is `yes` or `NO` where the whole interval lies on one side of the limit,
else `not decided`; where the interval is wider than a tenth, the machine is `too busy` for any. Exit code 1 for a NO.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from networks import Step

STEPS_A_BLOCK = 10
UNTIMED = 3  # steps at the start of a block: roots and turns are found there, caches warm up
RESAMPLES = 2000
NAMES = ["empty", "mlp", "conv", "gpt", "tiny500"]  # as in networks.py, which needs torch and seconds
SMALLEST_STEP_MS = 5.0
WIDEST_INTERVAL = 0.1
NOISE_OF_NOTHING = 0.005  # "1.00" means that it rounds to it


@dataclass(frozen=True)
class Comparison:
    what: str
    network: str
    base_ms: float  # median step without
    ratios: tuple[float, ...]  # one a pair of blocks
    limit: float

    @property
    def median(self) -> float:
        return statistics.median(self.ratios)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % for the median, by resampling the pairs."""
        chance = random.Random(0)
        medians = sorted(statistics.median(chance.choices(self.ratios, k=len(self.ratios))) for _ in range(RESAMPLES))
        return medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES)]

    @property
    def verdict(self) -> str:
        low, high = self.interval
        if high - low > WIDEST_INTERVAL:
            return "too busy"
        return "yes" if high <= self.limit else "NO" if low > self.limit else "not decided"

    def line(self) -> str:
        low, high = self.interval
        low_half, _, high_half = statistics.quantiles(self.ratios, n=4)
        return (
            f"{self.what:13} {self.network:8} {self.base_ms:7.2f} ms  {self.median:.4f}  [{low:.4f}, {high:.4f}]  "
            f"{(self.median - 1) * self.base_ms * 1e3:+7.0f} us a turn   half of the pairs {low_half:.3f} to "
            f"{high_half:.3f}   at most {self.limit:.3f}? {self.verdict}"
        )


def timed_steps(step: Step, count: int) -> list[int]:
    """Nanoseconds of each turn, from the start of one to the start of the next, after the untimed ones."""
    stamps: list[int] = []
    for _ in range(UNTIMED + count):
        stamps.append(time.perf_counter_ns())
        step()
    stamps.append(time.perf_counter_ns())
    return [after - before for before, after in pairwise(stamps)][UNTIMED:]


def in_turn(a: Callable[[], Sequence[int]], b: Callable[[], Sequence[int]], pairs: int) -> tuple[float, list[float]]:
    """Runs A B, B A, A B...; the median of all of A in ms, and for each pair the median of B over that of A."""
    all_a: list[int] = []
    ratios: list[float] = []
    for pair in range(pairs):
        if pair % 2:
            times_b, times_a = b(), a()
        else:
            times_a, times_b = a(), b()
        all_a += times_a
        ratios.append(statistics.median(times_b) / statistics.median(times_a))
    return statistics.median(all_a) / 1e6, ratios


# -- level 0 ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def recording(level_name: str) -> Generator[list[tuple[int, int]]]:
    """A recorder that measures every step at one level; the start and end of each step it saw, once it is over."""
    from longpole.capture.plan import Plan, WindowOptions
    from longpole.capture.recorder import Recorder
    from longpole.trace.kinds import Level

    level = Level[level_name]

    class OneLevel(Plan):
        def after(self, duration_ns: int, samples: int = 0) -> Level:  # noqa: ARG002 - every step is measured, however long
            self.in_window = True
            return level

    options = WindowOptions()
    recorder = Recorder(options)
    recorder.plan = OneLevel(options)
    windows: list[tuple[int, int]] = []
    recorder.start()
    try:
        yield windows
    finally:
        recorder.finish()
    if recorder.failure:
        raise RuntimeError(f"the recorder gave up: {recorder.failure}")
    steps = [step for step in recorder.builder.steps if step.level == level]
    if not steps:
        raise RuntimeError(f"no step was measured at level {level_name}")
    windows += [(step.start_ns, step.end_ns) for step in steps]


def compare_phases(name: str, pairs: int) -> list[Comparison]:
    step = build(name)

    def measured() -> list[int]:
        with recording("PHASES"):
            return timed_steps(step, STEPS_A_BLOCK)

    base_ms, ratios = in_turn(lambda: timed_steps(step, STEPS_A_BLOCK), measured, pairs)
    return [Comparison("phases", name, base_ms, tuple(ratios), 1 + 0.01 * max(1.0, SMALLEST_STEP_MS / base_ms))]


# -- after the window ---------------------------------------------------------------------------------------------


def serve(name: str, *, after_window: bool) -> None:
    """A process that runs a block whenever a line comes in, and answers with its times."""
    step = build(name)
    if after_window:
        from longpole.capture.plan import WindowOptions
        from longpole.capture.recorder import Recorder

        recorder = Recorder(WindowOptions(steps=10, warmup=3))
        recorder.start()
        turns = 0
        while not recorder.plan.over:
            step()
            turns += 1
            if recorder.failure or turns > 10_000:
                sys.exit(f"the window did not end: {recorder.failure}")
        recorder.finish()
    for _ in sys.stdin:
        print(json.dumps(timed_steps(step, STEPS_A_BLOCK)), flush=True)


class Server:
    """Two of these take turns: only one is ever at work."""

    def __init__(self, name: str, role: str) -> None:
        command = [sys.executable, os.path.abspath(__file__), "--network", name, "--serve", role]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def block(self) -> list[int]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print("go", file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)


def compare_after(name: str, pairs: int, processes: int = 4) -> list[Comparison]:
    """Several pairs of processes: where memory happens to lie gives each process a speed of its own."""
    base_ms: list[float] = []
    ratios: list[float] = []
    for _ in range(processes):
        bare, after = Server(name, "bare"), Server(name, "after")
        try:
            ms, found = in_turn(bare.block, after.block, max(2, pairs // processes))
        finally:
            bare.close()
            after.close()
        base_ms.append(ms)
        ratios += found
    return [Comparison("after", name, statistics.median(base_ms), tuple(ratios), 1.0 + NOISE_OF_NOTHING)]


# -- level 2 ------------------------------------------------------------------------------------------------------


def compare_ops(name: str, pairs: int) -> list[Comparison]:
    import torch.profiler

    step = build(name)
    inner: dict[str, list[float]] = {"theirs": [], "ours": []}

    def theirs() -> list[int]:
        turns: list[int] = []
        inside: list[int] = []
        for _ in range(UNTIMED + STEPS_A_BLOCK):
            started = time.perf_counter_ns()
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as prof:
                entered = time.perf_counter_ns()
                step()
                inside.append(time.perf_counter_ns() - entered)
            assert prof.profiler is not None
            assert prof.profiler.kineto_results is not None
            sum(event.duration_ns() for event in prof.profiler.kineto_results.events())  # read, in the cheapest way
            turns.append(time.perf_counter_ns() - started)
        inner["theirs"].append(statistics.median(inside[UNTIMED:]))
        return turns[UNTIMED:]

    def ours() -> list[int]:
        with recording("OPS") as windows:
            turns = timed_steps(step, STEPS_A_BLOCK)
        inner["ours"].append(statistics.median(end - start for start, end in windows[UNTIMED:]))
        return turns

    with quiet_fd_2():
        base_ms, ratios = in_turn(theirs, ours, pairs)
    inner_ratios = [b / a for a, b in zip(inner["theirs"], inner["ours"], strict=True)]
    inner_ms = statistics.median(inner["theirs"]) / 1e6
    return [
        Comparison("ops, the step", name, inner_ms, tuple(inner_ratios), 1.0 + NOISE_OF_NOTHING),
        Comparison("ops, the turn", name, base_ms, tuple(ratios), 1.0 + NOISE_OF_NOTHING),
    ]


@contextlib.contextmanager
def quiet_fd_2() -> Generator[None]:
    """Kineto writes a line to stderr whenever it starts or stops."""
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


COMPARISONS = {"phases": compare_phases, "after": compare_after, "ops": compare_ops}


def build(name: str) -> Step:
    import torch
    from networks import NETWORKS

    torch.manual_seed(0)
    step = NETWORKS[name]()
    for _ in range(5):
        step()
    return step


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NAMES, action="append")
    parser.add_argument("--only", choices=list(COMPARISONS), action="append")
    parser.add_argument("--pairs", type=int, default=40, help="pairs of blocks, at least 2")
    parser.add_argument("--json", metavar="FILE", help="write every ratio there, too")
    parser.add_argument("--serve", choices=["bare", "after"], help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    networks = args.network or NAMES
    if args.serve:
        serve(networks[0], after_window=args.serve == "after")
        return
    done: list[Comparison] = []
    print(f"load {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores; {args.pairs} pairs of {STEPS_A_BLOCK} steps")
    for what in args.only or COMPARISONS:
        for network in networks:
            for comparison in COMPARISONS[what](network, args.pairs):
                print(comparison.line(), flush=True)
                done.append(comparison)
    if args.json:
        rows = [{**vars(c), "median": c.median, "interval": c.interval, "verdict": c.verdict} for c in done]
        with open(args.json, "w") as file:
            json.dump(rows, file, indent=1)
    sys.exit(any(comparison.verdict == "NO" for comparison in done))


if __name__ == "__main__":
    main()
