"""Are early layers' gradients noisier? `longpole converge --noise` on the examples, written into the documents.

    python benchmarks/gradient_noise.py --write docs/gradient-noise.md
    python benchmarks/gradient_noise.py --from-json digits.json gpt.json --write docs/gradient-noise.md

Prints its own verdict for each network: supported, contradicted or not decided, of the first half and the later half.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tables import block, marks, measured_on, write

ROOT = Path(__file__).resolve().parents[1]
ENDS = marks("depth", "gradient_noise.py")
EXAMPLES = {"digits_cnn.py": [], "char_gpt.py": ["--steps", "60"]}
COLUMNS = (
    "`longpole converge --noise`", "sampled steps", "of them", "layers tested", "correlation of depth and noise",
    "95 %", "p", "early layers noisier?", "noise scale",
)  # fmt: skip


def measure(script: str, words: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "longpole", "converge", "--noise", "--no-save", "--json", "noise.json"]
        subprocess.run([*command, str(ROOT / "examples" / script), *words], check=True, cwd=folder)
        return json.loads((Path(folder) / "noise.json").read_text())["noise"]


def rows(script: str, words: list[str], noise: dict[str, Any]) -> list[list[str]]:
    """Two: the first half of the sampled steps, and the later half."""
    name = " ".join([f"examples/{script}", *words])
    total = noise["total"] or {}
    scale = "" if total.get("noise_scale") is None else f"{total['noise_scale']:,.0f}"
    interval = "" if total.get("high") is None else f" ({total['low']:,.0f} to {total['high']:,.0f})"
    first = _depth(noise["depth_at_first"])
    later = _depth(noise["depth"])
    return [
        [f"`{name}`", str(noise["sampled"]), "first half", *first, ""],
        ["", "", "later half", *later, scale + interval],
    ]


def _depth(test: dict[str, Any] | None) -> list[str]:
    if test is None:
        return ["0", "not known", "", "", "not decided"]
    known = test["correlation"] is not None
    return [
        str(test["layers"]),
        f"{test['correlation']:+.2f}" if known else "not known",
        f"{test['low']:+.2f} to {test['high']:+.2f}" if test["low"] is not None else "",
        "" if test["p"] is None else f"{test['p']:.2g}",
        test["verdict"],
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Test whether early layers' gradients are noisier.")
    parser.add_argument("--write", nargs="*", type=Path, default=[])
    parser.add_argument("--from-json", nargs="*", type=Path, default=[], help="results kept before, in the same order")
    parser.add_argument("--examples", nargs="*", default=list(EXAMPLES))
    args = parser.parse_args()
    cells: list[list[str]] = []
    for at, script in enumerate(args.examples):
        words = EXAMPLES[script]
        kept = args.from_json[at] if at < len(args.from_json) else None
        noise = measure(script, words) if kept is None else json.loads(kept.read_text())["noise"]
        cells += rows(script, words, noise)
        for part, test in (("first half", noise["depth_at_first"]), ("later half", noise["depth"])):
            print(f"{script}, {part}: {test['verdict'] if test else 'not decided'}")
    text = block(ENDS, COLUMNS, cells, below=f"A negative correlation: early layers are noisier. {measured_on()}.")
    print(text)
    for path in args.write:
        write(path, ENDS, text)


if __name__ == "__main__":
    main()
