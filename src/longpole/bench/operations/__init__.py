"""The operations, one builder each: from a size to pieces of work. The table is the list of what there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from longpole.bench.operations.attentions import attention
from longpole.bench.operations.convolutions import conv
from longpole.bench.operations.piece import DTYPES, Piece, UnsupportedSizeError, Where
from longpole.bench.operations.products import gemm, grouped_gemm, linear, sparse_gemm
from longpole.bench.operations.recurrents import rnn
from longpole.bench.operations.streams import elementwise, embedding, norm, optimizer, softmax_loss

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from longpole.bench.suites import Size

__all__ = ["BUILDERS", "DTYPES", "Piece", "UnsupportedSizeError", "Where"]

BUILDERS: Mapping[str, Callable[[Size, Where], Iterable[Piece]]] = {
    "gemm": gemm,
    "linear": linear,
    "conv": conv,
    "rnn": rnn,
    "sparse_gemm": sparse_gemm,
    "grouped_gemm": grouped_gemm,
    "attention": attention,
    "norm": norm,
    "softmax_loss": softmax_loss,
    "embedding": embedding,
    "optimizer": optimizer,
    "elementwise": elementwise,
}
