"""The trace model: columns, schema, store, clock. Imports nothing else of longpole."""

from longpole.trace.events import EventTable, make_table, nest, table_order
from longpole.trace.kinds import DEVICE_WORK, Kind, Level, NoGrad, OpClass, Phase, Role, label
from longpole.trace.trace import (
    Collectives,
    EventWaits,
    GradientOps,
    Interner,
    Lane,
    Layer,
    LayerCalls,
    MemoryEvents,
    RunInfo,
    Samples,
    StepWindow,
    Trace,
)

__all__ = [
    "DEVICE_WORK",
    "Collectives",
    "EventTable",
    "EventWaits",
    "GradientOps",
    "Interner",
    "Kind",
    "Lane",
    "Layer",
    "LayerCalls",
    "Level",
    "MemoryEvents",
    "NoGrad",
    "OpClass",
    "Phase",
    "Role",
    "RunInfo",
    "Samples",
    "StepWindow",
    "Trace",
    "label",
    "make_table",
    "nest",
    "table_order",
]
