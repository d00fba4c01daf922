"""What a line of the training loop is for, by its dataflow: the slice of statements behind a call.

A batch function is no DataLoader, a loss is often no module, and logging stands between them. What tells
them apart is not where they stand but whom they feed: a statement whose result reaches the forward call is
data, one whose result reaches the backward call after the forward is loss, one that feeds neither is
neither. Names are followed backwards through the source of the loop's function; order and branches are
ignored, so a name that is used for two things joins both.
"""

from __future__ import annotations

import ast
import linecache
from dataclasses import dataclass
from typing import TYPE_CHECKING

from longpole.trace.kinds import Phase

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Set
    from types import CodeType

FILLS = frozenset({"append", "extend", "insert", "add", "update", "put", "copy_", "setdefault"})


@dataclass(frozen=True, slots=True)
class Statement:
    """A simple statement, or the header of a compound one."""

    first_line: int
    last_line: int
    reads: frozenset[str]
    writes: frozenset[str]


def statements_of(code: CodeType) -> list[Statement]:
    """Statements of the function that this code was compiled from; empty where there is no source."""
    source = "".join(linecache.getlines(code.co_filename))
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return []
    body = tree.body if code.co_name == "<module>" else _body_of(tree, code.co_firstlineno)
    return [_statement(node, header) for node, header in _walk(body)]


def _body_of(tree: ast.Module, first_line: int) -> list[ast.stmt]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            # co_firstlineno is the first decorator's line where there is one
            lines = [node.lineno, *(decorator.lineno for decorator in node.decorator_list)]
            if min(lines) == first_line:
                return node.body
    return []


def _walk(body: Iterable[ast.stmt]) -> Iterator[tuple[ast.stmt, list[ast.AST]]]:
    """Each statement with the parts of it that run on its own lines."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        inner: list[ast.stmt] = []
        header: list[ast.AST] = []
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt):
                inner.append(child)
            elif isinstance(child, (ast.ExceptHandler, ast.match_case)):
                inner.extend(child.body)
            else:
                header.append(child)
        yield node, header
        yield from _walk(inner)


def _statement(node: ast.stmt, header: list[ast.AST]) -> Statement:
    reads: set[str] = set()
    writes: set[str] = set()
    for part in header:
        for name in ast.walk(part):
            _note(name, reads, writes)
    if isinstance(node, ast.AugAssign):
        reads |= writes
    last = max((getattr(part, "end_lineno", 0) or 0 for part in header), default=0)
    return Statement(node.lineno, max(last, node.lineno), frozenset(reads), frozenset(writes))


def _note(node: ast.AST, reads: set[str], writes: set[str]) -> None:
    if isinstance(node, ast.Name):
        (reads if isinstance(node.ctx, ast.Load) else writes).add(node.id)
    elif isinstance(node, ast.Attribute):
        (reads if isinstance(node.ctx, ast.Load) else writes).add("." + node.attr)
    elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
        writes.update(_base(node.value))
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in FILLS:
        writes.update(_base(node.func.value))


def _base(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Attribute):
        yield "." + node.attr
    elif isinstance(node, ast.Subscript):
        yield from _base(node.value)


def phases_of_lines(
    statements: list[Statement],
    marked: Mapping[Phase, Set[int]],
    graph_lines: Set[int],
    loss_lines: Set[int],
    update_lines: Set[int] = frozenset(),
) -> dict[int, Phase]:
    """The phase of each line of the loop's function that its dataflow decides.

    `marked` has the lines where marked calls were made. Outside of any module, `loss_lines` ran loss ops that
    made autograd nodes, and `graph_lines` other ops that did; `update_lines` wrote into what is trained. Lines that
    decide nothing are absent.
    """
    forward = _at(statements, marked.get(Phase.FORWARD, frozenset()))
    backward = _at(statements, marked.get(Phase.BACKWARD, frozenset()))
    updates = _at(statements, marked.get(Phase.OPTIMIZER, frozenset()))
    before_forward = _slice(statements, forward)
    before_backward = _slice(statements, backward)
    graph = _at(statements, graph_lines)
    loss = _at(statements, loss_lines) - graph
    own_updates = _at(statements, update_lines) - forward - graph - loss
    own_updates |= _slice(statements, own_updates) - forward - before_forward - before_backward - graph - loss
    found: dict[int, Phase] = {}
    for index, statement in enumerate(statements):
        phase = _phase(index, forward, before_forward, before_backward, graph, loss)
        phase = Phase.OPTIMIZER if index in own_updates else phase
        if phase is not None and index not in backward | updates:
            found.update(dict.fromkeys(range(statement.first_line, statement.last_line + 1), phase))
    return found


def _phase(
    index: int, forward: Set[int], before_forward: Set[int], before_backward: Set[int], graph: Set[int], loss: Set[int]
) -> Phase | None:
    if index in forward:
        return Phase.FORWARD
    if index in before_forward and index not in graph | loss:
        return Phase.DATA
    if index not in before_backward | before_forward:
        return None
    if forward:
        return Phase.LOSS
    if index in loss:
        return Phase.LOSS
    return Phase.FORWARD if index in graph else Phase.DATA


def _at(statements: list[Statement], lines: Set[int]) -> set[int]:
    """The statements on these lines; the innermost where several span one, and all of them where all are as short."""
    found: set[int] = set()
    for line in lines:
        around = [i for i, s in enumerate(statements) if s.first_line <= line <= s.last_line]
        if around:
            shortest = min(statements[i].last_line - statements[i].first_line for i in around)
            found.update(i for i in around if statements[i].last_line - statements[i].first_line == shortest)
    return found


def _slice(statements: list[Statement], roots: Set[int]) -> set[int]:
    """Statements whose results reach what the roots read, the roots left out."""
    wanted = {name for index in roots for name in statements[index].reads}
    found: set[int] = set()
    while True:
        more = {i for i, s in enumerate(statements) if i not in found and i not in roots and s.writes & wanted}
        if not more:
            return found
        found |= more
        wanted |= {name for index in more for name in statements[index].reads}
