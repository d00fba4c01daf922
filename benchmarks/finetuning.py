"""From scratch against fine-tuned, by `longpole converge`, on the examples: writes the table that the documents show.

    python benchmarks/finetuning.py --write docs/convergence.md README.md
    python benchmarks/finetuning.py --seeds 5 --examples digits

Each example first learns one half of its data and keeps the weights; `longpole converge --init` then learns the other
half from them and from scratch, seed by seed in turn, so that what else the machine does falls on both alike. Prints
its own verdict: whether fine-tuning needed fewer steps on every seed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tables import block, marks, write

ROOT = Path(__file__).resolve().parents[1]
ENDS = marks("finetuning", "finetuning.py")
COLUMNS = ("example", "target", "steps from scratch", "steps fine-tuned", "fewer on seeds", "seconds, tuned / scratch")


@dataclass(frozen=True)
class Example:
    name: str
    script: str
    first: tuple[str, ...]  # arguments that learn one half
    second: tuple[str, ...]  # arguments that learn the other
    what: str


EXAMPLES = (
    Example("digits", "finetune_digits.py", ("--digits", "0-4"), ("--digits", "5-9"), "digits 5 to 9 after 0 to 4"),
    Example(
        "text", "finetune_text.py", ("--text", "source"), ("--text", "documentation"),
        "documentation strings after source",
    ),
)  # fmt: skip


def measure(example: Example, seeds: int, folder: Path) -> dict[str, Any]:
    """The JSON of `longpole converge` of one example."""
    script, weights, place = ROOT / "examples" / example.script, folder / "weights.pt", folder / "found.json"
    subprocess.run([sys.executable, str(script), *example.first, "--save", str(weights)], check=True, cwd=folder)
    command = [sys.executable, "-m", "longpole", "converge", "--no-save", "--seeds", str(seeds)]
    command += ["--init", str(weights), "--json", str(place), str(script), *example.second]
    subprocess.run(command, check=True, cwd=folder)
    return json.loads(place.read_text())


def row(example: Example, found: dict[str, Any]) -> list[str]:
    """One line of the table."""
    scratch, tuned = found["sides"]
    return [
        f"`examples/{example.script}`: {example.what}",
        f"{found['metric']['name']} {found['target']['value']:g}",
        _steps(scratch),
        _steps(tuned),
        verdict(found),
        _ratio(found["comparison"]["seconds"]),
    ]


def _steps(side: dict[str, Any]) -> str:
    reached = [run["reached"]["step"] for run in side["runs"] if run["reached"]]
    mean = side["steps"]["mean"]
    return "not reached" if mean is None or not reached else f"{mean:.0f} ({min(reached)} to {max(reached)})"


def verdict(found: dict[str, Any]) -> str:
    """On how many seeds fine-tuning needed fewer steps."""
    scratch, tuned = found["sides"]
    pairs = [
        (a["reached"]["step"] if a["reached"] else a["steps"] + 1, b["reached"]["step"] if b["reached"] else None)
        for a, b in zip(scratch["runs"], tuned["runs"], strict=True)
    ]
    fewer = sum(b is not None and b < a for a, b in pairs)
    return f"{fewer} of {len(pairs)}"


def _ratio(part: dict[str, Any] | None) -> str:
    if part is None:
        return "not known"
    interval = "" if part["low"] is None else f" ({part['low']:.2f} to {part['high']:.2f})"
    return f"{part['ratio']:.2f}{interval}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure fine-tuning against training from scratch.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--examples", nargs="*", default=[one.name for one in EXAMPLES])
    parser.add_argument("--write", nargs="*", type=Path, default=[])
    parser.add_argument("--from-json", nargs="*", type=Path, default=[], help="results kept before, in the same order")
    args = parser.parse_args()
    chosen = [one for one in EXAMPLES if one.name in args.examples]
    results: list[tuple[Example, dict[str, Any]]] = []
    for at, example in enumerate(chosen):
        if at < len(args.from_json):
            results.append((example, json.loads(args.from_json[at].read_text())))
            continue
        with tempfile.TemporaryDirectory() as folder:
            results.append((example, measure(example, args.seeds, Path(folder))))
    text = block(ENDS, COLUMNS, [row(example, found) for example, found in results])
    print(text)
    for example, found in results:
        print(f"{example.name}: fine-tuning needed fewer steps on {verdict(found)} seeds")
    for path in args.write:
        write(path, ENDS, text)


if __name__ == "__main__":
    main()
