"""Does the harness cost anything? `longpole ops gemm` against MKL called from C++, interleaved A B A B.

    OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/gemm_vs_mkl.py

MKL of torch's own version comes from PyPI into a folder of its own in the cache directory; g++ builds the
driver. Both use one thread and read that thread's processor time, so that other work on the machine takes
nothing from either. Verdict: median ratio of medians at most 1.05 for sizes over 1 ms.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from longpole.bench.operations import Where
from longpole.bench.operations.products import gemm
from longpole.bench.suites import Size, load_suite
from longpole.bench.timing import Protocol, measure

FOLDER = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "longpole-benchmarks" / "mkl"
ROUNDS, CALLS, SIZES = 5, 10, 24
LIMIT = 1.05


def build() -> Path:
    """The driver, built once."""
    found = re.search(r"Math Kernel Library Version (\d+\.\d+)", torch.__config__.show())
    if found is None:
        raise SystemExit("this torch has no MKL: nothing to compare with")
    driver = FOLDER / "gemm_vs_mkl"
    if not (FOLDER / "include" / "mkl.h").exists():
        names = [f"{name}=={found.group(1)}.*" for name in ("mkl", "mkl-devel", "mkl-include")]
        # --prefix, since --target drops the folder `lib`, which is the one needed
        install = [sys.executable, "-m", "pip", "install", "-q", "--ignore-installed", "--prefix", str(FOLDER)]
        subprocess.run([*install, *names], check=True)
    if shutil.which("g++") is None:
        raise SystemExit("needs g++")
    # The packages have no static libraries and no plain `.so` names.
    lib, names = FOLDER / "lib", ("mkl_intel_lp64", "mkl_sequential", "mkl_core")
    libraries = [f"-L{lib}", "-Wl,--no-as-needed", *(f"-l:lib{name}.so.2" for name in names), f"-Wl,-rpath,{lib}"]
    source = Path(__file__).with_suffix(".cpp")
    command = ["g++", "-O2", "-std=c++17", f"-I{FOLDER / 'include'}", str(source), "-o", str(driver)]
    subprocess.run([*command, *libraries, "-lpthread", "-lm", "-ldl"], check=True)
    return driver


def chosen() -> list[Size]:
    """Sizes spread evenly over the training suite's, by FLOPs, that take milliseconds rather than minutes."""
    sizes = sorted(
        (size for size in load_suite("deepbench-train") if size.op == "gemm" and 1e8 < size.flops < 4e9),
        key=lambda size: size.flops,
    )
    return sizes[:: max(1, len(sizes) // SIZES)][:SIZES]


def ask(driver: subprocess.Popen[str], size: Size) -> list[float]:
    assert driver.stdin is not None
    assert driver.stdout is not None
    row = size.row
    driver.stdin.write(f"{row['m']} {row['n']} {row['k']} {row['a_t']} {row['b_t']} {CALLS}\n")
    driver.stdin.flush()
    return [float(text) for text in driver.stdout.readline().split()]


def main() -> int:
    torch.set_num_threads(1)
    driver = subprocess.Popen([str(build())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    protocol = Protocol(budget_s=0.05, fewest=CALLS, clock=time.thread_time_ns)
    ratios: list[tuple[float, float]] = []
    print(f"{'size':<34}{'longpole ms':>12}{'C++ ms':>10}{'ratio':>8}   rounds")
    for size in chosen():
        piece = gemm(size, Where("fp32", "cpu", size.index))[0]
        pairs = [(measure(piece.work, protocol).median_ns, statistics.median(ask(driver, size))) for _ in range(ROUNDS)]
        ours, theirs = (statistics.median(values) / 1e6 for values in zip(*pairs, strict=True))
        each = [a / b for a, b in pairs]
        ratios.append((theirs, ours / theirs))
        print(f"{size.label:<34}{ours:>12.3f}{theirs:>10.3f}{ours / theirs:>8.3f}   {min(each):.3f} to {max(each):.3f}")
    driver.stdin.close() if driver.stdin else None
    driver.wait()
    long = [ratio for theirs, ratio in ratios if theirs > 1]
    middle = statistics.median(long)
    print(f"{len(long)} sizes over 1 ms: median ratio {middle:.3f}, {min(long):.3f} to {max(long):.3f}; limit {LIMIT}")
    print("PASS" if middle <= LIMIT else "FAIL")
    return 0 if middle <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
