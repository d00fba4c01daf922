"""Do two surveys agree within the interval that each prints? Interleaved A B A B, one run at a time.

python benchmarks/survey_stability.py --networks lenet,gpt-tiny,graph --runs 2 --budget 6 --threads 1

Every network is measured 2 x runs times in fresh processes, in turn for survey A and survey B. Then each figure of B
is looked for in A's interval and the other way round. The verdict is that at least 85 % lie inside (95 % are meant;
with few networks the share itself is uncertain).
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from longpole.survey.catalogue import find, names
from longpole.survey.rows import Measured, backward_to_forward, products_share, rows_of
from longpole.survey.run_one import Asked, run_one

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from longpole.analysis.survey import Estimate, Figures, Row

ENOUGH = 0.85


@dataclass(slots=True)
class Twice:
    """The runs of one network that belong to survey A and to survey B."""

    name: str
    runs: tuple[list[Figures], list[Figures]] = field(default_factory=lambda: ([], []))


def measure(twice: Sequence[Twice], asked: Asked, runs: int) -> None:
    for _ in range(runs):
        for one in twice:
            for side in (0, 1):
                one.runs[side].append(run_one(one.name, asked))


def surveys(twice: Sequence[Twice], size: str) -> tuple[list[Row], list[Row]]:
    both = [[Measured(find(one.name), size, one.runs[side]) for one in twice] for side in (0, 1)]
    return rows_of(both[0]), rows_of(both[1])


def figures(row: Row) -> Iterator[tuple[str, Estimate]]:
    """What the report prints with an interval, small classes left out."""
    if row.backward_to_forward:
        yield "backward / forward", row.backward_to_forward
    if row.products_share:
        yield "products", row.products_share
    for name, estimate in row.classes.items():
        if estimate.value > 0.02:
            yield name, estimate


def compare(one: Row, other: Row) -> Iterator[tuple[str, Estimate, Estimate, bool]]:
    there = dict(figures(other))
    for name, estimate in figures(one):
        if name in there:
            low, high = estimate.low or 0.0, estimate.high if estimate.high is not None else math.inf
            yield name, estimate, there[name], low <= there[name].value <= high


def differences(twice: Sequence[Twice]) -> tuple[float, float]:
    """How far single runs lie from their network's mean: of the ratio's logarithm, of the products' share."""
    logs, shares, freedom = 0.0, 0.0, 0
    for one in twice:
        runs = [*one.runs[0], *one.runs[1]]
        ratios = [math.log(found) for run in runs if (found := backward_to_forward(run))]
        products = [found for run in runs if (found := products_share(run)) is not None]
        if len(ratios) > 1 and len(products) == len(ratios):
            logs += sum((value - sum(ratios) / len(ratios)) ** 2 for value in ratios)
            shares += sum((value - sum(products) / len(products)) ** 2 for value in products)
            freedom += len(ratios) - 1
    return (math.sqrt(logs / freedom), math.sqrt(shares / freedom)) if freedom else (math.nan, math.nan)


def main() -> None:
    parser = argparse.ArgumentParser(description="Whether two surveys agree within the intervals they print.")
    parser.add_argument("--networks", default="mlp,lenet,gpt-tiny,graph,dlrm,pinn", help=f"of {', '.join(names())}")
    parser.add_argument("--size", default="small")
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--budget", type=float, default=6.0)
    parser.add_argument("--threads", type=int, default=None)
    args = parser.parse_args()
    twice = [Twice(name) for name in args.networks.split(",")]
    measure(twice, Asked(args.size, args.budget, args.threads), args.runs)
    a, b = surveys(twice, args.size)
    inside = total = 0
    for one, other in [*zip(a, b, strict=True), *zip(b, a, strict=True)]:
        for name, estimate, again, agrees in compare(one, other):
            inside, total = inside + agrees, total + 1
            mark = "" if agrees else "   outside"
            low, high = estimate.low or 0.0, estimate.high or 0.0
            print(f"{one.network:14} {name:20} {estimate.value:7.3f} ({low:.3f}-{high:.3f})  {again.value:7.3f}{mark}")
    if not total:
        raise SystemExit("nothing was measured")
    ratio, share = differences(twice)
    print(f"single runs differ by {ratio:.3f} in the ratio's logarithm, {share:.4f} in the share of products")
    verdict = "PASS" if inside / total >= ENOUGH else "FAIL"
    print(f"{verdict}: {inside} of {total} figures lie in the other survey's interval ({inside / total:.0%})")


if __name__ == "__main__":
    main()
