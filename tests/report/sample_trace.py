"""A made trace of two steps: a host thread with phases, layers and ops, and a stream with their kernels."""

from __future__ import annotations

import numpy as np

from longpole.trace import (
    Interner,
    Kind,
    Lane,
    Layer,
    Level,
    MemoryEvents,
    RunInfo,
    StepWindow,
    Trace,
    make_table,
    nest,
)

HOSTILE_NAME = '"},{"ph":"X"</script>\n\u2028\ud800\x00'
# kind, name, lane, start ns, duration ns, correlation, sequence, shapes
HOST = (
    (Kind.PHASE, "forward", 0, 0, 4_000, -1, -1, None),
    (Kind.LAYER, "blocks.0.fc1", 0, 100, 3_000, -1, -1, None),
    (Kind.OP, "aten::linear", 0, 200, 2_500, 11, 5, "[[8, 4], [2, 4], [2]]"),
    (Kind.OP, "aten::addmm", 0, 300, 2_001, 12, 5, "[[2], [8, 4], [4, 2]]"),
    (Kind.RUNTIME, "cudaLaunchKernel", 0, 400, 500, 77, -1, None),
    (Kind.PHASE, "backward", 0, 4_000, 5_000, -1, -1, None),
    (Kind.OP, "AddmmBackward0", 0, 4_100, 4_000, 13, 5, None),
    (Kind.OP, HOSTILE_NAME, 0, 4_200, 900, 14, -1, "not JSON"),
    (Kind.ANNOTATION, "my range", 0, 8_500, 300, 15, -1, None),
)
DEVICE = (
    (Kind.KERNEL, "gemm<float>", 1, 1_500, 3_333, 77, -1, None),
    (Kind.MEMCPY, "Memcpy HtoD", 1, 5_000, 700, 78, -1, None),
)
STEP_NS = 10_000


def made_trace(rank: int | None = 3, base_ns: int = 1_700_000_000_000_000_000) -> Trace:
    """Two steps of the same events, on a clock of `base_ns`."""
    text = Interner()
    rows = [(*e[:3], e[3] + base_ns + step * STEP_NS, *e[4:]) for step in (0, 1) for e in (*HOST, *DEVICE)]
    per_step = len(HOST) + len(DEVICE)
    launch = np.full(len(rows), -1, np.int32)
    for step in (0, 1):
        launch[step * per_step + len(HOST)] = step * per_step + 4
    columns = {
        "start_ns": [e[3] for e in rows],
        "duration_ns": [e[4] for e in rows],
        "name": [text(e[1]) for e in rows],
        "kind": [int(e[0]) for e in rows],
        "lane": [e[2] for e in rows],
        "correlation": [e[5] for e in rows],
        "sequence": [e[6] for e in rows],
        "shapes": [text(e[7]) if e[7] else -1 for e in rows],
        "bytes_moved": [4096 if e[0] == Kind.MEMCPY else -1 for e in rows],
        "launch": launch,
    }
    arrays = {name: np.asarray(columns[name], np.int64) for name in ("start_ns", "duration_ns")}
    columns["parent"] = nest(*arrays.values(), np.asarray(columns["lane"], np.int32), np.arange(len(rows)))
    steps = tuple(StepWindow(7 + i, base_ns + i * STEP_NS, base_ns + (i + 1) * STEP_NS, int(Level.OPS)) for i in (0, 1))
    times = np.array([base_ns + 10, base_ns + 20, base_ns + 30], np.int64)
    return Trace(
        events=make_table(columns),
        strings=text.strings(),
        lanes=(Lane("python3", "host", 4242, 4242), Lane("stream 7", "stream", -1, 7, 0)),
        info=RunInfo("kineto", device="NVIDIA H100 80GB HBM3", framework="torch 2.13.0", rank=rank, world_size=8),
        layers=(Layer("blocks.0.fc1", "Linear"),),
        steps=steps,
        memory=MemoryEvents(times, np.array([512, 256, -512]), np.array([0, 0, 0], np.int32), np.array([512, 768, -1])),
    )
