"""One script, run as it is, with its gradient noise watched."""

from __future__ import annotations

import os
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from longpole.capture.imports import ImportWatch
from longpole.capture.launch import Outcome, Target, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from longpole.analysis.noise_results import NoiseReport
    from longpole.convergence.noise_watch import NoiseWatch


@dataclass(frozen=True, slots=True)
class NoiseRun:
    """How the script ended, and what its gradients' noise was; None with a `problem` where nothing was watched."""

    outcome: Outcome
    report: NoiseReport | None
    problem: str = ""


def measure_noise(target: Target, every: int, prepare: Callable[[], None] = lambda: None) -> NoiseRun:
    """Runs the script to its end; every `every`-th update is sampled. `prepare` is called when torch is there."""
    watching: list[NoiseWatch] = []
    problems: list[str] = []
    process = os.getpid()

    def begin() -> None:
        try:
            prepare()
            from longpole.convergence.noise_watch import NoiseOptions, NoiseWatch

            watching.append(NoiseWatch(NoiseOptions(every)))
            watching[0].start()
        except Exception as error:  # nothing may reach the script, which is in the middle of `import torch`
            problems.append(f"{type(error).__name__}: {error}")

    imports = ImportWatch("torch", begin)
    imports.start()
    outcome = run(target)
    imports.stop()
    if os.getpid() != process:  # a child that the script forked
        return NoiseRun(outcome, None)
    if not watching:
        why = problems[0] if problems else "the script never imported torch, so there was no training to watch"
        return NoiseRun(outcome, None, why)
    watching[0].finish()
    try:
        return NoiseRun(outcome, report_of(watching[0]))
    except Exception as error:
        return NoiseRun(outcome, None, f"the report failed ({type(error).__name__}: {error}); please report this")


def report_of(watch: NoiseWatch) -> NoiseReport:
    """What a finished watch saw. Lets go of the script's tensors."""
    from longpole.convergence.noise_batch import advise, time_of_step
    from longpole.convergence.noise_network import named_layers
    from longpole.convergence.noise_report import Seen, noise_report

    roots = list(watch.uses.roots.values())
    learning = {one: tensor for one, tensor in watch.parameters.items() if tensor.requires_grad}
    reasons = {*watch.reasons, *([f"watching stopped: {watch.failure}"] if watch.failure else [])}
    report = noise_report(
        Seen(
            watch.samples,
            named_layers(roots, learning, watch.uses.order),
            watch.steps,
            watch.options.every,
            watch.measuring_share,
            sorted(reasons),
            ran_again=watch.ran_again,
        )
    )
    call = watch.uses.call
    time = None
    if call is not None and watch.step_ns and report.batch is not None and report.total is not None:
        time = time_of_step(call, median(watch.step_ns) / 1e9, report.batch)
    report.advice = advise(report, time)
    watch.release()
    return report
