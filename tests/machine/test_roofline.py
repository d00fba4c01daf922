"""Bounds worked out on paper for a made-up machine; a ceiling is a ceiling."""

from __future__ import annotations

import re
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longpole.cost import Cost, cost_of
from longpole.machine import bound_ms, ceilings_from_sheet, limits, peak_of
from longpole.machine.ceilings import Ceilings, Delay, Level, Rate
from longpole.machine.hardware import Cache, Hardware
from longpole.machine.picture import attainable, page, remarks, ridge, svg, text_picture
from longpole.trace import OpClass


def rate(name: str, best: float) -> Rate:
    return Rate(name, best, best * 0.9, best * 0.8, best * 0.95, 9, "made up")


# 100 GFLOP/s; a cache of 1 MB at 100 GB/s; memory at 10 GB/s
MACHINE = Ceilings(
    hardware=Hardware("Made Up 1", 2, 2**33, (Cache(1, 1_000_000, 1, 2),)),
    threads=2,
    torch="2.13.0",
    compute={"fp32": [rate("fp32 matmul", 100e9), rate("fp32 convolution", 90e9)], "bf16": [rate("bf16 matmul", 1e9)]},
    levels=[Level("L1", 1_000_000, 100e9), Level("memory", None, 10e9)],
    delays={"op": Delay("op", 1000.0, 1100.0, 1050.0, 1200.0, 9, "made up")},
)


def test_a_large_product_is_bound_by_arithmetic() -> None:
    # 2 * 1000^3 operations at 100 GFLOP/s: 20 ms; 12 MB, 2 MB of which may be cached: 1 ms
    cost = cost_of("aten::mm", [[1000, 1000], [1000, 1000]])
    assert cost is not None
    found = limits(cost, OpClass.MATMUL, "float", MACHINE)
    assert found.compute_ms == 20.0
    assert found.memory_ms == 1.0
    assert found.bound_ms == 20.0
    assert found.limit == "compute"


def test_a_large_copy_is_bound_by_memory() -> None:
    # 102 MB, of which twice the cache need not come from memory: 100 MB at 10 GB/s
    assert bound_ms(Cost(0.0, 102e6), OpClass.DATA_MOVEMENT, "float", MACHINE) == 10.0


def test_what_fits_in_a_cache_is_bound_by_that_cache() -> None:
    # 1 MB at 100 GB/s
    found = limits(Cost(0.0, 1e6), OpClass.ELEMENTWISE, "float", MACHINE)
    assert found.bound_ms == 0.01
    assert found.limit == "memory"


def test_a_tiny_operation_is_bound_by_the_host() -> None:
    found = limits(Cost(1.0, 8.0), OpClass.ELEMENTWISE, None, MACHINE)
    assert found.host_ms == 0.001
    assert found.limit == "host"


def test_each_type_has_its_own_ceiling_and_what_is_unknown_stays_so() -> None:
    cost = Cost(1e9, None)
    assert bound_ms(cost, OpClass.MATMUL, "c10::BFloat16", MACHINE) == 1000.0
    assert bound_ms(cost, OpClass.MATMUL, "double", MACHINE) is None
    assert bound_ms(cost, OpClass.MATMUL, "c10::Quantized", MACHINE) is None
    assert bound_ms(Cost(None, None), OpClass.MATMUL, "float", MACHINE) is None
    assert bound_ms(None, OpClass.MATMUL, "float", MACHINE) is None
    assert limits(Cost(None, None), None, None, MACHINE).limit is None


def test_what_could_be_avoided_is_not_charged() -> None:
    assert bound_ms(Cost(2e9, 0.0, least_flops=1e9), OpClass.ATTENTION, "float", MACHINE) == 10.0


@given(moved=st.floats(0, 1e10), more=st.floats(0, 1e9))
def test_more_bytes_never_take_less_and_no_more_than_memory_alone(moved: float, more: float) -> None:
    one = bound_ms(Cost(0.0, moved), OpClass.ELEMENTWISE, None, MACHINE)
    two = bound_ms(Cost(0.0, moved + more), OpClass.ELEMENTWISE, None, MACHINE)
    assert one is not None
    assert two is not None
    assert one <= two
    assert one <= moved / 10e9 * 1e3 * (1 + 1e-9)


def test_a_sheet_stands_in_for_a_device_that_is_not_here() -> None:
    peak = peak_of("NVIDIA H100 80GB HBM3")
    assert peak is not None
    found = ceilings_from_sheet(peak, cache_bytes=50_000_000)
    # 989.5 TFLOP/s in bf16; fp32 products may run as tf32; 3.35 TB/s beyond twice the cache
    assert bound_ms(Cost(989.5e9, 0.0), OpClass.MATMUL, "c10::BFloat16", found) == pytest.approx(1.0)
    assert bound_ms(Cost(494.5e9, 0.0), OpClass.MATMUL, "float", found) == pytest.approx(1.0)
    assert bound_ms(Cost(0.0, 100e6), OpClass.ELEMENTWISE, "float", found) == 0.0
    assert bound_ms(Cost(0.0, 100e6 + 3.35e9), OpClass.ELEMENTWISE, "float", found) == pytest.approx(1.0)


def test_the_ridge_is_where_both_limits_meet() -> None:
    assert ridge(MACHINE, "fp32") == 10.0
    assert attainable(MACHINE, "fp32", 10.0, "memory") == 100e9
    assert attainable(MACHINE, "fp32", 1.0, "memory") == 10e9
    assert attainable(MACHINE, "fp32", 1.0, "L2") is None


def test_the_pictures_hold_every_ceiling_and_escape_names() -> None:
    lines = text_picture(MACHINE)
    assert any("100" in line for line in lines)
    assert len({len(line) for line in lines[1:-2]}) == 1
    assert text_picture(Ceilings(MACHINE.hardware, 1, "")) == []
    text = page(MACHINE, [("<b>", "1", "2", "3")])
    assert "&lt;b&gt;" in text
    assert text.count('class="compute"') == 2
    assert "<script" not in text


def test_text_beside_the_picture_never_covers_other_text() -> None:
    close = [Level("L1", 1000, 100e9), Level("L2", 2000, 99e9), Level("L3", 3000, 98e9), Level("memory", None, 10e9)]
    types = {name: [rate(f"{name} matmul", best)] for name, best in (("fp32", 90e9), ("fp64", 89e9), ("int8", 88e9))}
    text = svg(msgspec.structs.replace(MACHINE, levels=close, compute=types))
    for anchor, count in (("end", 4), ("start", 3)):
        found = re.findall(rf'y="([0-9.]+)" text-anchor="{anchor}">(?:L[123]|memory|fp32|fp64|int8)', text)
        places = sorted(float(y) for y in found)
        assert len(places) == count
        assert all(below - above >= 13 for above, below in pairwise(places))
    assert "int8 88 GOP/s" in text


def test_a_slow_type_lies_inside_the_picture() -> None:
    slow = {**MACHINE.compute, "fp16": [rate("fp16 matmul", 1e6)]}
    text = svg(msgspec.structs.replace(MACHINE, compute=slow))
    heights = {float(y) for y in re.findall(r'class="compute"[^>]*y1="([0-9.]+)"', text)}
    assert len(heights) == 3  # none is cut off at the bottom, where it would lie on another
    assert max(heights) < 390


def test_what_to_know_of_a_machine_is_said() -> None:
    assert list(remarks(MACHINE)) == [
        "An fp32 operation on main memory needs over 10 FLOPs a byte to be limited by arithmetic."
    ]
    hardware = Hardware("Made Up 2", 2, 2**33, features=("avx2", "fma"))
    found = list(remarks(msgspec.structs.replace(MACHINE, hardware=hardware, busy_share=0.25)))
    assert "no arithmetic of bf16:" in found[1]
    assert "25%" in found[2]
    native = Hardware("Made Up 3", 2, 2**33, features=("avx2", "amx_bf16"))
    assert len(list(remarks(msgspec.structs.replace(MACHINE, hardware=native)))) == 1


def test_the_screen_has_each_kind_of_access_once_and_what_was_not_measured() -> None:
    from longpole.cli.machine import _screen  # pyright: ignore[reportPrivateUsage]

    reads = (rate("read", 90e9), rate("read", 100e9), rate("copy", 50e9))
    machine = msgspec.structs.replace(
        MACHINE, levels=[Level("L1", 1000, 100e9, reads)], not_measured={"tf32": "this hardware has no tf32"}, threads=1
    )
    lines = _screen(machine, fresh=True)
    assert "1 thread ·" in lines[0]
    shown = [line.split()[:4] for line in lines if line.startswith("  L1 ")]
    assert shown == [["L1", "read", "100", "GB/s"], ["L1", "copy", "50", "GB/s"]]
    assert any("tf32" in line and "this hardware has no tf32" in line for line in lines)
