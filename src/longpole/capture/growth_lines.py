"""Which line of a source text puts things into what goes by a name. Pure logic."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ADDING = frozenset(
    {"append", "appendleft", "extend", "extendleft", "insert", "add", "update", "setdefault", "put", "put_nowait"}
)


@dataclass(frozen=True)
class Place:
    """A statement that adds to a holder."""

    line: int
    text: str


def adding_lines(source: str, name: str, first: int = 1, last: int = 1 << 30) -> list[Place]:
    """Statements between two lines that add to `name`, a variable or the last part of an attribute.

    `losses.append(loss)`, `self.losses += [loss]`, `kept[step] = loss`, `total = total + loss`. In the order of the
    source; none where it is no Python.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return []
    lines = source.splitlines()
    found = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt) and first <= node.lineno <= last and _adds(node, name)
    ]
    return [Place(line, lines[line - 1].strip()) for line in sorted(set(found))]


def _adds(statement: ast.stmt, name: str) -> bool:
    if isinstance(statement, ast.Expr):
        return any(_is_adding_call(node, name) for node in ast.walk(statement))
    if isinstance(statement, ast.AugAssign):
        return _is_called(statement.target, name)
    if isinstance(statement, ast.Assign):
        if any(isinstance(target, ast.Subscript) and _is_called(target, name) for target in statement.targets):
            return True
        reads = any(_is_name(node, name) for node in ast.walk(statement.value))
        return reads and any(_is_name(target, name) for target in statement.targets)
    return False


def _is_adding_call(node: ast.AST, name: str) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ADDING
        and _is_called(node.func.value, name)
    )


def _is_called(node: ast.expr, name: str) -> bool:
    """Whether the expression is the name itself, or something inside of it: `history["loss"]`, `self.losses`."""
    return any(_is_name(part, name) for part in _chain(node))


def _chain(node: ast.expr) -> Iterator[ast.expr]:
    current: ast.expr = node
    while True:
        yield current
        if isinstance(current, (ast.Subscript, ast.Attribute)):
            current = current.value
        elif isinstance(current, ast.Call):
            current = current.func
        else:
            return


def _is_name(node: ast.AST, name: str) -> bool:
    return (isinstance(node, ast.Name) and node.id == name) or (isinstance(node, ast.Attribute) and node.attr == name)
