"""`longpole ops --list`: what there is to run, as lines or as JSON; nothing is run and torch is not needed."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from longpole.cli.output import write_or_print

if TYPE_CHECKING:
    from collections.abc import Sequence

    from longpole.bench.mine import StudyOp
    from longpole.bench.suites import Size


def list_suites(json_path: str | None) -> None:
    """Every suite with its counts."""
    from longpole.bench.suites import SUITES, counts

    found = {name: counts(name) for name in SUITES}
    if json_path is not None:
        _write_json(json_path, {"suites": found})
        return
    for name, each in found.items():
        click.echo(f"{name}: {_said(each)}")
    click.echo("mine=STUDY.json: the operations of a study that longpole run --json wrote")


def list_sizes(name: str, sizes: Sequence[Size], json_path: str | None) -> None:
    """Every size, and how many there are of each operation."""
    found = dict(Counter(size.op for size in sizes))
    if json_path is None:
        text = "\n".join(f"{size.op} {size.index} {size.label}" for size in sizes)
        click.echo(f"{text}\n{name}: {_said(found)}")
        return
    listing = [{"op": s.op, "index": s.index, "label": s.label, "flops": s.flops, "params": dict(s.row)} for s in sizes]
    _write_json(json_path, {"suite": name, "counts": found, "sizes": listing})


def list_mine(suite: str, ops: Sequence[StudyOp], json_path: str | None) -> None:
    """Every operation of a study, those that take most first."""
    if json_path is None:
        lines = [f"{op.op} {op.shapes or ''}  {op.ms or 0:.4g} ms a step" for op in ops]
        click.echo("\n".join([*lines, f"{suite}: {len(ops)} operations"]))
        return
    _write_json(json_path, {"suite": suite, "counts": dict(Counter(op.op for op in ops)), "sizes": ops})


def _said(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {op}" for op, count in counts.items())


def _write_json(path: str, document: dict[str, Any]) -> None:
    import msgspec

    write_or_print(path, msgspec.json.format(msgspec.json.encode(document), indent=1).decode() + "\n")
