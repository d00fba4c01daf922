"""Ceilings as `longpole machine` measures them: what holds on any machine, and sums written out with made-up clocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

torch = pytest.importorskip("torch")

from longpole.bench import bandwidth, compute, delays, links  # noqa: E402
from longpole.bench.ceilings import Plan, measure_machine  # noqa: E402
from longpole.bench.devices import device_of  # noqa: E402
from longpole.bench.timing import Timing  # noqa: E402
from longpole.machine.ceilings import Level, Rate  # noqa: E402
from longpole.machine.hardware import Cache, Hardware  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1024**2


def timing(least_ns: float, median_ns: float, first_ns: float, third_ns: float) -> Timing:
    return Timing(median_ns, first_ns, third_ns, first_ns, third_ns, least_ns, 7, 1, 3, True)


@pytest.fixture
def made_up_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every measurement takes 1, 2, 1.5 and 4 microseconds: least, median, quartiles."""

    def measured(work: Callable[[], object], *_: Any, **__: Any) -> Timing:
        work()
        return timing(1000.0, 2000.0, 1500.0, 4000.0)

    monkeypatch.setattr(compute, "measure", measured)
    monkeypatch.setattr(delays, "measure", measured)


@pytest.mark.slow
def test_a_machine_is_measured_whole_and_left_as_it_was() -> None:
    threads, said = torch.get_num_threads(), []
    found = measure_machine(Plan(budget_s=0.5, threads=1, ranks=()), said.append)
    assert torch.get_num_threads() == threads
    assert len(said) == 4
    assert found.threads == 1
    for dtype in ("fp64", "fp32", "tf32", "bf16", "fp16", "int8"):
        assert (dtype in found.compute) != (dtype in found.not_measured)
    assert {rate.name for rate in found.compute["fp32"]} == {"fp32 matmul", "fp32 convolution"}
    rates = [rate for rates in found.compute.values() for rate in rates] + [
        r for each in found.levels for r in each.rates
    ]
    for rate in rates:
        assert 0 < rate.low <= rate.median <= rate.high <= rate.best
        assert rate.how
    assert found.levels[-1].name == "memory"
    assert {"read", "copy", "triad"} <= {rate.name for rate in found.levels[-1].rates}
    bandwidths = [level.best_bytes_per_s for level in found.levels]
    assert bandwidths == sorted(bandwidths, reverse=True)
    assert {"op", "autograd_node", "module_call"} <= set(found.delays)
    assert {"launch", "host-device copies"} <= set(found.not_measured)
    assert found.busy_share is not None
    assert 0 <= found.busy_share <= 1


@pytest.mark.usefixtures("made_up_clock")
def test_a_rate_is_work_over_time_on_all_threads_and_on_one_times_their_number() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    seen: list[int] = []
    try:
        both, alone = compute.rates_of("x", "how", 3000.0, lambda: seen.append(torch.get_num_threads()), 1.0, scale=2)
        torch.set_num_threads(1)
        (single,) = compute.rates_of("x", "how", 3000.0, lambda: None, 1.0, scale=2)
    finally:
        torch.set_num_threads(before)
    # 3000 in 1 us is 3e9 a second, in 2 us 1.5e9; quartiles of times change places as rates
    assert both == Rate("x", 3e9, 1.5e9, 0.75e9, 2e9, 7, "how")
    assert alone == Rate("x", 6e9, 3e9, 1.5e9, 4e9, 7, "how, one thread times 2")
    assert single == both
    assert seen == [2, 1]


def test_a_type_that_cannot_be_multiplied_is_named_with_the_reason() -> None:
    found: dict[str, list[Rate]] = {}
    reasons: dict[str, str] = {}

    def fails() -> Rate:
        raise RuntimeError("not implemented for 'Half'\nand a stack trace")

    compute._add(found, "fp16", reasons, fails)
    assert found == {}
    assert reasons == {"fp16": "not implemented for 'Half'"}


@pytest.mark.parametrize("bytes_each", [8 * 1024, 256 * 1024, 4 * MIB])
def test_views_go_over_little_memory_often(bytes_each: int) -> None:
    rows = bandwidth._rows(2, bytes_each)
    last = sum((size - 1) * step for size, step in zip(rows.shape[1:], rows.stride()[1:], strict=True))
    assert 4 * (last + 1) <= 1.25 * bytes_each + 64  # what one thread touches
    assert rows[0].numel() * 4 <= 17 * MIB  # what it visits in one call
    assert rows.stride(0) > last  # threads share nothing
    assert rows[0].numel() * 4 >= min(16 * MIB, bytes_each**2 // 128) * 0.9


def test_bytes_of_each_kind_of_access() -> None:
    moved = {name: count for name, count, _ in bandwidth._overlapping(1, 64 * 1024)}
    whole, half, third = (bandwidth._rows(1, 64 * 1024 // parts).numel() * 4 for parts in (1, 2, 3))
    assert moved == {"read": whole, "write": whole, "copy": 2 * half, "update": 3 * half, "triad": 3 * third}


def test_a_nearer_level_is_no_slower_than_one_behind_it() -> None:
    levels = [Level("L1", 1, 5.0), Level("L2", 2, 9.0), Level("memory", None, 1.0)]
    assert [level.best_bytes_per_s for level in bandwidth._falling(levels)] == [9.0, 9.0, 1.0]


@pytest.mark.usefixtures("made_up_clock")
def test_delays_are_a_call_each_and_never_below_nothing() -> None:
    reasons: dict[str, str] = {}
    found = delays.measure_all("cpu", 0.01, reasons)
    assert (found["op"].least_ns, found["op"].median_ns) == (1000.0, 2000.0)
    assert found["autograd_node"].least_ns == 1000.0 / 200
    module = found["module_call"]  # a module less a plain call, both 1 us at least
    assert (module.least_ns, module.median_ns, module.low_ns, module.high_ns) == (0.0, 1000.0, 500.0, 3000.0)
    assert set(reasons) == {"launch", "host-device copies"}


def test_all_reduce_is_bus_bandwidth_and_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"first_quartile_ns": 1.5e6, "third_quartile_ns": 4e6, "least_ns": 1e6, "median_ns": 2e6, "samples": 9}
    monkeypatch.setattr(links, "run_local", lambda messages, ranks, **_: [times, times, {"skipped": "no room"}])
    rates, waits = links.measure_all("cpu", (4,), reasons := {})
    assert reasons == {}
    (rate,) = rates
    # 4 ranks: 2 x 3 / 4 of 1 MiB in 1 ms
    assert rate.best == pytest.approx(1.5 * MIB / 1e-3)
    assert (rate.low, rate.high) == (pytest.approx(1.5 * MIB / 4e-3), pytest.approx(1.5 * MIB / 1.5e-3))
    assert rate.how == "1 MiB, bus bandwidth"
    assert (waits[0].least_ns, waits[0].low_ns, waits[0].high_ns) == (1e6, 1.5e6, 4e6)


def test_ranks_that_cannot_meet_are_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "run_local", lambda messages, *_, **__: [{"skipped": "no gloo"}] * len(messages))
    rates, waits = links.measure_all("cpu", (2,), reasons := {})
    assert (rates, waits) == ([], [])
    assert reasons == {"all-reduce, 2 ranks": "no gloo"}


def test_emptying_the_caches_writes_twice_the_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    hardware = Hardware("Made Up", 1, 2**33, (Cache(1, 1024, 1, 1), Cache(2, 4096, 1, 1)))
    device = device_of("cpu")
    monkeypatch.setattr("longpole.bench.devices.read_hardware", lambda: hardware)
    made: list[int] = []
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda count, **options: made.append(count * 4) or zeros(count, **options))
    device.flush()()
    assert made == [8192]
