"""An event's kind by its signs, as torch 2.4 needs it, is the kind that later versions tell."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from longpole.capture import internals
from longpole.capture.event_kinds import kind_as_told, kind_by_signs
from longpole.capture.kineto import KinetoBlock
from longpole.trace.kinds import Kind


def recorded() -> list[Any]:
    block = KinetoBlock()
    assert block.start()
    with torch.profiler.record_function("mine"):
        (torch.randn(4, 4, requires_grad=True) @ torch.randn(4, 4)).sum().backward()
    return list(block.stop().events())


@pytest.mark.skipif(not internals.events_tell_their_type, reason="this torch tells no types")
def test_both_ways_agree_on_a_real_recording() -> None:
    told = {(event.name(), kind_as_told(event)) for event in recorded()}
    signs = {(event.name(), kind_by_signs(event)) for event in recorded()}
    known = {(name, kind) for name, kind in told if kind in (Kind.OP, Kind.ANNOTATION)}
    assert ("mine", Kind.ANNOTATION) in known
    assert ("aten::mm", Kind.OP) in known
    assert known <= signs


@pytest.mark.parametrize(
    ("name", "device", "kind"),
    [
        ("ampere_sgemm_128x64_nn", "CUDA", Kind.KERNEL),
        ("Memcpy HtoD (Pageable -> Device)", "CUDA", Kind.MEMCPY),
        ("Memset (Device)", "CUDA", Kind.MEMSET),
        ("cudaLaunchKernel", "CPU", Kind.RUNTIME),
        ("cuLaunchKernelEx", "CPU", Kind.RUNTIME),
        ("hipMemcpyAsync", "CPU", Kind.RUNTIME),
        ("custom_op", "CPU", Kind.OP),
        ("cumsum", "CPU", Kind.OP),
    ],
)
def test_signs(name: str, device: str, kind: Kind) -> None:
    kinds = type(internals.CPU)
    event = SimpleNamespace(name=lambda: name, device_type=lambda: getattr(kinds, device), scope=lambda: 0)
    assert kind_by_signs(event) == kind
