"""Is the ledger's peak the allocator's? Each reference network is run twice, and both say its peak in the same step.

Predicted: `longpole run`, whose ledger of a step is put together from storages, saved tensors and what operations hold
inside of themselves. Measured: the script without longpole, from its first line on under torch's own profiler with
`profile_memory`; the sum of all that the allocator has handed out and not got back, at its highest in that step.
Bytes do not depend on how busy the machine is.

    OMP_NUM_THREADS=1 python benchmarks/memory_peak.py [NETWORK...]
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WITHIN = 0.02
SCRIPT = "longpole.survey.train"
WINDOW = ("--steps", "1", "--warmup", "1", "--budget", "20")  # a look at each level, and nothing timed


def predicted(network: str) -> dict[str, Any]:
    """The study's account of memory."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "study.json"
        script = ["-m", SCRIPT, network, "--steps", "1000"]
        command = [sys.executable, "-m", "longpole", "run", "--stop", *WINDOW, "--no-save", "-q", "--json", str(place)]
        subprocess.run([*command, *script], check=True, stdout=subprocess.DEVNULL)
        return json.loads(place.read_text())["memory"]


def measured(network: str, step: int) -> int:
    """Bytes allocated at most in this step (0 is the first), in a process of its own."""
    command = [sys.executable, __file__, "--measure", network, "--step", str(step)]
    quiet = {**os.environ, "TORCH_CPP_LOG_LEVEL": "ERROR"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=quiet)  # Kineto talks on stderr
    if done.returncode:
        sys.exit(done.stderr)
    return int(done.stdout.split()[-1])


def measure(network: str, step: int) -> int:
    """Trains to the end of this step under the profiler. A step ends when each of its optimizers has updated."""
    from torch.autograd.profiler import profile
    from torch.optim.optimizer import register_optimizer_step_post_hook

    updates: list[tuple[int, int]] = []  # time, optimizer
    register_optimizer_step_post_hook(lambda optimizer, *_: updates.append((time.time_ns(), id(optimizer))))
    sys.argv = [SCRIPT, network, "--steps", str(step + 1), "--log-every", "1000000000"]
    recorder: Any = profile(use_cpu=True, profile_memory=True, use_kineto=True)
    with recorder:
        runpy.run_module(SCRIPT, run_name="__main__", alter_sys=True)
    last = updates[-1][1]
    ends = [0, *(at for at, optimizer in updates if optimizer == last)]
    events = [(e.start_ns(), e.nbytes()) for e in recorder.kineto_results.events() if e.name() == "[memory]"]
    held = most = 0
    for at, size in sorted(events, key=lambda event: event[0]):
        if at > ends[step] and not most:
            most = held
        held += size
        most = max(most, held) if ends[step] < at <= ends[step + 1] else most
    return most


def check(network: str) -> bool:
    """Prints one row; whether it is within the limit."""
    memory = predicted(network)
    at, bytes_predicted = memory["peak_at"], memory["peak_bytes"]
    bytes_measured = measured(network, at["step"])
    off = bytes_predicted / bytes_measured - 1
    held = sum(holder["bytes"] for holder in memory["holders"] if holder["kind"] == "workspace")
    where = f"{at['phase']}, {at['op']} of {at['layer'] or 'no layer'}"
    print(f"| {network} | {bytes_predicted:,} | {bytes_measured:,} | {off:+.2%} | {held:,} | {where} |", flush=True)
    return abs(off) <= WITHIN


def main() -> None:
    from longpole.survey.catalogue import names

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("networks", nargs="*", default=names())
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--step", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(measure(args.measure, args.step))
        return
    print(
        "| network | predicted, bytes | measured, bytes | off | of it workspace | peak in |\n|---|---|---|---|---|---|"
    )
    off = [network for network in args.networks if not check(network)]
    print(f"off by more than 2 %: {', '.join(off)}" if off else "all within 2 %")
    sys.exit(1 if off else 0)


if __name__ == "__main__":
    main()
