"""What is worth knowing of a run beside its times: the device, the network, the optimizer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec
import torch

if TYPE_CHECKING:
    from longpole.capture.modules import ModuleMarks
    from longpole.trace.trace import RunInfo


def facts_of(info: RunInfo, modules: ModuleMarks, stopped: str) -> RunInfo:
    """The info completed with what is known at the end of the window."""
    model = _model(modules)
    return msgspec.structs.replace(
        info,
        framework=f"torch {torch.__version__}",
        device=_device(),
        rank=_environment("RANK"),
        world_size=_environment("WORLD_SIZE"),
        threads=torch.get_num_threads(),
        stopped=stopped,
        facts={**info.facts, **model},
    )


def _model(modules: ModuleMarks) -> dict[str, str]:
    sizes = {id(root): sum(p.numel() for p in root.parameters()) for root in modules.roots.values()}
    named = [root for root in modules.roots.values() if sizes[id(root)]]
    if not named:
        return {}
    largest = max(named, key=lambda root: sizes[id(root)])
    others = f" and {len(named) - 1} more" if len(named) > 1 else ""
    facts = {"model": type(largest).__name__ + others, "parameters": str(sum(sizes.values()))}
    if modules.batch_size:
        facts["batch_size"] = str(modules.batch_size)
    return facts


def _device() -> str:
    if torch.cuda.is_initialized():
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads != 1 else ''}"


def _environment(name: str) -> int | None:
    """A rank as torchrun and accelerate tell it."""
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else None


def optimizer_facts(optimizer: Any) -> str:
    """`AdamW, 52 tensors`."""
    tensors = sum(len(group["params"]) for group in optimizer.param_groups)
    ways = [way for way in ("fused", "foreach") if any(group.get(way) for group in optimizer.param_groups)]
    return f"{type(optimizer).__name__}, {tensors} tensor{'s' if tensors != 1 else ''}" + "".join(
        f", {w}" for w in ways
    )


def held_bytes(optimizer: Any) -> dict[str, str]:
    """What one optimizer's parameters, their gradients and its state take."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state = [value for found in optimizer.state.values() for value in found.values()]
    return {
        "parameters_bytes": str(sum(p.nbytes for p in parameters)),
        "gradients_bytes": str(sum(p.nbytes for p in parameters if p.requires_grad)),
        "optimizer_bytes": str(sum(value.nbytes for value in state if isinstance(value, torch.Tensor))),
    }
