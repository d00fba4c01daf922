"""Backpropagation against two ways without it, to the same loss: runs the example, and writes the documents' table.

    python benchmarks/without_backprop.py --write docs/without-backprop.md
    python benchmarks/without_backprop.py --from-json race.json --write docs/without-backprop.md

Prints its own verdict: whether backpropagation was the fastest on every seed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
from tables import block, marks, measured_on, write

from longpole.analysis.without_backprop_results import Race, Racer
from longpole.report.converge_without import span
from longpole.report.figures import byte_size

ROOT = Path(__file__).resolve().parents[1]
ENDS = marks("race", "without_backprop.py")
COLUMNS = ("way", "tuned rate", "seeds that arrived", "median seconds", "steps", "a step", "peak of a step")


def measure(words: list[str]) -> Race:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "race.json"
        script = ROOT / "examples" / "digits_without_backprop.py"
        subprocess.run([sys.executable, str(script), "--json", str(place), *words], check=True)
        return msgspec.json.decode(place.read_bytes(), type=Race)


def row(one: Racer) -> list[str]:
    steps = sorted(value for value in one.steps if value is not None)
    return [
        one.name,
        "none found" if one.learning_rate is None else f"{one.learning_rate:g}",
        f"{one.reached} of {one.seeds}",
        "not known" if one.median_s is None else f"{one.median_s:.3g}",
        f"{steps[len(steps) // 2]:,}" if steps else "not reached",
        span(one.step_s) or "not known",
        "not known" if one.peak_bytes is None else byte_size(one.peak_bytes),
    ]


def table(race: Race, machine: str) -> str:
    below = (
        f"{race.problem}: {race.parameters:,} parameters, held-out loss {race.target:g}, at most {race.limit_s:g} s "
        f"of one thread a run. {machine}."
    )
    return block(ENDS, COLUMNS, [row(one) for one in race.racers], below=below)


def verdict(race: Race) -> str:
    """A seed that never arrived is behind every one that did."""
    first, *others = race.racers
    ahead = sum(
        seconds is not None and all(other.seconds[at] is None or seconds < (other.seconds[at] or 0) for other in others)
        for at, seconds in enumerate(first.seconds)
    )
    return f"{first.name} was the fastest on {ahead} of {len(first.seconds)} seeds"


def main() -> None:
    parser = argparse.ArgumentParser(description="Race backpropagation against two ways without it.")
    parser.add_argument("--write", nargs="*", type=Path, default=[])
    parser.add_argument("--from-json", type=Path, help="a result of this machine, kept by the example's --json")
    args, words = parser.parse_known_args()
    kept: Path | None = args.from_json
    race = measure(words) if kept is None else msgspec.json.decode(kept.read_bytes(), type=Race)
    text = table(race, measured_on())
    print(text)
    print(verdict(race))
    for path in args.write:
        write(path, ENDS, text)


if __name__ == "__main__":
    main()
