"""Level 3: on a step of its own, a dispatch mode sees every op with its tensors.

It tells which op of backward makes an input gradient and which a weight gradient (by what it reads and where
its node leads), divides ops that make both by calling them once for each, and tells a watch of memory what each
op reads and makes. Results are those of the undivided call, so loss and gradients stay the same to the bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from longpole.capture import internals
from longpole.capture.interpreter import frame_at
from longpole.capture.modules import CALL_WIDTH
from longpole.capture.saved_hooks import WatchingHooks, hook_stack, lifted
from longpole.trace.clock import monotonic_ns
from longpole.trace.kinds import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import CodeType

    from longpole.capture.memory import MemoryWatch
    from longpole.capture.modules import ModuleMarks

# Ops that make several gradients at once and say which by their last argument, `output_mask`.
MASKED = frozenset(
    {
        "aten::convolution_backward",
        "aten::native_layer_norm_backward",
        "aten::native_batch_norm_backward",
        "aten::native_group_norm_backward",
        "aten::batch_norm_backward",
    }
)
# Fused recurrent backward has no mask. Its work is 2*T*N*G*(I+H) FLOPs for the gradients of the gates' inputs
# and as many for those of the weights (T steps, N sequences, G gate rows, I inputs, H hidden): halves.
HALVED = frozenset({"aten::mkldnn_rnn_layer_backward", "aten::_cudnn_rnn_backward", "aten::miopen_rnn_backward"})
# Nodes between a weight and the op that uses it: views and casts, no arithmetic.
VIEWS = frozenset(
    f"{name}Backward{number}"
    for name in (
        *("T", "Transpose", "View", "Permute", "ToCopy", "Expand", "Squeeze", "Unsqueeze", "Slice", "Split"),
        *("SplitWithSizes", "Select", "Unbind", "AsStrided", "Clone", "Alias", "Reshape", "UnsafeView"),
        *("ReshapeAlias", "Unfold", "WeightNormInterface", "Cat", "Stack"),
    )
    for number in range(3)
)
MOST_VIEWS = 4
MOST_NODES = 2000  # of one module call that are followed
ACCUMULATE = "torch::autograd::AccumulateGrad"
LOSS_OPS = ("loss", "log_softmax", "binary_cross_entropy", "cross_entropy", "ctc", "kl_div")


class GradientRow:
    """One op inside backward: its node's sequence number, its name, how many of that name came before."""

    __slots__ = ("op", "ordinal", "role", "sequence", "weight_share")

    def __init__(self, sequence: int, op: str, ordinal: int, role: Role, weight_share: float) -> None:
        self.sequence, self.op, self.ordinal = sequence, op, ordinal
        self.role, self.weight_share = role, weight_share


class GradientMode(TorchDispatchMode):
    """Active for one step. `rows` and the three sets of lines are what it found, `memory` what it was given."""

    def __init__(
        self,
        modules: ModuleMarks,
        weights: Iterable[torch.Tensor],
        loop_codes: set[CodeType],
        memory: MemoryWatch | None = None,
    ) -> None:
        super().__init__()
        self.rows: list[GradientRow] = []
        self.memory = memory
        self.graph_lines: set[tuple[CodeType, int]] = set()
        self.loss_lines: set[tuple[CodeType, int]] = set()
        self.failure: str | None = None
        self._written: dict[int, set[tuple[CodeType, int]]] = {}  # lines by the memory they write into
        self._trained: set[int] = set()  # memory of what gradients are accumulated for
        self._modules = modules
        self._weights = {_storage(weight) for weight in weights}
        self._loop_codes = loop_codes
        self._hooks: WatchingHooks | None = None
        self._ordinals: dict[str, int] = {}
        self._node: Any = None  # held while it runs: the identity of one that is gone may be another's
        self._sequence = internals.sequence_number()

    def __enter__(self) -> GradientMode:
        super().__enter__()
        if self.memory is not None:
            self._hooks = WatchingHooks(self.memory.saved)
            self._hooks.start()
        return self

    def __exit__(self, *details: Any) -> None:
        """Out from below whatever the script has put on top since."""
        self._node = None
        if self._hooks is not None:
            self._hooks.stop()
        with lifted(_top_mode, lambda mode: mode is self, internals.pop_mode, internals.push_mode) as found:
            if found:
                super().__exit__(*details)

    @property
    def update_lines(self) -> set[tuple[CodeType, int]]:
        """Lines of the loop that write into what is trained: an optimizer, whoever wrote it."""
        return {line for storage in self._written.keys() & self._trained for line in self._written[storage]}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        result = func(*args, **kwargs)  # the script's own call; what fails after it must not reach the script
        start_ns = monotonic_ns()
        try:
            self._note(func, args, kwargs, result)
        except Exception as error:
            self.failure = f"{type(error).__name__}: {error}"
        if self.memory is not None:
            self.memory.pause(start_ns)
        return result

    def _note(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        name = func._schema.name
        node = internals.current_node()
        if self.memory is not None:
            self.memory.op(name, args, kwargs, result, node)
        if node is None or self._modules.stack:
            self._forward(func, args, result)
        else:
            self._backward(node, name, func, args, kwargs)

    def _forward(self, func: Any, args: tuple[Any, ...], result: Any) -> None:
        name = func._schema.name
        made_node = internals.sequence_number() > self._sequence
        self._sequence = internals.sequence_number()
        if made_node and not self._modules.stack:
            self._note_line(is_loss=any(part in name for part in LOSS_OPS))
        if not made_node and not self._modules.stack and func._schema.is_mutable and args:
            self._note_written(args[0])
        if name == "aten::_to_copy" and _storage(args[0]) in self._weights:
            self._weights.add(_storage(result))  # autocast: the copy stands for the weight

    def _note_line(self, *, is_loss: bool) -> None:
        (self.loss_lines if is_loss else self.graph_lines).update(self._lines_of_loop())

    def _note_written(self, target: Any) -> None:
        """The first argument of an op in place: a tensor, or a list of them."""
        tensors = target if isinstance(target, (list, tuple)) else (target,)
        written = {_storage(tensor) for tensor in tensors if isinstance(tensor, torch.Tensor)} - {0}
        if written:
            lines = self._lines_of_loop()
            for storage in written:
                self._written.setdefault(storage, set()).update(lines)

    def _lines_of_loop(self) -> set[tuple[CodeType, int]]:
        found: set[tuple[CodeType, int]] = set()
        frame = frame_at(1)
        while frame is not None:
            if frame.f_code in self._loop_codes:
                found.add((frame.f_code, frame.f_lineno or 0))
            frame = frame.f_back
        return found

    def _backward(self, node: Any, name: str, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if node.name() == ACCUMULATE:
            return
        ordinal = self._count(node, name)
        self._trained.update(_storage(edge.variable) for edge, _ in node.next_functions if _accumulates(edge))
        to_weight, to_input = _leads(node, self._call_began(node._sequence_nr()))
        if to_weight and to_input and name in MASKED and _wants_both(args[-1]):
            share = _divided(func, args, kwargs)
        else:
            share = self._share(name, args, to_weight=to_weight, to_input=to_input)
        role = Role.WEIGHT_GRAD if share > 0.5 else Role.INPUT_GRAD
        self.rows.append(GradientRow(node._sequence_nr(), name, ordinal, role, share))

    def _call_began(self, sequence: int) -> int:
        """The first node of the innermost module call that made this one; itself outside of any."""
        calls = self._modules.calls
        for at in range(CALL_WIDTH, len(calls) + 1, CALL_WIDTH):  # inner calls end first
            if calls[at - 2] <= sequence < calls[at - 1]:
                return calls[at - 2]
        return sequence

    def _count(self, node: Any, name: str) -> int:
        """How many ops of this name the node ran before; a node may run again for a second backward."""
        if node is not self._node:
            self._node = node
            self._ordinals.clear()
        self._ordinals[name] = self._ordinals.get(name, -1) + 1
        return self._ordinals[name]

    def _share(self, name: str, args: tuple[Any, ...], *, to_weight: bool, to_input: bool) -> float:
        """Which part of the op's work makes weight gradients: all, none, or half of a fused recurrent one.

        Where a node makes both gradients by separate ops, the one that reads the weight makes the input's.
        """
        if not to_weight:
            return 0.0
        if not to_input:
            return 1.0
        if name in HALVED:
            return 0.5
        flat, _ = tree_flatten(args)
        reads_weight = any(isinstance(a, torch.Tensor) and _storage(a) in self._weights for a in flat)
        return 0.0 if reads_weight else 1.0


def _top_mode() -> Any:
    modes = internals.dispatch_modes()
    return modes[-1] if modes else None


def can_enter() -> bool:
    """Whether a mode of ours would be on top and stay there: nobody else's mode or hooks are active."""
    return _top_mode() is None and hook_stack.top() is None


def _storage(tensor: torch.Tensor) -> int:
    """An identity of the tensor's memory; 0 for tensors that have none (sparse, fake)."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError, AttributeError):
        return 0


def _accumulates(edge: Any) -> bool:
    return edge is not None and edge.name() == ACCUMULATE


def _leads(node: Any, floor: int) -> tuple[bool, bool]:
    """Whether the node's gradients go to a weight, and whether to an input.

    Nodes from number `floor` on are of the same module call: what leads through them to weights alone, as the
    view of a Linear's output does where its input has no gradient, is work for the weights.
    """
    edges = [edge for edge, _ in node.next_functions if edge is not None]
    to_weight = [_is_weight(edge, MOST_VIEWS) for edge in edges]
    if edges and not all(to_weight) and _ends_in_weights(edges, floor):
        return True, False
    return any(to_weight), not all(to_weight)


def _ends_in_weights(edges: list[Any], floor: int) -> bool:
    """Whether every way down from here stays in the module call until it ends at a weight."""
    waiting, seen = list(edges), set[int]()
    while waiting:
        node = waiting.pop()
        if node.name() == ACCUMULATE or node._sequence_nr() in seen:
            continue
        seen.add(node._sequence_nr())
        if node._sequence_nr() < floor or len(seen) > MOST_NODES:
            return False
        waiting += [edge for edge, _ in node.next_functions if edge is not None]
    return True


def _is_weight(node: Any, views: int) -> bool:
    if node.name() == ACCUMULATE:
        return True
    if not views or node.name() not in VIEWS:
        return False
    below = [edge for edge, _ in node.next_functions if edge is not None]
    return bool(below) and all(_is_weight(edge, views - 1) for edge in below)


def _wants_both(mask: Any) -> bool:
    return isinstance(mask, (list, tuple)) and bool(mask[0]) and any(mask[1:])


def _divided(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> float:
    """The weight gradients' part of the time of the two calls apart."""
    mask = list(args[-1])
    only_input = [True, *(False for _ in mask[1:])]
    only_weight = [False, *mask[1:]]
    input_ns = min(_time_ns(lambda: func(*args[:-1], only_input, **kwargs)) for _ in range(2))
    weight_ns = min(_time_ns(lambda: func(*args[:-1], only_weight, **kwargs)) for _ in range(2))
    return weight_ns / max(input_ns + weight_ns, 1)


def _time_ns(call: Callable[[], Any]) -> int:
    _wait()
    start = monotonic_ns()
    call()
    _wait()
    return monotonic_ns() - start


def _wait() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
