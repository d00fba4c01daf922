"""Figures with names in what a script prints: `val_loss 1.23`, `epoch 3 acc=0.91`, `{'loss': 2.3, 'epoch': 0.5}`.

A table of words, and one rule: the name of a figure is the word before it, with the words that qualify that.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from longpole.convergence.observed import Text

FALLS, RISES = "falls", "rises"

# Words that name a measure of quality, and which way is better. Matched whole, or as the end of `val_loss`.
MEASURES = {
    **dict.fromkeys(("loss", "losses", "nll", "ce", "xent", "bce", "kl", "kld", "elbo_loss", "objective"), FALLS),
    **dict.fromkeys(
        ("error", "err", "mse", "rmse", "mae", "mape", "cost", "regret", "fid", "perplexity", "ppl"), FALLS
    ),
    **dict.fromkeys(("bpb", "bpc", "bpd", "wer", "cer", "ter", "energy", "distortion"), FALLS),
    **dict.fromkeys(("acc", "accuracy", "acc1", "acc5", "acc@1", "acc@5", "top1", "top5", "top-1", "top-5"), RISES),
    **dict.fromkeys(
        ("f1", "auc", "auroc", "roc_auc", "ap", "map", "iou", "miou", "dice", "precision", "recall"), RISES
    ),
    **dict.fromkeys(("bleu", "rouge", "meteor", "score", "reward", "return", "psnr", "ssim", "r2", "mcc"), RISES),
    **dict.fromkeys(("kappa", "correlation", "elbo", "likelihood", "winrate", "correct", "ndcg", "mrr", "hit"), RISES),
}
# Words that belong to the name that follows them.
QUALIFIERS = frozenset(
    (
        *("train", "training", "val", "valid", "validation", "test", "testing", "eval", "evaluation", "dev"),
        *("held-out", "heldout", "holdout", "average", "avg", "mean", "running", "smoothed", "total", "best", "final"),
        *("epoch", "batch", "generator", "discriminator", "g", "d", "critic", "actor", "policy", "value", "per-byte"),
    )
)
# Words with a figure after them that measures no quality: counters, settings, times, sizes.
NOT_MEASURES = frozenset(
    (
        *("step", "steps", "epoch", "epochs", "iter", "iters", "iteration", "iterations", "it", "batch", "batches"),
        *("i", "n", "t", "update", "updates", "round", "rank", "seed", "fold", "run", "worker", "global_step", "idx"),
        *("lr", "learning_rate", "learning-rate", "rate", "momentum", "wd", "beta", "eps", "epsilon", "temperature"),
        *("grad_norm", "gradnorm", "norm", "scale", "loss_scale", "gnorm", "clip", "warmup"),
        *("time", "ms", "s", "sec", "secs", "seconds", "min", "eta", "elapsed", "dt", "duration", "data", "runtime"),
        *("tok", "tokens", "samples", "images", "img", "fps", "speed", "throughput", "mfu", "flops", "params"),
        *("parameters", "mem", "memory", "gb", "mb", "size", "batch_size", "length", "num", "count", "total_flos"),
        *("train_runtime", "eval_runtime", "train_samples_per_second", "train_steps_per_second"),
        *("eval_samples_per_second", "eval_steps_per_second", "port", "pid", "device", "line", "version"),
    )
)
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?(?:nan|inf)(?![\w])"
# A word, what stands between it and a figure, and the figure: maybe of how many, maybe in percent.
SAYS = re.compile(
    r"(?<![\w./@-])(?P<word>[A-Za-z][\w./@-]{0,60})(?P<quote>['\"]?)(?P<between>\s*[:=]\s*|\s+(?:is\s+|of\s+|was\s+)?)"
    r"(?P<open>['\"\[(]?)(?:tensor\()?"
    rf"(?P<number>{NUMBER})(?:\s*/\s*(?P<whole>\d+\.?\d*))?(?P<percent>\s?%)?(?![\w:])",
    re.IGNORECASE,
)
LONGEST_QUALIFIERS = 60
BEFORE = re.compile(r"([A-Za-z][\w-]*)[ _]*$")
COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
LONGEST_LINE = 4000
LINES_REMEMBERED = 1 << 15  # a run that may end at its target is read again and again


class Said(NamedTuple):
    """One figure: the updates done when it was said, the time, its name, its value."""

    step: int
    ns: int
    name: str
    value: float


def figures_of(line: str) -> list[tuple[str, float]]:
    """Every named figure of one line, left to right; a name that comes twice counts the first time."""
    return list(_figures_of(line))


@functools.lru_cache(maxsize=LINES_REMEMBERED)
def _figures_of(line: str) -> tuple[tuple[str, float], ...]:
    found: dict[str, float] = {}
    plain = COLOURS.sub("", line)[:LONGEST_LINE]
    for match in SAYS.finditer(plain):
        name = _name(match, plain)
        if name is not None:
            found.setdefault(name, _value(match))
    return tuple(found.items())


def direction_of(name: str) -> str | None:
    """Which way a figure of this name gets better: falls, rises; None where the name does not say."""
    words = [word for word in re.split(r"[^a-z0-9@]+", name.lower()) if word]
    for word in reversed(words):
        if word in MEASURES:
            return MEASURES[word]
    return None


def _name(match: re.Match[str], line: str) -> str | None:
    """The name of a figure; None where it is no measure of quality."""
    word = match["word"].rstrip("-./")
    lower = word.lower()
    if lower in NOT_MEASURES or (match["quote"] and match["quote"] not in "'\""):
        return None
    is_measure = direction_of(word) is not None
    if not is_measure and not match["between"].strip():
        return None  # `layers 4`: only a known measure may stand before its figure without a sign between
    return " ".join([*_qualifiers(line[: match.start()]), word]) if is_measure else word


def _qualifiers(before: str) -> list[str]:
    found: list[str] = []
    before = before[-LONGEST_QUALIFIERS:]
    while (match := BEFORE.search(before)) and match[1].lower() in QUALIFIERS:
        found.insert(0, match[1])
        before = before[: match.start()]
    return found


def _value(match: re.Match[str]) -> float:
    """Percent and `95/100` become fractions, so that one script's figures are of one kind."""
    value = float(match["number"])
    if match["whole"] and float(match["whole"]):
        return value / float(match["whole"])
    return value / 100 if match["percent"] else value


def read_texts(texts: Iterable[Text]) -> list[Said]:
    """Every named figure of the texts of a run; one that is printed and logged at once counts once."""
    found: dict[tuple[int, str], Said] = {}
    for step, ns, line in _lines(texts):
        for name, value in figures_of(line):
            found[step, name] = Said(step, ns, name, value)
    return sorted(found.values(), key=lambda said: said.ns)


def _lines(texts: Iterable[Text]) -> Iterator[tuple[int, int, str]]:
    """Whole lines with the step and the time of their end; streams are kept apart.

    A progress bar begins with a carriage return: its line ended when it was written, and not when the next one is.
    """
    waiting: dict[str, str] = {}
    last: dict[str, tuple[int, int]] = {}
    for text in texts:
        *lines, rest = re.split(r"[\r\n]", waiting.get(text.stream, "") + text.text)
        if text.text.startswith("\r") and lines[0]:
            yield *last[text.stream], lines.pop(0)
        yield from ((text.step, text.ns, line) for line in lines if line)
        waiting[text.stream] = rest[-LONGEST_LINE:]
        last[text.stream] = text.step, text.ns
    yield from ((*last[stream], line) for stream, line in waiting.items() if line)
