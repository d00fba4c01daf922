"""`longpole view`: what it opens, what it serves and to whom, and what it says when it cannot."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from functools import partial
from http.server import HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from longpole.cli import view
from longpole.errors import LongpoleError
from longpole.report.perfetto import write_perfetto
from report.sample import gpt_study
from report.sample_trace import made_trace

if TYPE_CHECKING:
    from collections.abc import Iterator


def shown(path: Path) -> str:
    result = CliRunner().invoke(view.command, [str(path), "--no-open"], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output.strip()


def test_a_study_becomes_a_page(tmp_path):
    gpt_study().save(tmp_path / "study.json")
    place = Path(urlsplit(shown(tmp_path / "study.json")).path)
    assert place.name == "report.html"
    assert "train.py" in place.read_text()


def test_a_run_folder_shows_its_report(tmp_path):
    (tmp_path / "report.html").write_text("<p>made before")
    gpt_study().save(tmp_path / "study.json")
    assert shown(tmp_path) == (tmp_path / "report.html").as_uri()


def test_a_run_folder_without_page_shows_its_study(tmp_path):
    gpt_study().save(tmp_path / "study.json")
    assert "longpole-" in shown(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"), [(None, "cannot read"), (b"{", "is not a longpole study"), (b'{"schema": "x"}', "is a x")]
)
def test_bad_input_is_one_line(tmp_path, content, said):
    path = tmp_path / "study.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LongpoleError, match=said) as caught:
        view.page_file(path)
    assert "\n" not in str(caught.value)


def test_an_empty_folder_is_said(tmp_path):
    with pytest.raises(LongpoleError, match="holds no report"):
        view.page_file(tmp_path)
    with pytest.raises(LongpoleError, match="holds no trace"):
        view.trace_file(tmp_path)


def test_no_browser_is_said(tmp_path, monkeypatch):
    (tmp_path / "report.html").write_text("x")
    monkeypatch.setattr(view.webbrowser, "open", lambda place: False)
    result = CliRunner().invoke(view.command, [str(tmp_path)])
    assert isinstance(result.exception, LongpoleError)
    assert "no browser" in str(result.exception)


def test_a_trace_is_taken_as_it_is_or_made(tmp_path):
    write_perfetto([made_trace()], tmp_path / "trace.json.gz")
    assert view.trace_file(tmp_path) == tmp_path / "trace.json.gz"
    (tmp_path / "trace.json.gz").rename(tmp_path / "kept.bin")
    assert view.trace_file(tmp_path / "kept.bin").name == "kept.perfetto.json.gz"


@contextmanager
def served(path: Path) -> Iterator[http.client.HTTPConnection]:
    server = HTTPServer(("127.0.0.1", 0), partial(view.OneFile, path, "/secret/a.json"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    try:
        yield connection
    finally:
        connection.close()
        server.shutdown()
        thread.join()
        server.server_close()


def answer(path: Path, method: str, url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    with served(path) as connection:
        connection.request(method, url, headers=headers)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()


def test_the_file_is_served_to_perfetto_only(tmp_path):
    (tmp_path / "a.json").write_bytes(b"[]")
    status, headers, body = answer(tmp_path / "a.json", "GET", "/secret/a.json")
    assert (status, body) == (200, b"[]")
    assert headers["Access-Control-Allow-Origin"] == "https://ui.perfetto.dev"
    status, headers, _ = answer(tmp_path / "a.json", "OPTIONS", "/secret/a.json")
    assert status == 204
    assert headers["Access-Control-Allow-Private-Network"] == "true"


@pytest.mark.parametrize("url", ["/", "/a.json", "/secret/../../etc/passwd", "/secret/", "/secret/a.json?x"])
def test_nothing_else_is_served(tmp_path, url):
    (tmp_path / "a.json").write_bytes(b"[]")
    assert answer(tmp_path / "a.json", "GET", url)[0] == 404


def test_a_rebound_name_gets_nothing(tmp_path):
    (tmp_path / "a.json").write_bytes(b"[]")
    assert answer(tmp_path / "a.json", "GET", "/secret/a.json", Host="evil.example:9001")[0] == 404


def test_a_busy_port_is_said(tmp_path):
    (tmp_path / "a.json").write_bytes(b"[]")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LongpoleError, match=f"port {port} of this machine is busy"):
            view.serve(tmp_path / "a.json", print, port)


def test_ctrl_c_ends_it_cleanly(tmp_path):
    (tmp_path / "a.json").write_bytes(b"[]")
    path = str(tmp_path / "a.json")
    # A shell's background job starts with SIGINT ignored.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from pathlib import Path; "
        f"from longpole.cli.view import serve; serve(Path({path!r}), str, 0)"
    )
    with subprocess.Popen(
        [sys.executable, "-u", "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        place = child.stdout.readline()
        os.kill(child.pid, signal.SIGINT)
        _, said = child.communicate(timeout=20)
    assert place.startswith("https://ui.perfetto.dev/#!/?url=http://127.0.0.1:")
    assert place.strip().endswith("/a.json")
    assert child.returncode == 0
    assert said.endswith("Stopped.\n")
