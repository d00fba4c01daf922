"""The figures of docs/memory.md are computed anew, and measured."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from examples import char_gpt

from memory.nets import watch

TEXT = (Path(__file__).parents[2] / "docs" / "memory.md").read_text()
S, B, H, A, LAYERS, V = 128, 16, 192, 6, 4, 256
SBH, FLOAT, LONG = S * B * H, 4, 8


def told(what: str) -> int:
    (found,) = re.findall(rf"^\| {re.escape(what)} \|[^|]*\| ([\d,]+) \|$", TEXT, re.MULTILINE)
    return int(found.replace(",", ""))


LAYER = 64 * SBH + 4 * A * B * S + 16 * B * S
EMBEDDINGS = LONG * B * S + LONG * S
LAST_NORM = FLOAT * SBH + 2 * FLOAT * B * S
LOSS = FLOAT * B * S * V + LONG * B * S + FLOAT


def test_the_table_is_what_its_formulas_give() -> None:
    assert told("a layer by the paper, 16 bits and dropout") == 34 * SBH + 5 * A * S * S * B
    assert told("a layer, 32 bits, no dropout, plain attention") == 64 * SBH + 4 * A * S * S * B
    assert told("a layer of the example") == LAYER
    assert told("its four layers") == LAYERS * LAYER
    assert told("tokens and positions, for the embeddings") == EMBEDDINGS
    assert told("last norm") == LAST_NORM
    assert told("last linear's input") == FLOAT * SBH
    assert told("loss: log-probabilities, targets, their weight") == LOSS
    assert told("all of it") == LAYERS * LAYER + EMBEDDINGS + LAST_NORM + FLOAT * SBH + LOSS


def test_the_paper_s_parts_sum_to_its_layer() -> None:
    parts = [
        tuple(map(int, found))
        for found in re.findall(r"^    \S.*?(\d+) sbh(?: \+ (\d+) a s² b)?", TEXT, re.M)
        if found[1]
    ]
    assert parts == [(11, 5), (34, 5)]
    assert 11 + 19 + 4 == 34
    assert (2 + 4 + 2 + 2 + 1, 2 + 1 + 2, 2 + 8 + 8 + 1, 2 + 2) == (11, 5, 19, 4)


def test_the_example_keeps_just_that() -> None:
    torch.manual_seed(0)
    model = char_gpt.GPT(LAYERS, A, H, S)
    x, y = torch.randint(V, (B, S)), torch.randint(V, (B, S))
    found = watch(model, lambda: char_gpt.loss_of(model, x, y).backward())
    blocks: dict[str, int] = {}
    for path, size in found.saved.items():
        place = re.match(r"blocks\.\d+", path)
        name = place[0] if place else path
        blocks[name] = blocks.get(name, 0) + size
    assert [blocks.pop(f"blocks.{number}") for number in range(LAYERS)] == [LAYER] * LAYERS
    assert blocks == {
        "token_embedding": LONG * B * S,
        "position_embedding": LONG * S,
        "norm": LAST_NORM,
        "lm_head": FLOAT * SBH,
        "outside": LOSS,
    }
    assert found.total == told("all of it")
