"""What others measured, with its source, to stand beside what is measured here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# For these two no publication is known to us: they are what the question was asked with.
_QUOTED = "quoted without its source, which we do not know"

EARLIER_SURVEYS: Sequence[str] = (
    "Fathom (Adolf et al. 2016, arXiv:1608.06581) asked the same of eight networks.",
    "TBD (Zhu et al. 2018, arXiv:1803.06905) asked it of eight, in three frameworks on GPUs.",
)
_DEEPBENCH = "the FP32 training sheets of baidu-research/DeepBench"
_IVANOV = "quoted after Ivanov et al. 2021, arXiv:2007.00072; not checked against its text"

BACKWARD_TO_FORWARD: Sequence[str] = (
    f"2.4 to 3.2: DeepBench's convolutions on GPUs, all sizes of a sheet together ({_DEEPBENCH}).",
    f"1.41: BERT-large ({_QUOTED}).",
    f"2.85: Megatron ({_QUOTED}).",
)
CONTRACTIONS: Sequence[str] = (f"BERT, GPU: contractions are over 99 % of the FLOPs, 61 % of the time ({_IVANOV}).",)
OPTIMIZER_OF_STEP: Sequence[str] = (f"Megatron: the optimizer took 82 % of a step ({_QUOTED}).",)
