"""One script run up to its third backward pass, and what a gradient of its network costs by every way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from longpole.analysis.durations import span
from longpole.analysis.without_backprop_results import WithoutBackprop
from longpole.convergence.watched_run import NothingSeenError, WatchedRun, watch_run

if TYPE_CHECKING:
    from longpole.capture.launch import Target
    from longpole.convergence.without_backprop_capture import Captured, NetworkCapture
    from longpole.convergence.without_backprop_network import Direction

TO_FIRST_ORDER = (
    "the script's own, to first order: its gradient with respect to the network's outputs was recorded, and the "
    "outputs weighted with it have the same gradient"
)
OWN = "the script's own, as the network returns it"


def measure_without_backprop(target: Target) -> WatchedRun[WithoutBackprop]:
    """Runs the script until its network, a batch and that batch's gradient are there; the script ends with that."""

    def make() -> NetworkCapture:
        from longpole.convergence.without_backprop_capture import NetworkCapture

        return NetworkCapture()

    return watch_run(target, make, _report_of, "the network could not be run again from outside")


def _report_of(capture: NetworkCapture) -> WithoutBackprop:
    if capture.captured is None:
        raise NothingSeenError(
            f"no network was caught: {capture.updates} updates were seen, and a module has to be called with "
            "gradients, and backward to reach it, after the second"
        )
    return report_of(capture.captured)


def report_of(call: Captured) -> WithoutBackprop:
    """Everything measured on a captured network."""
    from longpole.convergence.without_backprop_cosines import measure_cosines
    from longpole.convergence.without_backprop_costs import bound_of, errors_of, time_ways, ways_of
    from longpole.convergence.without_backprop_network import Network

    network = Network(call)
    gradient = network.gradient()
    timings = time_ways(network)
    report = WithoutBackprop(
        network=type(call.module).__name__,
        parameters=network.size,
        tensors=len(network.parameters),
        batch=call.batch,
        loss=OWN if network.returns_its_loss else TO_FIRST_ORDER,
        agreement=_agreement(call, gradient),
        ways=ways_of(network, timings, errors_of(network, gradient, timings)),
        bound=bound_of(timings),
        cosines=measure_cosines(
            network, gradient, forward="forward" not in timings.failed, difference="difference" not in timings.failed
        ),
    )
    report.sentence = _sentence(report)
    report.notes = _notes(call, report)
    return report


def _agreement(call: Captured, gradient: Direction) -> float | None:
    from longpole.convergence.without_backprop_network import cosine

    shared = {name: value for name, value in call.gradients.items() if name in gradient}
    return cosine(shared, {name: gradient[name] for name in shared}) if shared else None


def _sentence(report: WithoutBackprop) -> str:
    reverse, forward = report.ways[0], report.ways[1]
    if reverse.seconds is None:
        return "The gradient could not be timed here."
    other = forward if forward.seconds is not None else report.ways[2]
    if other.seconds is None or other.beside_reverse is None:
        return f"Backpropagation took {span(reverse.seconds)} for all {report.parameters:,} derivatives."
    return (
        f"Backpropagation gave all {report.parameters:,} derivatives in {span(reverse.seconds)}. "
        f"{other.name.capitalize()} would take {span(other.seconds)}, {other.beside_reverse:,.0f} times as long "
        f"(extrapolated from {other.unit_s or 0:.3g} s a {other.unit})."
    )


def _notes(call: Captured, report: WithoutBackprop) -> list[str]:
    notes: list[str] = []
    if report.agreement is not None and report.agreement < 0.999:
        notes.append(
            f"The gradient measured here has a cosine of {report.agreement:.4f} with the one that the script got: "
            "something outside of the network, or random numbers other than torch's, is part of the script's loss."
        )
    if call.calls > 1:
        notes.append(f"The network was called {call.calls} times before that backward; its last call is measured.")
    if call.autocast:
        notes.append("The script ran under autocast; here the network runs in the type of its parameters.")
    if report.ways[1].measured:
        notes.append("In forward mode attention runs as plain matmuls: torch's fused kernels have no forward mode.")
    return notes
