"""longpole's own trace file: what was written comes back, up to any cut, and a stranger's file does no harm."""

from __future__ import annotations

import contextlib
import struct
import zlib
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longpole.analysis.make import study
from longpole.errors import LongpoleError
from longpole.trace import Kind, Level, Phase, Role
from longpole.trace.build import Piece, TraceBuilder, events_piece
from longpole.trace.store import HEADER, MAGIC, Record, TraceWriter, is_store, read_trace
from longpole.trace.trace import Lane, Layer, RunInfo, StepWindow

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from longpole.trace.trace import Trace

MS = 1_000_000


def add_step(builder: TraceBuilder, index: int, level: Level) -> None:
    """A step of 10 ms: 1 data, 3 forward with a layer and an op in it, 4 backward with its node, 1 optimizer."""
    start = index * 10 * MS
    marks = [("data", 0, 1), ("forward", 1, 3), ("backward", 4, 4), ("optimizer", 9, 1)]
    builder.add(
        events_piece(
            {
                "start_ns": np.array([start + at * MS for _, at, _ in marks]),
                "duration_ns": np.array([length * MS for _, _, length in marks]),
                "name": np.array([builder.intern(name) for name, _, _ in marks]),
                "kind": np.full(4, Kind.PHASE),
                "lane": np.zeros(4),
            }
        )
    )
    if level == Level.OPS:
        node = "autograd::engine::evaluate_function: AddmmBackward0"
        rows = [("fc", 1.1, 2.5, Kind.LAYER, 5), ("aten::mm", 1.2, 2, Kind.OP, 5), (node, 4.1, 3, Kind.OP, 5)]
        rows.append(("aten::mm", 4.2, 2.5, Kind.OP, -1))
        names, starts, lengths, kinds, sequences = zip(*rows, strict=True)
        shapes = builder.intern("[[4,8],[8,2]]")
        builder.add(
            events_piece(
                {
                    "start_ns": np.array([start + int(at * MS) for at in starts]),
                    "duration_ns": np.array([int(length * MS) for length in lengths]),
                    "name": np.array([builder.intern(name) for name in names]),
                    "kind": np.array(kinds),
                    "lane": np.zeros(4),
                    "sequence": np.array(sequences),
                    "last_sequence": np.array([6, -1, -1, -1]),
                    "layer": np.array([0, -1, -1, -1]),
                    "shapes": np.array([-1, shapes, -1, shapes]),
                    "dtypes": np.array([-1, *[builder.intern('["float","float"]')] * 3]),
                }
            )
        )
    if level == Level.SITES:
        where = builder.intern("train.py:9 in log")
        samples = {"time_ns": [start + 8 * MS + MS // 2], "loop_line": [where], "site": [where], "flow": [Phase.OTHER]}
        builder.add(Piece({}, {name: np.array(column) for name, column in samples.items()}, {}))
    if level == Level.GRADIENTS:
        op = builder.intern("aten::mm")
        rows = {"sequence": [5], "op": [op], "ordinal": [0], "role": [Role.WEIGHT_GRAD], "weight_share": [1.0]}
        builder.add(Piece({}, {}, {name: np.array(column) for name, column in rows.items()}))
    builder.steps.append(StepWindow(index, start, start + 10 * MS, level, 0))


LEVELS = (Level.NONE, Level.PHASES, Level.OPS, Level.GRADIENTS, Level.SITES, Level.PHASES, Level.PHASES)


def write(path: Path) -> Trace:
    """A small file with everything in it; the trace that its builder makes."""
    writer = TraceWriter(path)
    builder = TraceBuilder()
    builder.lane(Lane("training thread", "host", 1, 2))
    builder.layers = [Layer("fc", "Linear", parameters=16, trainable=16, parameter_shapes=((8, 2),))]
    builder.saved_bytes = {0: 128}
    for index, level in enumerate(LEVELS):
        builder.info = RunInfo(script="train.py", argv=("--x",), facts={"batch_size": "4", "mark_ns": "500"})
        add_step(builder, index, level)
        writer.flush(builder)
    writer.close()
    assert writer.failed is None
    return builder.build()


def as_plain(trace: Trace) -> dict[str, Any]:
    plain: dict[str, Any] = {name: column.tolist() for name, column in trace.events.columns()}
    for table in (trace.calls, trace.samples, trace.gradients):
        fields = {name: getattr(table, name).tolist() for name in type(table).__dataclass_fields__}
        plain[type(table).__name__] = fields
    plain |= {"strings": list(trace.strings), "lanes": list(trace.lanes), "layers": list(trace.layers)}
    return plain | {"steps": list(trace.steps), "saved": dict(trace.saved_bytes), "info": trace.info}


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "run.longpole"
    written = write(path)
    assert is_store(path)
    assert as_plain(read_trace(path)) == as_plain(written)


def test_the_small_file_is_a_study_with_figures_known_on_paper(tmp_path: Path) -> None:
    found = study([write(tmp_path / "run.longpole")])
    assert {phase.phase: round(phase.ms, 6) for phase in found.phases} == {
        "data": 1.0,
        "forward": 3.0,
        "backward": 4.0,
        "optimizer": 1.0,
        "other": 1.0,
    }
    assert found.step.wall_ms.mean == pytest.approx(10)
    assert found.step.accounted_share == 1
    assert found.step.samples_per_s == pytest.approx(400)
    assert found.step.probe_share == pytest.approx(4 * 500 / 10e6)
    assert [site.where for phase in found.phases for site in phase.sites] == ["train.py:9 in log"]
    [layer] = found.layers
    assert (layer.input_grad_ms, layer.weight_grad_ms) == (0, layer.backward_ms)
    assert layer.saved_bytes == 128


def test_a_file_cut_anywhere_holds_what_came_before(tmp_path: Path) -> None:
    path = tmp_path / "run.longpole"
    whole = write(path)
    data = path.read_bytes()
    cut = tmp_path / "cut.longpole"
    counts: list[int] = []
    for length in range(len(data)):
        cut.write_bytes(data[:length])
        with contextlib.suppress(LongpoleError):  # before the first record is whole
            trace = read_trace(cut)
            counts.append(len(trace.steps))
            assert list(trace.steps) == list(whole.steps)[: len(trace.steps)]
            assert trace.info.warnings == () or "cut or damaged after" in trace.info.warnings[-1]
    assert counts == sorted(counts)
    assert set(counts) == set(range(1, len(LEVELS)))
    assert len(data) - len(counts) < 1500, "only a cut in the first record leaves nothing"


@pytest.mark.parametrize("position", [-1, -40, -200, -900])
def test_a_damaged_byte_ends_the_file_there(tmp_path: Path, position: int) -> None:
    path = tmp_path / "run.longpole"
    write(path)
    data = bytearray(path.read_bytes())
    data[position] ^= 0xFF
    path.write_bytes(data)
    trace = read_trace(path)
    assert len(trace.steps) < len(LEVELS)
    assert "cut or damaged" in trace.info.warnings[-1]


def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    path = tmp_path / "x.longpole"
    path.write_bytes(b"PK\x03\x04")
    assert not is_store(path)
    with pytest.raises(LongpoleError, match="is not a longpole trace"):
        read_trace(path)


def test_a_length_beyond_all_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.longpole"
    path.write_bytes(MAGIC + HEADER.pack(0xFFFFFFFF, 0) + b"x" * 100)
    with pytest.raises(LongpoleError, match="before its first record"):
        read_trace(path)


def test_a_forked_child_adds_nothing(tmp_path: Path) -> None:
    """A child ends with a copy of every buffer that was not written yet."""
    path = tmp_path / "x.longpole"
    writer = TraceWriter(path)
    assert path.read_bytes() == MAGIC
    writer.close()


def test_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / "x.longpole"
    writer, builder = TraceWriter(path), TraceBuilder()
    builder.lane(Lane("training thread", "host"))
    builder.info = RunInfo(script="tr\udcffin.py")
    builder.intern("tr\udcffin.py:3")
    add_step(builder, 0, Level.PHASES)
    writer.flush(builder)
    writer.close()
    trace = read_trace(path)
    assert trace.info.script == "tr?in.py"
    assert trace.strings[0] == "tr?in.py:3"
    assert len(trace.events) == 4


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(LongpoleError, match="choose another place"):
        TraceWriter(tmp_path / "nowhere" / "x.longpole")


def test_a_disk_that_fills_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, builder = TraceWriter(tmp_path / "x.longpole"), TraceBuilder()

    class Full:
        def write(self, data: bytes) -> int:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            raise OSError(28, "No space left on device")

    assert writer._file is not None
    writer._file.close()
    monkeypatch.setattr(writer, "_file", Full())
    writer.flush(builder)
    assert writer.failed == "No space left on device"
    writer.flush(builder)


# -- files that were made to hurt ------------------------------------------------------------------------------


def records_of(data: bytes) -> list[Record]:
    found: list[Record] = []
    at = len(MAGIC)
    while at < len(data):
        length, _ = HEADER.unpack_from(data, at)
        at += HEADER.size
        found.append(msgspec.msgpack.decode(data[at : at + length], type=Record))
        at += length
    return found


def forged(records: list[Record]) -> bytes:
    out = MAGIC
    for record in records:
        payload = msgspec.msgpack.encode(record)
        out += HEADER.pack(len(payload), zlib.crc32(payload)) + payload
    return out


def opened(path: Path, records: list[Record]) -> None:
    """Reads and studies the forged file: an answer, or one line that says why not."""
    path.write_bytes(forged(records))
    with contextlib.suppress(LongpoleError):
        study([read_trace(path)])


def with_number(records: list[Record], table: str, column: str, value: int | float) -> list[Record]:
    """The last number of the last such column replaced."""
    for record in reversed(records):
        for piece in reversed(record.pieces):
            if column in piece.get(table, {}):
                data = piece[table][column]
                width = {"kind": 1, "flow": 1, "role": 1}.get(column, 4)
                if column in {"start_ns", "duration_ns", "sequence", "last_sequence", "correlation", "time_ns"}:
                    width = 8
                form = {1: "<B", 4: "<i", 8: "<q"}[width]
                if column == "weight_share":
                    form, width = "<d", 8
                piece[table][column] = data[:-width] + struct.pack(form, value)
                return records
    raise LookupError(column)


COLUMNS = {
    "events": ("name", "lane", "shapes", "dtypes", "layer", "kind", "sequence", "last_sequence", "start_ns"),
    "samples": ("time_ns", "loop_line", "site", "flow"),
    "gradients": ("sequence", "op", "ordinal", "role"),
}
NUMBERS = {"kind": (13, 255), "flow": (13, 255), "role": (9, 255)}
FAR = (-(2**31), -2, -1, 2**31 - 1)
FURTHER = (-(2**63), 2**63 - 1)


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        (table, column, value)
        for table, columns in COLUMNS.items()
        for column in columns
        for value in NUMBERS.get(column, FAR)
    ]
    + [
        ("events", column, value)
        for column in ("start_ns", "duration_ns", "sequence", "last_sequence")
        for value in FURTHER
    ]
    + [("gradients", "weight_share", value) for value in (float("nan"), float("inf"), -1e308)],
)
def test_numbers_that_point_nowhere(tmp_path: Path, table: str, column: str, value: float) -> None:
    path = tmp_path / "run.longpole"
    write(path)
    opened(path, with_number(records_of(path.read_bytes()), table, column, value))


def _set(**fields: Any) -> Callable[[list[Record]], None]:
    return lambda records: [setattr(records[-1], name, value) for name, value in fields.items()] and None


def _info(**facts: str) -> Callable[[list[Record]], None]:
    return _set(info=RunInfo(facts=facts))


@pytest.mark.parametrize(
    "change",
    [
        _info(batch_size="many"),
        _info(parameters="-", model="x"),
        _info(mark_ns="nan"),
        _info(mark_ns="soon"),
        _info(parameters_bytes="²"),
        _set(saved_bytes={-5: 1, 7: 2**62, 0: -1}),
        _set(layers=[Layer("a", parent=5), Layer("b", parent=1)]),
        _set(layers=[Layer("a", parent=-9, parameters=-(2**63), parameter_shapes=((2**62, 2**62),))]),
        _set(layers=[]),
        _set(steps=[StepWindow(9, 10**18, 5, Level.PHASES)]),
        _set(steps=[StepWindow(-1, 0, 2**63 - 1, Level.OPS)]),
        _set(steps=[StepWindow(2**64 - 1, 2**64 - 2, 2**64 - 1, 77)]),
        _set(steps=[StepWindow(1, 0, 0, Level.PHASES)] * 50),
        _set(pieces=[{"events": {"start_ns": b"12345678"}}]),
        _set(pieces=[{"events": {"start_ns": b"123"}}]),
        _set(pieces=[{"events": {"start_ns": b"12345678" * 2, "name": b"1234"}}]),
        _set(pieces=[{"nonsense": {"a": b"1"}}]),
        _set(pieces=[{"events": {"nonsense": b"12345678"}}]),
        _set(strings=["[" * 100_000, "{}", "[[", "[1e999]", '[["a"]]']),
    ],
)
def test_records_made_to_hurt(tmp_path: Path, change: Callable[[list[Record]], None]) -> None:
    path = tmp_path / "run.longpole"
    write(path)
    records = records_of(path.read_bytes())
    change(records)
    opened(path, records)


@pytest.mark.parametrize(
    "text", ["[", "null", "7", '"x"', "[" * 50_000, "[[4,", '[["a","b"]]', '{"a":1}', "[[1e400]]", "[[-1]]"]
)
def test_shapes_that_are_no_shapes(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.longpole"
    write(path)
    records = records_of(path.read_bytes())
    for record in records:
        record.strings = [text if found.startswith("[") else found for found in record.strings]
    opened(path, records)


def test_a_range_of_numbers_that_would_take_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "run.longpole"
    write(path)
    opened(path, with_number(records_of(path.read_bytes()), "events", "last_sequence", -1))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_in_any_column(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "run.longpole"
    write(path)
    records = records_of(path.read_bytes())
    places = [
        (piece[table], column)
        for record in records
        for piece in record.pieces
        for table in piece
        for column in piece[table]
    ]
    columns, name = data.draw(st.sampled_from(places))
    columns[name] = data.draw(st.binary(min_size=len(columns[name]), max_size=len(columns[name])))
    opened(path, records)
