"""Device events of a live run find the host call that started them."""

from __future__ import annotations

import numpy as np

from longpole.trace import Kind, Lane
from longpole.trace.build import TraceBuilder, events_piece


def test_device_events_point_at_the_call_with_their_correlation_id() -> None:
    builder = TraceBuilder()
    host, stream = builder.lane(Lane("host", "host")), builder.lane(Lane("stream 7", "stream", device=0))
    names = [builder.intern(name) for name in ("kernel_b", "launch_a", "kernel_a", "launch_b", "lost")]
    builder.add(
        events_piece(
            {
                "start_ns": np.array([50, 10, 40, 20, 90]),
                "duration_ns": np.array([5, 2, 5, 2, 1]),
                "name": np.array(names),
                "kind": np.array([Kind.KERNEL, Kind.RUNTIME, Kind.KERNEL, Kind.RUNTIME, Kind.MEMCPY]),
                "lane": np.array([stream, host, stream, host, stream]),
                "correlation": np.array([8, 3, 3, 8, 5]),
            }
        )
    )
    trace = builder.build()
    started_by = {
        trace.name_of(row): trace.name_of(int(launch)) if launch >= 0 else None
        for row, launch in enumerate(trace.events.launch)
    }
    assert started_by == {
        "launch_a": None,
        "launch_b": None,
        "kernel_a": "launch_a",
        "kernel_b": "launch_b",
        "lost": None,
    }
