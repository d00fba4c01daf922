"""External ids repeat; an op that begins long after the work on the device did not start it."""

from __future__ import annotations

import numpy as np

from longpole.importers.launches import launches
from longpole.trace import Kind


def test_an_op_that_begins_after_its_kernel_did_not_launch_it() -> None:
    columns = {
        "kind": np.array([Kind.OP, Kind.KERNEL, Kind.KERNEL, Kind.OP]),
        "start_ns": np.array([0, 50_000, 60_000, 5_000_000]),
        "duration_ns": np.array([10_000, 1_000, 1_000, 10_000]),
        "correlation": np.array([-1, -1, -1, -1]),
        "external": np.array([7, 7, 9, 9]),
        "lane": np.array([0, 1, 1, 0]),
    }
    assert launches(columns, None).tolist() == [-1, 0, -1, -1]
