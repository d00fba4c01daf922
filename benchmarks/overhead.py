"""What measuring costs the one who is measured.

    python benchmarks/overhead.py [--network mlp] [--only phases|after|ops] [--pairs 40]

Blocks of bare and of measured steps in turn, A B B A, in one process; a pair of neighbouring blocks gives one ratio of
their median steps, and what is reported is the median of the ratios with a 95 % interval (bootstrap over pairs).

    phases   level 0, the phase marks, against nothing: at most 1.01 where a step takes 5 ms or more
    after    steps after a whole window over steps before it, in a process of its own, against the same in one where
             nothing was measured: 1.00
    ops      level 2 against torch.profiler alone, both with shapes and memory, in one recording of as many steps: at
             most 1.00, for a step, and for all from the recording's start until one can work with what was recorded:
             columns here, the list of events there. "Unread" is all of ours against starting, recording and stopping
             alone, which shows a user nothing.

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

    from longpole.capture.plan import Plan
    from longpole.trace.kinds import Level

STEPS_A_BLOCK = 10
STEPS_AROUND = 60  # before and after a window
STEPS_INSTEAD = 50  # of a window, where nothing is measured
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
    limit: float | None  # None: told beside the others, and held to nothing

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
        if self.limit is None:
            return ""
        low, high = self.interval
        if high - low > WIDEST_INTERVAL:
            return "too busy"
        return "yes" if high <= self.limit else "NO" if low > self.limit else "not decided"

    def line(self) -> str:
        low, high = self.interval
        low_half, _, high_half = statistics.quantiles(self.ratios, n=4)
        asked = "" if self.limit is None else f"   at most {self.limit:.3f}? {self.verdict}"
        return (
            f"{self.what:14} {self.network:8} {self.base_ms:7.2f} ms  {self.median:.4f}  [{low:.4f}, {high:.4f}]  "
            f"{(self.median - 1) * self.base_ms * 1e3:+7.0f} us a turn   half of the pairs {low_half:.3f} to "
            f"{high_half:.3f}{asked}"
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
def recording(plan: type[Plan], level: Level) -> Generator[list[tuple[int, int]]]:
    """A recorder with this plan; the start and end of each step it saw at this level, once it is over."""
    from longpole.capture.plan import WindowOptions
    from longpole.capture.recorder import Recorder

    options = WindowOptions()
    recorder = Recorder(options)
    recorder.plan = plan(options)
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
        raise RuntimeError(f"no step was measured at level {level.name}")
    windows += [(step.start_ns, step.end_ns) for step in steps]


def compare_phases(name: str, pairs: int) -> list[Comparison]:
    from longpole.capture.plan import Plan
    from longpole.trace.kinds import Level

    class EveryStep(Plan):
        def after(self, duration_ns: int, samples: int = 0) -> Level:  # noqa: ARG002 - every step is measured, however long
            self.in_window = True
            return Level.PHASES

    step = build(name)

    def measured() -> list[int]:
        with recording(EveryStep, Level.PHASES):
            return timed_steps(step, STEPS_A_BLOCK)

    base_ms, ratios = in_turn(lambda: timed_steps(step, STEPS_A_BLOCK), measured, pairs)
    return [Comparison("phases", name, base_ms, tuple(ratios), 1 + 0.01 * max(1.0, SMALLEST_STEP_MS / base_ms))]


# -- after the window ---------------------------------------------------------------------------------------------


def before_and_after(name: str, *, measured: bool) -> tuple[list[int], list[int]]:
    """Steps before and after a whole window, or after as many bare steps. One process does this once."""
    step = build(name)
    before = timed_steps(step, STEPS_AROUND)
    if measured:
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
    else:
        for _ in range(STEPS_INSTEAD):
            step()
    return before, timed_steps(step, STEPS_AROUND)


def in_a_process(name: str, role: str) -> float:
    """Median step after over median step before, in a process of its own."""
    command = [sys.executable, os.path.abspath(__file__), "--network", name, "--role", role]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    before, after = json.loads(said)
    return statistics.median(after) / statistics.median(before)


def compare_after(name: str, pairs: int) -> list[Comparison]:
    """Where memory happens to lie gives each process a speed of its own, so each is held against itself: what its
    steps take after the window, of what they took before it, over the same where nothing was measured."""
    ratios: list[float] = []
    for pair in range(max(4, pairs // 2)):
        order = ("bare", "measured") if pair % 2 else ("measured", "bare")
        found = {role: in_a_process(name, role) for role in order}
        ratios.append(found["measured"] / found["bare"])
    base_ms = statistics.median(timed_steps(build(name), STEPS_AROUND)) / 1e6
    return [Comparison("after", name, base_ms, tuple(ratios), 1.0 + NOISE_OF_NOTHING)]


# -- level 2 ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """One recording of `MOST_RECORDED` steps."""

    step_ns: float  # median
    whole_ns: int  # the step before it, with the start of ours at its end, and all until what was recorded is read


def our_block(step: Step) -> Block:
    """As the recorder does it: started and ended at the end of a step, read into columns at once."""
    from longpole.capture.plan import MOST_RECORDED, Plan
    from longpole.trace.kinds import Level

    class OneBlock(Plan):
        turns = 0

        def after(self, duration_ns: int, samples: int = 0) -> Level:  # noqa: ARG002 - however long they take
            self.in_window = True
            self.turns += 1
            is_in_block = 0 <= self.turns - UNTIMED - 1 < MOST_RECORDED
            return Level.OPS if is_in_block else Level.PHASES if self.turns <= UNTIMED else Level.NONE

    with recording(OneBlock, Level.OPS) as windows:
        for _ in range(UNTIMED):
            step()
        started = time.perf_counter_ns()
        for _ in range(1 + MOST_RECORDED):
            step()
        whole_ns = time.perf_counter_ns() - started
    if len(windows) != MOST_RECORDED:
        raise RuntimeError(f"{len(windows)} steps were recorded, not {MOST_RECORDED}")
    return Block(statistics.median(end - start for start, end in windows), whole_ns)


def their_block(step: Step, *, events: bool) -> Block:
    """torch.profiler with the same contents, read into its list of events or, without it, as cheaply as can be."""
    import torch.profiler

    from longpole.capture.plan import MOST_RECORDED

    inside: list[int] = []
    for _ in range(UNTIMED):
        step()
    started = time.perf_counter_ns()
    step()
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, record_shapes=True, profile_memory=True) as prof:
        for _ in range(MOST_RECORDED):
            entered = time.perf_counter_ns()
            step()
            inside.append(time.perf_counter_ns() - entered)
    assert prof.profiler is not None
    assert prof.profiler.kineto_results is not None
    if events:
        len(prof.events() or ())
    else:
        sum(event.duration_ns() for event in prof.profiler.kineto_results.events())
    return Block(statistics.median(inside), time.perf_counter_ns() - started)


def compare_ops(name: str, pairs: int) -> list[Comparison]:
    step = build(name)
    blocks = {"ours": lambda: our_block(step), "raw": lambda: their_block(step, events=False),
              "events": lambda: their_block(step, events=True)}  # fmt: skip
    found: dict[str, list[Block]] = {who: [] for who in blocks}
    with quiet_fd_2():
        for pair in range(max(4, pairs // 4)):
            for who in reversed(blocks) if pair % 2 else blocks:
                found[who].append(blocks[who]())

    def against(who: str, what: str, size: Callable[[Block], float], limit: float | None) -> Comparison:
        pairs_of = zip(found["ours"], found[who], strict=True)
        base_ms = statistics.median(map(size, found[who])) / 1e6
        return Comparison(what, name, base_ms, tuple(size(ours) / size(theirs) for ours, theirs in pairs_of), limit)

    limit = 1.0 + NOISE_OF_NOTHING
    return [
        against("raw", "ops, a step", lambda block: block.step_ns, limit),
        against("events", "ops, with list", lambda block: block.whole_ns, limit),
        against("raw", "ops, unread", lambda block: block.whole_ns, None),
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
    parser.add_argument("--role", choices=["bare", "measured"], help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    networks = args.network or NAMES
    if args.role:
        print(json.dumps(before_and_after(networks[0], measured=args.role == "measured")))
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
