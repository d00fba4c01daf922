"""Each event of a trace and where it belongs: phase, role, op class, op, layer, place in the user's code.

Work of a device belongs where its launch does. What cannot be told stays with nobody, and the study says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.device_exclusive import COMMUNICATION, CUSTOM, Pieces, device_pieces
from longpole.analysis.device_launches import launched
from longpole.analysis.device_layers import layer_map
from longpole.analysis.device_phases import device_phases, host_phases
from longpole.analysis.device_tree import host_pieces
from longpole.analysis.device_where import sites
from longpole.analysis.device_work import at, launching, op_classes, ops, roles
from longpole.trace import DEVICE_WORK, OpClass, Phase, Role

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from longpole.trace import Trace


@dataclass(frozen=True, slots=True)
class Attribution:
    """One entry a row of the event table; -1 where not known. Phases, roles and classes are their enums' numbers."""

    phase: NDArray[np.int8]
    host_phase: NDArray[np.int8]  # before device work has been given the phases of its launches
    role: NDArray[np.uint8]
    op_class: NDArray[np.uint8]
    launched: NDArray[np.uint8]  # longpole.analysis.device_launches.Launched
    op_name: NDArray[np.int32]  # row of Trace.strings: the innermost op round it or its launch, else the event itself
    shapes: NDArray[np.int32]  # row of Trace.strings: of that op
    layer: NDArray[np.int32]  # row of `layers`
    site: NDArray[np.int32]  # row of `sites`
    layers: list[str]
    layer_types: list[str]
    sites: list[str]
    why_no_layers: str


def attribute(trace: Trace) -> tuple[Pieces, Attribution]:
    """The pieces of time to account for (of devices, or of the host where no device worked) and their attribution."""
    events = trace.events
    has_device = bool(len(events.rows_of(*DEVICE_WORK)))
    pieces = device_pieces(trace) if has_device else host_pieces(trace)
    host = host_phases(trace)
    communicating = np.zeros(len(events), dtype=bool)
    if has_device:
        communicating[pieces.row[pieces.precedence == COMMUNICATION]] = True
    device = device_phases(trace, host, communicating)
    phase = np.where(device >= 0, device, host)
    op = ops(trace)
    layer = layer_map(trace, host)
    where, texts = sites(trace)
    role, op_class = roles(trace, phase), op_classes(trace)
    op_class[communicating] = OpClass.COLLECTIVE
    if has_device:  # what the framework's own kernels are called says more than the table of kinds of work
        op_class[pieces.row[pieces.precedence == CUSTOM]] = OpClass.COLLECTIVE
    role[communicating] = Role.NONE
    layer.of[communicating] = -1  # a hook of the layer that was at work launched it
    return pieces, Attribution(
        phase=np.where(phase == Phase.NOBODY, int(Phase.OTHER), phase).astype(np.int8),
        host_phase=host.astype(np.int8),
        role=role,
        op_class=op_class,
        launched=launched(trace),
        op_name=np.where(op >= 0, at(events.name.astype(np.int64), op), events.name).astype(np.int32),
        shapes=at(events.shapes.astype(np.int64), op).astype(np.int32),
        layer=layer.of.astype(np.int32),
        site=at(where, launching(trace)).astype(np.int32),
        layers=layer.paths,
        layer_types=layer.types,
        sites=texts,
        why_no_layers=layer.why,
    )
