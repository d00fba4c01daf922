"""Lines of styled text laid out in columns, which is what reports on a terminal are made of, and writing them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from longpole.report.figures import clean, for_encoding

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

Span: TypeAlias = "tuple[str, str]"  # text, rich style ("" is plain)
Line: TypeAlias = "list[Span]"

EIGHTHS = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: its heading, and whether it holds figures (set to the right)."""

    heading: str
    figures: bool = True
    style: str = ""
    stretch: bool = False  # takes what room is left, and is cut where there is too little


def bar(share: float | None, cells: int, blocks: bool) -> str:
    """A bar `cells` wide, filled to `share` (clipped to 0..1): eighths of a block, or `#` and spaces."""
    part = min(max(share, 0.0), 1.0) if share is not None and not math.isnan(share) else 0.0
    if not blocks:
        return ("#" * round(part * cells)).ljust(cells)
    eighths = round(part * cells * 8)
    if eighths == 0 and part > 0:
        eighths = 1
    full, rest = divmod(eighths, 8)
    return ("█" * full + (EIGHTHS[rest] if rest else "")).ljust(cells)


def wrap(text: str, width: int, indent: int = 0, first: int = 0) -> list[str]:
    """`text` broken at spaces into lines of at most `width` cells; `indent` before every line but the first.

    A word longer than a line is cut into pieces. `first` is the indent of the first line.
    """
    out: list[str] = []
    current, used, lead = "", 0, first
    for word in _pieces(clean(text, 600).split(), max(width - max(indent, first), 8)):
        size = cell_len(word)
        if used and used + 1 + size > width - lead:
            out.append(" " * lead + current)
            current, used, lead = "", 0, indent
        current, used = (f"{current} {word}", used + 1 + size) if used else (word, size)
    return [*out, " " * lead + current] if current or not out else out


def wrapped(text: str, width: int, indent: int, style: str = "", first: int | None = None) -> list[Line]:
    """The same as lines of one style; `first` is `indent` where it is not given."""
    return [[(part, style)] for part in wrap(text, width, indent, indent if first is None else first)]


def _pieces(words: Iterable[str], width: int) -> Iterable[str]:
    for word in words:
        rest = word
        while cell_len(rest) > width:
            head = set_cell_size(rest, width).rstrip() or rest[:1]
            yield head
            rest = rest[len(head) :]
        yield rest


def fit(text: str, width: int, right: bool = False) -> str:
    """`text` in exactly `width` cells: padded, or its middle replaced by `…`."""
    size = cell_len(text)
    if size <= width:
        return " " * (width - size) + text if right else text + " " * (width - size)
    if width < 3:
        return set_cell_size(text, max(width, 0))
    tail_width = (width - 1) // 2
    tail = text[-tail_width:]
    while cell_len(tail) > tail_width:
        tail = tail[1:]
    return set_cell_size(set_cell_size(text, width - 1 - cell_len(tail)) + "…" + tail, width)


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int, indent: int = 2) -> list[Line]:
    """Heading and rows laid out in at most `width` cells; a column that is empty in every row is left out."""
    kept = [i for i, c in enumerate(columns) if c.stretch or any(row[i].strip() for row in rows)]
    widths = [max([cell_len(columns[i].heading), *(cell_len(row[i]) for row in rows)]) for i in kept]
    stretch = next((k for k, i in enumerate(kept) if columns[i].stretch), None)
    if stretch is not None:
        others = sum(w for k, w in enumerate(widths) if k != stretch) + 2 * (len(kept) - 1) + indent
        widths[stretch] = max(8, min(widths[stretch], width - others))
    lines: list[Line] = [_row([columns[i].heading for i in kept], [columns[i] for i in kept], widths, indent, "dim")]
    lines += [_row([row[i] for i in kept], [columns[i] for i in kept], widths, indent, "") for row in rows]
    return lines


def _row(cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int], indent: int, style: str) -> Line:
    line: Line = [(" " * indent, "")]
    for k, (text, column, width) in enumerate(zip(cells, columns, widths, strict=True)):
        line.append((("  " if k else "") + fit(text, width, right=column.figures), style or column.style))
    return line


def plain(line: Line) -> str:
    """The text of a line without its styles."""
    return "".join(text for text, _ in line).rstrip()


def write_lines(lines: Iterable[Line], console: Console) -> None:
    """Prints lines as they are laid out: what the stream cannot carry is replaced, and no line is broken again."""
    for line in lines:
        text = Text(end="")
        for part, style in line:
            text.append(for_encoding(part, console.encoding), style or None)
        text.rstrip()
        if console.options.max_width < 1:  # rich prints nothing at all on a terminal that says it has no columns
            console.file.write(text.plain + "\n")
        else:
            console.print(text, soft_wrap=True, highlight=False)
