"""Which names of host events say in what phase a step is: tables."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from longpole.analysis.distinct import distinct, distinct_with_inverse
from longpole.trace import Kind, Phase, label

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from longpole.trace import Trace

    Table = Sequence[tuple[Phase, str]]

BACKWARD_NODE = r"^autograd::engine::evaluate_function|^(torch::autograd::)?\w*Backward\d*$|AccumulateGrad$"
# Ranges of the framework's own (torch/optim/optimizer.py, torch/utils/data/dataloader.py, torch/nn/parallel).
OPS: Table = (
    (Phase.OPTIMIZER, r"^Optimizer\.(step|zero_grad)#"),
    (Phase.DATA, r"^enumerate\(DataLoader\)#"),
    (Phase.BACKWARD, BACKWARD_NODE),
    (Phase.COMMUNICATION, r"^(gloo|mpi):"),
)
DATA_WORDS = (  # `data` alone is the whole name: "all2all_data" and "data_parallel" fetch none
    r"^[#\s]*data[#\s]*$",
    r"(?<![a-z])data_?(load\w*|fetch\w*|wait|time)(?![a-z0-9_])",
    r"(?<![a-z])(load|next|get|fetch)_(batch|data)(?![a-z0-9_])",
    r"(?<![a-z])wait_for_(\w+_)?batch(?![a-z0-9_])",
    r"(?<![a-z])(prefetch|input_pipeline)(?![a-z0-9_])",
)
# Ranges that the user named. Words stand alone, so that `validate` is none and `data_load` is one.
ANNOTATIONS: Table = (
    (Phase.OPTIMIZER, r"^Optimizer\.(step|zero_grad)#"),
    (Phase.DATA, r"^enumerate\(DataLoader\)#"),
    (Phase.FORWARD, r"^(DistributedDataParallel|FullyShardedDataParallel|DataParallel)\.forward"),
    (Phase.CLIP, r"(?<![a-z])(clip|clipping|clip_?grad\w*|grad_?norm|grad_?clip)(?![a-z])"),
    (Phase.BACKWARD, r"(?<![a-z])(backward|bwd|backprop)(?![a-z])"),
    (Phase.OPTIMIZER, r"(?<![a-z])(optimizer|optim|optimizer_step|opt_step|zero_?grad|weight_update)(?![a-z])"),
    (Phase.EVALUATION, r"(?<![a-z])(eval|evaluate|evaluation|valid|validation|validate)(?![a-z])"),
    (Phase.CHECKPOINT, r"(?<![a-z])(save_?checkpoint|checkpoint_?save|save_model|saving)(?![a-z])"),
    (
        Phase.TRANSFER,
        r"(cpu|gpu|cuda) ?-> ?(cpu|gpu|cuda)|(?<![a-z])(h2d|to_?device|host_?to_?device|copy_batch_to_\w+)(?![a-z])",
    ),
    (Phase.DATA, "|".join(DATA_WORDS)),
    (Phase.LOSS, r"(?<![a-z])(loss|criterion)(?![a-z])"),
    (Phase.FORWARD, r"(?<![a-z])(forward|fwd|inference)(?![a-z])"),
    # Pipeline schedules mark parts as DualPipe does (github.com/deepseek-ai/DualPipe): `mlp(F)`, `mlp(B)`, `attn(W)`.
    (Phase.FORWARD, r"^\w+\(F\)$"),
    (Phase.BACKWARD, r"^\w+\([BW]\)$"),
)
# Python frames, as Kineto writes them: `path/file.py(12): function`.
FRAMES: Table = (
    (Phase.DATA, r"torch/utils/data/dataloader\.py\(\d+\): (__next__|_next_data)$"),
    (Phase.OPTIMIZER, r"torch/optim/\w+\.py\(\d+\): (step|zero_grad)$"),
    (Phase.CLIP, r"torch/nn/utils/clip_grad\.py\(\d+\): \w*clip_grad"),
    (Phase.BACKWARD, r"torch/(_tensor|autograd/__init__)\.py\(\d+\): backward$"),
    (Phase.LOSS, r"^nn\.Module: \w*(Loss|Criterion)_\d+$|torch/nn/modules/loss\.py\(\d+\): forward$"),
    (Phase.CHECKPOINT, r"torch/serialization\.py\(\d+\): save$"),
)
MARKS: Table = tuple((phase, f"^{label(phase)}$") for phase in Phase)  # longpole's own, of a live run
MODULE = re.compile(r"nn\.Module: (.+)")
UPDATE = re.compile(r"^Optimizer\.step#|torch/optim/\w+\.py\(\d+\): step$")
STEP_MARK = re.compile(r"ProfilerStep|^(train(ing)?[ _-]?)?(step|iter|iteration|batch)[ _#:-]*\d+$", re.IGNORECASE)
LOSS_OP = re.compile(r"^aten::(\w*_loss(_nd|2d)?|cross_entropy\w*|binary_cross_entropy\w*|kl_div|huber_loss)$")
# What a network is made of: its products.
PRODUCT_OP = re.compile(
    r"^aten::(_?conv\w*|\w+_convolution|linear|addmm|mm|bmm|baddbmm|matmul|_?scaled_dot_product_\w*attention\w*)$"
)
READ_OP = re.compile(r"^aten::(item|_local_scalar_dense|is_nonzero)$")
NORM_OP = re.compile(r"^aten::(_foreach_norm|linalg_vector_norm|norm|linalg_norm)$")


def phases_by_name(trace: Trace) -> NDArray[np.int64]:
    """The phase that each row's own name states, -1 where it states none."""
    events = trace.events
    tables: Mapping[tuple[Kind, ...], Table] = {
        (Kind.OP, Kind.COLLECTIVE): OPS,
        (Kind.ANNOTATION,): ANNOTATIONS,
        (Kind.PYTHON,): FRAMES,
        (Kind.PHASE,): MARKS,
    }
    found = np.full(len(events), -1, dtype=np.int64)
    for kinds, table in tables.items():
        rows = events.rows_of(*kinds)
        found[rows] = _of_names(trace, table, events.name[rows])
    return found


def matching(trace: Trace, pattern: re.Pattern[str], kinds: Sequence[int]) -> NDArray[np.intp]:
    """Rows of these kinds in whose name the pattern is found."""
    rows = trace.events.rows_of(*kinds)
    names = trace.events.name[rows]
    codes = [code for code in distinct(names).tolist() if pattern.search(trace.text(code))]
    if not codes:
        return rows[:0]
    fits = np.zeros(len(trace.strings) + 1, dtype=np.bool_)  # the last one is where -1 looks
    fits[codes] = True
    return rows[fits[names]]


def _of_names(trace: Trace, table: Table, names: NDArray[np.int32]) -> NDArray[np.int64]:
    rules = [(int(phase), re.compile(pattern)) for phase, pattern in table]
    codes, inverse = distinct_with_inverse(names)
    phases = np.full(len(codes), -1, dtype=np.int64)
    for index, code in enumerate(codes.tolist()):
        text = trace.text(code)
        lower = text.lower()
        fits = (phase for phase, rule in rules if rule.search(text) or (table is ANNOTATIONS and rule.search(lower)))
        phases[index] = next(fits, -1)
    return phases[inverse.reshape(-1)] if len(codes) else np.empty(0, dtype=np.int64)
