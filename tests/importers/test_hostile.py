"""Files that are cut, damaged, odd or no traces: what is whole is used, what is not is said, nothing tracebacks."""

from __future__ import annotations

import gzip
import json
import math
import os
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import made_traces as made
from longpole.analysis.timeline import timeline
from longpole.errors import LongpoleError
from longpole.importers import json_events, open_trace
from made_traces import kernel, opened, span

if TYPE_CHECKING:
    from longpole.trace import Trace

EVENTS = [span("cpu_op", f"op {i}", 10 * i, 5, External_id=i) for i in range(1000)]


def signature(trace: Trace) -> list[tuple[Any, ...]]:
    events = trace.events
    columns = (events.start_ns, events.duration_ns, events.kind, events.lane, events.correlation)
    return list(zip(made.names(trace), *(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize("layout", ["kineto", "compact", "spaced", "one", "four", "tabs", "crlf", "bom", "list"])
@pytest.mark.parametrize("piece", [200, 4 << 20])
def test_every_layout_gives_the_same_table(tmp_path, monkeypatch, layout, piece) -> None:
    monkeypatch.setattr(json_events, "PIECE_BYTES", piece)
    whole = made.document(EVENTS[:100])
    text = {
        "kineto": lambda: made.kineto_text(EVENTS[:100]),
        "compact": lambda: json.dumps(whole, separators=(",", ":")),
        "spaced": lambda: json.dumps(whole),
        "one": lambda: json.dumps(whole, indent=1),
        "four": lambda: json.dumps(whole, indent=4),
        "tabs": lambda: json.dumps(whole, indent="\t"),
        "crlf": lambda: json.dumps(whole, indent=2).replace("\n", "\r\n"),
        "bom": lambda: "\ufeff" + json.dumps(whole),
        "list": lambda: json.dumps(whole["traceEvents"]),
    }[layout]()
    path = tmp_path / "trace.json"
    path.write_bytes(text.encode())
    trace = open_trace(path)
    assert signature(trace) == signature(opened(tmp_path, EVENTS[:100]))
    assert not trace.info.warnings


def test_strings_that_look_like_borders_change_nothing(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(json_events, "PIECE_BYTES", 300)
    trap = '},{"ph":"X","cat":"cpu_op"}],"traceEvents":[{'
    names = [
        trap,
        trap * 20,
        'quote " and \\',
        "\\\\",
        'end \\"',
        "{{{{",
        "]]]]",
        "\n  },\n  {\n",
        "\u00e9\u4e16\U0001f980",
    ]
    events = [
        span("cpu_op", name, i, 1, note=trap, nested=[{"a": 1}, {"b": [{"c": trap}]}]) for i, name in enumerate(names)
    ]
    for indent in (None, 1, 2):
        assert made.names(opened(tmp_path, events, indent=indent)) == names


JSON_TEXT = st.text(max_size=20) | st.sampled_from(['},{"', '"', "\\", "[", "]", "\\u0041", "\n"])
EVENT = st.fixed_dictionaries(
    {"ph": st.just("X"), "cat": st.just("cpu_op"), "name": JSON_TEXT},
    optional={
        "args": st.dictionaries(JSON_TEXT, JSON_TEXT | st.integers() | st.lists(st.dictionaries(JSON_TEXT, st.none()))),
        "tid": st.integers(0, 3),
    },
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(EVENT, max_size=12), piece=st.integers(20, 400), indent=st.sampled_from([None, 0, 1, 3]))
def test_any_events_in_any_pieces(tmp_path, monkeypatch, events, piece, indent) -> None:
    monkeypatch.setattr(json_events, "PIECE_BYTES", piece)
    numbered = [{**event, "ts": 10 * index, "dur": 1} for index, event in enumerate(events)]
    trace = opened(tmp_path, numbered, indent=indent)
    # Lone surrogates cannot be written to a file or a terminal; they become question marks.
    expected = [event["name"].encode("utf-8", "replace").decode() for event in events]
    assert made.names(trace) == expected


@pytest.mark.parametrize("layout", ["kineto", "compact"])
@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.999])
def test_everything_before_a_cut_is_used_and_the_cut_is_said(tmp_path, layout, keep) -> None:
    text = made.kineto_text(EVENTS) if layout == "kineto" else json.dumps(made.document(EVENTS), separators=(",", ":"))
    data = text.encode()
    data = data[: int(len(data) * keep)]
    path = tmp_path / "cut.json"
    path.write_bytes(data)
    trace = open_trace(path)
    complete = sum(f'"name": "op {i}"'.encode() in data or f'"name":"op {i}"'.encode() in data for i in range(1000))
    assert complete - 1 <= len(trace.events) <= complete
    assert "cut off" in trace.info.warnings[0]


def test_a_truncated_gzip_is_used_up_to_its_end(tmp_path) -> None:
    packed = gzip.compress(made.kineto_text(EVENTS).encode())
    path = tmp_path / "cut.json.gz"
    path.write_bytes(packed[: len(packed) // 2])
    trace = open_trace(path)
    readable = zlib.decompressobj(31).decompress(packed[: len(packed) // 2])
    assert len(trace.events) == pytest.approx(readable.count(b'"ph"'), abs=1)
    assert 0 < len(trace.events) < len(EVENTS)
    assert "gzip stream ends early" in trace.info.warnings[0]


def test_a_damaged_gzip_is_used_up_to_the_damage(tmp_path) -> None:
    packed = bytearray(gzip.compress(made.kineto_text(EVENTS).encode(), compresslevel=0))
    packed[len(packed) // 2 : len(packed) // 2 + 70_000] = b"\xff" * 70_000
    path = tmp_path / "damaged.json.gz"
    path.write_bytes(packed)
    trace = open_trace(path)
    assert 0 < len(trace.events) < len(EVENTS)
    assert trace.info.warnings


@pytest.mark.parametrize("without_isal", [False, True])
def test_gzip_of_several_members_is_read_whole(tmp_path, monkeypatch, without_isal) -> None:
    if without_isal:
        monkeypatch.setitem(__import__("sys").modules, "isal", None)
    data = made.kineto_text(EVENTS).encode()
    path = tmp_path / "many.json.gz"
    path.write_bytes(b"".join(gzip.compress(data[i : i + 10_000]) for i in range(0, len(data), 10_000)) + b"\0" * 100)
    trace = open_trace(path)
    assert len(trace.events) == len(EVENTS)
    assert not trace.info.warnings


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" \n ",
        b"hello",
        b"\x00\x01\x02",
        b"{}",
        b"[]",
        b"[1, 2, 3]",
        b'"traceEvents"',
        b'{"a": 1}',
        b'{"traceEvents": 5}',
        b'{"traceEvents"',
        b"{",
        b"\x1f\x8b",
        gzip.compress(b"", mtime=0),
        gzip.compress(b'{"schemaVersion": 1, "deviceProperties": [', mtime=0)[:-9],
        b"\x0a",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"PK\x03\x04",
        b"\x89PNG",
        b'{"a": "\\"traceEvents\\": []"}',
        b'{"inner": {"traceEvents": []}}',
    ],
)
def test_what_is_no_trace_is_one_clear_line(tmp_path, content) -> None:
    path = tmp_path / "odd.json"
    path.write_bytes(content)
    with pytest.raises(LongpoleError) as error:
        open_trace(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"traceEvents": []}'.encode("utf-16"), "it is UTF-16"),
        (b"PK\x03\x04rest", "it is a zip archive"),
        (b"\x28\xb5\x2f\xfdrest", "it is compressed by zstd"),
        (b"SQLite format 3\x00", "it is an SQLite database"),
    ],
)
def test_what_a_file_is_instead_is_said(tmp_path, content, said) -> None:
    path = tmp_path / "odd.json"
    path.write_bytes(content)
    with pytest.raises(LongpoleError, match=f"odd.json is not a trace: {said}"):
        open_trace(path)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path) -> None:
    path = tmp_path / "pipe.json"
    os.mkfifo(path)
    with pytest.raises(LongpoleError, match="is a pipe; give a file"):
        open_trace(path)


def test_an_event_that_never_ends_is_read_in_pieces_that_double(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(json_events, "PIECE_BYTES", 1 << 10)
    monkeypatch.setattr(json_events, "EVENT_LIMIT", 1 << 16)
    path = tmp_path / "endless.json"
    path.write_bytes(b'{"traceEvents": [{"ph": "X", "name": "' + b"x" * (1 << 20))
    scanned: list[int] = []
    plain = json_events.event_spans
    monkeypatch.setattr(json_events, "event_spans", lambda text: (scanned.append(len(text)), plain(text))[1])
    with pytest.raises(LongpoleError, match="no event \\(An event is larger than"):
        open_trace(path)
    # 1 + 2 + 4 + ... KiB up to twice the limit, the last looked at twice; even pieces would sum to 32 limits
    assert len(scanned) <= 9
    assert sum(scanned) < 5 << 16


def test_an_absent_file_and_a_folder_are_one_clear_line(tmp_path) -> None:
    for path in (tmp_path / "nothing.json", tmp_path):
        with pytest.raises(LongpoleError, match=str(path)):
            open_trace(path)


def test_an_empty_event_list_is_an_empty_trace(tmp_path) -> None:
    trace = opened(tmp_path, [])
    assert len(trace.events) == 0
    assert timeline(trace) is None
    assert trace.info.warnings == ("The trace has no events with a duration.",)


@pytest.mark.parametrize("bad", [10**30, -(10**30), "soon", None, [], {}, True, math.nan, math.inf, "12", 1e300])
@pytest.mark.parametrize("field", ["ts", "dur", "pid", "tid", "id", "name", "cat", "args"])
def test_wrong_types_and_sizes_cost_at_most_their_own_event(tmp_path, field, bad) -> None:
    odd = {**kernel("odd", 50, 1), field: bad}
    trace = opened(tmp_path, [kernel("before", 0, 1), odd, kernel("after", 100, 1)])
    assert {"before", "after"} <= set(made.names(trace))
    assert len(trace.events) + sum("left out" in warning for warning in trace.info.warnings) == 3


@pytest.mark.parametrize("bad", [10**30, -(10**30), "x", None, [], {}, 1.5, math.nan, 2**63, 2**31])
@pytest.mark.parametrize(
    "argument",
    [
        "correlation",
        "External id",
        "Sequence number",
        "Fwd thread id",
        "bytes",
        "Input Dims",
        "Input type",
        "In msg nelems",
    ],
)
def test_wrong_arguments_cost_at_most_themselves(tmp_path, argument, bad) -> None:
    events = [span("cpu_op", "op", 0, 1), kernel("k", 5, 1), span("gpu_memcpy", "Memcpy", 7, 1, pid=0, tid=7)]
    for event in events:
        event["args"][argument] = bad
        event["args"]["Collective name"] = "allreduce"
    trace = opened(tmp_path, events)
    assert made.names(trace) == ["op", "k", "Memcpy"]


@pytest.mark.parametrize("word", ["nan", "-inf", "NaN", "Infinity", "inf", "-nan(ind)"])
def test_words_for_numbers_that_profilers_write(tmp_path, word) -> None:
    text = made.kineto_text([kernel("a", 0, 1, gbps=1.25), kernel("b", 5, 1)]).replace("1.25", word)
    (tmp_path / "t.json").write_text(text)
    assert made.names(made.open_trace(tmp_path / "t.json")) == ["a", "b"]


def test_control_characters_broken_utf8_and_windows_paths(tmp_path) -> None:
    text = made.kineto_text([kernel(name, i, 1) for i, name in enumerate(["TAB", "BYTE", "PATH", "ok"])])
    data = text.encode().replace(b"TAB", b"a\tb").replace(b"BYTE", b"a\xff").replace(b"PATH", b"C:\\Users\\me")
    (tmp_path / "t.json").write_bytes(data)
    assert made.names(open_trace(tmp_path / "t.json")) == ["a\tb", "a\ufffd", "C:\\Users\\me", "ok"]


def test_duplicate_keys_take_the_last(tmp_path) -> None:
    text = '{"traceEvents": [{"ph": "X", "cat": "kernel", "name": "a", "name": "b", "ts": 1, "ts": 2, "dur": 3}]}'
    (tmp_path / "t.json").write_text(text)
    trace = open_trace(tmp_path / "t.json")
    assert (made.names(trace), trace.events.start_ns.tolist()) == (["b"], [2000])


def test_a_trailing_comma_is_forgiven(tmp_path) -> None:
    (tmp_path / "t.json").write_text('{"traceEvents": [{"ph":"X","cat":"kernel","name":"a","ts":1,"dur":3},\n]}')
    trace = open_trace(tmp_path / "t.json")
    assert made.names(trace) == ["a"]
    assert not trace.info.warnings


def test_zero_and_negative_durations(tmp_path) -> None:
    trace = opened(tmp_path, [kernel("a", 0, 4), kernel("zero", 2, 0), kernel("back", 6, -3), kernel("b", 8, 2)])
    assert trace.events.duration_ns.tolist() == [4000, 0, 0, 2000]
    assert "1 events have a negative duration" in trace.info.warnings[0]
    found = timeline(trace)
    assert found is not None
    # From 0 to 10 us: 4 + 2 busy, 4 idle.
    assert (found.busy.ms, found.idle.ms) == pytest.approx((0.006, 0.004))


def test_deep_nesting_inside_an_event_is_no_trouble(tmp_path) -> None:
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    trace = opened(tmp_path, [span("cpu_op", "a", 0, 1, deep=deep), span("cpu_op", "b", 2, 1)])
    assert made.names(trace) == ["a", "b"]


def test_absurdly_deep_nesting_costs_its_own_event(tmp_path) -> None:
    deep = "[" * 200_000 + "]" * 200_000
    text = made.kineto_text([kernel("a", 0, 1), kernel("b", 5, 1, x="DEEP"), kernel("c", 9, 1)])
    (tmp_path / "t.json").write_text(text.replace('"DEEP"', deep))
    assert {"a", "c"} <= set(made.names(open_trace(tmp_path / "t.json")))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_byte_is_survived(tmp_path, data) -> None:
    text = bytearray(made.kineto_text(EVENTS[:20], head='"deviceProperties": [],').encode())
    for _ in range(data.draw(st.integers(1, 4))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "flipped.json"
    path.write_bytes(text)
    try:
        trace = open_trace(path)
    except LongpoleError:
        return
    assert len(trace.events) <= 20
