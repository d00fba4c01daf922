"""The optimizer's time by layer, where hundreds of tensors have one shape: what ConvNeXt under AdamW is."""

from __future__ import annotations

import numpy as np

from longpole.analysis.optimizer_layers import sizes_by_layer


def test_layers_with_tensors_of_one_shape_share_them_alike() -> None:
    """Shape (4,) twice, owned by layers 0 and 1: 2 x 4 / 2 each; (2, 3) once, owned by 1; (9,) is nobody's."""
    owners = {(4,): [0, 1], (2, 3): [1]}
    found = sizes_by_layer(((4,), (2, 3), (4,), (9,)), owners, 3)
    assert found.tolist() == [4.0, 4.0 + 6.0, 0.0]


def test_shares_sum_to_the_elements_however_many_tensors_are_alike() -> None:
    owners = {(96,): list(range(400))}
    found = sizes_by_layer(((96,),) * 400, owners, 400)
    assert np.allclose(found, 96.0)
