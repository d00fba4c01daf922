"""Where operations run: how to wait for the device, and how to empty its caches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from longpole.errors import LongpoleError
from longpole.machine.hardware import read_hardware

if TYPE_CHECKING:
    from collections.abc import Callable

_FLUSH_BYTES = 256 * 1024**2  # for devices that do not say how large their caches are


@dataclass(frozen=True, slots=True)
class Device:
    """A device by torch's name ("cpu", "cuda", "cuda:1")."""

    name: str
    kind: str
    label: str

    def timed(self, work: Callable[[], object]) -> Callable[[], object]:
        """The work, waited for: launches on a GPU return before it is done."""
        if self.kind != "cuda":
            return work

        def and_wait() -> None:
            work()
            torch.cuda.synchronize(self.name)

        return and_wait

    def flush(self) -> Callable[[], object]:
        """A call that leaves none of a workload's data in any cache: it writes twice the largest cache."""
        sizes = [cache.bytes_each for cache in read_hardware().caches] if self.kind == "cpu" else []
        size = 2 * max(sizes) if sizes else _FLUSH_BYTES
        scratch = torch.zeros(size // 4, device=self.name)
        return self.timed(lambda: scratch.add_(1.0))


def device_of(name: str) -> Device:
    """Raises LongpoleError where torch has no such device."""
    kind = name.split(":", maxsplit=1)[0]
    if kind == "cpu":
        return Device(name, "cpu", read_hardware().processor)
    if kind == "cuda" and torch.cuda.is_available():
        return Device(name, "cuda", torch.cuda.get_device_name(name))
    raise LongpoleError(f"no device {name} here: torch {torch.__version__} finds only the CPU; leave --device out")
