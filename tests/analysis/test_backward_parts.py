"""What backward is made of: work of a container itself is counted once, and what is not known stays so."""

from __future__ import annotations

from longpole.analysis.backward_parts import BackwardParts, backward_parts
from longpole.analysis.study import LayerTime, OpTime, Study


def layer(path: str, inputs: float | None, weights: float | None, *, container: bool = False) -> LayerTime:
    """A leaf, or a container whose own work takes these; with what is in it, it has more."""
    own = {"own_input_grad_ms": inputs, "own_weight_grad_ms": weights}
    if container:
        return LayerTime(layer=path, container=True, input_grad_ms=99.0, weight_grad_ms=99.0, **own)
    return LayerTime(layer=path, input_grad_ms=inputs, weight_grad_ms=weights, **own)


def test_an_attention_that_is_no_module_belongs_to_the_input_gradients() -> None:
    study = Study(layers=[layer("attn", 5.0, 0.0, container=True), layer("attn.qkv", 2.0, 3.0)])
    assert backward_parts(study) == BackwardParts(7.0, 3.0, None)


def test_forward_again_is_a_part_of_its_own() -> None:
    again = OpTime(op="aten::mm", op_class="matmul", role="recompute", layer=None, shapes=None, ms=4.0)
    study = Study(layers=[layer("fc", 2.0, 3.0)], ops=[again])
    assert backward_parts(study) == BackwardParts(2.0, 3.0, 4.0)


def test_without_layers_the_ops_say_it_and_without_either_nobody() -> None:
    ops = [
        OpTime(op="aten::mm", op_class="matmul", role=role, layer=None, shapes=None, ms=ms)
        for role, ms in (("input_grad", 1.0), ("forward", 9.0))
    ]
    assert backward_parts(Study(ops=ops)) == BackwardParts(1.0, None, None)
    assert backward_parts(Study()) == BackwardParts(None, None, None)
