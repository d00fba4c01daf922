"""The price list of memory as a page: one file that works offline, without script, every name escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from longpole.document import plain_page
from longpole.report.figures import byte_size, clean, ms, number, percent
from longpole.report.lines import plain
from longpole.report.memorypicture import memory_section
from longpole.report.prices import batch_lines, checked_lines, fit_lines, is_noise, noise_sentence

if TYPE_CHECKING:
    from collections.abc import Iterable

    from longpole.analysis.memory_prices import MemoryPrices, Price
    from longpole.analysis.study import Memory
    from longpole.report.lines import Line

MOST_ROWS = 500
MOST_NAMES = 400
WHOLE = 10_000  # characters: sentences are wrapped by the browser
STYLE = "td:first-child{white-space:normal}tr.noise td{opacity:.6}"


def prices_page(found: MemoryPrices, memory: Memory | None = None) -> str:
    """A whole HTML document; `memory` is the account of the step that the prices are of."""
    script = clean(found.script or "the run", 120)
    title = f"memory of {script} · longpole"
    step = f" · a step takes {ms(found.step_ms)}" if found.step_ms is not None else ""
    said: list[Line] = fit_lines(found.fit, found.script, WHOLE) if found.fit is not None else []
    said += checked_lines(found.checked, WHOLE) if found.checked is not None else []
    said += batch_lines(found.largest_batch, WHOLE) if found.largest_batch is not None else []
    body = "".join(
        (
            f"<h1>Memory of {escape(script)}: peak {byte_size(found.peak_bytes)} of tensors{step}</h1>",
            _paragraphs(said),
            _list(found),
            memory_section(memory) if memory is not None else "",
            "".join(f'<p class="doubt">{escape(clean(note, 600))}</p>' for note in found.notes),
        )
    )
    return plain_page(title, STYLE, body)


def _paragraphs(lines: Iterable[Line]) -> str:
    return "".join(f"<p>{escape(plain(line).strip())}</p>" for line in lines if plain(line).strip())


def _list(found: MemoryPrices) -> str:
    if not found.prices:
        return "<p>Computing a layer again would free nothing at the peak.</p>"
    head = "<tr><th>compute again in backward</th><th>peak</th><th>less</th><th>a step takes longer</th><th></th></tr>"
    rows = "".join(_row(price, found.noise_ms) for price in found.prices[:MOST_ROWS])
    left = len(found.prices) - MOST_ROWS
    more = f"<p>and {left:,} that free less</p>" if left > 0 else ""
    noise = noise_sentence(found)
    doubt = f'<p class="doubt">{escape(noise)}</p>' if noise else ""
    return f"<h2>What giving memory back would cost</h2><table>{head}{rows}</table>{more}{doubt}"


def _row(price: Price, noise_ms: float | None) -> str:
    in_noise = is_noise(price, noise_ms)
    share = f"+{percent(price.step_share)}" if price.step_share is not None else ""
    cells = (byte_size(price.peak_bytes), byte_size(price.freed_bytes),
             f"{'~' if in_noise else ''}+{number(price.ms)} ms", share)  # fmt: skip
    figures = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    kind = ' class="noise"' if in_noise else ""
    return f"<tr{kind}><td>{escape(clean(price.names, MOST_NAMES))}</td>{figures}</tr>"
