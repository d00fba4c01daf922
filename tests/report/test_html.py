"""The page as a file: one document, a policy that lets only its own script run, data that sums after the cut."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings

from longpole.errors import LongpoleError
from longpole.report import FORMATS, write
from longpole.report.cut import Limits, cut
from longpole.report.html import MOST_BYTES, page
from longpole.report.onestep import one_step, typical_step
from report.sample import HOSTILE, gpt_study, gpu_study, hostile_study, wide_study
from report.sample_trace import made_trace
from report.test_terminal import studies

if TYPE_CHECKING:
    from longpole.analysis.study import Study

WEB = Path(__file__).parents[2] / "web"


class Tags(HTMLParser):
    """Every tag with its attributes, and the text of scripts and styles."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self.open = ""
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open = tag

    def handle_data(self, data: str) -> None:
        if self.open in self.inside and data.strip():
            self.inside[self.open].append(data)

    def handle_endtag(self, tag: str) -> None:
        self.open = ""


def data_of(document: str) -> dict:
    packed = re.search(r'id="data">([A-Za-z0-9+/=]+)</script>', document)
    assert packed is not None
    return json.loads(gzip.decompress(base64.b64decode(packed.group(1))))


def test_policy_names_exactly_the_inline_script_and_style():
    found = Tags(page(gpt_study()))
    policy = next(
        a["content"] for t, a in found.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    for text in (found.inside["script"][-1], found.inside["style"][0]):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "http" not in policy


def test_nothing_points_outside():
    found = Tags(page(gpt_study()))
    pointing = [value for _, attrs in found.tags for key, value in attrs.items() if key in {"src", "href"}]
    assert pointing == ["data:,"]


def test_hostile_names_make_no_tag():
    tags = [tag for tag, _ in Tags(page(hostile_study())).tags]
    assert tags == [tag for tag, _ in Tags(page(gpt_study())).tags]
    assert HOSTILE[0] not in page(hostile_study())


def test_data_is_the_study():
    study = gpt_study()
    found, expected = data_of(page(study)), json.loads(study.to_json())
    for row in (*expected["phases"], *expected["layers"], *expected["op_classes"], *expected["ops"]):
        row.pop("samples", None)
    assert json.dumps(found["study"], sort_keys=True) == json.dumps(expected, sort_keys=True)
    assert found["cut"] == []


def test_same_study_same_page():
    assert page(gpt_study()) == page(gpt_study())


def test_big_study_is_cut_and_says_so():
    study = wide_study(20_000)
    document = page(study, made_trace())
    found = data_of(document)
    rows = len(found["study"]["layers"]) + len(found["study"]["ops"])
    rows += sum(len(lane["bars"]) for lane in found["timeline"]["lanes"])
    assert rows <= 20_000
    assert len(document) <= MOST_BYTES
    assert any("Of 20,000 layers" in said for said in found["cut"])
    assert sum(x["total_ms"] for x in found["study"]["layers"]) == pytest.approx(sum(x.total_ms for x in study.layers))
    assert sum(x["ms"] for x in found["study"]["ops"]) == pytest.approx(sum(x.ms for x in study.ops))


def test_a_page_of_long_random_names_stays_under_the_limit():
    study = wide_study(12_000)
    for i, layer in enumerate(study.layers):
        layer.layer = "".join(hashlib.sha512(f"{i} {k}".encode()).hexdigest() for k in range(4))
    assert len(page(study)) <= MOST_BYTES


def test_any_number_of_warnings_fits():
    study = gpt_study()
    study.run.warnings = [f"warning {i} " + "x" * 500 for i in range(20_000)]
    document = page(study)
    assert len(document) <= MOST_BYTES
    assert "Of 20,000 warnings the first 200 are shown." in data_of(document)["cut"]


def test_ranks_are_thinned_evenly():
    data, said = cut(gpu_study(ranks=64, steps=100), Limits())
    assert [len(rank["steps"]) for rank in data["ranks"]] == [15] * 64
    assert data["ranks"][0]["steps"][1]["step"] == 6  # 100 steps by 15
    assert "6,400 steps of all ranks" in said[0]


def test_one_step_has_its_events_nested():
    found = one_step(made_trace(), 100)
    assert found is not None
    assert (found["step"], found["span_ms"], found["left_out"]) == (8, 0.01, 0)
    host, stream = found["lanes"]
    depth = {found["names"][bar[3]]: bar[2] for bar in host["bars"]}
    assert depth["forward"] == 0
    assert depth["blocks.0.fc1"] == 1
    assert depth["aten::linear"] == 2
    assert depth["aten::addmm"] == 3
    assert [found["names"][bar[3]] for bar in stream["bars"]] == ["gemm<float>", "Memcpy HtoD"]
    assert stream["bars"][0][:2] == pytest.approx([0.0015, 0.003333])


def test_one_step_keeps_the_longest():
    found = one_step(made_trace(), 3)
    assert found is not None
    names = {found["names"][bar[3]] for lane in found["lanes"] for bar in lane["bars"]}
    assert names == {"backward", "forward", "AddmmBackward0"}
    assert found["left_out"] == 7  # of ten events shown; the launch is no bar


def test_a_trace_without_steps_shows_all():
    trace = made_trace()
    bare = type(trace)(events=trace.events, strings=trace.strings, lanes=trace.lanes, info=trace.info)
    step = typical_step(bare)
    assert step is not None
    assert step.index == -1
    assert step.end_ns - step.start_ns == 19_000  # two steps of 10,000 ns; backward of the second ends at 9,000


@pytest.mark.parametrize("made", [gpt_study, hostile_study])
@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_is_written(tmp_path, made, ending):
    write(made(), [made_trace()], tmp_path / f"a{ending}")
    assert (tmp_path / f"a{ending}").stat().st_size > 100


def test_formats_that_cannot_be_written_say_so(tmp_path):
    with pytest.raises(LongpoleError, match=r"ending can be .json, .html"):
        write(gpt_study(), [], tmp_path / "a.pdf")
    with pytest.raises(LongpoleError, match="needs the trace"):
        write(gpt_study(), [], tmp_path / "a.perfetto.json")
    for ending in FORMATS:
        with pytest.raises(LongpoleError, match="cannot write"):
            write(gpt_study(), [made_trace()], tmp_path / "missing" / f"a{ending}")


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(studies())
def test_any_study_makes_a_page(study: Study):
    found = data_of(page(study))
    assert len(found["study"]["layers"]) == len(study.layers)
    assert "NaN" not in json.dumps(found)


def test_committed_bundle_is_what_the_sources_build():
    if shutil.which("node") is None or not (WEB / "node_modules").is_dir():
        pytest.skip("needs node and web/node_modules: make web")
    done = subprocess.run(["node", "build.mjs", "--check"], cwd=WEB, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_bundle_can_stand_inline_and_lock_file_names_no_host():
    assets = Path(__file__).parents[2] / "src" / "longpole" / "report" / "assets"
    script = (assets / "page.js").read_text()
    assert "</script" not in script.lower()
    assert "<!--" not in script
    assert "</style" not in (assets / "page.css").read_text().lower()
    assert not re.search(r"\bfetch\(|XMLHttpRequest|WebSocket|dangerouslySetInnerHTML:\{", script)
    assert "://" not in (WEB / "package-lock.json").read_text().replace("https://opencollective.com", "")
