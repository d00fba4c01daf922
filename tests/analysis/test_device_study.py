"""Studies of traces: parts sum to the step, and recorded traces of real machines get the right answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longpole.analysis.device import device_study
from longpole.analysis.study import Answer, Study, load_study
from longpole.errors import LongpoleError
from longpole.importers import open_trace, open_traces
from longpole.report.terminal import text_report
from made_traces import kernel, opened, runtime, span
from shared_paths import trace_files, traces_folder

if TYPE_CHECKING:
    from pathlib import Path

needs_traces = pytest.mark.skipif(not trace_files(), reason="recorded traces are not here; set LONGPOLE_TRACES")


def check_sums(study: Study) -> None:
    """What a study promises of its tables, whatever it is of."""
    step = study.step.wall_ms.mean
    assert step is not None
    near = pytest.approx(step, rel=1e-9, abs=1e-9)
    for table in (study.phases, study.op_classes, study.ops):
        assert sum(row.ms for row in table) == near
        assert all(row.ms >= 0 for row in table)
    assert sum(phase.share for phase in study.phases) == pytest.approx(1)
    layered = sum(op.ms for op in study.ops if op.layer is not None)
    own = [layer.own_ms if layer.container else layer.total_ms for layer in study.layers]
    assert sum(ms for ms in own if ms is not None) == pytest.approx(layered)
    for phase in study.phases:
        assert not phase.samples or sum(phase.samples) / len(phase.samples) == pytest.approx(phase.ms)
    for rank in study.ranks:
        if rank.timeline is not None:
            assert sum(gap.ms for gap in rank.gaps) == pytest.approx(rank.timeline.idle.ms, rel=1e-9, abs=1e-6)
            assert all(gap.evidence for gap in rank.gaps)


def study_of(name: str) -> Study:
    return device_study([open_trace(next(traces_folder().glob(f"*{name}*")))])


def answer(study: Study, question: str) -> Answer:
    return next(one for one in study.answers if one.question == question)


def ms_of(study: Study, phase: str) -> float:
    return sum(row.ms for row in study.phases if row.phase == phase)


@needs_traces
@pytest.mark.parametrize("path", trace_files(), ids=lambda path: path.name[:48])
def test_every_recorded_trace_sums_and_agrees_with_interval_arithmetic(path: Path) -> None:
    study = device_study([open_trace(path)])
    check_sums(study)
    assert study.headline
    assert load_study(study.to_json(), "here") == study
    exact = json.loads((traces_folder() / "EXACT.json").read_text()).get(path.name)
    line = study.ranks[0].timeline
    if exact is not None and exact.get("span") and line is not None:
        for name, share in (("idle_pct", line.idle), ("comp_pct", line.compute), ("comm_pct", line.communication)):
            assert share.share * 100 == pytest.approx(exact[name], abs=0.1)
        assert line.exposed_communication.share * 100 == pytest.approx(exact["exposed_comm_pct"], abs=0.1)


@needs_traces
def test_without_workers_training_is_data_bound_and_with_four_it_is_not() -> None:
    none, four = study_of("num_workers_0"), study_of("num_workers_4")
    said = answer(none, "Is it waiting for data?")
    assert said.answer == "yes"
    assert "DATA" in none.headline
    # The host spends 49 to 59 ms of each step in the loader; for most of it the device has nothing to do.
    assert 40 < said.evidence["saving_ms"] < 60
    assert said.evidence["without_ms"] == pytest.approx((none.step.wall_ms.mean or 0) - said.evidence["saving_ms"])
    assert [finding.saving_ms for finding in none.findings if finding.slug == "data"] == [said.evidence["saving_ms"]]
    assert answer(four, "Is it waiting for data?").answer == "no"
    assert "data" not in {finding.slug for finding in four.findings}
    assert "DATA" not in four.headline


@needs_traces
def test_the_host_is_named_where_it_launches_too_slowly() -> None:
    study = study_of("b200-eager")
    said = answer(study, "Is it the host?")
    assert said.answer == "yes"
    assert "HOST" in study.headline
    gaps = {gap.cause: gap.share for gap in study.ranks[0].gaps}
    # EXACT.json: 86.3 % idle. All of it but a few microseconds is for want of launches.
    assert gaps["launch"] + gaps["host"] == pytest.approx(0.863, abs=0.002)
    assert answer(study, "Is it one layer?").answer == "no"


@needs_traces
@pytest.mark.parametrize(("name", "share"), [("df_index_resolver", 0.206), ("mi300-resnet", 0.62)])
def test_exposed_all_reduce_is_named(name: str, share: float) -> None:
    study = study_of(name)
    said = answer(study, "Is it communication?")
    assert said.answer == "yes"
    assert "all-reduce" in said.sentence
    assert said.evidence["share"] == pytest.approx(share, abs=0.01)
    assert "COMMUNICATION (all-reduce)" in study.headline


@needs_traces
def test_activation_checkpointing_shows_as_forward_that_runs_again() -> None:
    study = study_of("mi300-resnet")
    again = sum(op.ms for op in study.ops if op.role == "recompute")
    # A ResNet checkpointed in part: less than its forward pass, and not little.
    assert 0.3 * ms_of(study, "forward") < again < ms_of(study, "forward")
    assert any((layer.recompute_ms or 0) > 0 for layer in study.layers)


@needs_traces
def test_the_odd_rank_of_eight_is_said_unprompted() -> None:
    study = device_study(open_traces(sorted(traces_folder().glob("moddednanogpt*"))))
    check_sums(study)
    assert [rank.rank for rank in study.ranks] == list(range(8))
    assert "Rank 1 " in study.headline
    assert study.rank_report is not None
    assert len({len(phase.samples) for phase in study.phases}) == 1


@needs_traces
def test_backward_of_a_recorded_training_has_the_layers_of_its_forward() -> None:
    study = study_of("DeepView")
    placed = [op for op in study.ops if op.layer is not None]
    nowhere = [op for op in study.ops if op.layer is None and op.op.startswith("aten::")]  # an op: it has a launch
    assert sum(op.ms for op in nowhere) < 0.02 * sum(op.ms for op in placed)


def test_steps_chosen_by_number_stand_alone(tmp_path: Path) -> None:
    trace = opened(tmp_path, two_steps())
    study = device_study([trace], step=4)
    check_sums(study)
    assert (study.step.wall_ms.mean, study.run.steps.measured) == (0.2, 1)
    assert study.phases[0].samples == []
    with pytest.raises(LongpoleError, match=r"no step 9: the trace has steps 3 to 4"):
        device_study([trace], step=9)


def two_steps() -> list[dict[str, object]]:
    """A step of 100 us with 40 us of work, then one of 200 us with 60 us."""
    return [
        span("user_annotation", "ProfilerStep#3", 0, 100),
        span("user_annotation", "ProfilerStep#4", 100, 200),
        runtime("cudaLaunchKernel", 5, 5, 1),
        kernel("ampere_sgemm", 10, 40, correlation=1),
        runtime("cudaLaunchKernel", 105, 5, 2),
        kernel("ampere_sgemm", 110, 60, correlation=2),
    ]


def test_the_parts_are_of_the_mean_step(tmp_path: Path) -> None:
    study = device_study([opened(tmp_path, two_steps())])
    check_sums(study)
    assert study.step.wall_ms.mean == pytest.approx(0.15)
    classes = {row.op_class: row for row in study.op_classes}
    assert classes["matmul"].ms == pytest.approx(0.05)
    assert classes["matmul"].samples == pytest.approx([0.04, 0.06])
    assert classes["host"].ms == pytest.approx(0.1)


def test_a_trace_of_the_host_alone_is_told_by_the_hosts_own_time(tmp_path: Path) -> None:
    trace = opened(
        tmp_path,
        [
            span("user_annotation", "ProfilerStep#1", 0, 100),
            span("user_annotation", "## forward ##", 10, 50),
            span("cpu_op", "aten::linear", 20, 30),
            span("cpu_op", "aten::addmm", 25, 20),
        ],
    )
    study = device_study([trace])
    check_sums(study)
    assert ms_of(study, "forward") == pytest.approx(0.05)
    assert study.ranks[0].timeline is None
    # addmm has 20 us, linear the other 10 of its 30 as dispatch, forward 20, the step what is left
    assert {op.op: round(op.ms * 1e3) for op in study.ops} == {
        "aten::addmm": 20,
        "aten::linear": 10,
        "## forward ##": 20,
        "ProfilerStep#1": 50,
    }


def test_threads_do_not_count_twice(tmp_path: Path) -> None:
    trace = opened(
        tmp_path,
        [
            span("user_annotation", "## backward ##", 0, 100),
            span("cpu_op", "autograd::engine::evaluate_function: MmBackward0", 10, 60, tid=2),
            span("cpu_op", "aten::mm", 20, 30, tid=2),
        ],
    )
    study = device_study([trace])
    check_sums(study)
    assert study.step.wall_ms.mean == pytest.approx(0.1)
    assert ms_of(study, "backward") == pytest.approx(0.1)


def test_traces_that_are_not_of_one_run_are_doubted(tmp_path: Path) -> None:
    trace = opened(tmp_path, two_steps(), distributedInfo={"rank": 3, "world_size": 8})
    other = opened(tmp_path, two_steps(), distributedInfo={"rank": 4, "world_size": 8})
    assert not any("one run" in warning for warning in device_study([trace, other]).run.warnings)
    doubt = device_study([trace, trace]).run.warnings[0]
    assert "may not be of one run: rank 3 comes more than once" in doubt


def test_ranks_that_are_missing_are_named(tmp_path: Path) -> None:
    ranks = [opened(tmp_path, two_steps(), distributedInfo={"rank": r, "world_size": 4}) for r in (0, 2)]
    assert "Of the 4 ranks, 2 were given; not ranks 1, 3." in device_study(ranks).run.warnings
    assert not any("were given" in warning for warning in device_study(ranks[:1]).run.warnings)


def test_a_rank_without_device_work_is_no_part_of_the_mean(tmp_path: Path) -> None:
    working = opened(tmp_path, two_steps(), distributedInfo={"rank": 0, "world_size": 2})
    host = [event for event in two_steps() if event["cat"] not in ("kernel", "cuda_runtime")]
    resting = opened(tmp_path, host, distributedInfo={"rank": 1, "world_size": 2})
    alone, both = device_study([working]), device_study([resting, working])
    assert [(p.phase, p.ms) for p in both.phases] == [(p.phase, p.ms) for p in alone.phases]
    assert both.step.wall_ms == alone.step.wall_ms
    said = "No device work was recorded on rank 1: the parts are the mean of the others."
    assert said in both.run.warnings
    assert not any("one run" in warning for warning in both.run.warnings)


def test_a_first_step_with_work_of_before_is_left_out_and_said(tmp_path: Path) -> None:
    steps = [span("user_annotation", f"ProfilerStep#{i}", i * 100, 100) for i in range(4)]
    early = kernel("left_over", 0, 60, correlation=77)
    work = [
        event
        for i, late in enumerate((100, 0, 0, 0))
        for event in (
            runtime("cudaLaunchKernel", i * 100 + 5, 5, i + 1),
            kernel("sgemm", i * 100 + 70 + late, 20, correlation=i + 1),
        )
    ]
    study = device_study([opened(tmp_path, [*steps, early, *work])])
    check_sums(study)
    assert study.run.steps.measured == 3
    assert any("Step 0 is left out" in warning for warning in study.run.warnings)


def steps_of(lengths: list[int]) -> list[dict[str, object]]:
    """Marked steps of these lengths, us, one kernel of 20 us at the end of each."""
    found: list[dict[str, object]] = []
    at = 0
    for i, length in enumerate(lengths):
        launch = runtime("cudaLaunchKernel", at + length - 40, 5, i + 1)
        work = kernel("sgemm", at + length - 30, 20, correlation=i + 1)
        found += [span("user_annotation", f"ProfilerStep#{i}", at, length), launch, work]
        at += length
    return found


def test_a_first_step_that_starts_up_is_left_out_and_said(tmp_path: Path) -> None:
    study = device_study([opened(tmp_path, steps_of([4000, 200, 180, 220]))])
    assert (study.run.steps.seen, study.run.steps.measured) == (4, 3)
    assert study.step.wall_ms.mean == pytest.approx(0.2)
    said = "Step 0 is left out: it took 4 ms against 0.2 ms of the others, which is starting up."
    assert said in study.run.warnings
    alike = device_study([opened(tmp_path, steps_of([400, 200, 180, 220]))])
    assert alike.run.steps.measured == 4


def test_a_step_half_of_which_is_old_work_is_left_out_however_long_it_took(tmp_path: Path) -> None:
    old = kernel("left over", 0, 100, correlation=99)
    study = device_study([opened(tmp_path, [old, *steps_of([200, 200, 200, 200])])])
    assert study.run.steps.measured == 3
    assert ms_of(study, "other") == pytest.approx(0.02)  # the kernels of the steps themselves


def test_a_mark_with_nothing_in_it_is_seen_and_not_measured(tmp_path: Path) -> None:
    marks = [*steps_of([200, 200, 200]), span("user_annotation", "ProfilerStep#3", 600, 0)]
    study = device_study([opened(tmp_path, marks)])
    assert (study.run.steps.seen, study.run.steps.measured) == (4, 3)
    assert any(warning.startswith("1 of 4 steps are left out") for warning in study.run.warnings)


def test_communication_by_kernels_of_the_frameworks_own_is_hidden_by_compute_like_any_other(tmp_path: Path) -> None:
    dispatch = "void deep_ep::intranode::dispatch<8>(int4*)"
    events = [
        runtime("cudaLaunchKernel", 0, 5, 1),
        runtime("cudaLaunchKernel", 5, 5, 2),
        kernel(dispatch, 10, 100, stream=8, correlation=1),
        kernel("sgemm", 20, 60, correlation=2),
    ]
    study = device_study([opened(tmp_path, events)])
    check_sums(study)
    classes = {row.op_class: row.ms for row in study.op_classes}
    # of 100 us, 60 are covered by the product
    assert classes["collective"] == pytest.approx(0.04)
    assert classes["matmul"] == pytest.approx(0.06)
    said = answer(study, "Is it communication?")
    assert said.answer == "yes"
    assert "collectives (dispatch) are exposed, 0.04 ms" in said.sentence
    line = study.ranks[0].timeline
    assert line is not None
    assert line.compute.ms == pytest.approx(0.1)


def test_python_between_the_ops_of_a_phase_belongs_to_that_phase(tmp_path: Path) -> None:
    node = "autograd::engine::evaluate_function: AddmmBackward0"
    events = [
        span("user_annotation", "ProfilerStep#1", 0, 5000),
        span("cpu_op", "aten::linear", 100, 200, Sequence_number=1),
        span("cpu_op", "aten::linear", 400, 200, Sequence_number=2),  # after 100 us of Python
        span("cpu_op", "aten::linear", 2600, 200, Sequence_number=3),  # after 2 ms of something else
        span("cpu_op", node, 2900, 300),  # forward to backward: nobody's
        span("cpu_op", node, 4200, 600),  # after 1 ms of the engine's own
    ]
    study = device_study([opened(tmp_path, events)])
    check_sums(study)
    assert ms_of(study, "forward") == pytest.approx(0.7)
    assert ms_of(study, "backward") == pytest.approx(1.9)
    assert ms_of(study, "other") == pytest.approx(5 - 2.6)


def test_a_step_that_begins_in_a_hook_of_the_optimizer_is_not_all_optimizer(tmp_path: Path) -> None:
    events = [
        span("user_annotation", "ProfilerStep#1", 0, 1000),
        span("cpu_op", "aten::linear", 100, 500, Sequence_number=1),
        span("user_annotation", "Optimizer.step#SGD.step", 800, 220),
        span("user_annotation", "ProfilerStep#2", 1001, 1000),  # prof.step() in the hook after the update
        span("cpu_op", "aten::linear", 1100, 500, Sequence_number=2),
        span("user_annotation", "Optimizer.step#SGD.step", 1800, 200),
    ]
    study = device_study([opened(tmp_path, events)])
    check_sums(study)
    assert study.run.steps.seen == 2
    # each of the two steps: 0.5 ms of forward; 0.2 ms of the optimizer and what is left of it in the next step
    assert ms_of(study, "forward") == pytest.approx(0.5)
    assert ms_of(study, "optimizer") == pytest.approx(0.2, abs=0.02)


def plain_turn(at: int) -> list[dict[str, Any]]:
    """A turn of 1000 us on the host as torch.profiler records it: forward 300, loss 40, backward 500, update 100."""
    node = "autograd::engine::evaluate_function: AddmmBackward0"
    return [
        *(span("cpu_op", "aten::linear", at + 4 + 30 * i, 25, Sequence_number=at + i) for i in range(10)),
        span("cpu_op", "aten::cross_entropy_loss", at + 303, 40, Sequence_number=at + 20),
        *(span("cpu_op", node, at + 347 + 50 * i, 45, Sequence_number=at + 9 - i) for i in range(10)),
        span("user_annotation", "Optimizer.step#SGD.step", at + 847, 100),
        span("cpu_op", "aten::_foreach_add_", at + 850, 90),
    ]


def test_phases_by_order_are_those_of_marks_within_two_percent(tmp_path: Path) -> None:
    plain: list[dict[str, Any]] = []
    marked: list[dict[str, Any]] = []
    marks = (("forward", 2, 299), ("loss", 301, 43), ("backward", 345, 500), ("optimizer", 845, 104))
    for turn in range(5):
        at = 1000 * turn
        step = span("user_annotation", f"ProfilerStep#{turn}", at, 1000)
        plain += [step, *plain_turn(at)]
        marked += [step, *(span("user_annotation", name, at + b, d) for name, b, d in marks), *plain_turn(at)]
    by_order, by_marks = (device_study([opened(tmp_path, events)]) for events in (plain, marked))
    for phase in ("forward", "loss", "backward", "optimizer", "other"):
        assert ms_of(by_order, phase) == pytest.approx(ms_of(by_marks, phase), abs=0.02)
    assert ms_of(by_order, "backward") == pytest.approx(0.495)
    assert ms_of(by_order, "forward") == pytest.approx(0.295)


EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "cat": st.sampled_from(
                [
                    "cpu_op",
                    "kernel",
                    "gpu_memcpy",
                    "cuda_runtime",
                    "user_annotation",
                    "python_function",
                    "cuda_sync",
                    "odd",
                ]
            ),
            "name": st.sampled_from(
                [
                    "aten::mm",
                    "autograd::engine::evaluate_function: AddmmBackward0",
                    "AddmmBackward0",
                    "Optimizer.step#SGD.step",
                    "ProfilerStep#1",
                    "ProfilerStep#2",
                    "enumerate(DataLoader)#x",
                    "nn.Module: Linear_0",
                    "nn.Module: a.b_1",
                    "aten::cross_entropy_loss",
                    "aten::linalg_vector_norm",
                    "ncclDevKernel_AllReduce_Sum_f32_RING_LL",
                    "Memcpy DtoH (Device -> Pageable)",
                    "cudaLaunchKernel",
                    "cudaStreamSynchronize",
                    "cudaStreamWaitEvent",
                    "## backward ##",
                    "train.py(3): main",
                    "",
                ]
            ),
            "pid": st.sampled_from([0, 100]),
            "tid": st.sampled_from([1, 2, 7]),
            "ts": st.one_of(st.integers(0, 60), st.integers(0, 2000), st.just(10**12)),
            "dur": st.sampled_from([0, 1, 7, 100, 900, -3, 0.001]),
            "args": st.fixed_dictionaries(
                {},
                optional={
                    "correlation": st.integers(-1, 8),
                    "External id": st.integers(0, 8),
                    "Sequence number": st.sampled_from([0, 1, 2, 2**62]),
                    "Fwd thread id": st.integers(0, 2),
                    "Input Dims": st.sampled_from(
                        [[[4, 4], [4, 4]], [], "x", [[None]], [["a", "b"]], [[[1, 2]], [3]], 5]
                    ),
                },
            ),
        }
    ),
    max_size=40,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(EVENTS)
def test_any_events_at_all_make_a_study_whose_parts_sum(tmp_path: Path, events: list[dict[str, object]]) -> None:
    trace = opened(tmp_path, [{"ph": "X", **event} for event in events])
    for study in (device_study([trace]), device_study([trace, trace])):
        check_sums(study)
        assert text_report(study)


def test_a_trace_without_anything_to_study(tmp_path: Path) -> None:
    study = device_study([opened(tmp_path, [])])
    assert study.phases == [] or sum(phase.ms for phase in study.phases) >= 0
    with pytest.raises(LongpoleError, match="no trace to study"):
        device_study([])
