"""Text to train on without a download: the source of Python's own standard library, by byte or by word."""

from __future__ import annotations

import re
import sysconfig
from collections import Counter
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

MOST_BYTES = 1_000_000
BYTES = 256  # tokens of a text read by bytes
_WORD = re.compile(rb"\s?\w+|\s?[^\w\s]+|\s+")


@lru_cache(maxsize=1)
def _text() -> bytes:
    folder = Path(sysconfig.get_paths()["stdlib"])
    found = bytearray()
    for path in sorted(folder.glob("*.py")):
        found += path.read_bytes()
        if len(found) > MOST_BYTES:
            break
    return bytes(found[:MOST_BYTES])


def tokens(vocabulary: int) -> Tensor:
    """The text as int64 numbers below `vocabulary`: bytes where that is 256, else words by how often they occur.

    Words beyond the vocabulary share its last number.
    """
    if vocabulary == BYTES:
        return torch.frombuffer(bytearray(_text()), dtype=torch.uint8).long()
    words = _WORD.findall(_text())
    ranks = {word: rank for rank, (word, _) in enumerate(Counter(words).most_common(vocabulary - 1))}
    return torch.tensor([ranks.get(word, vocabulary - 1) for word in words])


class Crops(Dataset[tuple[Tensor, ...]]):
    """Random crops of the text and, as targets, the same one token later: two vectors of `length`."""

    def __init__(self, vocabulary: int, length: int, count: int = 4096) -> None:
        self.tokens = tokens(vocabulary)
        self.length, self.count = length, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        start = int(torch.randint(len(self.tokens) - self.length - 1, ()))
        crop = self.tokens[start : start + self.length + 1]
        return crop[:-1], crop[1:]
