"""Imports go the way that docs/how-it-works.md says, torch stays where it says, and importing longpole stays light."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "longpole"
RUNTIME_DEPENDENCIES = {"click", "msgspec", "numpy", "psutil", "rich"}
OPTIONAL = {"isal", "safetensors", "torch"}  # used where the user has them
FRAMEWORKS = {"IPython", "accelerate", "ignite", "keras", "lightning", "pytorch_lightning", "transformers"}


@dataclass(frozen=True)
class Row:
    """One row of the table of packages."""

    imports: frozenset[str]
    torch: bool


@dataclass(frozen=True)
class Import:
    where: str  # file:line
    module: str
    typing_only: bool


def read_table() -> dict[str, Row]:
    text = (ROOT / "docs" / "how-it-works.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]*)\| (yes|no) \|$", text, re.MULTILINE)
    names = frozenset(name for name, _, _ in rows)
    return {
        name: Row(names if "all" in imports.split() else frozenset(re.findall(r"`(\w+)`", imports)), torch == "yes")
        for name, imports, torch in rows
    }


def imports_of(path: Path, text: str | None = None) -> list[Import]:
    """Every import statement of a file, in functions too; relative ones are spelt out."""
    tree = ast.parse(path.read_text() if text is None else text)
    typing_only = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test).endswith("TYPE_CHECKING")
        for child in block.body
        for node in ast.walk(child)
    }
    found: list[Import] = []
    for node in ast.walk(tree):
        for module in _modules_of(node, path):
            where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            found.append(Import(where, module, node in typing_only))
    return found


def _modules_of(node: ast.AST, path: Path) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        parts = ["longpole", *path.relative_to(SOURCE).parts[:-1]]
        base = ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])
    # `from longpole import analysis` reaches a package as well as `import longpole.analysis` does.
    return [f"{base}.{alias.name}" for alias in node.names] if base == "longpole" else [base]


def all_files() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def test_the_table_lists_the_packages_that_exist_and_no_others() -> None:
    on_disk = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert set(read_table()) == on_disk


def test_the_arrows_of_the_table_have_no_circle() -> None:
    table = {name: set(row.imports) - {name} for name, row in read_table().items()}
    while table:
        free = [name for name, imports in table.items() if not imports & table.keys()]
        assert free, f"these import one another in a circle: {sorted(table)}"
        for name in free:
            del table[name]


def goes_astray(package: str, module: str, table: dict[str, Row]) -> bool:
    """Whether `package` has no arrow to `module`. Modules beside the packages, errors for one, are open to all."""
    top, _, rest = module.partition(".")
    target = rest.split(".")[0]
    return top == "longpole" and target in table and target not in {package, *table[package].imports}


def test_imports_follow_the_arrows() -> None:
    table = read_table()
    wrong = [
        f"{found.where} imports {found.module}"
        for path in all_files()
        for found in imports_of(path)
        if len(path.relative_to(SOURCE).parts) > 1  # not the way in for users, which may reach everything
        if goes_astray(path.relative_to(SOURCE).parts[0], found.module, table)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("package", "module", "astray"),
    [
        ("trace", "longpole.report", True),
        ("report", "longpole.capture.marks", True),
        ("importers", "longpole.capture", True),
        ("analysis", "longpole.trace.kinds", False),
        ("analysis", "longpole.analysis.study", False),
        ("trace", "longpole.errors", False),
        ("trace", "longpole", False),
        ("trace", "report", False),
    ],
)
def test_the_check_of_the_arrows_can_fail(package: str, module: str, astray: bool) -> None:
    assert goes_astray(package, module, read_table()) is astray


def test_only_the_packages_marked_so_import_torch() -> None:
    table = read_table()
    wrong = [
        f"{found.where} imports {found.module}"
        for path in all_files()
        for found in imports_of(path)
        if found.module.split(".")[0] == "torch" and not found.typing_only
        if len(path.relative_to(SOURCE).parts) == 1 or not table[path.relative_to(SOURCE).parts[0]].torch
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_but_the_named_dependencies_is_imported() -> None:
    wrong = []
    for path in all_files():
        allowed = RUNTIME_DEPENDENCIES | OPTIONAL | {"longpole"} | set(sys.stdlib_module_names)
        if path.relative_to(SOURCE).parts[0] == "integrations":
            allowed |= FRAMEWORKS
        wrong += [f"{found.where} imports {found.module}" for found in imports_of(path)
                  if found.module.split(".")[0] not in allowed]  # fmt: skip
    assert not wrong, "\n".join(wrong)


def test_an_import_is_seen_wherever_and_however_it_is_written() -> None:
    text = (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import torch\n"
        "def f():\n    from longpole import cli\n    import longpole.report.page\n    from ..trace import kinds\n"
    )
    found = imports_of(SOURCE / "analysis" / "made_up.py", text)
    assert [(x.module, x.typing_only) for x in found] == [
        ("typing", False),
        ("torch", True),
        ("longpole.cli", False),
        ("longpole.report.page", False),
        ("longpole.trace", False),
    ]


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["-c", "import longpole"], {"torch", "numpy", "rich", "msgspec", "psutil", "click"}),
        (["-m", "longpole", "--help"], {"torch", "numpy", "rich", "msgspec", "psutil"}),
    ],
)
def test_the_first_touch_imports_nothing_heavy(arguments: list[str], heavy: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, cwd=ROOT, check=True
    )
    imported = set(re.findall(r"^import time:.*\| +([\w.]+)$", done.stderr, re.MULTILINE))
    assert "longpole" in imported
    assert not {module.split(".")[0] for module in imported} & heavy
