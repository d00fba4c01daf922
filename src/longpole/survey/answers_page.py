"""`docs/answers.md`: every claim with the networks that bear it out, generated from a survey and dated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from longpole.survey.catalogue import NETWORKS
from longpole.survey.claims import CLAIMS
from longpole.survey.figures import PRODUCTS
from longpole.survey.rows import PASSES, backward_to_forward, passes_share, products_share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from longpole.analysis.survey import Estimate, Figures, Row, Survey
    from longpole.survey.claims import Claim, Judged

NOT_ASKED = (
    ("Training from scratch takes many iterations, fine-tuning far fewer", "`longpole converge`"),
    ("Without backpropagation derivatives would be intractable", "`longpole converge`"),
    ("How a script of one's own grows with its batch and its threads, phase by phase", "`longpole sweep`"),
    ("See DeepBench for exact numbers", "`longpole ops --suite deepbench-train`, [operations](operations.md)"),
)
FEW = 10  # steps, in all runs
PHASES = (
    ("data", ("data", "transfer")),
    ("forward", ("forward",)),
    ("loss", ("loss",)),
    ("backward", ("backward",)),
    ("optimizer", ("clip", "optimizer")),
)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A trace that was recorded elsewhere: its name, its device, and its figures."""

    name: str
    device: str
    figures: Figures


def page(survey: Survey, command: str, traces: Sequence[Recorded] = ()) -> str:
    """The whole document. `command` is what makes it again."""
    rows = [row for row in survey.rows if row.runs]
    parts = [_opening(survey, command)]
    parts += [_claim(number, claim, rows) for number, claim in enumerate(CLAIMS, 1)]
    parts += [_elsewhere(), _table(rows), _doubts(survey, rows)]
    parts += [_traces(traces)] if traces else []
    return "\n\n".join(parts) + "\n"


def _opening(survey: Survey, command: str) -> str:
    threads = f"{survey.threads} thread{'s' if survey.threads != 1 else ''}"
    measured = sum(1 for row in survey.rows if row.runs)
    runs = f"{survey.runs} run{'s' if survey.runs != 1 else ''}"
    return f"""# What takes the time in training: answers

<!-- Generated; what is written here by hand is lost. -->

Measured on {survey.date} on {survey.machine or "an unknown machine"}, {survey.cores} cores, {threads},
{survey.framework or "torch"}: {measured} of {len(NETWORKS)} [reference networks](reference-networks.md)
at {survey.size} size, up to {runs} each in fresh processes. On another machine the answers may differ; there, say

```
{command}
```

In brackets stands where another survey like this one would find the figure, 95 times of 100. A claim is decided for a
network where that interval lies on one side of its threshold, and open where it does not."""


def _claim(number: int, claim: Claim, rows: Sequence[Row]) -> str:
    judged = [found for row in rows if (found := claim.judge(row)) is not None]
    parts = [f"## {number}. {claim.asks}", f"> {claim.sentence}", f"Rule: {claim.rule}."]
    if judged:
        holding = sum(one.holds is True for one in judged)
        parts.append(f"**Yes for {holding} of {len(judged)} networks.**")
        for words, answer in (("Yes", True), ("No", False), ("Open", None)):
            parts += _listed(words, [one for one in judged if one.holds is answer])
    else:
        parts.append("Not known: no network's row says it.")
    parts += ["Published: " + " ".join(claim.published)] if claim.published else []
    return "\n\n".join(parts)


def _listed(words: str, judged: Sequence[Judged]) -> list[str]:
    if not judged:
        return []
    lines = [f"- `{one.network}`: {escaped(one.figure)}" for one in judged]
    return [f"{words}:\n\n" + "\n".join(lines)]


def escaped(text: str) -> str:
    """Names of layers may hold what Markdown reads as something else: a bar, a star, a tag."""
    marked = "".join("\\" + sign if sign in "|*_<>[]\\" else sign for sign in text)
    return " ".join(marked.split())


def _elsewhere() -> str:
    rows = "\n".join(f"| {sentence} | {command} |" for sentence, command in NOT_ASKED)
    return f"## What a survey cannot answer\n\n| sentence | ask |\n|---|---|\n{rows}"


def _table(rows: Sequence[Row]) -> str:
    headings = ["network", "step, ms", *(name for name, _ in PHASES), "backward / forward", "input gradients",
                "weight gradients", "products, time", "products, FLOPs", "saved, MiB", "samples/s"]  # fmt: skip
    lines = [f"| {' | '.join(headings)} |", "|" + "---|" * len(headings)]
    lines += [f"| {' | '.join(_cells(row))} |" for row in rows]
    return "## All figures\n\n" + "\n".join(lines)


def _cells(row: Row) -> list[str]:
    ratio = row.backward_to_forward
    return [
        f"`{row.network}`",
        f"{row.step_ms.value:.4g}" if row.step_ms else "–",
        *(_share(sum(row.phases[name].value for name in names if name in row.phases)) for _, names in PHASES),
        f"{ratio.value:.2f}" if ratio else "–",
        _estimated(row.input_grad_share),
        _estimated(row.weight_grad_share),
        _estimated(row.products_share),
        _share(row.products_flops_share),
        f"{row.saved_bytes / 2**20:.4g}" if row.saved_bytes is not None else "–",
        f"{row.samples_per_s:.4g}" if row.samples_per_s else "–",
    ]


def _estimated(estimate: Estimate | None) -> str:
    return _share(estimate.value if estimate else None)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value * 100:.1f} %"


def _doubts(survey: Survey, rows: Sequence[Row]) -> str:
    lines = [f"- `{row.network}` failed: {escaped(row.failed or '')}" for row in survey.rows if row.failed]
    accounted = [row.accounted_share for row in rows if row.accounted_share is not None]
    unknown = [row.unclassified_share for row in rows if row.unclassified_share is not None]
    if accounted:
        lines.append(f"- Of every step at least {min(accounted) * 100:.1f} % has a name.")
    if unknown:
        lines.append(f"- Ops of no known class take at most {max(unknown) * 100:.2f} % of a step.")
    if any(row.bound is None for row in rows):
        lines.append("- What bounds a step is not known: this machine has no ceilings yet (`longpole machine`).")
    few = [f"{row.network} ({row.steps})" for row in rows if row.steps < FEW]
    if few:
        lines.append(
            f"- Fewer than {FEW} steps were timed of {', '.join(few)}: the machine was slow, or others used it."
        )
    single = [row.network for row in rows if row.runs == 1]
    if single:
        lines.append(f"- Networks that ran once have the intervals of runs in general: {', '.join(single)}.")
    return "## Doubts\n\n" + "\n".join(lines)


def _traces(traces: Sequence[Recorded]) -> str:
    headings = ["trace", "device", "step, ms", "forward to backward", "backward / forward", "optimizer", "data",
                "products", "idle"]  # fmt: skip
    lines = [f"| {' | '.join(headings)} |", "|" + "---|" * len(headings)]
    lines += [f"| {' | '.join(_trace_cells(one))} |" for one in traces]
    return (
        "## Recorded GPU traces\n\nOf steps that others recorded elsewhere; shares are of the step. "
        f"Forward to backward is {', '.join(PASSES[:-1])} and {PASSES[-1]}; products are {', '.join(PRODUCTS)}.\n\n"
        + "\n".join(lines)
    )


def _trace_cells(one: Recorded) -> list[str]:
    figures = one.figures
    ratio = backward_to_forward(figures)
    shares = {name: figures.phases_ms.get(name, 0.0) / figures.step_ms for name in ("optimizer", "data", "idle")}
    return [
        escaped(one.name),
        escaped(one.device),
        f"{figures.step_ms:.4g}",
        _share(passes_share(figures)),
        f"{ratio:.2f}" if ratio else "–",
        _share(shares["optimizer"]),
        _share(shares["data"]),
        _share(products_share(figures)),
        _share(shares["idle"]),
    ]
