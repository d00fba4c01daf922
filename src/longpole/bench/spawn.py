"""Starts the ranks of a local process group, waits for them, and leaves none behind."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from longpole.bench.collectives import Message


def run_local(
    messages: Sequence[Message], ranks: int, *, backend: str = "gloo", budget_s: float = 0.5, timeout_s: float = 120.0,
    begin_within_s: float | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """A result for each message, from `ranks` processes on this machine.

    `budget_s` is for each message; none is begun after `begin_within_s`, and the list is then shorter. Messages that
    did not get their turn otherwise (a rank died, `timeout_s` are gone) are `skipped` with the reason.
    """
    with tempfile.TemporaryDirectory(prefix="longpole-ranks-") as name:
        folder = Path(name)
        results = folder / "results.jsonl"
        spec = {
            "store": str(folder / "store"), "ranks": ranks, "backend": backend, "budget_s": budget_s,
            "timeout_s": timeout_s, "begin_within_s": begin_within_s, "results": str(results),
            "messages": [astuple(message) for message in messages],
        }  # fmt: skip
        (folder / "spec.json").write_text(json.dumps(spec))
        reason = _run(folder, ranks, timeout_s)
        lines = results.read_text().splitlines() if results.exists() else []
    found = [json.loads(line) for line in lines[: len(messages)]]
    if not reason and begin_within_s is not None:
        return found
    return found + [{"skipped": reason or "a rank ended early"}] * (len(messages) - len(found))


def _run(folder: Path, ranks: int, timeout_s: float) -> str:
    """Waits for all ranks; "" or why they did not end well."""
    errors = [(folder / f"errors-{rank}").open("w+") for rank in range(ranks)]
    command = [sys.executable, "-m", "longpole.bench.rank", str(folder / "spec.json")]
    processes = [
        subprocess.Popen([*command, str(rank)], stdout=subprocess.DEVNULL, stderr=errors[rank]) for rank in range(ranks)
    ]
    deadline = time.monotonic() + timeout_s
    try:
        while any(process.poll() is None for process in processes):
            failed = next((rank for rank, process in enumerate(processes) if process.poll()), None)
            if failed is not None:
                return _last_line(errors[failed])
            if time.monotonic() > deadline:
                return f"the ranks took over {timeout_s:g} s"
            time.sleep(0.02)
        failed = next((rank for rank, process in enumerate(processes) if process.returncode), None)
        return "" if failed is None else _last_line(errors[failed])
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        for file in errors:
            file.close()


def _last_line(file: Any) -> str:
    file.seek(0)
    lines = [line.strip() for line in file.read().splitlines() if line.strip()]
    return lines[-1][:300] if lines else "a rank ended without a word"
