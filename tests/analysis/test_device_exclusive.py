"""Each instant belongs to one piece: sums are unions, whatever overlaps."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from longpole.analysis.device_exclusive import COMMUNICATION, COMPUTE, COPY, Pieces, exclusive
from longpole.analysis.intervals import clip, subtract, total, union

SPANS = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 60), st.sampled_from([COMPUTE, COMMUNICATION, COPY])), max_size=25
)


def pieces(spans: list[tuple[int, int, int]]) -> Pieces:
    ordered = sorted(spans)
    start = np.array([start for start, _, _ in ordered], dtype=np.int64)
    length = np.array([length for _, length, _ in ordered], dtype=np.int64)
    rank = np.array([rank for _, _, rank in ordered], dtype=np.int8)
    return Pieces(np.arange(len(ordered), dtype=np.int64), start, start + length, rank)


def test_compute_hides_communication_and_both_hide_copies() -> None:
    made = pieces([(0, 10, COMPUTE), (5, 10, COMMUNICATION), (12, 8, COPY)])
    [(rows, ns)] = exclusive(made, [(0, 30)])
    # compute has 0 to 10, communication what is left of 5 to 15, the copy what is left of 12 to 20
    assert dict(zip(rows.tolist(), ns.tolist(), strict=True)) == {0: 10, 1: 5, 2: 5}


def test_of_two_streams_the_kernel_that_started_first_has_the_time() -> None:
    [(_, ns)] = exclusive(pieces([(0, 10, COMPUTE), (4, 3, COMPUTE), (8, 6, COMPUTE)]), [(0, 30)])
    assert ns.tolist() == [10, 0, 4]


def test_a_kernel_across_a_border_is_shared_by_both_windows() -> None:
    first, second = exclusive(pieces([(0, 10, COMPUTE)]), [(0, 4), (4, 30)])
    assert (first[1].tolist(), second[1].tolist()) == ([4], [6])


@given(SPANS, st.integers(0, 150), st.integers(0, 150))
def test_a_window_sums_to_the_union_of_its_pieces(spans: list[tuple[int, int, int]], low: int, length: int) -> None:
    made = pieces(spans)
    [(rows, ns)] = exclusive(made, [(low, low + length)])
    assert int(ns.sum()) == total(clip(union(made.start_ns, made.end_ns), low, low + length))
    assert np.all(ns >= 0)
    kind = made.precedence[rows]
    compute, talk = (made.precedence == COMPUTE), (made.precedence == COMMUNICATION)
    exposed = subtract(
        union(made.start_ns[talk], made.end_ns[talk]), union(made.start_ns[compute], made.end_ns[compute])
    )
    assert int(ns[kind == COMMUNICATION].sum()) == total(clip(exposed, low, low + length))


@given(SPANS, st.lists(st.integers(0, 260), min_size=2, max_size=6))
def test_windows_that_follow_one_another_lose_nothing(spans: list[tuple[int, int, int]], borders: list[int]) -> None:
    made = pieces(spans)
    edges = sorted(borders)
    windows = list(itertools.pairwise(edges))
    inside = sum(int(ns.sum()) for _, ns in exclusive(made, windows))
    assert inside == total(clip(union(made.start_ns, made.end_ns), edges[0], edges[-1]))
