"""`longpole converge`: seconds a step times steps to a target, over seeds; and which of two ways is sooner there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from longpole.capture.imports import is_installed
from longpole.capture.launch import Target, check
from longpole.cli.converge_sections import is_section, measure_section
from longpole.cli.interrupted import leave_interrupted
from longpole.cli.output import write_text
from longpole.cli.run import split
from longpole.cli.run_folder import check_writable, new_folder
from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from longpole.analysis.converge_results import Convergence
    from longpole.convergence.gather import Wish
    from longpole.convergence.runs import Way


LONGEST_FLAGS = 40  # in the name of a way


class TwoScriptsCommand(click.Command):
    """What follows the script's name belongs to it, up to `--`; after that comes the second way of training."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with_value = {
            name
            for parameter in self.params
            if isinstance(parameter, click.Option) and not parameter.is_flag and not parameter.count
            for name in parameter.opts
        }
        own, target = split(args, with_value, ctx.info_name)
        ctx.obj = sides_of(target)
        return super().parse_args(ctx, own)


def sides_of(target: Target | None) -> list[list[str]]:
    """`train.py --lr 1 -- --lr 2` is one script with two sets of flags, `a.py -- b.py` two scripts."""
    if target is None:
        return []
    head = ["-m", target.name] if target.is_module else [target.name]
    words = list(target.args)
    if "--" not in words:
        return [[*head, *words]]
    at = words.index("--")
    second = words[at + 1 :]
    if not second or (second[0].startswith("-") and second[0] != "-m"):
        second = [*head, *second]
    return [[*head, *words[:at]], second]


@click.command(cls=TwoScriptsCommand, options_metavar="[OPTIONS] {SCRIPT.py | -m MODULE} [ARGS]... [-- OTHER ...]")
@click.option("--target", type=float, metavar="X", help="The value to reach.  [default: one that every run reaches]")
@click.option("--metric", metavar="NAME", help="What to follow: the loss, or what the script prints, logs or returns.")
@click.option("--direction", type=click.Choice(["falls", "rises"]), help="Which way the metric gets better.")
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(1), help="Trainings of each way.")
@click.option("--max-steps", type=click.IntRange(2), metavar="N", help="End each training after N steps.")
@click.option("--to-the-end", is_flag=True, help="Let a training go on when it has reached the --target.")
@click.option("--budget", type=click.FloatRange(1), metavar="S", help="Seconds for all trainings together.")
@click.option(
    "--init", type=click.Path(path_type=Path), metavar="FILE", help="Compare with starting from these weights."
)
@click.option("--freeze", is_flag=True, help="Try numbers of frozen first layers.")
@click.option("--freeze-only", metavar="K,K", help="Try these numbers of frozen layers only.")
@click.option("--noise", is_flag=True, help="How noisy is each layer's gradient? Trains once.")
@click.option("--noise-every", default=5, show_default=True, type=click.IntRange(1), help="Sample every Nth step.")
@click.option("--without-backprop", is_flag=True, help="What would a gradient cost without backpropagation?")
@click.option("--json", "json_", metavar="FILE", help="Write the result as JSON; - for stdout.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write the page.")
@click.option("--no-save", is_flag=True, help="Keep no folder for this result.")
@click.option("-q", "--quiet", is_flag=True, help="Print no report.")
@click.pass_context
def command(ctx: click.Context, **options: Any) -> None:
    """How long does training take to a target: seconds a step times steps?

    The script is run as it is, once for each seed, and its loss followed without an edit. A second script, or other
    flags for the same one, after `--`, is compared: which reaches the target sooner, by its steps or by its step time?
    """
    sides: list[list[str]] = ctx.obj
    if not sides:
        raise LongpoleError("which script? longpole converge [OPTIONS] train.py [ARGS] [-- other.py ...]")
    check_sides(sides, options)
    if is_section(options):
        measure_section(sides, options, lambda found: _publish(found, sides[0], options))
        return
    try:
        found = _study(sides, options)
    except KeyboardInterrupt:
        leave_interrupted("before a training had made two steps; nothing is known")
    _publish(found, sides[0], options)
    if found.interrupted:
        leave_interrupted()
    if found.failed:
        raise LongpoleError(found.failed)


def check_sides(sides: list[list[str]], options: dict[str, Any]) -> None:
    """Raises LongpoleError before anything is run."""
    for words in sides:
        is_module = words[0] == "-m"
        if is_module and len(words) < 2:
            raise LongpoleError("-m needs the name of a module: longpole converge -m package.train")
        check(Target(words[1] if is_module else words[0], is_module=is_module))
    if options["to_the_end"] and options["target"] is None and not is_section(options):
        raise LongpoleError("--to-the-end is about a --target, at which runs are stopped; without one, none is")
    freezes = options["freeze"] or options["freeze_only"]
    if len(sides) == 2 and (options["init"] or freezes):
        raise LongpoleError("--init and --freeze compare ways of one script; leave out what follows --")
    if options["init"] and freezes:
        raise LongpoleError("--init and --freeze are two questions; ask one at a time")
    if options["init"] and not options["init"].is_file():
        raise LongpoleError(f"--init {options['init']}: no such file; give a checkpoint, .pt or .safetensors")
    if not is_installed("torch"):
        raise LongpoleError(f"torch is not installed in {sys.executable}; run longpole with the Python that trains")
    for name, path in (("json", _json_path(options)), ("html", options["html"])):
        if path is not None:
            check_writable(path, f"--{name}")


def _json_path(options: dict[str, Any]) -> Path | None:
    return Path(options["json_"]) if options["json_"] not in (None, "-") else None


def _study(sides: list[list[str]], options: dict[str, Any]) -> Convergence:
    from longpole.convergence.gather import Wish
    from longpole.convergence.study import converge

    wish = Wish(
        metric=options["metric"],
        target=options["target"],
        direction=options["direction"],
        seeds=options["seeds"],
        max_steps=options["max_steps"],
        budget_s=options["budget"],
        to_the_end=options["to_the_end"],
        frozen=bool(options["freeze"] or options["freeze_only"]),
        tell=lambda line: None if options["quiet"] else click.echo(f"  {line}", err=True),
    )
    return converge(ways_of(sides, wish, options), wish)


def ways_of(sides: list[list[str]], wish: Wish, options: dict[str, Any]) -> list[Way]:
    from longpole.convergence.runs import Way
    from longpole.whatif.changes import Changes

    first = sides[0]
    if wish.frozen:
        return _frozen_ways(first, wish, options["freeze_only"])
    if options["init"]:
        changes = Changes(init=str(options["init"].resolve()))
        return [Way("from scratch", first), Way(f"from {options['init'].name}", first, changes)]
    if len(sides) == 1:
        return [Way(_script(first), first)]
    names = _script(first), _script(sides[1])
    if names[0] == names[1]:
        names = _flags(first), _flags(sides[1])
    return [Way(f"A ({names[0]})", first), Way(f"B ({names[1]})", sides[1])]


def _flags(words: list[str]) -> str:
    """What tells two ways of one script apart."""
    said = " ".join(words[2 if words[0] == "-m" else 1 :]) or "no flags"
    return said if len(said) <= LONGEST_FLAGS else said[: LONGEST_FLAGS - 1] + "…"


def _script(words: list[str]) -> str:
    return " ".join(words[:2]) if words[0] == "-m" else Path(words[0]).name


def _frozen_ways(words: list[str], wish: Wish, only: str | None) -> list[Way]:
    """None frozen, then numbers of frozen layers; how many layers there are is seen in two steps of the script."""
    from longpole.convergence.frozen import numbers_to_try
    from longpole.convergence.runs import Limits, Way, follow
    from longpole.whatif.changes import Changes

    free = Way("none frozen", words)
    layers = follow(free, 0, Limits(2, wish.budget_s)).layers
    if len(layers) < 2:
        raise LongpoleError(f"{_script(words)}: fewer than two layers with parameters were seen: nothing to freeze")
    numbers = numbers_to_try(len(layers)) if only is None else _numbers(only, len(layers))
    return [free, *(Way(f"{number} frozen", words, Changes(freeze=number)) for number in numbers)]


def _numbers(text: str, layers: int) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    numbers = [int(word) for word in words if word.isdecimal()]
    if len(numbers) != len(words) or not all(0 < number < layers for number in numbers):
        raise LongpoleError(f"--freeze-only {text}: give numbers from 1 to {layers - 1}, with commas between")
    return sorted(set(numbers))


def _publish(found: Convergence, words: list[str], options: dict[str, Any]) -> None:
    from longpole.report.converge import show
    from longpole.report.converge_page import page

    text = found.to_json().decode()
    if options["json_"] == "-":
        sys.stdout.write(text + "\n")
    places = {"json": _json_path(options), "html": options["html"]}
    if not options["no_save"]:
        name = words[1] if words[0] == "-m" else Path(words[0]).stem
        folder = new_folder(f"{name or 'train'}-converge")
        places = {
            "json": places["json"] or folder / "convergence.json",
            "html": places["html"] or folder / "converge.html",
        }
        click.echo(f"  picture: {places['html']}", err=True)
    if places["json"] is not None:
        write_text(places["json"], text)
    if places["html"] is not None:
        write_text(places["html"], page(found))
    if not options["quiet"]:
        show(found)
