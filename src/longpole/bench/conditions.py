"""The conditions of a measurement, recorded so that results are compared only where that is fair."""

from __future__ import annotations

import platform
from datetime import datetime, timezone
from pathlib import Path

import psutil
import torch

import longpole
from longpole.bench.devices import device_of
from longpole.machine.hardware import read_hardware


def conditions(device: str) -> dict[str, str]:
    """Everything known to change times, as text."""
    hardware = read_hardware()
    found = {
        "processor": hardware.processor,
        "cores": str(hardware.cores),
        "features": " ".join(hardware.features),
        "threads": str(torch.get_num_threads()),
        "device": device if device == "cpu" else device_of(device).label,
        "torch": str(torch.__version__),
        "blas": _blas(),
        "longpole": longpole.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "load": f"{psutil.getloadavg()[0]:.2f}",
        "measured": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor.exists():
        found["governor"] = governor.read_text().strip()
    return found


def _blas() -> str:
    """The library of matrix products, from torch's own account of its build."""
    names = ("MKL", "OpenBLAS", "Accelerate", "BLIS")
    text = torch.__config__.show()
    return next((name for name in names if f"{name} Version" in text or f"BLAS_INFO={name.lower()}" in text), "other")


def use_threads(count: int | None) -> None:
    """Lets torch use so many threads; its own number where None."""
    if count is not None:
        torch.set_num_threads(count)


def torch_threads() -> int:
    """How many threads torch uses."""
    return torch.get_num_threads()
