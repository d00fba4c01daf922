"""Opening a large trace: longpole against HolisticTraceAnalysis, the bare decoder, and itself on eight ranks.

    python benchmarks/traces.py [--trace FILE] [--events 1700000] [--rounds 3] [--in-python] [--skip-rivals]
                                [--skip-ranks]

Enlarges a recorded trace (from ../shared/traces, or the folder in LONGPOLE_TRACES) by repeating it in time, then
runs each contender in a fresh process, in turn, and prints a verdict for each bar. What is measured is the command
`longpole open FILE...`, from the start of its process to its end, report and all; with --in-python, reading the columns
and the timeline. HTA 0.5.0, its renamed successor traceinsight 0.6.1 and TraceLens (from its repository,
or from what --tracelens names) are installed into environments of their own under the cache folder, once.

Times are of rounds in which nothing else is looked at. Memory is of a pass of its own: every 20 ms the proportional
set sizes of the process and of all that it started are summed, so that memory which they share counts once, and columns
in shared memory that it holds and has not looked at are added.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "longpole-benchmarks"
SOURCE = "HTA__df_index_resolver-df_index_resolver.json.gz"  # DDP training on V100, five steps, 216,092 events
RIVALS = {
    "HTA 0.5.0": "HolisticTraceAnalysis==0.5.0",
    "traceinsight 0.6.1": "traceinsight==0.6.1",
    "TraceLens": "git+https://github.com/AMD-AGI/TraceLens",  # `tracelens` of the package index is another program
}
WITHOUT_BAR = ("TraceLens",)  # measured beside the others; no speed was promised against it
ONE_CORE = "longpole, 1 core"
SPEED_BAR, MEMORY_BAR, FLOOR_BAR = 15.0, 1 / 3, 2.5
COLUMN_SLACK = 1.25  # of a rank's columns: how much more memory each further rank may take

OURS = """
import sys
from pathlib import Path
from longpole.analysis.timeline import timeline
from longpole.importers import open_traces
traces = open_traces([Path(name) for name in sys.argv[1:]])
found = [timeline(trace) for trace in traces]
for trace in traces:  # columns of several ranks come back in shared memory: look at each, so that it counts
    touched = sum(int(column.sum()) for _, column in trace.events.columns())
print(sum(len(trace.events) for trace in traces), found[0].idle.share)
print(sum(column.nbytes for trace in traces for _, column in trace.events.columns()), file=sys.stderr)
"""
HTA = """
import sys, warnings, logging
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
from hta.trace_analysis import TraceAnalysis
analysis = TraceAnalysis(trace_files={0: sys.argv[1]}, trace_dir="/")
analysis.get_temporal_breakdown(visualize=False)
analysis.get_gpu_kernel_breakdown(visualize=False)
analysis.get_idle_time_breakdown(ranks=[0], visualize=False)
analysis.get_comm_comp_overlap(visualize=False)
"""
TRACELENS = """
import sys, warnings, logging
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
from TraceLens import TreePerfAnalyzer
analyzer = TreePerfAnalyzer.from_file(sys.argv[1])
analyzer.get_df_gpu_timeline()
analyzer.get_df_kernel_launchers_summary(analyzer.get_df_kernel_launchers())
"""
# The floor: the events decoded into typed objects and dropped, in pieces that fit the caches, nothing else done.
FLOOR = """
import gc, sys
import msgspec
gc.disable()
from longpole.importers.kineto_event import Event
decode = msgspec.json.Decoder(list[Event]).decode
held = bytearray(4 << 20)
view = memoryview(held)
count, end, entered = 0, 1, False
with open(sys.argv[1], "rb", buffering=0) as file:
    while True:
        read = file.readinto(view[end:end + (1 << 20)])
        end += read
        if not entered:
            start = held.index(b'"traceEvents": [') + 15
            held[:end - start] = held[start:end]
            end, entered = end - start, True
        stop = held.rfind(b"\\n  },\\n  {" if read else b"\\n  }", 0, end) + 4
        kept, held[0], held[stop] = held[stop], ord("["), ord("]")
        count += len(decode(view[:stop + 1]))
        held[stop] = kept
        rest = end - stop - 1
        held[1:1 + rest] = held[stop + 1:end]
        end = 1 + rest
        if not read:
            break
print(count)
"""


@dataclass(frozen=True)
class Measured:
    """One process with its children: wall and processor seconds, peak memory where it was looked at, its output."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    out: str
    err: str


class FailedError(Exception):
    """A command that did not end well, and the end of what it said."""


def measure(command: list[str], *, one_core: bool = False, memory: bool = False) -> Measured:
    """Runs a command, on one core alone if wanted, and looks at its memory meanwhile if wanted."""
    core = min(os.sched_getaffinity(0))
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        start, used = time.perf_counter(), _children_cpu()
        confine = (lambda: os.sched_setaffinity(0, {core})) if one_core else None
        process = psutil.Popen(command, stdout=out, stderr=err, preexec_fn=confine)  # no threads here
        peak = 0
        while memory and process.poll() is None:
            peak = max(peak, _memory(process))
            time.sleep(0.02)
        process.wait()
        seconds = time.perf_counter() - start
        out.seek(0)
        err.seek(0)
        if process.returncode:
            raise FailedError(f"{' '.join(command[:3])[:200]} failed:\n{err.read()[-2000:]}")
        return Measured(seconds, _children_cpu() - used, peak, out.read(), err.read())


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _memory(process: psutil.Popen) -> int:
    total = 0
    try:
        for one in (process, *process.children(recursive=True)):
            total += one.memory_full_info().pss
        total += _untouched(process)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        pass
    return total


def _untouched(process: psutil.Popen) -> int:
    """Bytes of columns in shared memory that the process holds and has not looked at: no set of pages counts them."""
    maps: list[Any] = process.memory_maps(grouped=False)
    return sum(one.size - one.rss for one in maps if "longpole-trace" in one.path)


def traces_folder() -> Path:
    given = os.environ.get("LONGPOLE_TRACES")
    return Path(given) if given else ROOT.parent / "shared" / "traces"


def enlarged(source: Path, events: int) -> Path:
    """The trace repeated in time until it has about so many events, in Kineto's own layout but for line breaks."""
    target = CACHE / f"{source.name.split('.')[0][:40]}-{events}.json"
    if target.exists():
        return target
    CACHE.mkdir(parents=True, exist_ok=True)
    data = gzip.decompress(source.read_bytes()) if source.suffix == ".gz" else source.read_bytes()
    document: dict[str, Any] = msgspec.json.decode(data)
    rows: list[dict[str, Any]] = document.pop("traceEvents")
    stamps = [row["ts"] for row in rows if row.get("ph") == "X"]
    period = max(row["ts"] + row.get("dur", 0) for row in rows if row.get("ph") == "X") - min(stamps)
    partial = target.with_suffix(".partial")
    with partial.open("w") as file:
        file.write("\n{\n  " + json.dumps(document)[1:-1] + ',\n  "traceEvents": [\n')
        for copy in range(-(-events // len(rows))):
            for index, row in enumerate(rows):
                file.write(",\n" if copy or index else "")
                file.write(_text(shifted(row, copy, period)))
        file.write('\n  ],\n  "traceName": "enlarged.json"\n}')
    partial.rename(target)
    return target


def shifted(row: dict[str, Any], copy: int, period: float) -> dict[str, Any]:
    """The event one period later, under ids and step numbers of its own."""
    moved = {**row, "ts": row["ts"] + copy * period}
    stride = 10_000_000 * copy
    if "id" in row:
        moved["id"] = row["id"] + stride
    args = row.get("args")
    if args:
        ids = ("correlation", "External id", "Sequence number", "Ev Idx")
        moved["args"] = {key: value + stride if key in ids else value for key, value in args.items()}
    step = re.fullmatch(r"ProfilerStep#(\d+)", row.get("name", ""))
    if step:
        moved["name"] = f"ProfilerStep#{int(step.group(1)) + 100 * copy}"
    return moved


def _text(row: dict[str, Any]) -> str:
    """As Kineto lays an event out: arguments in lines of their own."""
    plain = json.dumps({key: value for key, value in row.items() if key != "args"})[1:-1]
    args = f',\n    "args": {json.dumps(row["args"])}' if row.get("args") else ""
    return f"  {{\n    {plain}{args}\n  }}"


def rivals(tracelens: str) -> dict[str, list[str]]:
    """name -> the command that runs HTA's analyses, installed on first use."""
    found: dict[str, list[str]] = {}
    for name, given in RIVALS.items():
        requirement = tracelens if name == "TraceLens" else given
        place = CACHE / (name if name == "TraceLens" else requirement.replace("==", "-"))
        python = place / "bin" / "python"
        if not (place / "ready").exists() and not _installed(requirement, place):
            print(f"{requirement} could not be had: it is left out", flush=True)
            continue
        found[name] = [str(python), "-c", TRACELENS if name.startswith("TraceLens") else HTA]
    return found


def _installed(requirement: str, place: Path) -> bool:
    print(f"installing {requirement} into {place}", flush=True)
    venv.create(place, with_pip=True, clear=True)
    done = subprocess.run([place / "bin" / "python", "-m", "pip", "install", "--quiet", requirement], check=False)
    if done.returncode == 0:
        (place / "ready").touch()
    return done.returncode == 0


def ours(paths: list[Path], *, cli: bool) -> list[str]:
    names = [str(path) for path in paths]
    if cli:
        return [sys.executable, "-m", "longpole", "open", *names]
    return [sys.executable, "-c", OURS, *names]


def verdict(name: str, value: float, bar: float, *, at_least: bool, unit: str) -> bool:
    met = value >= bar if at_least else value <= bar
    print(f"{'met    ' if met else 'NOT MET'}  {name}: {value:.2f}{unit} (bar {'>=' if at_least else '<='} {bar:.2f})")
    return met


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):8.2f}  ({min(values):.2f} to {max(values):.2f})"


def interleaved(commands: dict[str, list[str]], rounds: int) -> tuple[dict[str, list[Measured]], dict[str, int]]:
    """Each command once a round, in turn; and the peak memory of each, from a pass before. Rivals may fail."""
    found: dict[str, list[Measured]] = {name: [] for name in commands}
    peaks: dict[str, int] = {}
    for number in range(rounds + 1):
        for name, command in commands.items():
            if name not in found:
                continue
            try:
                one = measure(command, one_core=name == ONE_CORE, memory=number == 0)
            except FailedError as error:
                if name not in RIVALS:
                    raise SystemExit(str(error)) from error
                print(f"{name} is left out: {error}", flush=True)
                del found[name]
                continue
            if number:
                found[name].append(one)
                figures = f"{one.seconds:8.2f} s  {one.cpu_seconds:8.2f} s cpu  load {os.getloadavg()[0]:.1f}"
            else:
                peaks[name] = one.peak_bytes
                figures = f"{one.peak_bytes / 1e6:8.0f} MB"
            print(f"  {f'round {number}' if number else 'memory '}  {name:20s} {figures}", flush=True)
    return found, peaks


def ratio(found: dict[str, list[Measured]], one: str, other: str) -> float:
    """Median over rounds of wall time against wall time; that of processor time is printed beside it."""
    pairs = list(zip(found[one], found[other], strict=True))
    cpu = statistics.median(a.cpu_seconds / b.cpu_seconds for a, b in pairs)
    walls = [a.seconds / b.seconds for a, b in pairs]
    print(f"         {one} / {other}: wall {spread(walls).strip()}, processor time {cpu:.2f}")
    return statistics.median(walls)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", type=Path, default=traces_folder() / SOURCE)
    parser.add_argument("--events", type=int, default=1_700_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--in-python", action="store_true", help="measure open_traces and timeline, not the command")
    parser.add_argument("--skip-rivals", "--skip-hta", action="store_true")
    parser.add_argument("--skip-ranks", action="store_true")
    parser.add_argument("--tracelens", default=RIVALS["TraceLens"], help="what pip installs TraceLens from")
    options = parser.parse_args()
    path = enlarged(options.trace, options.events)
    size = path.stat().st_size
    print(f"{size / 1e6:.0f} MB, from {options.trace.name}; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    cli = not options.in_python
    commands = {"longpole": ours([path], cli=cli), "floor": [sys.executable, "-c", FLOOR, str(path)]}
    if not options.skip_ranks:
        commands[ONE_CORE] = ours([path], cli=cli)
        commands["longpole, 8 ranks"] = ours([path] * 8, cli=cli)
        commands["longpole, 2 ranks"] = ours([path] * 2, cli=cli)
    if not options.skip_rivals:
        commands.update({name: [*command, str(path)] for name, command in rivals(options.tracelens).items()})
    found, peaks = interleaved(commands, options.rounds)
    columns = 0 if options.skip_ranks else int(measure(ours([path], cli=False)).err.split()[-1])
    report(found, peaks, size, columns)


def report(found: dict[str, list[Measured]], peaks: dict[str, int], size: int, columns: int) -> None:
    """Prints medians with their spread, then a verdict for each bar; exits with 1 where one is not met."""
    print(f"\n{'':20s}   seconds (range)          MB/s   peak MB")
    for name, runs in found.items():
        seconds = [run.seconds for run in runs]
        ranks = int(name.split()[1]) if name.endswith("ranks") else 1
        rate = ranks * size / 1e6 / statistics.median(seconds)
        print(f"{name:20s} {spread(seconds):28s} {rate:6.0f} {peaks[name] / 1e6:9.0f}")
    print()
    good = True
    for name in (name for name in RIVALS if name in found):
        faster = ratio(found, name, "longpole")
        if name in WITHOUT_BAR:
            print(f"         peak memory: {peaks['longpole'] / peaks[name]:.2f} of {name}'s")
            continue
        good &= verdict(f"speed against {name}", faster, SPEED_BAR, at_least=True, unit="x")
        share = peaks["longpole"] / peaks[name]
        good &= verdict(f"peak memory against {name}", share, MEMORY_BAR, at_least=False, unit="x")
    against_floor = ratio(found, "longpole", "floor")
    good &= verdict("time against the bare typed decode", against_floor, FLOOR_BAR, at_least=False, unit="x")
    if "longpole, 8 ranks" in found:
        good &= _report_ranks(found, peaks, columns)
    sys.exit(not good)


def _report_ranks(found: dict[str, list[Measured]], peaks: dict[str, int], columns: int) -> bool:
    """One rank is opened by all cores: what eight may cost is held against one rank on one core, and both shown."""
    cores = len(os.sched_getaffinity(0))
    all_cores = ratio(found, "longpole, 8 ranks", "longpole")
    print(f"         8 ranks against one, both on {cores} cores: {all_cores:.2f}x (8 is no gain, no loss)")
    many = ratio(found, "longpole, 8 ranks", ONE_CORE)
    bar = 8 / min(cores, 8)
    good = verdict(f"8 ranks on {cores} cores against one rank on one", many, bar, at_least=False, unit="x")
    growth = (peaks["longpole, 8 ranks"] - peaks["longpole, 2 ranks"]) / 6 / columns
    return verdict("memory a further rank, of its columns", growth, COLUMN_SLACK, at_least=False, unit="x") and good


if __name__ == "__main__":
    main()
