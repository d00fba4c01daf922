"""One run of one network: in a fresh process, through `longpole run`, as anybody's script is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from longpole.errors import LongpoleError
from longpole.survey.figures import figures_of
from longpole.whatif.changes import Changes
from longpole.whatif.rerun import Request, rerun

if TYPE_CHECKING:
    from longpole.analysis.survey import Figures

STEPS = 30  # to time, at most
FULL_STEPS = 8  # the same at full size: few networks have short steps there
WARMUP = 3
TRAINED = 10  # times as many steps the script would train for: the window ends it before, unless measuring failed
TOO_FEW = "steps were seen"  # what a run says that ended before its first measured step
START_S = 300.0  # to import torch, to make network and data, and for slow steps' opening


@dataclass(frozen=True, slots=True)
class Asked:
    """How each run is to be made."""

    size: str = "small"
    budget_s: float = 6.0  # to measure, in one run
    threads: int | None = None
    batch_size: int | None = None  # that of the network where None


def run_one(network: str, asked: Asked) -> Figures:
    """What one run of the network says. Raises LongpoleError, in one line, where it fails."""
    batch = [] if asked.batch_size is None else ["--batch-size", str(asked.batch_size)]
    steps = FULL_STEPS if asked.size == "full" else STEPS
    window = ["--stop", f"--steps={steps}", f"--warmup={WARMUP}", f"--budget={asked.budget_s}"]
    request = Request(
        target=["-m", "longpole.survey.train", network, "--size", asked.size, "--steps", str(TRAINED * steps), *batch],
        changes=Changes(threads=asked.threads),
        options=window,
        environment={} if asked.threads is None else {"OMP_NUM_THREADS": str(asked.threads)},
        timeout_s=4 * asked.budget_s + START_S,
    )
    try:
        return figures_of(rerun(request).study)
    except ValueError as error:
        raise LongpoleError(f"{network}: {error}") from error
    except LongpoleError as error:
        if TOO_FEW not in str(error):
            raise
        took = f"{asked.budget_s:.3g} s a run"
        raise LongpoleError(f"its steps are too slow here to be measured in {took}; give a larger --budget") from error
