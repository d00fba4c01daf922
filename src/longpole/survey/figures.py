"""From the study of one run to the figures that a survey compares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from longpole.analysis.answers import parts_of
from longpole.analysis.backward_parts import backward_parts
from longpole.analysis.survey import Figures, Serial

if TYPE_CHECKING:
    from longpole.analysis.study import Study

PRODUCTS = ("matmul", "convolution", "attention", "recurrent")
UNCLASSIFIED = "unclassified"


def figures_of(study: Study) -> Figures:
    """What one run says. Raises ValueError where no step was timed."""
    wall = study.step.wall_ms
    if not wall.mean or wall.median is None:
        raise ValueError("no step was timed")
    parts = backward_parts(study)
    unknown = [op for op in study.ops if op.op_class == UNCLASSIFIED]
    pole = next(iter(parts_of(study)), None)
    return Figures(
        step_ms=wall.mean,
        median_ms=wall.median,
        steps=wall.n,
        phases_ms={phase.phase: phase.ms for phase in study.phases},
        classes_ms={entry.op_class: entry.ms for entry in study.op_classes},
        classes_flops={entry.op_class: entry.flops for entry in study.op_classes if entry.flops},
        input_grad_ms=parts.input_grad_ms,
        weight_grad_ms=parts.weight_grad_ms,
        samples_per_s=study.step.samples_per_s,
        pole=pole.words if pole else "",
        pole_ms=pole.ms if pole else None,
        bound_ms=_bound(study),
        saved_bytes=study.memory.saved_bytes,
        parameters_bytes=study.memory.parameters_bytes,
        optimizer_bytes=study.memory.optimizer_bytes,
        accounted_share=study.step.accounted_share,
        unclassified_ms=sum(op.ms for op in unknown),
        unclassified=sorted({op.op for op in unknown}),
        parameters=study.run.parameters,
        batch_size=study.run.batch_size,
        threads=study.machine.threads,
        framework=study.run.framework,
        serial=_serial(study),
    )


def _bound(study: Study) -> dict[str, float] | None:
    found = study.bound_by
    if found is None:
        return None
    return {name: getattr(found, f"{name}_ms") for name in ("compute", "memory", "host", "outside", "unknown")}


def _serial(study: Study) -> Serial | None:
    """None where the step's graph was not seen."""
    chain = study.serial_chain
    if chain is None:
        return None
    share = chain.time_ms / chain.work_ms if chain.time_ms is not None and chain.work_ms else None
    return Serial(chain.layers, chain.of_layers, share, chain.parallelism)
