"""`study`: from traces to a Study. The pipeline, one line a part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.answers import answers_of, headline_of
from longpole.analysis.attribution import attribute, loss_share
from longpole.analysis.findings import findings_of
from longpole.analysis.host_layers import layer_times
from longpole.analysis.host_ops import op_class_times, op_times
from longpole.analysis.host_times import times_of
from longpole.analysis.ledger import PHASES, Ledger, make_ledger, with_inner_loss
from longpole.analysis.limits import bound_shares, bounds_of, no_bounds, op_milliseconds
from longpole.analysis.memory import add_memory
from longpole.analysis.segments import steps_at
from longpole.analysis.serial_chain import serial_chain
from longpole.analysis.statistics import mean_interval, median_interval
from longpole.analysis.study import (
    Machine,
    Memory,
    PhaseTime,
    Run,
    Site,
    Spread,
    Step,
    StepCounts,
    StepSample,
    Study,
)
from longpole.analysis.waiting import with_communication, with_waiting
from longpole.errors import LongpoleError
from longpole.trace import DEVICE_WORK, Kind, Level, Phase, label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from longpole.analysis.device_rank import OneRank
    from longpole.machine import Ceilings
    from longpole.trace import Trace

MOST_SITES = 6
LEAST_SITE_MS = 0.005
DEEP = (Level.SITES, Level.OPS, Level.GRADIENTS)


def study(traces: Sequence[Trace], ceilings: Ceilings | None = None, studied: Sequence[OneRank] | None = None) -> Study:
    """What these traces, one a rank, amount to. Raises LongpoleError where they hold no step.

    `ceilings` are those of the machine that a live run ran on; without them, bounds are not known. `studied` are
    the ranks where each has been studied by itself already.
    """
    first = traces[0]
    if first.info.source != "live" and not any(len(trace.events) for trace in traces):
        raise LongpoleError("the trace holds no event with a duration: nothing was recorded")
    has_marks = bool(len(first.events.rows_of(Kind.PHASE))) or not len(first.events)
    if not has_marks or any(len(trace.events.rows_of(*DEVICE_WORK)) for trace in traces):
        from longpole.analysis.device import device_study, study_of_ranks

        found = study_of_ranks(studied) if studied else device_study(traces)
        add_memory(found, first)
        return found
    return host_study(first, ceilings)


def host_study(trace: Trace, ceilings: Ceilings | None = None) -> Study:
    """The study of a live run whose work is on the host."""
    try:
        ledger = make_ledger(trace)
    except ValueError as error:
        raise LongpoleError(f"{trace.info.script or 'the trace'} holds no measured step: {error}") from error
    attribution, waiting_share = with_waiting(trace, attribute(trace))
    losses = (loss_share(attribution, marked=True), loss_share(attribution, marked=False))
    ledger = with_communication(with_inner_loss(ledger, *losses), waiting_share)
    times = times_of(trace, attribution, ledger)
    found = Study(
        run=_run(trace, ledger),
        machine=Machine(threads=trace.info.threads),
        step=_step(trace, ledger),
        phases=_phases(ledger),
        memory=_memory(trace),
    )
    if steps_at(trace, Level.OPS):
        bounds = bounds_of(trace, attribution, times, ceilings) if ceilings else no_bounds(trace)
        # An op that beat its bound within the noise counts as being at it, so that bounds sum to less than times.
        least_ms = np.minimum(bounds.ms, op_milliseconds(attribution, times))
        found.layers = layer_times(trace, attribution, times, least_ms)
        found.op_classes = op_class_times(trace, attribution, times, least_ms)
        found.ops = op_times(trace, attribution, times, bounds.ms)
        if ceilings is not None:
            found.bound_by = bound_shares(trace, attribution, times, bounds)
            found.machine = _machine(ceilings)
    found.serial_chain = serial_chain(trace.graph, trace.layers, found.layers, found.phases)
    add_memory(found, trace)
    found.findings = findings_of(found)
    found.answers = answers_of(found)
    found.headline = headline_of(found)
    return found


def _machine(ceilings: Ceilings) -> Machine:
    best = {f"{dtype}_flops_per_s": ceilings.flops_per_s(dtype) for dtype in ceilings.compute}
    best |= {f"{level.name}_bytes_per_s": level.best_bytes_per_s for level in ceilings.levels}
    hardware = ceilings.hardware
    return Machine(name=hardware.processor, cores=hardware.cores, threads=ceilings.threads, ceilings=best)


def _run(trace: Trace, ledger: Ledger) -> Run:
    info = trace.info
    facts = dict(info.facts)
    parameters = facts.pop("parameters", None)
    model = facts.pop("model", None)
    facts = {name: text for name, text in facts.items() if not name.startswith("line of ")}
    levels = [step.level for step in trace.steps]
    first = next((at for at, level in enumerate(levels) if level), len(levels))
    warnings = list(info.warnings)
    if ledger.set_aside_ms:
        warnings.append(_hiccup_sentence(ledger))
    return Run(
        script=info.script,
        argv=list(info.argv),
        device=info.device,
        framework=info.framework,
        world_size=info.world_size,
        steps=StepCounts(
            seen=len(levels),
            warmup=first,
            measured=sum(level == Level.PHASES for level in levels),
            profiled=sum(level in DEEP for level in levels),
            set_aside=len(ledger.set_aside_ms),
        ),
        batch_size=int(facts["batch_size"]) if "batch_size" in facts else None,
        stopped=info.stopped,
        source=info.source,
        model=f"{model}, {_count(int(parameters))} parameters" if model and parameters else model,
        parameters=int(parameters) if parameters else None,
        warnings=warnings,
        facts=facts,
    )


def _hiccup_sentence(ledger: Ledger) -> str:
    count, usual = len(ledger.set_aside_ms), float(np.median(ledger.wall_ms))
    excess = sum(ledger.set_aside_ms) - count * usual
    plural = "s were" if count > 1 else " was"
    return f"{count} step{plural} set aside as hiccups of the machine: {excess:.1f} ms more than the usual step."


def _count(number: int) -> str:
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return str(number)


def _step(trace: Trace, ledger: Ledger) -> Step:
    walls = ledger.wall_ms
    low, high = median_interval(walls) or (None, None)
    mean = float(walls.mean())
    residual = ledger.mean_ms(Phase.NOBODY)
    deep = [(step.end_ns - step.start_ns) / 1e6 for step in steps_at(trace, Level.OPS)]
    samples = _samples_per_step(trace)
    return Step(
        wall_ms=Spread(float(np.median(walls)), low, high, len(walls), mean),
        samples_per_s=samples / mean * 1e3 if samples else None,
        accounted_share=1 - residual / mean,
        probe_share=_probe_share(trace, mean),
        residual_ms=residual,
        profiled_probe_share=_added(deep, walls),
        samples=_samples(trace, ledger),
    )


def _added(deep_ms: list[float], walls: NDArray[np.float64]) -> float | None:
    """What the deepest level added to its own steps; None where noise hides it."""
    added = float(np.median(deep_ms)) / float(np.median(walls)) - 1 if deep_ms else -1.0
    return added if added >= 0 else None


def _samples(trace: Trace, ledger: Ledger) -> list[StepSample]:
    """The wall time of every step seen, and what was done to it."""
    kept = iter(ledger.kept)
    found: list[StepSample] = []
    for step in trace.steps:
        kind = "profiled" if step.level in DEEP else "warmup"
        if step.level == Level.PHASES:
            kind = "measured" if next(kept, True) else "set aside"
        found.append(StepSample(step.index, (step.end_ns - step.start_ns) / 1e6, kind))
    return found


def _samples_per_step(trace: Trace) -> float | None:
    batch = trace.info.facts.get("batch_size")
    return float(batch) if batch else None


def _probe_share(trace: Trace, mean_ms: float) -> float | None:
    """Marks a step times what one costs, measured at the end of the window."""
    cost = trace.info.facts.get("mark_ns")
    timed = steps_at(trace, Level.PHASES)
    if cost is None or not timed or not mean_ms:
        return None
    starts = trace.events.start_ns[trace.events.rows_of(Kind.PHASE)]
    marks = sum(int(np.diff(np.searchsorted(starts, [step.start_ns, step.end_ns]))[0]) for step in timed)
    return float(cost) * marks / len(timed) / 1e6 / mean_ms


def _phases(ledger: Ledger) -> list[PhaseTime]:
    """The phases that take time, and `other`, in the order of a step. They sum to the mean step."""
    mean = float(ledger.wall_ms.mean())
    found: list[PhaseTime] = []
    for phase in PHASES:
        values = ledger.phase_ms[:, phase] + (ledger.phase_ms[:, Phase.NOBODY] if phase == Phase.OTHER else 0.0)
        ms = float(values.mean())
        if not ms:
            continue
        low, high = mean_interval(values) or (None, None)
        sites = [Site(where, site_ms) for where, site_ms in ledger.sites.get(phase, []) if site_ms > LEAST_SITE_MS]
        found.append(PhaseTime(label(phase), ms, ms / mean, low, high, sites[:MOST_SITES]))
    return found


def _memory(trace: Trace) -> Memory:
    facts = trace.info.facts

    def told(name: str) -> int | None:
        return int(facts[name]) if facts.get(name, "").isdecimal() else None

    return Memory(
        peak_bytes=told("peak_bytes"),
        parameters_bytes=told("parameters_bytes"),
        gradients_bytes=told("gradients_bytes"),
        optimizer_bytes=told("optimizer_bytes"),
        saved_bytes=sum(trace.saved_bytes.values()) if trace.saved_bytes else None,
    )
