"""Results read back: another kind, a later version and junk are each refused in one line; what is known is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from longpole.analysis.study import Study, load_study
from longpole.analysis.survey import Survey, load_survey
from longpole.errors import LongpoleError
from longpole.sweep.result import Sweep, load_sweep

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = [(Study, load_study), (Survey, load_survey), (Sweep, load_sweep)]


@pytest.mark.parametrize(("kind", "load"), KINDS, ids=[kind.__name__ for kind, _ in KINDS])
def test_what_is_written_is_read_and_nothing_else(kind: type, load: Callable[[bytes, str], object]) -> None:
    word = kind.__name__.lower()
    made = kind() if kind is not Sweep else kind(script="train.py")
    plain = msgspec.json.encode(made)
    assert load(plain, "a.json") == made
    later = plain.replace(b'"version":1', b'"version":7')
    with pytest.raises(LongpoleError, match=f"a.json is a longpole.{word} of version 7; .* longpole.{word} up to 1"):
        load(later, "a.json")
    with pytest.raises(LongpoleError, match=r"a\.json is a longpole\.other of version 1"):
        load(plain.replace(f"longpole.{word}".encode(), b"longpole.other"), "a.json")
    for junk in (b"", b"[1]", b"\xff\xfe", b'{"version": "x"}'):
        with pytest.raises(LongpoleError, match=f"a.json is not a longpole {word}: "):
            load(junk, "a.json")
