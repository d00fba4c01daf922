"""A survey as a page: one file that works offline, a stacked bar for each network, sorted by any column.

Without script the table is whole and in the order of the survey; the script only sorts rows.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from longpole.document import plain_page
from longpole.report.figures import DASH, byte_size, clean, ms, number, percent
from longpole.report.survey_parallel import cost, gave, limit, not_known, pays_to, serial_share, slowed
from longpole.report.survey_text import PHASES, bound_by, other_share, phase_share, with_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from longpole.analysis.survey import Estimate, Row, Survey

BAR = 240  # width of a bar in its own units
STYLE = """
:root { --ink: #1d2329; --dim: #66707a; --line: #d9dee3; --paper: #fff;
  --data: #e0a92e; --forward: #3f7fc1; --backward: #9b51b0; --optim: #3c9a5f; --other: #9aa3ab; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --dim: #9aa3ab; --line: #363d44; --paper: #16191c; } }
body { font-size: 14px; color: var(--ink); background: var(--paper); margin: 2rem; max-width: none; padding: 0; }
h1 { margin: 0; } h2 { margin-bottom: .5rem; }
p { color: var(--dim); max-width: 60rem; }
.wide { overflow-x: auto; } th { opacity: 1; font-weight: 600; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--paper); }
td.words, th.words { text-align: left; }
td.words { white-space: normal; min-width: 18rem; color: var(--dim); }
th button { all: unset; cursor: pointer; font-weight: 600; } th button:focus-visible { outline: 2px solid; }
th[aria-sort=ascending] button::after { content: " \\25B4"; }
th[aria-sort=descending] button::after { content: " \\25BE"; }
svg { display: block; } .data { fill: var(--data); } .forward { fill: var(--forward); }
.backward { fill: var(--backward); } .optim { fill: var(--optim); } .other { fill: var(--other); }
.key { display: inline-flex; align-items: center; gap: .35rem; margin-right: 1rem; }
"""
SCRIPT = """
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  const heads = [...table.querySelectorAll("th")];
  for (const [at, head] of heads.entries()) head.querySelector("button")?.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") !== "descending" && !head.classList.contains("words");
    const up = head.classList.contains("words") && head.getAttribute("aria-sort") === "ascending";
    for (const other of heads) other.removeAttribute("aria-sort");
    const falls = down || up;
    head.setAttribute("aria-sort", falls ? "descending" : "ascending");
    const key = row => row.cells[at]?.dataset.key ?? "";
    const order = (a, b) => {
      if (key(a) === "" || key(b) === "") return (key(a) === "") - (key(b) === "");
      const by = isNaN(key(a)) ? key(a).localeCompare(key(b)) : key(a) - key(b);
      return falls ? -by : by;
    };
    body.append(...[...body.rows].sort(order));
  });
}
"""
Cell = tuple[str, "float | str | None"]  # what is shown, and what it sorts by; None: not known, always last


def page(survey: Survey) -> str:
    """A whole HTML document; every name in it is escaped, and nothing is fetched."""
    measured = [row for row in survey.rows if row.runs]
    about = escape(
        f"{survey.size} networks · {survey.machine or 'unknown machine'}, {survey.cores} cores, "
        f"threads {survey.threads or 'unknown'} · {survey.framework or 'torch'} · runs {survey.runs} · {survey.date}"
    )
    body = f"""<h1>Where a training step goes, network by network</h1>
<p>{about}</p>
<p>{_legend()}</p>
{_table(HEADINGS, [_row(row) for row in survey.rows])}
<p>Click a heading to sort. In brackets: where another survey like this one would find the figure, 95 times of 100.
Forward holds its loss, optimizer the clipping; products are matmul, convolution, attention and recurrent layers.</p>
<h2>How parallel each is, and how serial</h2>
{_table(PARALLEL_HEADINGS, [_parallel_row(row) for row in measured])}
<p>A step takes a fixed time and so much for each sample; it pays to enlarge the batch to where a sample
costs at most 5 % more than in the largest ones. What threads gave is how many times as fast as one thread so many are;
serial is what they do not shorten, the limit what threads without end would still give. Layers in a row wait for one
another; least is the time that forward and backward would still take, of what they take, if all that need not wait ran
at once. Brackets hold the true figure 95 times of 100, if two settings lie on the line.</p>
{_reasons(survey)}"""
    return plain_page("longpole survey", STYLE, body, SCRIPT)


HEADINGS = (
    "network", "the step", "the long pole", "step", "samples/s", *(name for name, _ in PHASES), "other",
    "backward / forward", "input grad", "weight grad", "products", "of FLOPs", "bound by", "saved", "parameters",
)  # fmt: skip
PARALLEL_HEADINGS = (
    "network", "batch", "fixed", "each sample", "pays to", "threads", "gave", "serial", "limit", "layers in a row",
    "least",
)  # fmt: skip
_WORDS = ("network", "bound by", "the long pole")


def _heading(name: str) -> str:
    words = ' class="words"' if name in _WORDS else ""
    return f"<th{words}>{name}</th>" if name == "the step" else f"<th{words}><button>{escape(name)}</button></th>"


def _legend() -> str:
    square = '<svg width="12" height="12" aria-hidden="true"><rect class="{0}" width="12" height="12"/></svg>{0}'
    return "".join(f'<span class="key">{square.format(name)}</span>' for name in (*(n for n, _ in PHASES), "other"))


def _row(row: Row) -> str:
    name = _cell((clean(row.network), row.network))
    if not row.runs:
        why = f"failed: {_safe(row.failed)}"
        return f'<tr>{name}<td data-key="" class="words" colspan="{len(HEADINGS) - 1}">{why}</td></tr>'
    shares = [(name, phase_share(row, phases)) for name, phases in PHASES] + [("other", other_share(row))]
    bound = bound_by(row)
    cells: list[Cell] = [
        (ms(row.step_ms.value if row.step_ms else None), row.step_ms.value if row.step_ms else None),
        (number(row.samples_per_s), row.samples_per_s),
        *((percent(share), share) for _, share in shares),
        (with_interval(row.backward_to_forward), row.backward_to_forward.value if row.backward_to_forward else None),
        _estimated(row.input_grad_share),
        _estimated(row.weight_grad_share),
        _estimated(row.products_share),
        (percent(row.products_flops_share), row.products_flops_share),
        (f"{bound[0]} {bound[1] * 100:.0f} %", bound[0]) if bound else ("–", None),
        (byte_size(row.saved_bytes), row.saved_bytes),
        (f"{row.parameters:,}" if row.parameters else "–", row.parameters),
    ]
    pole = f'<td class="words" data-key="{_safe(row.pole)}">{percent(row.pole_share)} {_safe(row.pole)}</td>'
    return f'<tr>{name}<td data-key="">{_bar(shares)}</td>{pole}{"".join(map(_cell, cells))}</tr>'


def _table(headings: Sequence[str], rows: Sequence[str]) -> str:
    heads = "".join(_heading(name) for name in headings)
    body = "\n".join(rows)
    return f'<div class="wide"><table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>'


def _parallel_row(row: Row) -> str:
    name: Cell = (clean(row.network), row.network)
    return f"<tr>{''.join(map(_cell, [name, *_parallel(row)]))}</tr>"


def _parallel(row: Row) -> list[Cell]:
    batch, threads, chain = row.over_batch, row.over_threads, row.serial
    gained, serial, most = (threads.gained, threads.serial_share, threads.limit) if threads else (None, None, None)
    most_threads = max(threads.threads) if threads else None
    return [
        (str(row.batch_size or DASH), row.batch_size),
        (cost(batch.fixed_ms), batch.fixed_ms.value) if batch else (DASH, None),
        (cost(batch.per_sample_ms), batch.per_sample_ms.value) if batch else (DASH, None),
        (pays_to(row), batch.enough.value if batch and batch.enough else None),
        (str(most_threads or DASH), most_threads),
        (gave(gained), gained.value if gained else None),
        (serial_share(serial), serial.value if serial else None),
        (limit(most), most.value if most else None),
        (f"{chain.layers} of {chain.of_layers}", chain.layers) if chain else (DASH, None),
        (percent(chain.chain_share), chain.chain_share) if chain else (DASH, None),
    ]


def _reasons(survey: Survey) -> str:
    return "\n".join(f"<p>{_safe(reason)}</p>" for reason in slowed(survey.rows) + not_known(survey.rows))


def _bar(shares: Sequence[tuple[str, float]]) -> str:
    """Parts end to end: they sum to the step, which is the whole bar."""
    parts: list[str] = []
    at = 0.0
    for name, share in shares:
        width = share * BAR
        parts.append(f'<rect class="{name}" x="{at:.2f}" width="{width:.2f}" height="16"><title>{name} {percent(share)}'
                     "</title></rect>")  # fmt: skip
        at += width
    label = ", ".join(f"{name} {percent(share)}" for name, share in shares)
    return f'<svg role="img" aria-label="{escape(label)}" width="{BAR}" height="16">{"".join(parts)}</svg>'


def _cell(cell: Cell) -> str:
    shown, key = cell
    return f'<td data-key="{"" if key is None else escape(str(key))}">{escape(shown)}</td>'


def _estimated(estimate: Estimate | None) -> Cell:
    return percent(estimate.value if estimate else None), estimate.value if estimate else None


def _safe(text: str | None) -> str:
    return escape(clean(text or ""))
