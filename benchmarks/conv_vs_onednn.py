"""Does the harness cost anything? Convolutions against oneDNN's own timings of the same calls.

    OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/conv_vs_onednn.py

A child runs each size with ONEDNN_VERBOSE on; for each call oneDNN prints the time of every primitive it runs:
the convolution, and layout changes (`reorder`). torch changes a layout by itself too: the input gradient of a strided
1 x 1 convolution comes out channels last and is copied (`aten::copy_`, timed by Kineto). Both kinds are reported apart,
as the column `layout`. All times are of the same calls, so other work on the machine slows them alike.

torch's CPU allocator keeps nothing, so by default each call of a large size gets fresh pages from the system and gives
them back: 6,240 page faults and 19 of 28 ms in one input gradient of 25 MB of buffers, in and round the primitive. The
child keeps its pages (MALLOC_* below); `--fresh-pages` measures without. Verdict: median ratio at most 1.05 for sizes
over 1 ms.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = 1.05
SIZES = 12
KEEP_PAGES = {"MALLOC_MMAP_THRESHOLD_": str(2**33), "MALLOC_TRIM_THRESHOLD_": str(2**34)}


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
            calls: list[float] = []
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
                timing = measure(lambda work=piece.work, calls=calls: calls.append(timed_ms(work)), Protocol(1.0))
            copies = [event.cpu_time_total / 1e3 for event in profile.events() or () if event.name == "aten::copy_"]
            found = {
                "label": size.label, "direction": piece.direction, "median_ms": timing.median_ns / 1e6,
                "measured": timing.samples * timing.calls_each, "calls_ms": calls, "copies_ms": copies,
            }  # fmt: skip
            os.write(1, f"\n@end {json.dumps(found)}\n".encode())


def timed_ms(work: Callable[[], object]) -> float:
    began = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - began) / 1e6


def pieces(text: str) -> list[tuple[dict[str, Any], list[float], list[float]]]:
    """(what was measured, ms of each convolution, ms of each layout change) of every piece."""
    found: list[tuple[dict[str, Any], list[float], list[float]]] = []
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


def by_call(parts_ms: list[float], calls: int) -> list[float]:
    """What the parts of each call took together; each call has as many."""
    count, rest = divmod(len(parts_ms), calls)
    if rest:
        raise SystemExit(f"{len(parts_ms)} parts do not divide into {calls} calls")
    return [sum(parts_ms[call * count : (call + 1) * count]) for call in range(calls)]


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as stream:
            environment = {**os.environ, "ONEDNN_VERBOSE": "1", "PYTHONUNBUFFERED": "1"}
            if "--fresh-pages" not in arguments:
                environment.update(KEEP_PAGES)
            subprocess.run([sys.executable, __file__, "child"], stdout=stream, env=environment, check=True)
        found = pieces(log.read_text(errors="replace"))
    ratios: list[float] = []
    print(f"{'size':<68}{'direction':<13}{'longpole':>9}{'oneDNN':>9}{'layout':>8}{'ratio':>7}  ms")
    for what, products, reorders in found:
        calls = what["calls_ms"]
        if len(products) != len(calls):
            print(
                f"{what['label']:<68}{what['direction']:<13} no oneDNN convolution: torch made a matrix product of it"
            )
            continue
        own_copies = by_call(what["copies_ms"], len(calls))
        layouts = [sum(both) for both in zip(by_call(reorders, len(calls)), own_copies, strict=True)]
        ratios_each = [call / (p + layout) for call, p, layout in zip(calls, products, layouts, strict=True)]
        median, product, layout = (what["median_ms"], *(statistics.median(each) for each in (products, layouts)))
        # Other work on the machine strikes one call here and there: both times of one call are divided. What the
        # harness adds to its calls is its median over theirs.
        ratio = (
            statistics.median(ratios_each[-what["measured"] :]) * median / statistics.median(calls[-what["measured"] :])
        )
        print(f"{what['label']:<68}{what['direction']:<13}{median:>9.3f}{product:>9.3f}{layout:>8.3f}{ratio:>7.3f}")
        if product > 1:
            ratios.append(ratio)
    middle = statistics.median(ratios)
    print(f"{len(ratios)} over 1 ms: median ratio {middle:.3f}, {min(ratios):.3f} to {max(ratios):.3f}; limit {LIMIT}")
    print("PASS" if middle <= LIMIT else "FAIL")
    return 0 if middle <= LIMIT else 1


if __name__ == "__main__":
    child() if sys.argv[1:] == ["child"] else sys.exit(main(sys.argv[1:]))
