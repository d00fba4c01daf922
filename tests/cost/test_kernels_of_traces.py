"""Of the device time in recorded traces, less than one part in a hundred has no class."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from longpole.cost.op_classes import classify_kernel

FOLDER = Path(os.environ.get("LONGPOLE_TRACES", Path(__file__).parents[3] / "shared" / "traces"))
TRACES = sorted(path for path in FOLDER.glob("*.json*") if path.name != "EXACT.json") if FOLDER.is_dir() else []


@pytest.mark.slow
@pytest.mark.skipif(not TRACES, reason="needs recorded traces beside the checkout, or $LONGPOLE_TRACES")
@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.name[:40])
def test_device_time_without_a_class_is_under_one_percent(path: Path) -> None:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    document = json.loads(data, strict=False)
    events = document if isinstance(document, list) else document["traceEvents"]
    work = {"kernel", "gpu_memcpy", "gpu_memset"}
    device = [e for e in events if e.get("ph") == "X" and str(e.get("cat", "")).lower() in work]
    total = sum(event["dur"] for event in device)
    unknown = sum(event["dur"] for event in device if classify_kernel(event["name"]) is None)
    if total == 0:
        pytest.skip("no device events")
    assert unknown <= 0.01 * total
