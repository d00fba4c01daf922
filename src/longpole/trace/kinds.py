"""The words of the design, once: kinds of events, levels, phases, roles, op classes.

Columns hold the small integers; reports and JSON hold the names. The order of a list is the order in
which reports show it.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag


class Kind(IntEnum):
    """What an event is. Values are stored in files: append, never renumber."""

    OP = 0  # a framework operation on a host thread (`aten::mm`, `AddmmBackward0`)
    KERNEL = 1  # device work that computes or communicates
    MEMCPY = 2  # device copy
    MEMSET = 3  # device fill
    RUNTIME = 4  # host call into the device runtime (`cudaLaunchKernel`)
    SYNC = 5  # a wait on a device or stream (`Stream Sync`): never work
    ANNOTATION = 6  # a named range of the user's or the framework's on a host thread
    DEVICE_ANNOTATION = 7  # the same range projected onto a device stream: never work
    PYTHON = 8  # a Python frame
    PHASE = 9  # a phase mark of longpole's own
    LAYER = 10  # one call of a module, marked by longpole
    COLLECTIVE = 11  # a collective as the host issued it (record_param_comms, gloo:all_reduce)
    OTHER = 12


DEVICE_WORK = (Kind.KERNEL, Kind.MEMCPY, Kind.MEMSET)


class Level(IntEnum):
    """How deep one step was measured."""

    NONE = 0  # seen, not measured: before the window, or settling after a deeper step
    PHASES = 1  # level 0 of the design: phase marks only; the true step time
    SITES = 2  # phase marks and the sampling thread: names source lines
    OPS = 3  # phase marks, layer marks, Kineto
    GRADIENTS = 4  # layer marks and a dispatch mode: roles, saved tensors, split gradients


class Phase(IntEnum):
    """Where in the step. NOBODY is a bucket of the arithmetic, reported as `other`."""

    NOBODY = 0
    DATA = 1
    TRANSFER = 2
    FORWARD = 3
    LOSS = 4
    BACKWARD = 5
    CLIP = 6
    OPTIMIZER = 7
    COMMUNICATION = 8
    EVALUATION = 9
    CHECKPOINT = 10
    OTHER = 11
    IDLE = 12


class Role(IntEnum):
    """What a piece of work is for."""

    NONE = 0
    FORWARD = 1
    INPUT_GRAD = 2
    WEIGHT_GRAD = 3
    RECOMPUTE = 4


class OpClass(IntEnum):
    """What sort of work an op is. UNCLASSIFIED is listed in reports, never folded into another."""

    UNCLASSIFIED = 0
    MATMUL = 1
    CONVOLUTION = 2
    ATTENTION = 3
    RECURRENT = 4
    NORMALIZATION = 5
    SOFTMAX_LOSS = 6
    ELEMENTWISE = 7
    REDUCTION = 8
    EMBEDDING = 9
    POOLING = 10
    DATA_MOVEMENT = 11
    RANDOM = 12
    COLLECTIVE = 13
    OPTIMIZER = 14
    HOST = 15
    COMPILED = 16  # a region fused by a compiler, whose inside no event shows


class NoGrad(IntFlag):
    """What sort of call without gradients an EVALUATION mark is; kept in its `correlation` column."""

    TRAINING_MODE = 0
    EVAL_MODE = 1
    TRAINED = 2  # the same module is also called with gradients


def label(value: IntEnum) -> str:
    """The word used in reports and JSON: lower case, `input_grad` for `INPUT_GRAD`."""
    return value.name.lower()
