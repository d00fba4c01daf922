"""Data-sheet peaks of common accelerators and processors: dense rates, each row with the maker's page.

Rates that makers print "with sparsity" are halved, as their footnotes say. A peak is what the sheet promises;
a ceiling (`longpole machine`) is what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass

_NVIDIA = "https://www.nvidia.com/en-us/data-center"
_AMD = "https://www.amd.com/en/products/accelerators/instinct"


@dataclass(frozen=True, slots=True)
class Peak:
    """One device. TFLOP/s dense (TOP/s for int8), GB/s of main memory; None: the sheet does not say."""

    name: str
    match: tuple[str, ...]  # words of the name that a driver prints, all of them
    fp64: float | None
    fp32: float | None
    tf32: float | None
    bf16: float | None
    fp16: float | None
    int8: float | None
    memory_gb_per_s: float
    source: str

    def flops_per_s(self, dtype: str) -> float | None:
        """Operations a second with this type, or None."""
        tera = getattr(self, dtype, None) if dtype in {"fp64", "fp32", "tf32", "bf16", "fp16", "int8"} else None
        return None if tera is None else tera * 1e12


# More particular names stand before general ones. fp64 and fp32 of matrix units where a device has them.
PEAKS: tuple[Peak, ...] = (
    Peak("NVIDIA B300", ("B300",), 1.2, 75, 1125, 2250, 2250, None, 8000, f"{_NVIDIA}/hgx/"),
    Peak("NVIDIA B200", ("B200",), 37, 75, 1125, 2250, 2250, 4500, 8000, f"{_NVIDIA}/hgx/"),
    Peak("NVIDIA H200 SXM", ("H200",), 67, 67, 494.5, 989.5, 989.5, 1979, 4800, f"{_NVIDIA}/h200/"),
    Peak("NVIDIA GH200 144GB", ("GH200", "144G"), 67, 67, 494.5, 989.5, 989.5, 1979, 4900,
         f"{_NVIDIA}/grace-hopper-superchip/"),
    Peak("NVIDIA GH200 96GB", ("GH200",), 67, 67, 494.5, 989.5, 989.5, 1979, 4000,
         f"{_NVIDIA}/grace-hopper-superchip/"),
    Peak("NVIDIA H800 SXM", ("H800",), 1, 67, 494.5, 989.5, 989.5, 1979, 3350,
         "https://chaoqing-i.com/upload/20231128/NVIDIA%20H800%20GPU%20Datasheet.pdf"),
    Peak("NVIDIA H100 PCIe", ("H100", "PCIe"), 51, 51, 378, 756.5, 756.5, 1513, 2000, f"{_NVIDIA}/h100/"),
    Peak("NVIDIA H100 NVL", ("H100", "NVL"), 60, 60, 417.5, 835.5, 835.5, 1670.5, 3900, f"{_NVIDIA}/h100/"),
    Peak("NVIDIA H100 SXM", ("H100",), 67, 67, 494.5, 989.5, 989.5, 1979, 3350, f"{_NVIDIA}/h100/"),
    Peak("NVIDIA A100 80GB PCIe", ("A100", "80GB", "PCIe"), 19.5, 19.5, 156, 312, 312, 624, 1935, f"{_NVIDIA}/a100/"),
    Peak("NVIDIA A100 80GB SXM", ("A100", "80GB"), 19.5, 19.5, 156, 312, 312, 624, 2039, f"{_NVIDIA}/a100/"),
    Peak("NVIDIA A100 40GB", ("A100",), 19.5, 19.5, 156, 312, 312, 624, 1555, f"{_NVIDIA}/a100/"),
    Peak("NVIDIA A800 80GB", ("A800", "80GB"), 9.7, 19.5, 156, 312, 312, 624, 2039, f"{_NVIDIA}/a100/"),
    Peak("NVIDIA A40", ("A40",), None, 37.4, 74.8, 149.7, 149.7, 299.3, 696,
         "https://images.nvidia.cn/content/Solutions/data-center/a40/nvidia-a40-datasheet.pdf"),
    Peak("NVIDIA L40S", ("L40S",), None, 91.6, 183, 362, 362, 733, 864, f"{_NVIDIA}/l40s/"),
    Peak("NVIDIA L4", ("L4",), None, 30.3, 60, 121, 121, 242.5, 300, f"{_NVIDIA}/l4/"),
    Peak("NVIDIA A10", ("A10",), None, 31.2, 62.5, 125, 125, 250, 600, f"{_NVIDIA}/products/a10-gpu/"),
    Peak("NVIDIA T4", ("T4",), None, 8.1, None, None, 65, 130, 320, f"{_NVIDIA}/tesla-t4/"),
    Peak("NVIDIA V100 PCIe", ("V100", "PCIE"), 7, 14, None, None, 112, None, 900, f"{_NVIDIA}/v100/"),
    # Those of workstations (DGXS) have the clocks of these.
    Peak("NVIDIA V100 SXM2", ("V100",), 7.8, 15.7, None, None, 125, None, 900, f"{_NVIDIA}/v100/"),
    Peak("AMD Instinct MI355X", ("MI355X",), 78.6, 157.3, None, 2516.6, 2516.6, 5033.2, 8000,
         f"{_AMD}/mi350/mi355x.html"),
    Peak("AMD Instinct MI350X", ("MI350X",), 72.1, 144.2, None, 2306.9, 2306.9, 4613.7, 8000,
         f"{_AMD}/mi350/mi350x.html"),
    Peak("AMD Instinct MI325X", ("MI325X",), 163.4, 163.4, 653.7, 1307.4, 1307.4, 2614.9, 6000,
         f"{_AMD}/mi300/mi325x.html"),
    Peak("AMD Instinct MI300X", ("MI300X",), 163.4, 163.4, 653.7, 1307.4, 1307.4, 2614.9, 5300,
         f"{_AMD}/mi300/mi300x.html"),
    Peak("AMD Instinct MI250X", ("MI250X",), 95.7, 95.7, None, 383, 383, 383, 3277, f"{_AMD}/mi200/mi250x.html"),
    Peak("AMD Instinct MI210", ("MI210",), 45.3, 45.3, None, 181, 181, 181, 1638, f"{_AMD}/mi200/mi210.html"),
    # Processors: cores x base clock x operations a cycle (AVX2: 2 units x 8 lanes x 2; AVX-512: twice that).
    Peak("AMD EPYC 7763", ("EPYC", "7763"), 2.5, 5.0, None, None, None, None, 204.8,
         "https://www.amd.com/en/products/processors/server/epyc/7003-series/amd-epyc-7763.html"),
    Peak("AMD EPYC 9654", ("EPYC", "9654"), 3.7, 7.4, None, None, None, None, 460.8,
         "https://www.amd.com/en/products/processors/server/epyc/4th-generation-9004-and-8004-series/amd-epyc-9654.html"),
    Peak("Intel Xeon Platinum 8480+", ("8480+",), 3.6, 7.2, None, 114.7, None, 229.4, 307.2,
         "https://www.intel.com/content/www/us/en/products/sku/231746/intel-xeon-platinum-8480-processor-105m-cache-2-00-ghz/specifications.html"),
)  # fmt: skip


def peak_of(name: str) -> Peak | None:
    """The sheet of the device that a driver calls `name`, or None."""
    words = set(name.lower().replace("-", " ").replace("_", " ").split())
    return next((peak for peak in PEAKS if words.issuperset(word.lower() for word in peak.match)), None)
