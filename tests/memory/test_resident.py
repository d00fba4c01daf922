"""Readings of RAM, and of a device's allocator: that one is a fake, for no GPU is here."""

from __future__ import annotations

import os

import psutil
import pytest
import torch
from torch import nn

from longpole.capture import resident
from memory.nets import watch


class FakeDevice:
    """An allocator's counters, as torch.cuda shows them."""

    def __init__(self, allocated: int, peak: int, reserved: int) -> None:
        self.allocated, self.peak, self.reserved = allocated, peak, reserved

    def put(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(torch.cuda, "is_initialized", lambda: True)
        patch.setattr(torch.cuda, "memory_allocated", lambda: self.allocated)
        patch.setattr(torch.cuda, "max_memory_allocated", lambda: self.peak)
        patch.setattr(torch.cuda, "memory_reserved", lambda: self.reserved)


def test_a_device_whose_peak_rose_in_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    device = FakeDevice(100, 500, 1000)
    device.put(monkeypatch)
    reader = resident.Reader()
    device.allocated, device.peak = 300, 900
    reader.read(10**9)
    assert reader.device == "cuda"
    assert reader.device_bytes == [300]
    assert reader.device_peak_bytes == 900


def test_a_device_whose_peak_is_of_an_earlier_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The counter is the script's to reset: ours only reads it."""
    device = FakeDevice(100, 500, 1000)
    device.put(monkeypatch)
    reader = resident.Reader()
    for at, allocated in enumerate((150, 400, 200)):
        device.allocated = allocated
        reader.read(at * 10**9)
    assert reader.device_peak_bytes == 400


def test_parts_of_a_process_with_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeDevice(70, 80, 90).put(monkeypatch)
    parts = resident.parts_of_process()
    assert (parts["device_allocated"], parts["device_reserved"]) == (70, 90)
    assert parts["resident"] == pytest.approx(psutil.Process(os.getpid()).memory_info().rss, rel=0.2)


def test_tensors_on_the_host_are_not_in_a_devices_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeDevice(0, 0, 0).put(monkeypatch)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    model = nn.Linear(4, 4)
    found = watch(model, lambda: model(torch.randn(2, 4)).sum().backward())
    assert found.memory.storages.bytes == []
    assert found.saved == {}


def test_readings_keep_their_distance() -> None:
    reader = resident.Reader()
    for at in range(100):
        reader.read(at * resident.READ_EVERY_NS // 10)
    assert len(reader.times_ns) == 10
    assert all(size > 0 for size in reader.resident_bytes)
