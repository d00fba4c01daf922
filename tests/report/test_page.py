"""The page in a browser: no request, no error, sorting, folding, keys, hostile names, size, both schemes."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from longpole.analysis.study import Study
from longpole.report.html import page
from report.sample import HOSTILE, gpt_study, gpu_study, hostile_study, wide_study
from report.sample_trace import made_trace

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

    def __init__(self, browser: Any, document: str, path: Path, **options: Any) -> None:
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
        self.view.wait_for_selector("html[data-ready]", timeout=30_000)
        self.address = path.as_uri()

    def layers(self) -> list[str]:
        return self.view.locator("#layers tbody .name").all_inner_texts()

    def close(self) -> None:
        self.context.close()
        assert self.requests == [self.address]
        assert self.complaints == []


@pytest.fixture
def opened(browser, tmp_path) -> Iterator[Any]:
    """Opens a study; at the end of the test the page has asked for nothing and complained of nothing."""
    pages: list[Opened] = []

    def open_(study: Study, trace: Any = None, **options: Any) -> Opened:
        pages.append(Opened(browser, page(study, trace), tmp_path / f"page{len(pages)}.html", **options))
        return pages[-1]

    yield open_
    for one in pages:
        one.close()


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
    paper, ink = (view.evaluate(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color"))
    bright = [sum(int(part) for part in colour[4:-1].split(",")) for colour in (paper, ink)]
    assert (bright[0] > bright[1]) == (scheme == "light")


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
