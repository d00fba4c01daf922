"""The timeline as a Chrome trace that ui.perfetto.dev opens and that tools for Kineto files read.

Category words, argument names and top-level fields are Kineto's (github.com/pytorch/kineto,
libkineto/src/output_json.cpp); steps, phases and layers stand on lanes of their own, as spans of category
`Trace`, which readers of Kineto files pass over.
"""

from __future__ import annotations

import base64
import gzip
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import msgspec

from longpole.errors import LongpoleError
from longpole.report.chrome_events import encodable
from longpole.report.perfetto_lanes import flows, names, spans, steps
from longpole.report.perfetto_memory import allocations, held_by_tensors
from longpole.report.perfetto_part import Part
from longpole.trace.store import dump

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from longpole.report.perfetto_part import Attributed
    from longpole.trace import Trace


def write_perfetto(
    traces: Sequence[Trace], path: Path, attributions: Sequence[Attributed | None] | None = None
) -> None:
    """Writes one file with all traces, compressed where `path` ends in .gz; LongpoleError where it cannot.

    `attributions` (one a trace) add phase, layer and role to the arguments of events.
    """
    given = attributions if attributions is not None else [None] * len(traces)
    parts = [Part(trace, i, found) for i, (trace, found) in enumerate(zip(traces, given, strict=True))]
    try:
        with _opened(path) as out:
            _write(parts, path.name, out)
    except OSError as error:
        raise LongpoleError(f"cannot write {path}: {error.strerror or error}; choose another place") from error


@contextmanager
def _opened(path: Path) -> Generator[IO[bytes]]:
    with path.open("wb") as raw:
        if path.name.endswith(".gz"):
            with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=4, mtime=0) as packed:
                yield packed  # type: ignore[misc]
        else:
            yield raw


def _write(parts: Sequence[Part], name: str, out: IO[bytes]) -> None:
    head = msgspec.json.encode(_own(parts) | _fields(parts, name))
    out.write(head[:-1] + b',"traceEvents":[')
    comma = b"\n"
    for part in parts:
        for event in _events(part):
            out.write(comma + event)
            comma = b",\n"
    out.write(b"\n]}\n")


def _own(parts: Sequence[Part]) -> dict[str, Any]:
    """The recording of a live run as it is, so that opening the file again loses nothing."""
    if len(parts) != 1 or parts[0].trace.info.source != "live":
        return {}
    return {"longpoleTrace": base64.b64encode(dump(parts[0].trace)).decode("ascii")}


def _fields(parts: Sequence[Part], name: str) -> dict[str, Any]:
    """What stands round the events, of what is known."""
    fields: dict[str, Any] = {"schemaVersion": 1, "traceName": encodable(name), "displayTimeUnit": "ms"}
    if not parts:
        return fields
    info = parts[0].trace.info
    if len(parts) == 1 and info.rank is not None:
        known = {"rank": info.rank, "world_size": info.world_size}
        fields["distributedInfo"] = {key: value for key, value in known.items() if value is not None}
    devices = sorted({lane.device for lane in parts[0].trace.lanes if lane.device >= 0})
    if info.device and devices:
        fields["deviceProperties"] = [{"id": device, "name": encodable(info.device)} for device in devices]
    if info.framework and info.framework.startswith("torch "):
        fields["torch_version"] = encodable(info.framework.removeprefix("torch "))
    return fields


def _events(part: Part) -> Iterator[bytes]:
    yield from names(part)
    yield from steps(part)
    yield from spans(part)
    yield from flows(part)
    yield from allocations(part)
    yield from held_by_tensors(part)
