"""Ceilings are kept by hardware, threads and torch; a file that is none counts as none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from longpole.errors import LongpoleError
from longpole.machine import PEAKS, load_ceilings, peak_of, save_ceilings
from longpole.machine.ceilings import Ceilings, Delay, Level, Rate, better_of, path_of
from longpole.machine.hardware import read_hardware, usable_cores

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LONGPOLE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_is_saved_is_loaded_for_its_threads_and_torch_only(cache: Path) -> None:
    found = Ceilings(hardware=read_hardware(), threads=2, torch="9.9")
    save_ceilings(found)
    assert load_ceilings(threads=2, torch="9.9") == found
    assert load_ceilings(threads=1, torch="9.9") is None
    assert load_ceilings(threads=2, torch="9.8") is None
    assert load_ceilings(threads=2, torch="9.9", device="cuda") is None


def test_without_threads_the_measurement_with_most_is_taken(cache: Path) -> None:
    for threads in (1, 4, 2):
        save_ceilings(Ceilings(hardware=read_hardware(), threads=threads, torch="9.9"))
    found = load_ceilings(torch="9.9")
    assert found is not None
    assert found.threads == 4


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "longpole.study"}', '{"hardware": 3}'])
def test_a_file_that_is_no_measurement_counts_as_none(cache: Path, text: str) -> None:
    path = path_of(read_hardware(), 2, "9.9")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert load_ceilings(threads=2, torch="9.9") is None
    assert load_ceilings(torch="9.9") is None


def test_a_version_of_the_future_is_not_read(cache: Path) -> None:
    found = Ceilings(hardware=read_hardware(), threads=2, torch="9.9")
    path = save_ceilings(found)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(found, version=99)))
    assert load_ceilings(threads=2, torch="9.9") is None


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LONGPOLE_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(LongpoleError, match="LONGPOLE_CACHE"):
        save_ceilings(Ceilings(hardware=read_hardware(), threads=2, torch="9.9"))


def test_a_rate_once_reached_stays_the_ceiling() -> None:
    def made(matmul: float, memory: float, delay: float) -> Ceilings:
        return Ceilings(
            hardware=read_hardware(), threads=2, torch="9.9",
            compute={"fp32": [Rate("fp32 matmul", matmul, 1, 1, 1, 5, "a")]},
            levels=[Level("memory", None, memory)],
            delays={"op": Delay("op", delay, 1, 1, 1, 5, "a")},
        )  # fmt: skip

    found = better_of(made(90.0, 10.0, 3.0), made(80.0, 30.0, 2.0))
    assert found.flops_per_s("fp32") == 90.0
    assert found.levels[0].best_bytes_per_s == 30.0
    assert found.delays["op"].least_ns == 2.0


def test_hardware_is_what_the_system_says() -> None:
    found = read_hardware()
    assert found.cores == usable_cores() >= 1
    assert found.memory_bytes > 2**20
    assert [cache.level for cache in found.caches] == sorted({cache.level for cache in found.caches})
    for cache in found.caches:
        assert found.cache_bytes(cache.level, 1) == cache.bytes_each
    assert found.cache_bytes(9, 1) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100 SXM"),
        ("NVIDIA H100 PCIe", "NVIDIA H100 PCIe"),
        ("NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB SXM"),
        ("NVIDIA A100-SXM4-40GB", "NVIDIA A100 40GB"),
        ("NVIDIA A100 80GB PCIe", "NVIDIA A100 80GB PCIe"),
        ("Tesla V100-SXM2-32GB", "NVIDIA V100 SXM2"),
        ("Tesla V100-PCIE-16GB", "NVIDIA V100 PCIe"),
        ("Tesla V100-DGXS-32GB", "NVIDIA V100 SXM2"),
        ("NVIDIA GH200 480GB", "NVIDIA GH200 96GB"),
        ("NVIDIA GH200 144G HBM3e", "NVIDIA GH200 144GB"),
        ("NVIDIA H800", "NVIDIA H800 SXM"),
        ("NVIDIA B300 SXM6 AC", "NVIDIA B300"),
        ("NVIDIA A40", "NVIDIA A40"),
        ("NVIDIA A800-SXM4-80GB", "NVIDIA A800 80GB"),
        ("AMD Instinct MI325X", "AMD Instinct MI325X"),
        ("AMD Instinct MI300X VF", "AMD Instinct MI300X"),
        ("NVIDIA A1000", None),
        ("Quadro GP100", None),
        ("", None),
    ],
)
def test_a_devices_sheet_is_found_by_the_name_its_driver_prints(name: str, expected: str | None) -> None:
    found = peak_of(name)
    assert (found.name if found else None) == expected


def test_every_peak_has_its_source_and_types_are_in_order() -> None:
    for peak in PEAKS:
        assert peak.source.startswith("https://")
        known = [value for value in (peak.fp32, peak.tf32, peak.bf16, peak.int8) if value is not None]
        assert known == sorted(known), peak.name
        assert peak_of(" ".join(peak.match)) is not None
    v100 = peak_of("Tesla V100-SXM2-16GB")
    assert v100 is not None
    assert v100.flops_per_s("fp16") == 125e12
    assert v100.flops_per_s("bf16") is None
    assert v100.flops_per_s("source") is None
