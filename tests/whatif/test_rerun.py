"""A script run again with changes: they arrive, and what cannot be measured is said in one line."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from longpole.errors import LongpoleError
from longpole.whatif.changes import VARIABLE, Changes, tell, told
from longpole.whatif.rerun import Request, rerun

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """
import torch
torch.manual_seed(7)
net = torch.nn.Linear(4, 2)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
print("first weight", net.weight[0, 0].item(), "threads", torch.get_num_threads())
for _ in range(200):
    optimizer.zero_grad()
    net(torch.randn(8, 4)).square().mean().backward()
    optimizer.step()
"""


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "train.py"
    path.write_text(dedent(SCRIPT))
    return str(path)


def test_changes_survive_the_way_to_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    environment: dict[str, str] = {}
    changes = Changes(seed=3, checkpoint=("blocks.0", "blocks.1"))
    tell(changes, environment)
    monkeypatch.setenv(VARIABLE, environment[VARIABLE])
    assert told() == changes
    tell(Changes(), environment)
    assert environment == {}


def test_what_is_no_change_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, '{"faster": true}')
    with pytest.raises(LongpoleError, match=r"LONGPOLE_CHANGES cannot be read"):
        told()


def test_a_seed_moves_the_scripts_own_seed_and_threads_are_set(script: str) -> None:
    plain = rerun(Request([script], Changes(threads=1)))
    other = rerun(Request([script], Changes(seed=1, threads=1)))
    again = rerun(Request([script], Changes(seed=1, threads=1)))
    assert plain.study.step.wall_ms.median
    assert "threads 1" in plain.stdout
    assert plain.stdout != other.stdout
    assert other.stdout == again.stdout


def test_a_script_that_trains_nothing_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "nothing.py"
    path.write_text("import torch\n")
    with pytest.raises(LongpoleError, match="no training step was seen"):
        rerun(Request([str(path)]))
