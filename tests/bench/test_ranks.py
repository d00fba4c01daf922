"""Collectives on processes spawned here: verified on every rank, bus bandwidth by the standard definition."""

from __future__ import annotations

import sys
import time

import pytest

torch = pytest.importorskip("torch")

from longpole.bench.collectives import Message  # noqa: E402
from longpole.bench.ranks import run_collectives  # noqa: E402
from longpole.bench.spawn import run_local  # noqa: E402
from longpole.bench.suites import load_suite, one_size  # noqa: E402

OPERATIONS = ["all_reduce", "all_gather", "reduce_scatter", "broadcast", "all_to_all", "send_recv"]


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 4])
def test_every_collective_gives_the_right_result_on_every_rank(ranks: int) -> None:
    messages = [Message(operation, 1024) for operation in OPERATIONS]
    found = run_local(messages, ranks, budget_s=0.01)
    for message, result in zip(messages, found, strict=True):
        assert "skipped" not in result or "wrong" not in result["skipped"], message.operation
    by_name = {message.operation: result for message, result in zip(messages, found, strict=True)}
    for sure in ("all_reduce", "broadcast", "all_gather", "send_recv"):
        assert by_name[sure]["samples"] >= 5


@pytest.mark.slow
def test_a_message_that_no_backend_knows_is_skipped_and_the_rest_goes_on() -> None:
    found = run_local([Message("gossip", 8), Message("all_reduce", 8)], 2, budget_s=0.01)
    assert "gossip" in found[0]["skipped"]
    assert found[1]["samples"] >= 5


@pytest.mark.slow
def test_a_rank_that_dies_leaves_no_process_and_says_why() -> None:
    found = run_local([Message("all_reduce", 8)], 2, backend="no_such_backend", budget_s=0.01, timeout_s=30.0)
    assert "no_such_backend" in found[0]["skipped"].lower()


def test_other_numbers_of_ranks_are_skipped_with_what_to_do() -> None:
    sizes = [
        size for size in load_suite("deepbench-train") if size.op == "all_reduce" and size.row["processors"] == "32"
    ]
    rows = [row for found in run_collectives(sizes, (2,), 0.01) for row in found]
    assert len(rows) == 7
    assert all(row.skipped is not None and "torchrun" in row.skipped for row in rows)


@pytest.mark.slow
def test_bus_bandwidth_of_an_all_reduce() -> None:
    size = one_size("all_reduce", {"floats": 25_000, "processors": 2})
    row = next(row for found in run_collectives([size], (2,), 0.01) for row in found)
    # two ranks: factor 2 * 1 / 2 = 1; bytes / nanoseconds = GB/s
    assert row.median_ms is not None
    assert row.bus_gb_per_s == pytest.approx(100_000 / (row.median_ms * 1e6))
    assert row.first_quartile_ms is not None
    assert row.third_quartile_ms is not None
    assert row.first_quartile_ms <= row.median_ms <= row.third_quartile_ms


def test_after_the_deadline_no_message_is_begun_and_none_has_a_row() -> None:
    sizes = [size for size in load_suite("deepbench-train") if size.op == "all_reduce"]
    rows = [row for found in run_collectives(sizes, (2, 4), 0.01, deadline_s=time.monotonic() - 1) for row in found]
    assert {row.params["processors"] for row in rows} == {"8", "16", "32"}  # skipped whatever the time


@pytest.mark.slow
def test_ranks_end_together_where_the_time_does() -> None:
    messages = [Message("all_reduce", 8)] * 3
    assert run_local(messages, 2, budget_s=0.01, begin_within_s=0.0) == []
    found = run_local(messages, 2, budget_s=0.01, begin_within_s=60.0)
    assert [result["samples"] >= 5 for result in found] == [True] * 3


def test_under_torchrun_what_other_numbers_of_ranks_would_do_is_told_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """One rank of one: a size of two ranks is skipped before that of one is run."""
    from torch import distributed as dist

    start = dist.init_process_group
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # torch puts its own there
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setattr(
        dist, "init_process_group", lambda name: start(name, store=dist.HashStore(), rank=0, world_size=1)
    )
    sizes = [one_size("all_reduce", {"floats": 64, "processors": ranks}) for ranks in (1, 2, 1, 3)]
    found = list(run_collectives(sizes, (2,), 0.001))
    assert [[row.skipped for row in rows] for rows in found] == [
        ["needs 2 ranks, torchrun started 1"], ["needs 3 ranks, torchrun started 1"], [None], [None],
    ]  # fmt: skip
