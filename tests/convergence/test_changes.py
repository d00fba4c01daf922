"""Frozen layers, starting weights and moved seeds, applied from outside to a script in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

torch = pytest.importorskip("torch")

PRELUDE = """
import json, sys, random
import numpy as np
import torch
from torch import nn
from longpole.apply import apply, notes
from longpole.whatif.changes import Changes
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.unused = nn.Linear(2, 2)
        self.top = nn.Linear(6, classes)
        self.attend = nn.MultiheadAttention(6, 2, batch_first=True)
        self.bottom = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6))
    def forward(self, x):
        x = self.bottom(x)
        return self.top(self.attend(x, x, x)[0]).mean(1)
net = Net()
def say(**what):
    print(json.dumps(what))
"""

TRAIN = """
x = torch.randn(8, 5, 4)
y = torch.randint(3, (8,))
before = {name: p.detach().clone() for name, p in net.named_parameters()}
with torch.no_grad():
    net(x)
for _ in range(3):
    nn.functional.cross_entropy(net(x), y).backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=False)
same = sorted(name for name, p in net.named_parameters() if torch.equal(before[name], p))
"""


def child(text: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + text], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "optimizer",
    [
        "AdamW(net.parameters(), lr=0.1, weight_decay=0.5)",
        "SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.5)",
    ],
)
def test_frozen_layers_get_no_update_not_even_weight_decay(optimizer: str) -> None:
    """The optimizer already holds them. Order is that of the first forward: bottom.0, bottom.1, attend, top."""
    said = child(
        f"optimizer = torch.optim.{optimizer}\nlater = apply(Changes(freeze=3))\n{TRAIN}\n"
        "say(same=same, unmet=[ask() for ask in later], patched=nn.Module.__call__.__name__)"
    )
    attention = ["in_proj_bias", "in_proj_weight", "out_proj.bias", "out_proj.weight"]
    never_called = ["unused.bias", "unused.weight"]
    assert said["same"] == sorted(
        [f"attend.{name}" for name in attention]
        + [f"bottom.{at}.{name}" for at in (0, 1) for name in ("bias", "weight")]
        + never_called
    )
    assert said["unmet"] == [None]
    assert said["patched"] == "_wrapped_call_impl"


def test_more_layers_than_there_are_cannot_be_frozen() -> None:
    said = child("later = apply(Changes(freeze=9))\nnet(torch.randn(1, 5, 4))\nsay(unmet=later[0]())")
    assert "only 4 layers" in str(said["unmet"])


def test_starting_weights_are_in_place_before_the_first_forward_computes(tmp_path: Path) -> None:
    """Under a wrapper's prefix, with a head for other classes, which stays as the script made it."""
    file = tmp_path / "weights.pt"
    said = child(f"""
other = Net(classes=7)
torch.save({{"epoch": 3, "state_dict": {{"module." + k: v for k, v in other.state_dict().items()}}}}, {str(file)!r})
head = net.top.weight.detach().clone()
later = apply(Changes(init={str(file)!r}))
x = torch.randn(2, 5, 4)
with torch.no_grad():
    seen = net(x)
    other.top = net.top
    expected = other(x)
say(same=torch.equal(seen, expected), head=torch.equal(head, net.top.weight), unmet=later[0](), notes=notes.said)
""")
    assert said["same"] is True
    assert said["head"] is True
    assert said["unmet"] is None
    assert isinstance(said["notes"], list)
    note = said["notes"][0]  # `other` is a network that the script calls, too, and has one of its own
    assert "10 of 12 tensors loaded" in note
    assert "top.weight is (3, 6) and not (7, 6)" in note


def test_an_average_that_is_called_after_the_first_update_keeps_what_it_has_learnt(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    said = child(f"""
torch.save(Net().state_dict(), {str(file)!r})
import copy
average = copy.deepcopy(net)
learnt = average.top.weight.detach().clone()
apply(Changes(init={str(file)!r}))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
{TRAIN}
average(x)
say(kept=torch.equal(learnt, average.top.weight))
""")
    assert said["kept"] is True


def test_weights_that_do_not_fit_end_the_run_at_its_first_update(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    said = child(f"""
torch.save({{"strange": torch.zeros(3)}}, {str(file)!r})
later = apply(Changes(init={str(file)!r}))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
try:
    net(torch.randn(2, 5, 4)).sum().backward()
    optimizer.step()
    say(ended=None)
except Exception as error:
    say(ended=type(error).__name__, text=str(error))
""")
    assert said["ended"] == "LongpoleError"
    assert "none of its 1 tensors fits" in str(said["text"])


@pytest.mark.parametrize(
    "content",
    ["torch.save(print, FILE)", "open(FILE, 'wb').write(b'junk')", "torch.save([1, 2], FILE)", "torch.save({}, FILE)"],
)
def test_a_file_that_is_no_plain_weights_is_refused_and_nothing_in_it_is_run(content: str, tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    said = child(f"""
FILE = {str(file)!r}
{content}
try:
    apply(Changes(init=FILE))
    say(error=None)
except Exception as error:
    say(error=type(error).__name__, text=str(error))
""")
    assert said["error"] == "LongpoleError"
    assert "--init" in str(said["text"])


DRAWS = """
from longpole.apply.seed import set_seed
def draws():
    generator = torch.Generator()
    generator.manual_seed(5)
    torch.manual_seed(1)
    random.seed(3)
    np.random.seed(3)
    return {
        "torch": torch.rand(1).item(),
        "torch.Generator": torch.rand(1, generator=generator).item(),
        "random": random.random(),
        "random.Random": random.Random(3).random(),
        "numpy": float(np.random.rand()),
        "default_rng": float(np.random.default_rng(3).random()),
        "RandomState": float(np.random.RandomState(3).rand()),
        "PCG64": float(np.random.Generator(np.random.PCG64(3)).random()),
    }
"""


def test_every_way_to_seed_moves_and_seed_0_moves_none() -> None:
    said = child(
        f"{DRAWS}\nuntouched = draws()\nset_seed(0)\nzero = draws()\nimport longpole.apply.seed as s\ns._by = 1\n"
        "one = draws()\nsay(untouched=untouched, zero=zero, one=one, again=draws(),"
        "kinds=[isinstance(torch.default_generator, torch.Generator),"
        "isinstance(np.random.mtrand._rand, np.random.RandomState)])"
    )
    untouched, zero, one, again = (said[name] for name in ("untouched", "zero", "one", "again"))
    assert isinstance(untouched, dict)
    assert isinstance(one, dict)
    assert zero == untouched
    assert again == one
    assert [name for name in untouched if untouched[name] == one[name]] == []
    assert said["kinds"] == [True, True]


def test_generators_without_a_seed_differ_from_one_another_and_not_from_run_to_run() -> None:
    text = f"{DRAWS}\nset_seed(2)\nsay(a=[float(np.random.default_rng().random()) for _ in range(2)])"
    first, second = child(text)["a"], child(text)["a"]
    assert first == second
    assert isinstance(first, list)
    assert first[0] != first[1]
