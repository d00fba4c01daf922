"""What sort of work each event is and what it is for: op class, role, and the op that is named for it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from longpole.analysis.device_marks import BACKWARD_NODE, MODULE, matching
from longpole.analysis.device_tree import nearest
from longpole.analysis.distinct import distinct_with_inverse
from longpole.analysis.tree import inherit
from longpole.cost.op_classes import classify_kernel, classify_op, kernel_role
from longpole.trace import DEVICE_WORK, Kind, OpClass, Phase, Role

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from longpole.trace import Trace

ON_DEVICE = (int(Kind.KERNEL), int(Kind.MEMCPY), int(Kind.MEMSET))
# Backward nodes of functions without parameters: all they make is the gradient of their input.
WITHOUT_PARAMETERS = re.compile(
    r"^(\w*Relu|Gelu|Silu|Tanh|Sigmoid|Hardswish|Elu|LeakyRelu|\w*Softmax|\w*Dropout|NllLoss\w*|MseLoss|\w*CrossEntropy\w*"
    r"|\w*Pool[23]?D?\w*|Upsample\w*|ScaledDotProduct\w*Attention|\w*FlashAttention\w*|Mean|Div|Clamp|Cat|Split|Slice"
    r"|View|UnsafeView|ReshapeAlias|Transpose|Permute|Select|Clone|Pad|\w*Attn\w*)Backward\d*$"
)
PARAMETER_NODES = re.compile(r"AccumulateGrad$|^EmbeddingBackward\d*$")
MATMUL_NODE = re.compile(r"^(Addmm|Mm|Linear|Bmm|Baddbmm|Matmul|Addbmm)Backward\d*$")
MATMULS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")
INPUT_OP = re.compile(r"^aten::\w+_backward_input$|^aten::layer_norm_grad_input$")
WEIGHT_OP = re.compile(r"^aten::(\w+_backward_(weight|bias)|embedding_dense_backward|embedding_bag_dense_backward)$")
WEIGHT_KERNEL = re.compile(r"GammaBeta|ComputeGradientFusedParams|wgrad|dgamma|dbeta", re.IGNORECASE)
LOOSE = (None, OpClass.HOST, OpClass.COMPILED)  # classes of an op that say little of what is inside it


def launching(trace: Trace) -> NDArray[np.int64]:
    """For each row of device work its launch, for a host row the row itself; -1 where not known."""
    events = trace.events
    own = np.arange(len(events), dtype=np.int64)
    return np.where(events.mask_of(*ON_DEVICE), events.launch.astype(np.int64), own)


def ops(trace: Trace) -> NDArray[np.int64]:
    """For each row the innermost op round it or round its launch; -1 where there is none."""
    events = trace.events
    found = nearest(trace, events.mask_of(Kind.OP, Kind.COLLECTIVE))
    return at(found, launching(trace))


def at(values: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """`values` at `rows`, -1 where the row is -1."""
    return np.where(rows >= 0, values[np.maximum(rows, 0)], -1) if len(values) else rows


def op_classes(trace: Trace) -> NDArray[np.uint8]:
    """OpClass of each row: of the kernel by its name, else of the nearest op round it whose class is known."""
    events = trace.events
    by_op = inherit(_classes(trace, (Kind.OP, Kind.COLLECTIVE), classify_op), events.parent)
    found = at(by_op, launching(trace))
    by_kernel = _classes(trace, DEVICE_WORK, classify_kernel)
    found = np.where(by_kernel >= 0, by_kernel, found)
    host_only = (found < 0) & events.mask_of(Kind.OP, Kind.RUNTIME, Kind.ANNOTATION, Kind.PYTHON)
    found[host_only] = OpClass.HOST
    return np.maximum(found, int(OpClass.UNCLASSIFIED)).astype(np.uint8)


def _classes(trace: Trace, kinds: Sequence[int], classify: Callable[[str], OpClass | None]) -> NDArray[np.int64]:
    """Classes by name, -1 where there is none; an op that only dispatches has none of its own."""
    rows = trace.events.rows_of(*kinds)
    codes, inverse = distinct_with_inverse(trace.events.name[rows])
    classes = [classify(trace.text(code)) for code in codes.tolist()]
    numbers = np.array([-1 if one in LOOSE and classify is classify_op else int(one or 0) for one in classes] or [0])
    numbers[numbers == int(OpClass.UNCLASSIFIED)] = -1
    found = np.full(len(trace.events), -1, dtype=np.int64)
    if len(rows):
        found[rows] = numbers[inverse.reshape(-1)]
    return found


def roles(trace: Trace, phase: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Role of each row, given the phase of every row; NONE where neither name, op nor shapes tell."""
    events = trace.events
    host = _host_roles(trace, phase)
    found = np.maximum(at(host, launching(trace)), 0)
    found[(found == 0) & np.isin(phase, (Phase.FORWARD, Phase.LOSS))] = Role.FORWARD
    in_backward = np.flatnonzero(events.mask_of(*ON_DEVICE) & (phase == Phase.BACKWARD))
    codes, inverse = distinct_with_inverse(events.name[in_backward])
    named = np.array([_role_of_name(trace.text(code)) for code in codes.tolist()] or [0], dtype=np.int64)
    if len(in_backward):
        by_name = named[inverse.reshape(-1)]
        stays = (by_name == 0) | (found[in_backward] == Role.RECOMPUTE)
        found[in_backward] = np.where(stays, found[in_backward], by_name)
    found[~np.isin(phase, (Phase.FORWARD, Phase.LOSS, Phase.BACKWARD))] = Role.NONE
    return found.astype(np.uint8)


def _role_of_name(name: str) -> int:
    return int(Role.WEIGHT_GRAD) if WEIGHT_KERNEL.search(name) else int(kernel_role(name) or Role.NONE)


def _host_roles(trace: Trace, phase: NDArray[np.int64]) -> NDArray[np.int64]:
    """Roles of host rows in backward, -1 elsewhere and where nothing tells."""
    events = trace.events
    own = np.full(len(events), -1, dtype=np.int64)
    nodes = matching(trace, re.compile(BACKWARD_NODE), (Kind.OP,))
    own[matching(trace, WITHOUT_PARAMETERS, (Kind.OP,))] = Role.INPUT_GRAD
    own[matching(trace, PARAMETER_NODES, (Kind.OP,))] = Role.WEIGHT_GRAD
    own[matching(trace, INPUT_OP, (Kind.OP,))] = Role.INPUT_GRAD
    own[matching(trace, WEIGHT_OP, (Kind.OP,))] = Role.WEIGHT_GRAD
    _matmul_roles(trace, own)
    found = inherit(own, events.parent)
    found[_recomputed(trace, phase, nodes)] = Role.RECOMPUTE
    found[phase != Phase.BACKWARD] = -1
    return found


def _recomputed(trace: Trace, phase: NDArray[np.int64], nodes: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Rows inside forward work that runs again in backward: modules, and ops recorded for a backward of their own."""
    events = trace.events
    is_node = np.zeros(len(events), dtype=bool)
    is_node[nodes] = True
    again = (events.kind == Kind.OP) & (events.sequence >= 0) & (events.forward_thread <= 0) & ~is_node
    again[matching(trace, MODULE, (Kind.PYTHON,))] = True
    own = np.where(again & (phase == Phase.BACKWARD), 1, -1).astype(np.int64)
    own[nodes] = 0
    inside = inherit(own, events.parent) == 1
    return inside & (_in_node(trace, is_node) | ~np.any(is_node))


def _in_node(trace: Trace, is_node: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return nearest(trace, is_node) >= 0


def _matmul_roles(trace: Trace, own: NDArray[np.int64]) -> None:
    """Sets the role of each product in the backward node of one; what sums a bias there makes a weight gradient."""
    events = trace.events
    node_of = nearest(trace, _flags(trace, matching(trace, MATMUL_NODE, (Kind.OP,))))
    rows = events.rows_of(Kind.OP)
    rows = rows[node_of[rows] >= 0]
    names = {text: code for code, text in enumerate(trace.strings) if text in (*MATMULS, "aten::sum")}
    own[rows[events.name[rows] == names.pop("aten::sum", -1)]] = Role.WEIGHT_GRAD
    by_node: dict[int, list[int]] = {}
    for row in rows[np.isin(events.name[rows], list(names.values()))].tolist():
        by_node.setdefault(int(node_of[row]), []).append(row)
    for node, products in by_node.items():
        incoming = _shapes(trace, node)
        found = product_roles(incoming[-1] if incoming else None, [_shapes(trace, row)[-2:] for row in products])
        both_activations = trace.name_of(node).startswith(("Bmm", "Baddbmm"))
        for row, role in zip(products, found, strict=True):
            own[row] = int(Role.INPUT_GRAD if both_activations else role)


def product_roles(incoming: list[int] | None, factors: Sequence[Sequence[list[int]]]) -> list[Role]:
    """Roles of the products of one backward node, in order, from the shapes of each one's two factors.

    With g [tokens, out] `incoming`, the gradient of the input is g x [out, in]; that of the weight contracts over
    the tokens, as [in, tokens] x g or [out, tokens] x [tokens, in]. Where shapes fit both or are not known, order
    tells: autograd makes the input's first (tools/autograd/derivatives.yaml lists mat1 before mat2).
    """
    found = [_product_role(incoming, pair) for pair in factors]
    if len(found) == 2 and (Role.NONE in found or found[0] == found[1]):
        known = next((i for i, role in enumerate(found) if role != Role.NONE), None)
        if known is None or found[0] == found[1]:
            return [Role.INPUT_GRAD, Role.WEIGHT_GRAD]
        found[1 - known] = Role.WEIGHT_GRAD if found[known] == Role.INPUT_GRAD else Role.INPUT_GRAD
    return found


def _product_role(incoming: list[int] | None, factors: Sequence[list[int]]) -> Role:
    if incoming is None or len(factors) < 2:
        return Role.NONE
    makes_input = factors[0] == incoming
    makes_weight = factors[1] == incoming or factors[0] == incoming[::-1]
    if makes_input == makes_weight:
        return Role.NONE
    return Role.INPUT_GRAD if makes_input else Role.WEIGHT_GRAD


def _shapes(trace: Trace, row: int) -> list[list[int]]:
    """Shapes of the inputs that have two dimensions or more; none where they were not recorded."""
    text = trace.text(int(trace.events.shapes[row]))
    try:
        found = msgspec.json.decode(text) if text else []
    except msgspec.MsgspecError:
        return []
    return [dims for dims in found if isinstance(dims, list) and len(dims) >= 2 and isinstance(dims[0], int)]


def _flags(trace: Trace, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
    flags = np.zeros(len(trace.events), dtype=bool)
    flags[rows] = True
    return flags
