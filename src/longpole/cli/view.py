"""`longpole view`: a report in the browser, or a trace in Perfetto's page."""

from __future__ import annotations

import errno
import secrets
import shutil
import tempfile
import webbrowser
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from longpole.errors import LongpoleError

if TYPE_CHECKING:
    from collections.abc import Callable

PERFETTO = "https://ui.perfetto.dev"
# The one port of this machine that Perfetto's content policy lets its page read from:
# https://perfetto.dev/docs/visualization/deep-linking-to-perfetto-ui
PORT = 9001
OPENS_AS_IT_IS = (".json", ".json.gz", ".pftrace", ".perfetto-trace", ".pb", ".pb.gz")
REPORTS, STUDIES = ("report.html",), ("study.json", "report.json")


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--perfetto", is_flag=True, help="PATH is a trace: serve it on this machine to ui.perfetto.dev.")
@click.option("--open/--no-open", "opens", default=True, help="Open the browser, or only print the place.")
def command(path: Path, perfetto: bool, opens: bool) -> None:
    """Show a report or a trace in the browser.

    PATH is a report.html, a study.json or the folder of a run; with --perfetto, a trace.
    """
    show = webbrowser.open if opens else _only_print
    if perfetto:
        serve(trace_file(path), show, PORT)
        return
    place = page_file(path).resolve().as_uri()
    click.echo(place)
    if not show(place):
        raise LongpoleError(f"no browser was found here; open {place} yourself, or copy it to where there is one")


def _only_print(place: str) -> bool:
    return bool(place)


def page_file(path: Path) -> Path:
    """The page to show; a study without one is made into a page in a temporary folder."""
    if path.is_dir():
        names = (*REPORTS, *STUDIES)
        found = next((path / name for name in names if (path / name).is_file()), None)
        if found is None:
            raise LongpoleError(f"{path} holds no report: none of {', '.join(names)} is there")
        return page_file(found)
    if path.suffix.lower() in {".html", ".htm"}:
        _read(path, 1)
        return path
    return _made_page(path)


def _made_page(path: Path) -> Path:
    from longpole.analysis.study import load_study
    from longpole.report.html import page

    study = load_study(_read(path), str(path))
    place = Path(tempfile.mkdtemp(prefix="longpole-")) / "report.html"
    place.write_text(page(study), encoding="utf-8")
    return place


def _read(path: Path, size: int = -1) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise LongpoleError(
            f"cannot read {path}: {error.strerror}; give a report.html, a study.json or the folder of a run"
        ) from error


def trace_file(path: Path) -> Path:
    """A file that Perfetto's page opens: the trace itself, or what is made from it in a temporary folder."""
    found = path
    if path.is_dir():
        inside = sorted(p for p in path.iterdir() if p.name.startswith("trace.") or ".perfetto.json" in p.name)
        if not inside:
            raise LongpoleError(f"{path} holds no trace; a run keeps one with --trace FILE or --perfetto FILE")
        found = inside[0]
    _read(found, 1)
    return found if found.name.endswith(OPENS_AS_IT_IS) else _converted(found)


def _converted(path: Path) -> Path:
    from longpole.importers import open_trace
    from longpole.report.perfetto import write_perfetto

    trace = open_trace(path)
    place = Path(tempfile.mkdtemp(prefix="longpole-")) / f"{path.stem}.perfetto.json.gz"
    write_perfetto([trace], place)
    return place


def serve(path: Path, show: Callable[[str], object], port: int) -> None:
    """Serves one file on 127.0.0.1 to Perfetto's page until Ctrl-C."""
    # Other users of this machine can reach the port; without the token they do not find the file.
    address = f"/{secrets.token_urlsafe(9)}/{quote(path.name)}"
    with _bound(path, address, port) as server:
        try:
            place = f"{PERFETTO}/#!/?url=http://127.0.0.1:{server.server_port}{address}"
            click.echo(place)
            click.echo(f"Serving {path} on this machine only; Ctrl-C ends it.", err=True)
            show(place)
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            click.echo("Stopped.", err=True)


def _bound(path: Path, address: str, port: int) -> HTTPServer:
    try:
        return HTTPServer(("127.0.0.1", port), partial(OneFile, path, address))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise LongpoleError(f"cannot listen on 127.0.0.1:{port}: {error.strerror}") from error
        raise LongpoleError(
            f"port {port} of this machine is busy, and Perfetto's page may read from no other; end what uses it "
            f"(another longpole view, trace_processor), or open {path} on {PERFETTO} by hand"
        ) from error


class OneFile(BaseHTTPRequestHandler):
    """Answers for one address, to Perfetto's page only."""

    def __init__(self, path: Path, address: str, *args: object) -> None:
        self._file = path
        self._address = address
        super().__init__(*args)  # type: ignore[arg-type]

    def do_OPTIONS(self) -> None:
        """A browser asks first whether a public page may read from this machine."""
        self.send_response(HTTPStatus.NO_CONTENT)
        self._allow()
        self.send_header("Access-Control-Allow-Private-Network", "true")
        self.end_headers()

    def do_GET(self) -> None:
        host = self.headers.get("Host", "").rpartition(":")[0]
        if self.path != self._address or host not in {"127.0.0.1", "localhost"}:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            with self._file.open("rb") as file:
                self.send_response(HTTPStatus.OK)
                self._allow()
                self.send_header("Content-Type", "application/octet-stream")
                self.send_header("Content-Length", str(self._file.stat().st_size))
                self.end_headers()
                shutil.copyfileobj(file, self.wfile)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the page was closed while it read
        except OSError:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _allow(self) -> None:
        self.send_header("Access-Control-Allow-Origin", PERFETTO)
        self.send_header("Cache-Control", "no-cache")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Nothing: each request is no news."""
