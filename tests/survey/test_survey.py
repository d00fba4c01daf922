"""A survey goes on where it stopped, goes round by round, and is not stopped by one network that fails."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import msgspec
import pytest
from click.testing import CliRunner

from longpole.analysis.survey import Figures, load_survey
from longpole.cli import survey as cli
from longpole.cli.survey import choose, command
from longpole.errors import LongpoleError
from longpole.report.survey_page import HEADINGS, PARALLEL_HEADINGS, SCRIPT, page
from longpole.report.survey_text import text
from longpole.survey import answers_page, kept
from longpole.survey.catalogue import names
from longpole.survey.run_one import Asked
from longpole.survey.survey import NOT_RUN, Plan, Progress, survey
from survey.made import measured, network, run
from survey.made import survey as made_survey

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from longpole.analysis.survey import Survey

HOSTILE = '</td><script>alert("|x|")</script>\n*'


def plan(folder: Path, *networks: str, rounds: int = 2, budget_s: float = 6.0) -> Plan:
    return Plan([network(name) for name in networks], Asked(budget_s=budget_s), rounds, folder, parallel=False)


class Fake:
    """Measures nothing; `order` is who was asked for, `broken` fail."""

    def __init__(self, *broken: str) -> None:
        self.broken, self.order = broken, list[str]()

    def __call__(self, name: str, asked: Asked) -> Figures:
        self.order.append(name)
        if name in self.broken:
            raise LongpoleError(f"{name}: it broke")
        return run()


def test_round_by_round_and_nothing_twice(tmp_path: Path) -> None:
    fake, told = Fake(), list[tuple[str, int, int]]()
    found = survey(plan(tmp_path, "a", "b"), Progress(lambda *seen: told.append(seen), fake))
    assert fake.order == ["a", "b", "a", "b"]
    assert told == [("a", 0, 4), ("b", 1, 4), ("a", 2, 4), ("b", 3, 4)]
    assert [row.runs for row in found.rows] == [2, 2]
    again = Fake()
    assert survey(plan(tmp_path, "a", "b"), Progress(measure=again)).rows == found.rows
    assert again.order == []
    survey(plan(tmp_path, "a", "b", "c", rounds=3), Progress(measure=again))
    assert again.order == ["c", "c", "a", "b", "c"]


def test_a_network_that_fails_is_a_row_and_the_others_go_on(tmp_path: Path) -> None:
    fake = Fake("a")
    found = survey(plan(tmp_path, "a", "b"), Progress(measure=fake))
    assert fake.order == ["a", "b", "b"]
    assert (found.rows[0].failed, found.rows[0].runs) == ("a: it broke", 0)
    assert (found.rows[1].failed, found.rows[1].runs) == (None, 2)
    assert "a: it broke" in text(found, 100)
    assert "- `a` failed: a: it broke" in answers_page.page(found, "again")


def interrupted_at(network: str) -> Callable[[str, Asked], Figures]:
    def measure(name: str, asked: Asked) -> Figures:
        if name == network:
            raise KeyboardInterrupt
        return run()

    return measure


def test_interrupted_what_is_done_is_told_and_kept(tmp_path: Path) -> None:
    found = survey(plan(tmp_path, "a", "b"), Progress(measure=interrupted_at("b")))
    assert found.interrupted
    assert [(row.runs, row.failed) for row in found.rows] == [(1, None), (0, NOT_RUN)]
    again = Fake()
    assert not survey(plan(tmp_path, "a", "b", rounds=1), Progress(measure=again)).interrupted
    assert again.order == ["b"]


def test_interrupted_a_setting_that_was_not_run_is_not_known(tmp_path: Path) -> None:
    """`a` has run as it is and with a smaller batch; Ctrl-C comes before its other threads."""

    def measure(name: str, asked: Asked) -> Figures:
        if asked.threads is not None:
            raise KeyboardInterrupt
        return run() if asked.batch_size is None else run(50.0, batch_size=asked.batch_size)

    asked = Asked(budget_s=6.0)
    (row,) = survey(Plan([network("a")], asked, 1, tmp_path), Progress(measure=measure)).rows
    assert row.over_batch is not None
    assert row.over_threads is None
    assert row.not_known == {"threads": NOT_RUN}


def test_interrupted_before_any_run_there_is_nothing_to_tell(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        survey(plan(tmp_path, "a", "b"), Progress(measure=interrupted_at("a")))


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b'{"network": "a"}', b"\xff\xfe", b'{"runs": [{"step_ms": "x"}]}']
)
def test_a_kept_file_that_cannot_be_read_is_measured_again(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a-small.json").write_bytes(content)
    fake = Fake()
    survey(plan(tmp_path, "a", rounds=1), Progress(measure=fake))
    assert fake.order == ["a"]


@pytest.mark.parametrize("bad", [run(0.0), run(-1.0), run(phases_ms={"forward": 1.0, "backward": -2.0})])
def test_a_kept_run_without_time_is_measured_again(tmp_path: Path, bad: Figures) -> None:
    now = kept.conditions(None, 6.0)
    kept.save(tmp_path, kept.Kept("a", "small", now, [bad]))
    assert kept.load(tmp_path, "a", "small", now).runs == []
    kept.save(tmp_path, kept.Kept("a", "small", now, [run()]))
    assert kept.load(tmp_path, "a", "small", now).runs == [run()]


def test_runs_under_other_conditions_are_not_mixed(tmp_path: Path) -> None:
    survey(plan(tmp_path, "a", rounds=1), Progress(measure=Fake()))
    fake = Fake()
    survey(plan(tmp_path, "a", rounds=1, budget_s=60), Progress(measure=fake))
    assert fake.order == ["a"]
    kept.forget(tmp_path, ["a"], "small")
    kept.forget(tmp_path, ["a"], "small")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LongpoleError, match=r"cannot keep results in .*-o FOLDER"):
        survey(plan(tmp_path / "file" / "x", "a", rounds=1), Progress(measure=Fake()))


def test_json_comes_back_as_it_was(tmp_path: Path) -> None:
    found = survey(plan(tmp_path, "a", rounds=1), Progress(measure=Fake()))
    assert load_survey(found.to_json(), "it") == found
    with pytest.raises(LongpoleError, match="is not a longpole survey"):
        load_survey(b"[]", "it")
    with pytest.raises(LongpoleError, match="version 9"):
        load_survey(b'{"version": 9}', "it")


class Page(HTMLParser):
    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_fetches_nothing_and_lets_no_name_become_a_tag() -> None:
    document = page(made_survey(measured(HOSTILE, run(pole=HOSTILE)), measured("b", failed=HOSTILE)))
    tags = Page(document).tags
    assert sum(tag == "script" for tag, _ in tags) == 1
    assert not [attrs for _, attrs in tags if "src" in attrs or attrs.get("href", "data:,") != "data:,"]
    assert "default-src 'none'" in document
    assert SCRIPT in document


def test_bars_of_the_page_sum_to_the_step() -> None:
    tags = Page(page(made_survey(measured("a", run())))).tags
    bars = [attrs for tag, attrs in tags if tag == "rect" and attrs.get("x") is not None]
    assert sum(float(bar["width"] or 0) for bar in bars) == pytest.approx(240, abs=0.05)
    cells = [attrs for tag, attrs in tags if tag == "td"]
    assert len(cells) == len(HEADINGS) + len(PARALLEL_HEADINGS)
    step = cells[HEADINGS.index("step")]["data-key"]
    assert step is not None
    assert float(step) == pytest.approx(100)


@pytest.mark.parametrize("width", [60, 80, 123, 124, 140])
def test_no_line_of_the_table_is_wider_than_the_terminal(width: int) -> None:
    shown = text(made_survey(measured("a-long-name", run(), run(3.2)), measured("b", failed="x" * 300)), width)
    assert max(map(len, shown.splitlines())) <= width
    for figure in ("2.00 (", "95 %", "60 %", "64.0 MiB"):
        assert figure in shown


def test_answers_name_each_network_once_a_claim_and_stay_one_table() -> None:
    found = answers_page.page(
        made_survey(measured("a", run()), measured("b", run(pole=HOSTILE))), "longpole survey a b"
    )
    assert found.count("- `a`: ") == 9
    assert "longpole survey a b" in found
    assert "<script>" not in found
    table = [line for line in found.splitlines() if line.startswith(("| `a`", "| `b`", "| network"))]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1


def test_doubts_name_networks_with_few_steps_and_one_run() -> None:
    found = answers_page.page(made_survey(measured("a", run(), run()), measured("b", run())), "x")
    assert "Fewer than 10 steps were timed of b (5):" in found
    assert "Networks that ran once have the intervals of runs in general: b." in found


def test_recorded_traces_stand_beside() -> None:
    traces = [answers_page.Recorded("a|b", "GPU X", run())]
    found = answers_page.page(made_survey(measured("a", run())), "x", traces)
    assert "| a\\|b | GPU X | 100 | 75.0 % | 2.00 | 10.0 % | 10.0 % | 60.0 % | 0.0 % |" in found


def test_networks_are_chosen_by_name_in_the_order_of_the_list() -> None:
    assert [one.name for one in choose(["resnet18", "mlp", "mlp"], everything=False)] == ["mlp", "resnet18"]
    assert len(choose([], everything=True)) == len(names())
    with pytest.raises(LongpoleError, match="which networks"):
        choose([], everything=False)


@pytest.mark.parametrize(
    ("args", "budget_s", "runs"), [([], 6.0, 3), (["--full"], 600.0, 1), (["--full", "--runs", "2"], 300.0, 2)]
)
def test_full_networks_run_once_and_have_the_time_for_it(
    args: list[str], budget_s: float, runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[Plan] = []

    def measured(plan: Plan, *, quiet: bool) -> Survey:
        plans.append(plan)
        return made_survey()

    monkeypatch.setattr(cli, "_with_progress", measured)
    CliRunner().invoke(command, ["mlp", "-q", *args])
    assert [(one.asked.budget_s, one.rounds, one.parallel) for one in plans] == [(budget_s, runs, True)]


def test_the_list_and_bad_places() -> None:
    shown = CliRunner().invoke(command, ["--list"])
    assert [line.split()[0] for line in shown.output.splitlines()[: len(names())]] == names()
    refused = CliRunner().invoke(command, ["mlp", "--html", "/no/such/folder/x.html"])
    assert isinstance(refused.exception, LongpoleError)


def test_the_command_never_imports_torch_itself() -> None:
    code = """
import sys, longpole.cli.survey as s; s.choose([], everything=True)
import longpole.survey.survey, longpole.survey.answers_page, longpole.report.survey_page
print('torch' in sys.modules)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def kept_runs(folder: Path, network: str) -> dict[int, float]:
    """The median step in ms, by batch size, of runs with the usual number of threads."""
    (place,) = folder.glob(f"*{network}*.json")
    found = msgspec.json.decode(place.read_bytes(), type=kept.Kept)
    return {run.batch_size or 0: run.median_ms for run in (*found.runs, *found.others["batch"])}


@pytest.mark.slow
def test_one_network_from_start_to_answers(tmp_path: Path) -> None:
    places = {name: tmp_path / f"out.{name}" for name in ("json", "html", "md")}
    done = subprocess.run(
        [sys.executable, "-m", "longpole", "survey", "mlp", "--runs", "1", "--budget", "3", "-q",
         "-o", str(tmp_path / "kept"), "--json", str(places["json"]), "--html", str(places["html"]),
         "--answers", str(places["md"])],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == ""
    (row,) = load_survey(places["json"].read_bytes(), "it").rows
    assert row.failed is None
    assert row.parameters == 669_706
    assert row.accounted_share is not None
    assert row.accounted_share >= 0.99
    assert row.unclassified_share == 0
    assert row.serial is not None
    assert row.serial.layers == row.serial.of_layers == 5
    assert row.not_known.keys() <= {"threads"}  # a machine with one core has no other number of them
    assert row.over_batch is not None
    assert row.over_batch.batches == [32, 128]
    # One run a batch: where the processor's clock changes between them a sample may seem to cost less than nothing,
    # but the line still goes through both.
    ran = kept_runs(tmp_path / "kept", "mlp")
    assert sorted(ran) == [32, 128]
    fixed, each = row.over_batch.fixed_ms.value, row.over_batch.per_sample_ms.value
    assert {batch: fixed + each * batch for batch in ran} == pytest.approx(ran)
    assert "`mlp`" in places["md"].read_text()
    assert "mlp" in places["html"].read_text()
