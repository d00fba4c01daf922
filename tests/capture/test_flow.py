"""What a line of the loop is for, on the shapes that training loops have."""

from __future__ import annotations

import linecache
import textwrap
from typing import TYPE_CHECKING

import pytest

from longpole.capture.flow import phases_of_lines, statements_of
from longpole.trace.kinds import Phase

if TYPE_CHECKING:
    from types import CodeType

CALLS = {"model(": Phase.FORWARD, ".backward(": Phase.BACKWARD, "opt.step(": Phase.OPTIMIZER}


def code_of(source: str, function: str = "<module>") -> CodeType:
    """The compiled code of a function, its source where tracebacks look for it."""
    name = f"<flow {abs(hash(source))}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    waiting = [compile(source, name, "exec")]
    while waiting:
        code = waiting.pop()
        if code.co_name == function:
            return code
        waiting += [part for part in code.co_consts if hasattr(part, "co_name")]
    raise LookupError(function)


def flow(
    source: str, function: str = "<module>", loss: str = "loss(", graph: str = "NONE", update: str = "NONE"
) -> dict[str, str]:
    """Phase of each line by its text, marked calls found by the words in them."""
    source = textwrap.dedent(source)
    lines = source.splitlines()
    marked: dict[Phase, set[int]] = {}
    for number, line in enumerate(lines, 1):
        for words, phase in CALLS.items():
            if words in line and "def " not in line:
                marked.setdefault(phase, set()).add(number)
    at = [
        {number for number, line in enumerate(lines, 1) if words in line and "def " not in line}
        for words in (graph, loss, update)
    ]
    found = phases_of_lines(statements_of(code_of(source, function)), marked, *at)
    return {lines[number - 1].strip(): phase.name.lower() for number, phase in found.items()}


def test_a_batch_function_before_the_forward_is_data_and_logging_is_nothing() -> None:
    found = flow("""
        for step in range(9):
            x, y = get_batch()
            loss = loss(model(x), y)
            log(loss)
            loss.backward()
            opt.step()
    """)
    assert found["x, y = get_batch()"] == "data"
    assert found["loss = loss(model(x), y)"] == "forward"
    assert "log(loss)" not in found


def test_the_next_batch_fetched_after_the_forward_is_data() -> None:
    found = flow("""
        x, y = get_batch()
        while True:
            logits, loss = model(x, y)
            loss = loss / 4
            x, y = get_batch()
            loss.backward()
            opt.step()
            opt.zero_grad()
    """)
    assert found["x, y = get_batch()"] == "data"
    assert found["loss = loss / 4"] == "loss"
    assert "opt.zero_grad()" not in found


def test_an_update_written_out_is_the_optimizers_with_what_only_it_reads() -> None:
    found = flow(
        """
        for x, y in batches:
            total = criterion(model(x), y)
            total.backward()
            rate = schedule(total)
            log(total)
            for weight in weights:
                smooth = moment(weight)
                weight -= rate * smooth
        """,
        update="weight -=",
    )
    assert found["weight -= rate * smooth"] == "optimizer"
    assert found["smooth = moment(weight)"] == "optimizer"
    assert found["rate = schedule(total)"] == "optimizer"
    assert "log(total)" not in found
    assert found["total = criterion(model(x), y)"] == "forward"


def test_statements_that_share_a_line_are_all_asked() -> None:
    found = flow("""
        for step in range(9):
            with timed: x, y = get_batch()
            with timed: out = model(x)
            with timed: loss = error(out, y)
            with timed: loss.backward()
    """)
    assert found["with timed: x, y = get_batch()"] == "data"
    assert found["with timed: out = model(x)"] == "forward"
    assert found["with timed: loss = error(out, y)"] == "loss"


def test_a_loss_of_its_own_is_loss() -> None:
    found = flow("""
        for x, y in batches:
            out = model(x)
            error = (out - y).square()
            total = error.mean()
            total.backward()
            opt.step()
    """)
    assert found["error = (out - y).square()"] == "loss"
    assert found["total = error.mean()"] == "loss"


def test_augmentation_of_a_batch_is_data() -> None:
    found = flow("""
        for x, y in batches:
            x = x + noise()
            x[:, 0] = 0
            buffer.append(y)
            out = model(x)
            total = criterion(out, buffer)
            total.backward()
    """)
    assert found["x = x + noise()"] == "data"
    assert found["x[:, 0] = 0"] == "data"


def test_attributes_carry_values() -> None:
    found = flow(
        """
        class Trainer:
            def fit(self):
                while True:
                    self.batch = self.fetch()
                    self.out = self.model(self.batch)
                    self.value = self.criterion(self.out)
                    self.report()
                    self.value.backward()
                    self.opt.step()
        """,
        function="fit",
    )
    assert found["self.batch = self.fetch()"] == "data"
    assert found["self.value = self.criterion(self.out)"] == "loss"
    assert "self.report()" not in found


def test_without_a_module_ops_tell_forward_from_loss() -> None:
    found = flow(
        """
        for step in range(9):
            x, y = get_batch()
            hidden = relu(linear(x, w))
            value = loss(hidden, y)
            print(value)
            value.backward()
            opt.step()
        """,
        graph="relu(",
    )
    assert found["hidden = relu(linear(x, w))"] == "forward"
    assert found["value = loss(hidden, y)"] == "loss"
    assert found["x, y = get_batch()"] == "data"
    assert "print(value)" not in found


def test_an_outer_level_knows_what_feeds_the_step_that_it_calls() -> None:
    """Everything is marked on the line of the call: what reaches it is data."""
    source = textwrap.dedent("""
        for step in range(9):
            x, y = get_batch()
            value = train_step(x, y)
            log(value)
    """)
    call = 4
    marked = {phase: {call} for phase in (Phase.FORWARD, Phase.BACKWARD, Phase.OPTIMIZER)}
    found = phases_of_lines(statements_of(code_of(source)), marked, set(), set())
    assert found.get(3) == Phase.DATA
    assert 5 not in found


def test_every_line_of_a_long_statement_counts() -> None:
    source = textwrap.dedent("""
        while True:
            x = torch.stack(
                [row
                 for row in rows]
            )
            out = model(x)
            out.backward()
    """)
    found = phases_of_lines(statements_of(code_of(source)), {Phase.FORWARD: {7}, Phase.BACKWARD: {8}}, set(), set())
    assert [found.get(line) for line in (3, 4, 5, 6)] == [Phase.DATA] * 4


def test_starred_and_nested_targets_are_followed() -> None:
    found = flow("""
        while True:
            (ids, *rest), y = get_batch()
            mask = make_mask(rest)
            out = model(ids, mask)
            out.backward()
    """)
    assert found["(ids, *rest), y = get_batch()"] == "data"
    assert found["mask = make_mask(rest)"] == "data"


@pytest.mark.parametrize("source", ["def broken(:\n", "", "x = '\0'"])
def test_source_that_cannot_be_read_decides_nothing(source: str) -> None:
    name = f"<odd {source!r}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    code = compile("pass", name, "exec")
    assert phases_of_lines(statements_of(code), {Phase.FORWARD: {1}}, set(), set()) in ({}, {1: Phase.FORWARD})


def test_decorated_and_nested_functions_are_found() -> None:
    source = textwrap.dedent("""
        @decorate
        @decorate
        def outer():
            def inner():
                batch = fetch()
                model(batch).backward()
            return inner
    """)
    statements = statements_of(code_of(source, "inner"))
    assert [statement.first_line for statement in statements] == [6, 7]
    assert statements[0].writes == {"batch"}
