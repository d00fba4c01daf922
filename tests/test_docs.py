"""What the documents say is there: commands, options, make targets, files, links, a page for each dependency."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from pathlib import Path

import click
import pytest

from longpole.bench.flags import FLAGS
from longpole.cli.main import COMMANDS

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    ROOT.glob("docs/**/*.md")
)
MAKE_TARGETS = set(re.findall(r"^([\w-]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))


def shell_lines(text: str) -> list[str]:
    blocks = re.findall(r"^```(?:bash|sh|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def longpole_calls() -> list[list[str]]:
    lines = [line for path in DOCUMENTS for line in shell_lines(path.read_text())]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("longpole ")]


def options_of(command: str) -> set[str]:
    module: object = importlib.import_module(COMMANDS[command][0])
    found = getattr(module, "command")  # noqa: B009 - its type is not known to be a module's
    assert isinstance(found, click.Command)
    return {name for parameter in found.params for name in parameter.opts + parameter.secondary_opts} | {"--help", "-h"}


def unknown_options(call: list[str], known: set[str]) -> list[str]:
    """Options up to the script's name: what follows it is the script's own, and so is all that follows -m NAME."""
    unknown = []
    for word in call[1:]:
        if word == "-m" or (word.endswith(".py") and not word.startswith("-")):
            break
        if word.startswith("-") and word.split("=")[0] not in known:
            unknown.append(word)
    return unknown


def size_flags(call: list[str]) -> set[str]:
    """What `longpole ops OPERATION` takes beside its options: the flags of that operation's size."""
    named = [word for word in call[1:2] if call[0] == "ops"]
    return {f"--{flag.replace('_', '-')}" for op in named for flag in FLAGS.get(op, {})}


@pytest.mark.parametrize("call", longpole_calls(), ids=" ".join)
def test_every_command_that_is_shown_exists_with_its_options(call: list[str]) -> None:
    assert call[0] in COMMANDS
    assert unknown_options(call, options_of(call[0]) | size_flags(call)) == []


def test_an_option_that_is_not_there_is_noticed() -> None:
    call = shlex.split("run --steps 3 --colour=red train.py --lr 0.1")
    assert unknown_options(call, {"--steps"}) == ["--colour=red"]


def test_the_readme_shows_how_to_run() -> None:
    assert any(call[0] == "run" for call in longpole_calls())


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_make_targets_links_and_files_exist(path: Path) -> None:
    text = path.read_text()
    named = {
        target for line in shell_lines(text) if line.startswith("make ") for target in line.split("#")[0].split()[1:]
    }
    named |= set(re.findall(r"`make ([\w-]+)`", text))
    assert named <= MAKE_TARGETS
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if link and not (path.parent / link).exists()] == []
    files = re.findall(r"`((?:examples|tests|docs|benchmarks|src)/[\w./-]+)`", text)
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_every_dependency_has_a_page() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = [*project["dependency-groups"].values(), *project["project"]["optional-dependencies"].values()]
    wanted = [
        *project["project"]["dependencies"],
        *(each for group in groups for each in group if isinstance(each, str)),
    ]
    wanted += project["build-system"]["requires"]
    names = {re.split(r"[^\w.-]", requirement)[0] for requirement in wanted}
    pages = "\n".join(page.read_text() for page in ROOT.glob("docs/decisions/*.md") if page.name != "README.md")
    assert {name for name in names if not re.search(rf"\b{re.escape(name)}\b", pages)} == set()


def test_the_first_page_of_the_decisions_lists_every_page() -> None:
    listed = set(re.findall(r"\]\((\w+\.md)\)", (ROOT / "docs/decisions/README.md").read_text()))
    assert listed == {page.name for page in ROOT.glob("docs/decisions/*.md")} - {"README.md"}


def test_the_demo_and_the_tests_pin_one_torch() -> None:
    pinned = re.search(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert f"torch=={pinned[1]}" in (ROOT / "Makefile").read_text()
