"""Is the price list true? Layers are priced, then checkpointed, and both are compared; then the largest batch.

Runs A (as it is) and B (checkpointed) alternate, A B A B, each in a process of its own. The price is made from the
first A. Bytes must be within 2 %; milliseconds within 10 %, or within the noise: the 95 % interval of the differences
of neighbours. Where that interval is wider than the price itself nothing is decided, and that is said: the machine must
be quiet. Of the largest batch, the predicted peak must be within 5 % of the measured one; bytes need no quiet machine.

    OMP_NUM_THREADS=1 python benchmarks/checkpoint_price.py --part price --rounds 3 [--only gpt]
    OMP_NUM_THREADS=1 python benchmarks/checkpoint_price.py --part batch [--only lstm]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from longpole.apply.overhead import checkpoint_overhead
from longpole.whatif.changes import Changes
from longpole.whatif.largest_batch import STUDENT, largest_batch, predicted_peak
from longpole.whatif.memory_runs import run_batch, run_for_memory
from longpole.whatif.priced import price_list

if TYPE_CHECKING:
    from collections.abc import Sequence

    from longpole.analysis.memory_prices import Price
    from longpole.whatif.memory_runs import MemoryRun

BYTES_WITHIN, MS_WITHIN, BATCH_WITHIN = 0.02, 0.10, 0.05
EXAMPLE = str(Path(__file__).parent.parent / "examples" / "char_gpt.py")
TRAIN = """
import argparse
import torch
from torch import nn
torch.manual_seed(0)
parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default={batch})
batch = parser.parse_args().batch_size
{network}
optimizer = torch.optim.AdamW(net.parameters())
for step in range(1000):
    x = torch.randn(batch, *shape)
    optimizer.zero_grad()
    net(x).square().mean().backward()
    optimizer.step()
"""
CONV = """
shape = (32, 32, 32)
def half():
    return [nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()]
def block():
    return nn.Sequential(*half(), *half())
net = nn.Sequential(*(block() for _ in range(6)), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
"""
MLP = """
shape = (512,)
net = nn.Sequential(*(nn.Sequential(nn.Linear(512, 512), nn.GELU(), nn.Linear(512, 512), nn.GELU()) for _ in range(6)),
                    nn.Linear(512, 10))
"""


@dataclass(frozen=True)
class Case:
    """A script, and the layers of it that are priced and checkpointed."""

    target: Sequence[str]
    layers: str  # empty: only its largest batch is predicted
    batches: tuple[int, ...]
    larger: int  # batch whose peak is predicted from these


def cases(folder: Path) -> dict[str, Case]:
    conv, mlp = folder / "conv.py", folder / "mlp.py"
    lstm = ["-m", "longpole.survey.train", "lstm-lm", "--steps", "1000"]
    digits = [str(Path(EXAMPLE).with_name("digits_cnn.py")), "--epochs", "100"]
    conv.write_text(TRAIN.format(batch=16, network=CONV))
    mlp.write_text(TRAIN.format(batch=512, network=MLP))
    gpt = [EXAMPLE, "--steps", "1000", "--eval-every", "0", "--layers", "6", "--batch-size", "8", "--embed", "192"]
    return {
        "gpt": Case(gpt, "blocks.0-4", (2, 4, 8), 20),
        "conv": Case([str(conv)], "0-4", (8, 16, 32), 80),
        "mlp": Case([str(mlp)], "0-4", (256, 512, 1024), 2560),
        "lstm": Case(lstm, "", (4, 8, 16), 40),
        "digits": Case(digits, "", (8, 16, 32), 80),
    }


def chosen_price(run: MemoryRun, layers: str) -> Price:
    from longpole.whatif.layer_names import parse_patterns

    prices = price_list(run.trace, checkpoint_overhead(run.trace.info.threads))
    patterns = parse_patterns([layers])
    return prices.price(life for life in prices.candidates if any(p.fits(prices.paths[life.layer]) for p in patterns))


def check_price(name: str, case: Case, rounds: int, steps: int) -> bool | None:
    """Prints predicted beside measured; whether both are within their limits, None where the noise decides nothing."""
    pairs: list[tuple[MemoryRun, MemoryRun]] = []
    for _ in range(rounds):
        plain = run_for_memory(case.target, Changes(), steps)
        pairs.append((plain, run_for_memory(case.target, Changes(checkpoint=(case.layers,)), steps)))
    prices = [chosen_price(plain, case.layers) for plain, _ in pairs]
    before, after = pairs[0][0].peak_bytes or 0, pairs[0][1].peak_bytes or 0
    freed, predicted = before - after, prices[0].freed_bytes
    bytes_off = abs(predicted / freed - 1) if freed else float("inf")
    print(f"{name:5} checkpoint {case.layers}: peak {before / 2**20:.1f} MiB", flush=True)
    print(
        f"      less    predicted {predicted / 2**20:8.2f} MiB  measured {freed / 2**20:8.2f} MiB  {bytes_off:.2%} off"
    )
    more = [(wall(b) or 0.0) - (wall(a) or 0.0) for a, b in pairs]
    expected, measured = statistics.median(p.ms for p in prices), statistics.median(more)
    half = interval(more)
    step = statistics.median(wall(a) or 0.0 for a, _ in pairs)
    off = abs(expected / measured - 1) if measured else float("inf")
    print(
        f"      longer  predicted {expected:8.2f} ms   measured {measured:8.2f} ms   {off:.1%} off; pairs "
        f"{', '.join(f'{one:.2f}' for one in more)} (± {half:.2f}) of a step of {step:.1f} ms"
    )
    if half >= expected and bytes_off <= BYTES_WITHIN:
        print("      UNDECIDED: bytes within 2 %, milliseconds less than the noise between the pairs", flush=True)
        return None
    in_noise = abs(expected - measured) <= half
    good = bytes_off <= BYTES_WITHIN and (off <= MS_WITHIN or in_noise)
    bytes_are = "within 2 %" if bytes_off <= BYTES_WITHIN else "off by more than 2 %"
    ms_are = "within 10 %" if off <= MS_WITHIN else "within the noise" if in_noise else "off by more than the noise"
    print(f"      {'PASS' if good else 'FAIL'}: bytes {bytes_are}, milliseconds {ms_are}", flush=True)
    return good


def wall(run: MemoryRun) -> float | None:
    return run.study.step.wall_ms.median


def interval(values: Sequence[float]) -> float:
    """Half of the 95 % interval of the mean of these."""
    if len(values) < 2:
        return 0.0
    return STUDENT[min(len(values) - 1, len(STUDENT)) - 1] * statistics.stdev(values) / len(values) ** 0.5


def check_batch(name: str, case: Case, steps: int) -> bool:
    points = [run_batch(case.target, batch, "--batch-size", steps) for batch in case.batches]
    line = largest_batch(points, 1 << 50, "given")
    wanted = int(predicted_peak(points, case.larger))
    found = largest_batch(points, wanted + int(line.sample_bytes / 2), "given")
    measured = run_batch(case.target, case.larger, "--batch-size", steps).peak_bytes
    off = abs(wanted / measured - 1)
    good = off <= BATCH_WITHIN and found.batch_size == case.larger
    print(f"{name:5} largest batch for {wanted / 2**20:.1f} MiB from {case.batches}: {found.batch_size} "
          f"({found.low} to {found.high}); measured there {measured / 2**20:.1f} MiB, {off:.2%} off: "
          f"{'PASS' if good else 'FAIL'}", flush=True)  # fmt: skip
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--only")
    parser.add_argument("--part", choices=("price", "batch", "both"), default="both")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        some = {name: case for name, case in cases(Path(folder)).items() if args.only in (None, name)}
        good: list[bool | None] = []
        if args.part != "batch":
            good += [check_price(name, case, args.rounds, args.steps) for name, case in some.items() if case.layers]
        if args.part != "price":
            good += [check_batch(name, case, 1) for name, case in some.items()]
    undecided = f", {good.count(None)} not decided" if None in good else ""
    print(f"NOT all within their limits{undecided}" if False in good else f"none off its limits{undecided}")
    sys.exit(1 if False in good else 0)


if __name__ == "__main__":
    main()
