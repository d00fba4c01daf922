"""Figures read out of what scripts print: a table of lines as they are printed by scripts, trainers and bars."""

from __future__ import annotations

import time

import pytest

from longpole.convergence.observed import Text
from longpole.convergence.says import FALLS, RISES, direction_of, figures_of, read_texts

TABLE = [
    ("val_loss 1.234", {"val_loss": 1.234}),
    ("epoch 3 acc=0.91", {"acc": 0.91}),
    ("step 100 loss 2.3", {"loss": 2.3}),
    ("step   40  held-out loss 2.3102", {"held-out loss": 2.3102}),
    ("epoch 1  loss 0.3101  accuracy 0.910", {"loss": 0.3101, "accuracy": 0.91}),
    ("step 500: train loss 1.2345, val loss 1.4567", {"train loss": 1.2345, "val loss": 1.4567}),
    ("iter 10: loss 2.3012, time 34.55ms, mfu 12.2%", {"loss": 2.3012}),
    ("Epoch [1/5], Step [100/600], Loss: 0.1234", {"Loss": 0.1234}),
    ("Train Epoch: 1 [640/60000 (1%)]\tLoss: 2.300123", {"Loss": 2.300123}),
    ("Test set: Average loss: 0.0457, Accuracy: 9852/10000 (99%)", {"Average loss": 0.0457, "Accuracy": 0.9852}),
    (" * Acc@1 71.200 Acc@5 90.1", {"Acc@1": 71.2, "Acc@5": 90.1}),
    ("{'loss': 0.6954, 'grad_norm': 1.25, 'learning_rate': 5e-05, 'epoch': 0.5}", {"loss": 0.6954}),
    ("{'loss': '0.6954', 'grad_norm': '1.25', 'epoch': '0.5'}", {"loss": 0.6954}),
    ("loss: 0.5 - acc: 0.9 - val_loss: 0.4", {"loss": 0.5, "acc": 0.9, "val_loss": 0.4}),
    ("Accuracy: 43.5%, Avg loss: 2.1", {"Accuracy": 0.435, "Avg loss": 2.1}),
    ("Epoch: [0][10/100]\tTime  0.1 (0.2)\tLoss 6.9e+00 (7.0e+00)", {"Loss": 6.9}),
    ("  3%|#  | 3/100 [00:01<00:30, 3.2it/s, loss=0.123, lr=0.01]", {"loss": 0.123}),
    ("Epoch 3 done, perplexity 12.3", {"perplexity": 12.3}),
    ("loss tensor(2.3012, grad_fn=<NllLossBackward0>)", {"loss": 2.3012}),
    ("epoch 2 | train_acc 91.2 | val_acc: 90", {"train_acc": 91.2, "val_acc": 90.0}),
    ("2026-11-22 13:00:01 INFO step=3 loss=2.0", {"loss": 2.0}),
    ("training loss is 0.5", {"training loss": 0.5}),
    ("loss=1e-3,acc=.5", {"loss": 0.001, "acc": 0.5}),
    ("eval/loss 0.3", {"eval/loss": 0.3}),
    ("\x1b[32mloss\x1b[0m: 0.25", {"loss": 0.25}),
    ("reward -21.0", {"reward": -21.0}),
    ("finished with loss 0.4", {"loss": 0.4}),
    ("loss 0.5 loss 0.7", {"loss": 0.5}),
    # No figure of a run's quality:
    ("1,900,000 parameters, 4,000 bytes to train on", {}),
    ("torch version 2.13.0 lossless 3", {}),
    ("layers 4 heads 6", {}),
    ("lossy", {}),
    ("", {}),
]


@pytest.mark.parametrize(("line", "figures"), TABLE, ids=[line[:30] for line, _ in TABLE])
def test_figures_of_a_line(line: str, figures: dict[str, float]) -> None:
    assert dict(figures_of(line)) == pytest.approx(figures)


def test_a_loss_that_is_no_number_is_a_figure_all_the_same() -> None:
    [(name, value)] = figures_of("Loss = nan")
    assert name == "Loss"
    assert value != value


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("loss", FALLS), ("val_loss", FALLS), ("held-out loss", FALLS), ("Avg loss", FALLS), ("perplexity", FALLS),
        ("test/wer", FALLS), ("Acc@1", RISES), ("train_acc", RISES), ("Validation Accuracy", RISES),
        ("eval/f1", RISES), ("temperature", None), ("lossless", None), ("gap", None),
    ],
)  # fmt: skip
def test_the_way_that_is_better(name: str, direction: str | None) -> None:
    assert direction_of(name) == direction


def test_texts_become_lines_with_the_step_of_their_end() -> None:
    """`print("loss", 2.0)` writes four times; a bar goes back with a carriage return; streams do not mix."""
    texts = [
        Text(0, 10, "stdout", "loss"),
        Text(0, 11, "stderr", "acc 0.1\r"),
        Text(0, 12, "stdout", " "),
        Text(1, 13, "stdout", "2.0"),
        Text(1, 14, "stdout", "\n"),
        Text(2, 15, "stderr", "acc 0.2\r"),
        Text(2, 16, "stdout", "loss 1.5"),
    ]
    said = [(one.step, one.ns, one.name, one.value) for one in read_texts(texts)]
    assert said == [(0, 11, "acc", 0.1), (1, 14, "loss", 2.0), (2, 15, "acc", 0.2), (2, 16, "loss", 1.5)]


def test_a_bar_that_begins_with_a_carriage_return_counts_when_it_is_written() -> None:
    texts = [Text(step, 10 * step, "stderr", f"\r{step}/3 loss={step / 4}") for step in (1, 2, 3)]
    said = [(one.step, one.ns, one.value) for one in read_texts(texts)]
    assert said == [(1, 10, 0.25), (2, 20, 0.5), (3, 30, 0.75)]


def test_one_figure_that_is_printed_and_logged_counts_once() -> None:
    texts = [Text(3, 10, "logging", "loss=0.5\n"), Text(3, 11, "stderr", "INFO:root:loss=0.5\n")]
    assert [(one.step, one.name, one.value) for one in read_texts(texts)] == [(3, "loss", 0.5)]


@pytest.mark.parametrize("line", ["a" * 100_000, "a " * 50_000, "loss " * 20_000, "loss=" * 20_000, "1." * 50_000,
                                  "train " * 9_000 + "loss 1.0"])  # fmt: skip
def test_a_strange_line_takes_no_time_to_speak_of(line: str) -> None:
    """Only a rule that is quadratic in a line's length, at 100,000 characters, would come near this bound."""
    start = time.process_time()
    figures_of(line)
    assert time.process_time() - start < 5.0
