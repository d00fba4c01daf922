"""Device time of traces small enough to draw on paper."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import made_traces as made
from longpole.analysis.communication_names import is_communication, is_custom_communication
from longpole.analysis.timeline import timeline
from made_traces import kernel, opened, span

NCCL = "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)"


def microseconds(found) -> dict[str, float]:
    assert found is not None
    parts = ("busy", "idle", "compute", "communication", "exposed_communication", "memory_copy")
    return {part: round(getattr(found, part).ms * 1e3, 6) for part in parts}


def copy(ts: float, dur: float):
    return span("gpu_memcpy", "Memcpy HtoD", ts, dur, pid=0, tid=20)


def test_streams_that_overlap_are_counted_once(tmp_path) -> None:
    # compute  [0,10) and [20,30)      -> 20
    # nccl     [5,25)                  -> 20, of which [10,20) is covered by no compute: 10
    # copies   [8,12) and [40,50)      -> 14
    # busy     [0,30) and [40,50)      -> 40 of 50, idle 10
    events = [kernel("a", 0, 10), kernel("b", 20, 10), kernel(NCCL, 5, 20, stream=13), copy(8, 4), copy(40, 10)]
    found = timeline(opened(tmp_path, events))
    assert microseconds(found) == {
        "busy": 40,
        "idle": 10,
        "compute": 20,
        "communication": 20,
        "exposed_communication": 10,
        "memory_copy": 14,
    }
    assert found is not None
    assert found.idle.share == pytest.approx(10 / 50)
    assert found.span_ms == pytest.approx(0.05)


def test_a_window_cuts_what_lies_across_it(tmp_path) -> None:
    trace = opened(tmp_path, [kernel("a", 0, 10), kernel("b", 20, 10)])
    found = timeline(trace, (5_000, 25_000))
    assert microseconds(found)["busy"] == 10
    assert microseconds(found)["idle"] == 10


def test_waits_and_ranges_on_the_device_are_no_work(tmp_path) -> None:
    events = [
        kernel("a", 0, 10),
        kernel("b", 90, 10),
        span("cuda_sync", "Stream Sync", 10, 80, pid=0, tid=7),
        span("gpu_user_annotation", "step", 0, 100, pid=0, tid=7),
        span("cpu_op", "triton_poi_fused", 10, 80, stream=7),
    ]
    assert microseconds(timeline(opened(tmp_path, events)))["idle"] == 80


def test_a_copy_does_not_hide_communication(tmp_path) -> None:
    events = [kernel(NCCL, 0, 10), copy(0, 10)]
    assert microseconds(timeline(opened(tmp_path, events)))["exposed_communication"] == 10


def test_no_device_event_is_no_timeline(tmp_path) -> None:
    assert timeline(opened(tmp_path, [span("cpu_op", "aten::mm", 0, 1)])) is None


def test_a_trace_of_no_length_has_no_shares_beyond_zero(tmp_path) -> None:
    found = timeline(opened(tmp_path, [kernel("a", 5, 0)]))
    assert found is not None
    assert (found.busy.share, found.idle.share, found.span_ms) == (0, 0, 0)


WORK = st.tuples(st.sampled_from(["k", NCCL, "copy"]), st.integers(0, 60), st.integers(0, 15), st.integers(7, 9))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(WORK, min_size=1, max_size=12), st.integers(-5, 80), st.integers(0, 40))
def test_parts_sum_to_the_whole(tmp_path, work, low, length) -> None:
    events = [copy(s, d) if name == "copy" else kernel(name, s, d, stream) for name, s, d, stream in work]
    trace = opened(tmp_path, events)
    for window in (None, (low * 1000, (low + length) * 1000)):
        found = timeline(trace, window)
        assert found is not None
        assert found.span_ms is not None
        assert found.busy.ms + found.idle.ms == pytest.approx(found.span_ms)
        assert found.exposed_communication.ms <= found.communication.ms + 1e-12
        # Exposed is what communication adds to compute.
        seconds = {"k": set(), NCCL: set()}
        bounds = window or (min(s for _, s, _, _ in work) * 1000, max(s + d for _, s, d, _ in work) * 1000)
        for name, start, duration, _ in work:
            if name != "copy":
                span_ns = range(max(start * 1000, bounds[0]), min((start + duration) * 1000, bounds[1]), 1000)
                seconds[name].update(span_ns)
        assert found.compute.ms == pytest.approx(len(seconds["k"]) / 1e3)
        assert found.exposed_communication.ms == pytest.approx(len(seconds[NCCL] - seconds["k"]) / 1e3)


@pytest.mark.parametrize(
    ("name", "library", "custom"),
    [
        (NCCL, True, False),
        ("ncclKernel_AllReduce_RING_LL_Sum_float(ncclWorkElem)", True, False),
        ("rccl_main_kernel", True, False),
        ("void vllm::cross_device_reduce_1stage<__nv_bfloat16, 8>(...)", False, True),
        ("void deep_ep::intranode::dispatch<8, 768, 1>(...)", False, True),
        ("void (anonymous namespace)::multimem_all_reduce_kernel<c10::BFloat16, 16>(...)", False, True),
        ("two_shot_all_reduce_kernel", False, True),
        ("ampere_sgemm_128x64_nn", False, False),
        ("void at::native::reduce_kernel<512, 1, ReduceOp<float>>", False, False),
        ("triton_red_fused_add_mean_mul_pow_rsqrt_0", False, False),
        ("void at::native::(anonymous namespace)::vectorized_gather_kernel<16, long>", False, False),
    ],
)
def test_names_of_communication(name, library, custom) -> None:
    assert (is_communication(name), is_custom_communication(name)) == (library, custom)


def test_the_wider_list_is_kept_out_of_communication(tmp_path) -> None:
    trace = opened(tmp_path, [kernel("two_shot_all_reduce_kernel", 0, 10)])
    assert microseconds(timeline(trace))["compute"] == 10
    assert made.names(trace) == ["two_shot_all_reduce_kernel"]
