"""Cost of operators: FLOPs and bytes from name and shapes, one small formula each.

Operators call operators (`aten::zero_` calls `aten::fill_`): give the cost of the outermost operator that has
one its whole time, children included, and none to those inside it, or work would count twice. Wrappers that
only dispatch (`aten::linear`) have no cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longpole.cost import attention, convolution, matmul, optimizers, recurrent, streams
from longpole.cost.collectives import bus_bytes_per_s, bus_factor
from longpole.cost.model import Call, Cost

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from longpole.trace import Role

__all__ = ["Call", "Cost", "bus_bytes_per_s", "bus_factor", "cost_of"]

_FORMULAS: Mapping[str, Callable[[Call], Cost | None]] = {
    **matmul.FORMULAS,
    **convolution.FORMULAS,
    **attention.FORMULAS,
    **recurrent.FORMULAS,
    **streams.FORMULAS,
    **optimizers.FORMULAS,
}
# Operators that make both gradients: these take the role whose part is asked for.
_SPLIT: Mapping[str, Callable[[Call, Role | None], Cost | None]] = {
    **convolution.BY_ROLE,
    **recurrent.BY_ROLE,
}


def cost_of(
    name: str,
    shapes: Sequence[Any],
    *,
    dtypes: Sequence[str] = (),
    concrete: Sequence[Any] = (),
    output: tuple[int, ...] | None = None,
    role: Role | None = None,
) -> Cost | None:
    """FLOPs and bytes of one call of an operator; None where no formula knows it or shapes do not fit.

    `shapes` as Kineto's "Input Dims": a list of dims for each input, [] for numbers; lists of dims for lists of
    tensors. `dtypes` ("Input type") gives bytes an element, else four are taken. `concrete` ("Concrete Inputs",
    or values) gives strides, paddings and flags; formulas that need them are unknown without, but for convolutions
    the shape of whose `output` is known. `role` asks for one gradient of an operator that makes both.
    """
    call = Call(name, shapes, dtypes, concrete, output)
    if name in _SPLIT and role is not None:
        return _SPLIT[name](call, role)
    formula = _FORMULAS.get(name)
    if formula is not None:
        return formula(call)
    if name.startswith("aten::_foreach_"):
        return optimizers.foreach(call)
    return streams.of_class(call)
