"""Does the harness cost anything? Convolutions against oneDNN's own timings of the same calls.

    OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/conv_vs_onednn.py

A child runs each size with ONEDNN_VERBOSE on; for each call oneDNN prints the time of every primitive it runs:
the convolution, and layout changes (`reorder`), which are reported apart. Both times are of the same calls, so
other work on the machine slows both alike. Verdict: median ratio at most 1.05 for sizes over 1 ms.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

LIMIT = 1.05
SIZES = 12


def child() -> None:
    """Measures, and writes a marker round each piece into the same stream as oneDNN's lines."""
    import torch

    from longpole.bench.operations import Where
    from longpole.bench.operations.convolutions import conv
    from longpole.bench.suites import load_suite
    from longpole.bench.timing import Protocol, measure

    torch.set_num_threads(1)
    sizes = sorted(
        (size for size in load_suite("deepbench-train") if size.op == "conv" and 2e8 < size.flops < 3e9),
        key=lambda size: size.flops,
    )
    for size in sizes[:: max(1, len(sizes) // SIZES)][:SIZES]:
        for piece in conv(size, Where("fp32", "cpu", size.index)):
            os.write(1, b"\n@begin\n")
            timing = measure(piece.work, Protocol(budget_s=1.0))
            found = {
                "label": size.label, "direction": piece.direction, "median_ms": timing.median_ns / 1e6,
                "samples": timing.samples, "calls": timing.samples * timing.calls_each,
            }  # fmt: skip
            os.write(1, f"\n@end {json.dumps(found)}\n".encode())


def pieces(text: str) -> list[tuple[dict[str, object], list[float], list[float]]]:
    """(what was measured, ms of each convolution, ms of each layout change) of every piece."""
    found: list[tuple[dict[str, object], list[float], list[float]]] = []
    products: list[float] = []
    reorders: list[float] = []
    for line in text.splitlines():
        if line == "@begin":
            products, reorders = [], []
        elif line.startswith("@end "):
            found.append((json.loads(line[5:]), products, reorders))
        elif ",exec," in line and ",convolution," in line:
            products.append(float(line.rsplit(",", 1)[1]))
        elif ",exec," in line and ",reorder," in line:
            reorders.append(float(line.rsplit(",", 1)[1]))
    return found


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as stream:
            environment = {**os.environ, "ONEDNN_VERBOSE": "1", "PYTHONUNBUFFERED": "1"}
            subprocess.run([sys.executable, __file__, "child"], stdout=stream, env=environment, check=True)
        found = pieces(log.read_text(errors="replace"))
    ratios: list[float] = []
    print(f"{'size':<68}{'direction':<13}{'longpole':>9}{'oneDNN':>9}{'layout':>8}{'ratio':>7}  ms")
    for what, products, reorders in found:
        count = int(str(what["calls"]))
        if len(products) < count:
            print(f"{what['label']:<68}{what['direction']:<13} no oneDNN convolution: another library did it")
            continue
        median, product = float(str(what["median_ms"])), statistics.median(products[-count:])
        layout = sum(reorders) / len(products)
        ratio = median / (product + layout)
        print(f"{what['label']:<68}{what['direction']:<13}{median:>9.3f}{product:>9.3f}{layout:>8.3f}{ratio:>7.3f}")
        if product > 1:
            ratios.append(ratio)
    middle = statistics.median(ratios)
    print(f"{len(ratios)} over 1 ms: median ratio {middle:.3f}, {min(ratios):.3f} to {max(ratios):.3f}; limit {LIMIT}")
    print("PASS" if middle <= LIMIT else "FAIL")
    return 0 if middle <= LIMIT else 1


if __name__ == "__main__":
    child() if sys.argv[1:] == ["child"] else sys.exit(main())
