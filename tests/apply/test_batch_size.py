"""Which DataLoaders get another batch, and what is said where none can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from longpole.apply.batch_size import BatchSize, change_batch_size

if TYPE_CHECKING:
    from collections.abc import Iterator

SAMPLES = 40
DATA = TensorDataset(torch.arange(SAMPLES))


class Stream(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(SAMPLES))


class Sharded(SequentialSampler):
    """As DistributedSampler(shuffle=False), which evaluates."""

    shuffle = False


class Buckets(BatchSampler):
    pass


@pytest.fixture
def seven() -> Iterator[BatchSize]:
    change = change_batch_size(7)
    yield change
    change.stop()


def sizes(loader: DataLoader[Any]) -> list[int]:
    return [len(batch[0]) if isinstance(batch, list) else len(batch) for batch in loader]


def whole(last: int) -> list[int]:
    return [7] * 5 + [last] * bool(last)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"batch_size": 4, "shuffle": True}, whole(5)),  # 40 = 5 x 7 + 5
        ({"batch_size": 4, "shuffle": True, "drop_last": True}, whole(0)),
        ({"batch_size": 4, "drop_last": True}, whole(0)),
        ({"shuffle": True}, whole(5)),  # without one of its own
        ({"batch_size": 4, "sampler": RandomSampler(DATA)}, whole(5)),
        ({"batch_size": 4, "sampler": WeightedRandomSampler(torch.ones(SAMPLES).tolist(), 21)}, [7] * 3),
        ({"batch_sampler": BatchSampler(RandomSampler(DATA), 4, drop_last=True)}, whole(0)),
    ],
    ids=["shuffle", "shuffle, drop last", "drop last", "no batch size", "sampler", "weighted", "batch sampler"],
)
def test_a_loader_that_trains_gets_the_batch(seven: BatchSize, options: dict[str, Any], expected: list[int]) -> None:
    loader = DataLoader(DATA, **options)
    assert sizes(loader) == expected
    assert len(loader) == len(expected)
    assert seven.changed == 1
    assert seven.unmet() is None


def test_arguments_by_position_are_understood(seven: BatchSize) -> None:
    assert sizes(DataLoader(DATA, 4, True)) == whole(5)


def test_a_class_of_the_scripts_own_is_changed_too(seven: BatchSize) -> None:
    class Mine(DataLoader[Any]):
        def __init__(self, dataset: Any) -> None:
            super().__init__(dataset, batch_size=4, shuffle=True)

    assert sizes(Mine(DATA)) == whole(5)


@pytest.mark.parametrize("sampler", [None, SequentialSampler(DATA), Sharded(DATA)])
def test_loaders_that_evaluate_keep_theirs(seven: BatchSize, sampler: Any) -> None:
    training = DataLoader(DATA, batch_size=4, shuffle=True)
    evaluating = DataLoader(DATA, batch_size=4, sampler=sampler)
    assert sizes(evaluating) == [4] * 10
    assert sizes(training) == whole(5)
    assert seven.changed == 1


@pytest.mark.parametrize("dataset", [DATA, Stream()])
def test_where_none_shuffles_the_first_that_is_read_with_gradients_trains(seven: BatchSize, dataset: Any) -> None:
    first, second = (DataLoader(dataset, batch_size=4) for _ in range(2))
    with torch.no_grad():
        assert sizes(second) == [4] * 10
    assert sizes(first) == whole(5)
    assert sizes(second) == [4] * 10
    assert first.batch_size == 7


def test_batches_that_others_make_are_said_to_be_theirs(seven: BatchSize) -> None:
    loader = DataLoader(DATA, batch_sampler=Buckets(RandomSampler(DATA), 4, drop_last=False))
    assert sizes(loader) == [4] * 10
    assert seven.changed == 0
    assert "batch sampler of its own (Buckets)" in (seven.unmet() or "")


def test_datasets_that_make_batches_are_said_to(seven: BatchSize) -> None:
    loader = DataLoader(Stream(), batch_size=None)
    assert list(loader) == list(range(SAMPLES))
    assert "batch_size=None" in (seven.unmet() or "")


def test_a_script_without_a_loader_is_told_what_to_do(seven: BatchSize) -> None:
    assert "no DataLoader;" in (seven.unmet() or "")
    assert '--vary "--batch-size=8,16"' in (seven.unmet() or "")


def test_a_wrong_call_fails_as_it_does_without_us(seven: BatchSize) -> None:
    with pytest.raises(TypeError, match="colour"):
        DataLoader(DATA, colour="red")  # pyright: ignore[reportCallIssue]
    with pytest.raises(ValueError, match="mutually exclusive"):
        DataLoader(DATA, shuffle=True, sampler=RandomSampler(DATA))


def test_nothing_is_left_of_it() -> None:
    before = DataLoader.__init__, DataLoader.__iter__
    change_batch_size(7).stop()
    assert (DataLoader.__init__, DataLoader.__iter__) == before
    assert sizes(DataLoader(DATA, batch_size=4, shuffle=True)) == [4] * 10
