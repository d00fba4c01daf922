"""`longpole converge --noise` and `--without-backprop`: the script is run once, in this process, and watched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longpole.capture.launch import Outcome, Target, leave
from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from collections.abc import Callable

    from longpole.analysis.converge_results import Convergence

CURVES = ("target", "to_the_end", "metric", "direction", "max_steps", "budget", "init", "freeze", "freeze_only")


def is_section(options: dict[str, Any]) -> bool:
    return bool(options["noise"] or options["without_backprop"])


def measure_section(sides: list[list[str]], options: dict[str, Any], publish: Callable[[Convergence], None]) -> None:
    """Runs and reports; ends this process the way the script ended. Raises LongpoleError before anything is run."""
    if options["noise"] and options["without_backprop"]:
        raise LongpoleError("--noise lets the script train and --without-backprop ends it; ask one at a time")
    if len(sides) > 1:
        raise LongpoleError("--noise and --without-backprop look at one script; leave out what follows --")
    extra = next((name for name in CURVES if options[name]), None)
    if extra is not None:
        raise LongpoleError(f"--{extra.replace('_', '-')} is for following a loss; it goes with neither "
                            "--noise nor --without-backprop")  # fmt: skip
    target = _target(sides[0])
    outcome, found, problem = _noise(target, options) if options["noise"] else _without(target)
    if found is not None:
        publish(found)
        leave(outcome)
    if outcome.exit_code:
        leave(outcome)
    raise LongpoleError(problem)


def _target(words: list[str]) -> Target:
    return Target(words[1], words[2:], is_module=True) if words[0] == "-m" else Target(words[0], words[1:])


def _noise(target: Target, options: dict[str, Any]) -> tuple[Outcome, Convergence | None, str]:
    from longpole.analysis.converge_results import Convergence
    from longpole.convergence.noise_run import measure_noise

    done = measure_noise(target, options["noise_every"])
    if done.report is None:
        return done.outcome, None, done.problem
    return done.outcome, Convergence(headline=done.report.sentence, noise=done.report), ""


def _without(target: Target) -> tuple[Outcome, Convergence | None, str]:
    from longpole.analysis.converge_results import Convergence
    from longpole.convergence.without_backprop_run import measure_without_backprop

    done = measure_without_backprop(target)
    if done.report is None:
        return done.outcome, None, done.problem
    return done.outcome, Convergence(headline=done.report.sentence, without_backprop=done.report), ""
