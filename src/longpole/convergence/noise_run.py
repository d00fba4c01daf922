"""One script, run as it is, with its gradient noise watched."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from longpole.convergence.watched_run import WatchedRun, watch_run

if TYPE_CHECKING:
    from longpole.analysis.noise_results import NoiseReport
    from longpole.capture.launch import Target
    from longpole.convergence.noise_watch import NoiseWatch


def measure_noise(target: Target, every: int) -> WatchedRun[NoiseReport]:
    """Runs the script to its end; every `every`-th update is sampled."""

    def make() -> NoiseWatch:
        from longpole.convergence.noise_watch import NoiseOptions, NoiseWatch

        return NoiseWatch(NoiseOptions(every))

    return watch_run(target, make, report_of, "the report failed; please report this")


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
