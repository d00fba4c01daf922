"""Ranks on one clock: offsets, waits, stragglers and odd ranks, on runs made up so that all of it is known."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longpole.analysis.clock_alignment import SAMPLES, Alignment, Listing, Match, align, best_shift
from longpole.analysis.rank_oddity import outside
from longpole.analysis.ranks import answer_of, findings_of, names_of, study_ranks
from longpole.analysis.skew import device_time, waits_of
from longpole.importers import open_trace, open_traces
from longpole.trace import DEVICE_WORK
from made_traces import document, kernel, runtime, span
from shared_paths import traces_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from longpole.trace import Trace

ALL_REDUCE = "ncclDevKernel_AllReduce_Sum_f32_RING_LL(x)"
TRANSFER = 20.0
STEP_WORK = (100.0, 150.0, 50.0)  # microseconds of compute before each of a step's three collectives


def arguments(group: str, ranks: int, elements: int) -> dict[str, Any]:
    return {
        "Collective_name": "allreduce",
        "In_msg_nelems": elements,
        "Out_msg_nelems": elements,
        "dtype": "Float",
        "Group_size": ranks,
        "Process_Group_Name": group,
    }


def simulate(
    ranks: int,
    steps: int,
    late: Callable[[int, int, int], float] = lambda rank, step, index: 0.0,
    slow: Callable[[int, int, int], float] = lambda rank, step, index: 0.0,
    jitter: float = 0.0,
    group: str = "dp",
) -> list[list[dict[str, Any]]]:
    """Events of each rank on the true clock, in microseconds.

    `late` is how long a rank's device is idle before the compute of a collective because its host launches late,
    `slow` how much longer that compute takes; all leave a collective TRANSFER after the last has arrived.
    """
    chance = random.Random(7)
    events: list[list[dict[str, Any]]] = [[] for _ in range(ranks)]
    time, correlation = 1000.0, 0
    for step in range(steps):
        began = time
        for index, work in enumerate(STEP_WORK):
            starts = [time + late(rank, step, index) for rank in range(ranks)]
            arrivals = [starts[rank] + work + slow(rank, step, index) for rank in range(ranks)]
            end = max(arrivals) + TRANSFER
            correlation += 2
            for rank, mine in enumerate(events):
                mine.append(runtime("cudaLaunchKernel", starts[rank] - 6, 3, correlation))
                mine.append(kernel("gemm", starts[rank], arrivals[rank] - starts[rank], 7, correlation))
                mine.append(runtime("cudaLaunchKernelExC", starts[rank] - 2, 1, correlation + 1))
                wobble = chance.uniform(-jitter, jitter)
                talk = kernel(ALL_REDUCE, arrivals[rank], end + wobble - arrivals[rank], 20, correlation + 1)
                talk["args"] |= {k.replace("_", " "): v for k, v in arguments(group, ranks, 256 * (index + 1)).items()}
                mine.append(talk)
            # Steps are not all alike: a shift by one whole step must not fit as well as the right one.
            time = end + 10 + 7 * ((step * 3 + index) % 5)
        for mine in events:
            mine.append(span("user_annotation", f"ProfilerStep#{step}", began - 9, time - began - 1))
    return events


def traces_of(
    folder: Path, events: Sequence[list[dict[str, Any]]], offsets: Sequence[float] | None = None, first: int = 0
) -> list[Trace]:
    """Written and opened as one file a rank; `offsets` are added to each rank's clock."""
    import json

    found: list[Trace] = []
    for rank, mine in enumerate(events):
        moved = [{**event, "ts": event["ts"] + (offsets[rank] if offsets else 0.0)} for event in mine]
        path = folder / f"rank{rank + first}.json"
        path.write_text(json.dumps(document(moved, distributedInfo={"rank": rank + first, "world_size": len(events)})))
        found.append(open_trace(path))
    return found


def test_clocks_are_recovered_and_the_residual_is_what_the_ends_differ_by(tmp_path: Path) -> None:
    offsets = [0.0, 1_000_003.0, -250_000.0, 77.0]
    traces = traces_of(tmp_path, simulate(4, 6, jitter=2.0), offsets)
    found = align(traces)
    reference = found.offset_ns.index(0)
    for rank in range(4):
        offset, residual = found.offset_ns[rank], found.residual_ns[rank]
        assert offset is not None
        assert residual is not None
        assert offset == pytest.approx(1000 * (offsets[reference] - offsets[rank]), abs=4000)
        assert 0 <= residual <= 4000
    assert found.matched == (18, 18, 18, 18)


@settings(max_examples=50, deadline=None)
@given(
    count=st.integers(200, 4 * SAMPLES),
    gone=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    clock=st.integers(-(10**15), 10**15),
    seed=st.integers(0, 99),
)
def test_a_list_is_found_in_a_longer_one(count: int, gone: tuple[int, int], clock: int, seed: int) -> None:
    # Gaps of different lengths: only at the right shift do all ends differ by the clocks, and by nothing else.
    rng = random.Random(seed)
    end = np.cumsum([rng.randint(1_000, 1_000_000) for _ in range(count)])
    kind = np.array([rng.randint(-1, 1) for _ in range(count)])

    def listing(low: int, high: int, offset: int) -> Listing:
        moved = end[low:high] + offset
        return Listing(np.arange(high - low), kind[low:high], kind[low:high], moved - 500, moved, 2)

    whole, part = listing(0, count, 0), listing(gone[0], count - gone[1], clock)
    assert best_shift(whole, part) == (gone[0], 0.0)
    assert best_shift(part, whole) == (-gone[0], 0.0)


@settings(max_examples=25, deadline=None)
@given(cuts=st.tuples(st.integers(0, 5), st.integers(0, 5)), shift=st.integers(-5_000_000, 5_000_000))
def test_recordings_that_begin_and_end_differently_still_match(
    tmp_path_factory: pytest.TempPathFactory, cuts: tuple[int, int], shift: int
) -> None:
    # Four events a collective and a ProfilerStep a step of three: 13 events. Rank 1 lacks the first collectives.
    events = simulate(2, 6)
    talks = [event for event in events[1] if event["name"] == ALL_REDUCE]
    gone = talks[: cuts[0]] + talks[len(talks) - cuts[1] :]
    events[1] = [event for event in events[1] if all(event is not one for one in gone)]
    found = align(traces_of(tmp_path_factory.mktemp("cut"), events, [0.0, float(shift)]))
    assert found.offset_ns[0] is not None
    assert found.offset_ns[1] is not None
    assert found.offset_ns[0] - found.offset_ns[1] == 1000 * shift
    (match,) = found.matches
    assert len(match.operation) == 18 - sum(cuts)


def test_groups_of_one_name_are_told_apart_by_who_leaves_together(tmp_path: Path) -> None:
    # Ranks 0 and 2 are one tensor-parallel group and 1 and 3 another; both are called "tp".
    one = simulate(2, 6, group="tp")
    other = simulate(2, 6, late=lambda rank, step, index: 13.0 * ((step * 5 + index * 3) % 7), group="tp")
    found = align(traces_of(tmp_path, [one[0], other[0], one[1], other[1]]))
    assert sorted(match.members for match in found.matches) == [(0, 2), (1, 3)]


def matrix(starts: list[list[int]], transfer: int) -> Match:
    start = np.array(starts, dtype=np.int64)
    members, count = start.shape
    end = np.maximum(start.max(axis=0) + transfer, start + 1) + np.zeros_like(start)
    row = np.zeros_like(start)
    size = np.full(count, -1, dtype=np.int64)
    return Match("dp", tuple(range(members)), members, ("all_reduce",) * count, size, row, start, end)


@given(
    st.integers(2, 5).flatmap(
        lambda members: st.lists(
            st.lists(st.integers(0, 500), min_size=members, max_size=members), min_size=1, max_size=20
        )
    ),
    st.integers(-300, 100),
)
def test_wait_and_transfer_sum_to_the_kernels_and_the_last_waits_for_nobody(
    columns: list[list[int]], transfer: int
) -> None:
    match = matrix(np.array(columns).T.tolist(), transfer)
    members = len(match.members)
    alignment = Alignment((0,) * members, (0,) * members, (len(columns),) * members, (match,))
    found = waits_of(match, alignment, [], [()] * members)
    assert np.array_equal(found.wait_ns + found.transfer_ns, match.end_ns - match.start_ns)
    assert found.wait_ns.min() >= 0
    assert found.transfer_ns.min() >= 0
    assert np.all(found.wait_ns[found.last, np.arange(len(columns))] == 0)


def test_a_host_that_launches_late_is_named_with_how_much_since_when_and_why(tmp_path: Path) -> None:
    # From step 2 of 6 on, rank 2 launches 300 us late before the second collective: 1200 us over 6 steps.
    late = simulate(4, 6, late=lambda rank, step, index: 300.0 if rank == 2 and index == 1 and step >= 2 else 0.0)
    report = study_ranks(traces_of(tmp_path, late))
    (straggler,) = report.stragglers
    assert (straggler.rank, straggler.since_step) == ("2", "2")
    assert straggler.ms == pytest.approx(0.2, abs=0.001)
    assert straggler.share == pytest.approx(1.0)
    assert straggler.idle_share == pytest.approx(1.0, abs=0.01)
    assert [one.waited_ms for one in report.ranks] == [pytest.approx(0.2), pytest.approx(0.2), 0.0, pytest.approx(0.2)]
    caused = {step: ms for step, ms in report.ranks[2].caused_by_step.items() if ms > 0}
    assert caused == {step: pytest.approx(0.3) for step in ("2", "3", "4", "5")}
    assert "its host launched late" in straggler.sentence
    assert answer_of(report).answer == "yes"
    assert findings_of(report)[0].slug == "straggler"
    assert findings_of(report)[0].saving_ms == pytest.approx(0.2, abs=0.001)


def test_a_device_that_is_slower_is_not_called_a_late_host(tmp_path: Path) -> None:
    slow = simulate(4, 6, slow=lambda rank, step, index: 200.0 if rank == 1 and index == 0 else 0.0)
    (straggler,) = study_ranks(traces_of(tmp_path, slow)).stragglers
    assert straggler.rank == "1"
    assert straggler.ms == pytest.approx(0.2, abs=0.001)
    assert straggler.idle_share == pytest.approx(0.0, abs=0.01)
    assert "slower at it" in straggler.sentence


def test_where_all_take_turns_in_being_late_nobody_is_named(tmp_path: Path) -> None:
    turns = simulate(4, 12, late=lambda rank, step, index: 100.0 if rank == (step + index) % 4 else 0.0)
    report = study_ranks(traces_of(tmp_path, turns))
    assert report.stragglers == []
    assert report.odd == []
    assert answer_of(report).answer == "no"
    assert findings_of(report) == []


def test_alike_ranks_have_no_odd_one_and_every_rank_the_same_figures(tmp_path: Path) -> None:
    report = study_ranks(traces_of(tmp_path, simulate(4, 6)))
    assert (report.odd, report.stragglers, report.steps) == ([], [], 6)
    assert {round(one.transfer_ms or 0, 6) for one in report.ranks} == {0.06}
    assert {one.waited_ms for one in report.ranks} == {0.0}
    (skew,) = report.collectives
    # Messages of 1, 2 and 3 KB, six times each, in 20 us each: 2 (4-1) / 4 of their bytes over that time.
    assert (skew.count, skew.transfer_ms) == (18, pytest.approx(18 * TRANSFER / 1000))
    assert skew.bus_bytes_per_s == pytest.approx(1.5 * 6 * 6 * 1024 / (18 * TRANSFER * 1e-6))


def test_two_ranks_without_a_collective_in_common_are_said_not_to_be_aligned(tmp_path: Path) -> None:
    alone = [[kernel("gemm", 0, 10, correlation=1)], [kernel("gemm", 5, 10, correlation=1)]]
    report = study_ranks(traces_of(tmp_path, alone))
    assert [clock.offset_ms for clock in report.clocks] == [None, None]
    assert report.sentences[0].startswith("No rank's clock could be aligned")
    assert [one.waited_ms for one in report.ranks] == [None, None]
    assert answer_of(report).answer == "not known"


def test_a_rank_that_shares_no_collective_is_left_out_and_named(tmp_path: Path) -> None:
    events = [*simulate(2, 4), [kernel("gemm", 1000, 10, correlation=1)]]
    report = study_ranks(traces_of(tmp_path, events))
    assert [clock.offset_ms is None for clock in report.clocks] == [False, False, True]
    assert "The clock of rank 2 could not be aligned" in report.sentences[-1]


def test_one_rank_alone_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    report = study_ranks(traces_of(tmp_path, simulate(1, 3)))
    assert report.sentences == []
    assert answer_of(report).answer == "not known"


def test_traces_that_say_they_are_the_same_rank_are_called_by_their_place(tmp_path: Path) -> None:
    trace = traces_of(tmp_path, simulate(2, 2), first=3)[0]
    assert names_of([trace]) == ["3"]
    assert names_of([trace, trace]) == ["of file 1", "of file 2"]
    assert study_ranks([trace, trace]).clocks[1].offset_ms == 0.0


def test_device_time_is_a_partition_of_its_window(tmp_path: Path) -> None:
    (trace,) = traces_of(tmp_path, simulate(1, 4, late=lambda rank, step, index: 40.0))
    spans = device_time(trace, np.zeros(len(trace.events), dtype=np.int64))
    rows = trace.events.rows_of(*DEVICE_WORK)
    low, high = int(trace.events.start_ns[rows].min()), int(trace.events.end_ns[rows].max())
    assert sum(spans.between(low, high).values()) == high - low
    assert np.array_equal(spans.end_ns[:-1], spans.start_ns[1:])


def test_outside_needs_more_than_the_others_own_range() -> None:
    assert outside(0.19, [0.02, 0.03, 0.05, 0.07], 0.03) > 0.1
    assert outside(0.09, [0.02, 0.03, 0.05, 0.07], 0.03) == 0
    assert outside(0.12, [0.27, 0.28, 0.285, 0.28], 0.03) > 0.1


def test_the_odd_rank_of_the_recorded_run_is_named_with_its_reasons() -> None:
    paths = sorted(traces_folder().glob("moddednanogpt__*rank[0-7]*"))
    if len(paths) < 8:
        pytest.skip("the eight recorded H100 ranks are not here")
    report = study_ranks(open_traces(paths))
    (odd,) = report.odd
    assert odd.sentence == (
        "Rank 1 is unlike the others: 18.9 % idle against 2.4 to 6.8 %, 12.5 % communication against 27.4 to 28.6 % "
        "elsewhere."
    )
    assert any("waits for its host" in why for why in odd.why)
    assert any("Its host takes" in why for why in odd.why)
    assert [one.rank for one in report.stragglers] == ["1"]
    assert all(clock.residual_ms is not None and clock.residual_ms < 0.01 for clock in report.clocks)
