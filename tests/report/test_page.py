"""Pages in a browser: no request, no error, sorting, folding, keys, hostile names, size, both schemes."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from convergence.test_report import made as converged
from convergence.test_report import made_side
from longpole.analysis.memory_prices import MemoryPrices, Price
from longpole.analysis.study import Study
from longpole.document import plain_page
from longpole.report.converge_page import page as converge_page
from longpole.report.html import page
from longpole.report.prices_page import prices_page
from longpole.report.survey_page import page as survey_page
from longpole.report.sweep_page import STYLE as SWEEP_STYLE
from longpole.report.sweep_page import Series, picture, sweep_page
from longpole.sweep.result import Sweep
from report.sample import HOSTILE, gpt_study, gpu_study, hostile_study, wide_study
from report.sample_trace import made_trace
from survey.made import measured, run
from survey.made import survey as made_survey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


class Opened:
    """One page and all that it asked for and complained about."""

    def __init__(self, browser: Any, document: str, path: Path, ready: str = "html", **options: Any) -> None:
        path.write_text(document, encoding="utf-8")
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.context = browser.new_context(**options)
        self.view = self.context.new_page()
        self.view.on("request", lambda request: self.requests.append(request.url))
        self.view.on("console", lambda message: self.complaints.append(message.text))
        self.view.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.view.on("dialog", lambda dialog: (self.complaints.append("a dialog opened"), dialog.dismiss()))
        self.view.goto(path.as_uri())
        self.view.wait_for_selector(ready, timeout=30_000)
        self.address = path.as_uri()

    def layers(self) -> list[str]:
        return self.view.locator("#layers tbody .name").all_inner_texts()

    def close(self) -> None:
        self.context.close()
        assert self.requests == [self.address]
        assert self.complaints == []


@pytest.fixture
def shown(browser, tmp_path) -> Iterator[Any]:
    """Opens a document; at the end of the test it has asked for nothing and complained of nothing."""
    pages: list[Opened] = []

    def show(document: str, **options: Any) -> Opened:
        pages.append(Opened(browser, document, tmp_path / f"page{len(pages)}.html", **options))
        return pages[-1]

    yield show
    for one in pages:
        one.close()


@pytest.fixture
def opened(shown) -> Any:
    """Opens a study."""

    def open_(study: Study, trace: Any = None, **options: Any) -> Opened:
        return shown(page(study, trace), ready="html[data-ready]", **options)

    return open_


def colour_of(view: Any, place: str, name: str) -> str:
    return view.eval_on_selector(place, f"one => getComputedStyle(one).{name}")


def brightness(view: Any, place: str, name: str) -> int:
    return sum(int(part) for part in colour_of(view, place, name)[4:-1].split(","))


def test_reading_order(opened):
    view = opened(gpt_study(), made_trace()).view
    assert view.locator("h1").inner_text().startswith("WEIGHT GRADIENTS of the MLP")
    ids = view.locator("main > section").evaluate_all("all => all.map(one => one.id)")
    order = "step answers findings layers icicle op-classes ops steps timeline memory doubts conditions"
    assert ids == order.split()


@pytest.mark.parametrize("made", [Study, gpu_study, hostile_study])
def test_other_studies_open(opened, made):
    view = opened(made()).view
    assert view.locator("h1").inner_text()


def test_layers_fold_by_click_and_by_key(opened):
    one = opened(gpt_study())
    before = one.layers()
    assert before[:4] == ["GPT", "tok_emb", "blocks", "0"]
    one.view.locator("#layers tbody tr th").nth(2).click()
    assert one.layers() == ["GPT", "tok_emb", "blocks", "ln_f", "lm_head"]
    row = one.view.locator("#layers tbody tr").nth(2)
    assert row.get_attribute("aria-expanded") == "false"
    row.focus()
    one.view.keyboard.press("ArrowRight")
    assert row.get_attribute("aria-expanded") == "true"
    one.view.keyboard.press("ArrowRight")
    focused = one.view.evaluate("document.activeElement.querySelector('.name').textContent")
    assert focused == "0"
    one.view.keyboard.press("ArrowLeft")  # folds block 0
    one.view.keyboard.press("ArrowLeft")  # goes to its parent
    assert one.view.evaluate("document.activeElement.querySelector('.name').textContent") == "blocks"
    one.view.click("#close-all")
    assert one.layers() == ["GPT"]
    one.view.click("#open-all")
    assert len(one.layers()) == len(gpt_study().layers)


def test_layers_sort(opened):
    one = opened(gpt_study())
    one.view.click("#layers button:text-is('Flat')")
    head = one.view.locator("#layers thead th", has_text="weight grad")
    assert head.get_attribute("aria-sort") == "none"
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert one.layers()[:2] == ["lm_head", "blocks.0.mlp.fc1"]
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    known = [x.weight_grad_ms for x in gpt_study().layers if not x.container and x.weight_grad_ms is not None]
    cells = one.view.locator("#layers tbody tr td:nth-child(4)").all_inner_texts()
    assert cells[: len(known)] == [f"{value:.1f}" for value in sorted(known)]
    assert set(cells[len(known) :]) == {"–"}  # what is not known comes last either way


def test_find_a_layer(opened):
    one = opened(gpt_study())
    one.view.fill("#layers input", "fc2")
    assert one.layers() == [f"blocks.{i}.mlp.fc2" for i in range(6)]


def test_a_phase_filters_the_ops(opened):
    view = opened(gpt_study()).view
    view.click(".phase-bar .hue-backward")
    roles = set(view.locator("#ops td.role").all_inner_texts())
    assert roles == {"input grad", "weight grad"}
    assert view.locator("#layers th[aria-sort=descending]").inner_text().startswith("backward")
    view.click(".phase-bar .hue-backward")
    assert "forward" in view.locator("#ops td.role").all_inner_texts()


def test_ops_filter(opened):
    view = opened(gpt_study()).view
    view.select_option("#ops select", "unclassified")
    assert view.locator("#ops td.op").all_inner_texts() == ["mylib::rotary"]
    view.select_option("#ops select", "")
    view.fill("#ops input", "lm_head")
    assert len(view.locator("#ops td.op").all_inner_texts()) == 3


def test_icicle_zooms_by_click_and_key(opened):
    view = opened(gpt_study()).view
    canvas = view.locator("#icicle canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    canvas.click(position={"x": box["width"] * 0.3, "y": 24 * 4 + 12})  # row 4: blocks.N
    assert "blocks." in view.locator("#icicle .zoomed").inner_text()
    canvas.focus()
    view.keyboard.press("Escape")
    assert "Click a box" in view.locator("#icicle .zoomed").inner_text()
    canvas.hover(position={"x": 20, "y": 12})
    assert view.locator(".tip").inner_text() == "step\n583 ms · 100.0 % of the step"  # its parts sum to the step


def test_hostile_names_are_text(opened):
    one = opened(hostile_study(), made_trace())
    one.view.click("#open-all")
    assert one.view.locator("img").count() == 0
    assert f"{HOSTILE[0]}0" in one.layers()
    assert one.view.locator("script").count() == 2  # the data and the page's own


def test_twenty_thousand_layers(opened):
    one = opened(wide_study(20_000))
    assert len(one.layers()) <= 400
    one.view.click("#layers button:has-text('Show more')")
    assert len(one.layers()) > 1000
    assert "Of 20,000 layers" in one.view.locator("#doubts").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_a_phone_in_both_schemes(opened, scheme):
    view = opened(gpt_study(), viewport={"width": 360, "height": 740}, color_scheme=scheme).view
    assert view.evaluate("document.documentElement.scrollWidth") <= 360
    assert (brightness(view, "body", "backgroundColor") > brightness(view, "body", "color")) == (scheme == "light")


def test_json_can_be_copied(opened):
    one = opened(gpt_study(), permissions=["clipboard-read", "clipboard-write"])
    one.view.click("#copy-json")
    one.view.wait_for_selector("text=copied")
    assert '"schema": "longpole.study"' in one.view.evaluate("navigator.clipboard.readText()")


def test_without_script_there_is_the_text_report(browser, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(page(gpt_study()), encoding="utf-8")
    context = browser.new_context(java_script_enabled=False)
    view = context.new_page()
    view.goto(path.as_uri())
    assert "Is it the forward pass?" in view.locator("noscript").inner_text()
    context.close()


def test_ranks_pick_one(opened):
    view = opened(gpu_study()).view
    view.locator("#ranks tbody tr").nth(3).click()
    assert "rank 3" in view.locator("#ranks h3").last.inner_text()
    assert "240 ms" in view.locator("#ranks table.gaps").inner_text()


# -- pages of the other commands ----------------------------------------------------------------------------------


def converge_document() -> str:
    return converge_page(converged(made_side(HOSTILE[0], 0.02), made_side("B", 0.01)))


def survey_document() -> str:
    return survey_page(made_survey(measured("slow", run(100.0)), measured("fast", run(50.0)), measured(HOSTILE[0])))


def sweep_document() -> str:
    return sweep_page(Sweep(script=HOSTILE[0], sentences=["One."], warnings=[HOSTILE[0]]))


def prices_document() -> str:
    prices = [Price((HOSTILE[0],), HOSTILE[0], 1 << 20, 9 << 20, 5.0, 0.05)]
    return prices_page(MemoryPrices(script="train.py", peak_bytes=10 << 20, prices=prices), gpt_study().memory)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("made", [converge_document, survey_document, sweep_document, prices_document])
def test_pages_of_other_commands_open_in_both_schemes(shown, made, scheme):
    view = shown(made(), color_scheme=scheme).view
    assert view.locator("h1").inner_text()
    assert view.locator("img").count() == 0
    assert (brightness(view, "h1", "color") < 3 * 128) == (scheme == "light")


def test_the_key_of_curves_has_their_colours(shown):
    view = shown(converge_document()).view
    lines = (
        view.locator("figure")
        .first.locator("polyline")
        .evaluate_all("all => all.map(one => one.getAttribute('stroke'))")
    )
    marks = view.locator(".key b").evaluate_all("all => all.map(one => getComputedStyle(one).color)")
    assert marks == [f"rgb{tuple(bytes.fromhex(colour[1:]))}" for colour in dict.fromkeys(lines)]


def test_names_in_a_picture_have_the_colours_of_their_points(shown):
    two = [Series(name, [(1.0, float(at)), (2.0, 2.0 * at)]) for at, name in enumerate("ab", start=1)]
    view = shown(plain_page("t", SWEEP_STYLE, picture("A step", "batch", two))).view
    names = view.locator("svg text", has_text=re.compile("^[ab]$"))
    colours = names.evaluate_all("all => all.map(one => getComputedStyle(one).fill)")
    points = view.locator("circle").evaluate_all("all => all.map(one => getComputedStyle(one).fill)")
    assert colours == list(dict.fromkeys(points))
    assert len(colours) == 2


def test_a_survey_is_sorted_by_its_headings(shown):
    view = shown(survey_document()).view
    rows = view.locator("table").first.locator("tbody td:first-child")
    step = view.locator("th button", has_text=re.compile("^step$"))
    step.click()
    assert rows.all_inner_texts()[:2] == ["slow", "fast"]
    step.click()
    assert rows.all_inner_texts()[:2] == ["fast", "slow"]  # what is not known comes last either way
    view.locator("th button", has_text=re.compile("^network$")).first.click()
    assert rows.all_inner_texts()[1:] == ["fast", "slow"]
