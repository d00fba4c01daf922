"""Where a Kineto trace comes from, out of the fields round its events."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from longpole.trace import RunInfo

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# In order: what says rank first. `profile_3.json` is Accelerate's name for rank 3.
RANK_IN_NAME = [re.compile(word + r"[-_ ]?(\d{1,6})(?!\d)", re.IGNORECASE) for word in ("rank", "worker", "profile")]
VERSION_FIELDS = ("torch_version", "pytorch_version", "PyTorch version", "PT_VERSION")
FACTS: Mapping[str, str] = {  # field -> what it is called under "conditions"
    "record_shapes": "shapes recorded",
    "profile_memory": "memory recorded",
    "with_stack": "stacks recorded",
    "with_modules": "modules recorded",
    "with_flops": "FLOPs recorded",
    "cuda_runtime_version": "CUDA runtime",
    "cuda_driver_version": "CUDA driver",
    "hip_runtime_version": "HIP runtime",
    "displayTimeUnit": "display time unit",
    "baseTimeNanoseconds": "base time (ns)",
}


def run_info(
    path: Path, kind: str, fields: Mapping[str, Any], devices: Sequence[int], warnings: Sequence[str]
) -> RunInfo:
    """`devices` are the indices that device events name."""
    distributed = _mapping(fields.get("distributedInfo"))
    facts = {label: _fact(fields[name]) for name, label in FACTS.items() if name in fields}
    backend = distributed.get("backend")
    if isinstance(backend, str):
        facts["process group backend"] = backend
    rank = _count(distributed.get("rank"))
    if rank is None:
        rank = _rank_in(path.name)
        if rank is not None:
            facts["rank"] = "from the file's name"
    return RunInfo(
        source=kind,
        script=None,
        framework=_framework(fields),
        device=device_name(fields, devices),
        rank=rank,
        world_size=_count(distributed.get("world_size")),
        stopped="script end",
        facts=facts,
        warnings=tuple(warnings),
    )


def device_name(fields: Mapping[str, Any], devices: Sequence[int]) -> str | None:
    """ "NVIDIA H100 80GB HBM3", "2 x Tesla V100": of the devices used, where the trace knows them."""
    listed = fields.get("deviceProperties")
    known = [_mapping(item) for item in listed] if isinstance(listed, list) else []
    used = [item for item in known if item.get("id") in devices]
    if devices and not used and len({item.get("name") for item in known}) == 1:
        used = known[:1]  # ROCm counts devices in the properties from 0 and in events from the first after the CPUs
    names = Counter(str(item["name"]) for item in used if item.get("name"))
    return ", ".join(name if count == 1 else f"{count} x {name}" for name, count in names.items()) or None


def _framework(fields: Mapping[str, Any]) -> str | None:
    for name in VERSION_FIELDS:
        if isinstance(fields.get(name), str):
            return f"torch {fields[name]}"
    return None


def _rank_in(name: str) -> int | None:
    found = next((match for pattern in RANK_IN_NAME if (match := pattern.search(name))), None)
    return int(found.group(1)) if found else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _fact(value: Any) -> str:
    return {0: "no", 1: "yes"}.get(value, str(value)[:80]) if isinstance(value, int) else str(value)[:80]
