"""What doing anything at all costs: an operator, an autograd node, a module call, a launch on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from longpole.bench.devices import Device, device_of
from longpole.bench.timing import Protocol, measure
from longpole.machine.ceilings import Delay

if TYPE_CHECKING:
    from collections.abc import Callable

    from longpole.bench.timing import Timing

_CHAIN = 200


def measure_all(device_name: str, budget_s: float, reasons: dict[str, str]) -> dict[str, Delay]:
    """Delays by name; what needs a device is named in `reasons` where there is none."""
    device = device_of(device_name)
    share = budget_s / 4
    found = {
        "op": _delay("op", _operator(), share, 1, "add_ of one number, in place"),
        "autograd_node": _autograd(share),
        "module_call": _module(share),
    }
    if device.kind == "cuda":
        found["launch"] = _delay("launch", _launch(device), share, 1, "an operation on one number, waited for")
    else:
        reasons["launch"] = "no device here to launch on"
        reasons["host-device copies"] = "no device here to copy to"
    return found


def _delay(name: str, work: Callable[[], object], budget_s: float, calls: int, how: str) -> Delay:
    return _of(name, measure(work, Protocol(budget_s=budget_s, within=0.01)), 0.0, calls, how)


def _of(name: str, timing: Timing, less_ns: float, calls: int, how: str) -> Delay:
    values = (timing.least_ns, timing.median_ns, timing.first_quartile_ns, timing.third_quartile_ns)
    least, median, low, high = (max(0.0, ns - less_ns) / calls for ns in values)
    return Delay(name, least, median, low, high, timing.samples, how)


def _operator() -> Callable[[], object]:
    x = torch.zeros(1)
    return lambda: x.add_(1.0)


def _launch(device: Device) -> Callable[[], object]:
    x = torch.zeros(1, device=device.name)
    return device.timed(lambda: x.add_(1.0))


def _autograd(budget_s: float) -> Delay:
    """A chain of sums of one number: backward alone, a node. Its graph is kept, so only the engine runs."""
    x = torch.zeros(1, requires_grad=True)
    y = x
    for _ in range(_CHAIN):
        y = y + 1.0
    work = lambda: torch.autograd.grad(y, x, retain_graph=True)  # noqa: E731
    return _delay("autograd_node", work, budget_s, _CHAIN, f"backward of a chain of {_CHAIN} sums")


def _module(budget_s: float) -> Delay:
    """An empty module, less the same call of a plain function."""
    module, x = torch.nn.Identity(), torch.zeros(1)

    def plain(value: torch.Tensor) -> torch.Tensor:
        return value

    bare = measure(lambda: plain(x), Protocol(budget_s=budget_s / 2, within=0.01))
    timing = measure(lambda: module(x), Protocol(budget_s=budget_s / 2, within=0.01))
    return _of("module_call", timing, bare.least_ns, 1, "an empty module, less a plain call")
