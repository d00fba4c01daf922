"""Memory as a picture: what it shows of a study made by hand, and that a study from anywhere does no harm."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from longpole.analysis.memory_results import Growth, Holder, MemoryTimeline, PeakAt, ResidentPart
from longpole.analysis.study import Memory, Study
from longpole.report.lines import plain
from longpole.report.memorylines import memory, peak_sentence
from longpole.report.memorypicture import memory_section
from longpole.report.terminal import text_report

HOSTILE = "</svg><script>alert(1)</script>\x1b[31m"


def made(**changed: object) -> Memory:
    found = Memory(
        peak_bytes=4 << 20,
        peak_at=PeakAt(7, "backward", 6.0, "blocks.0", "mm"),
        holders=[Holder("saved", 3 << 20, "blocks.0"), Holder("parameters", 1 << 20)],
        timeline=MemoryTimeline(
            ms=[0.0, 2.0, 6.0, 10.0],
            phase=["forward", "forward", "backward", "optimizer"],
            bytes={"parameters": [1 << 20] * 4, "saved": [0, 2 << 20, 3 << 20, 0]},
        ),
        resident_bytes=100,
        resident_parts=[ResidentPart("tensors", 60), ResidentPart("unexplained", 40)],
    )
    for name, value in changed.items():
        setattr(found, name, value)
    return found


def lines(found: Memory, *, blocks: bool = True) -> list[str]:
    return [plain(line) for line in memory(Study(memory=found), ["peak 4 MiB"], 80, blocks=blocks)]


def test_the_peak_is_a_sentence_with_its_holders() -> None:
    assert peak_sentence(made()) == (
        "peak 4.00 MiB at 6.00 ms of step 7, phase backward, in mm of blocks.0: saved 3.00 MiB · parameters 1.00 MiB"
    )


@pytest.mark.parametrize("blocks", [True, False])
def test_the_hill_is_as_high_as_the_bytes(blocks: bool) -> None:
    out = lines(made(), blocks=blocks)
    hill = [line[14:] for line in out if line[4:14].strip() in ("4.00 MiB", "0 B") or line.startswith(" " * 14 + "█")]
    if blocks:
        bottom = hill[-1]
        assert bottom == "█" * 64  # something is held all the time
        assert hill[0].strip()
        # 6 of 10 ms: the highest row begins at three fifths of 64 cells.
        assert len(hill[0]) - len(hill[0].lstrip()) == int(6 / 10 * 64)
    marked = next(line for line in out if "peak" in line and line.strip()[0] in "▲^")
    assert marked.index(marked.strip()) == 14 + int(6 / 10 * 64)
    assert any("|forward" in line and "|backward" in line for line in out)
    assert all(ord(char) < 128 for line in out if "#" in line for char in line) or blocks


def test_growth_is_told() -> None:
    said = "\n".join(lines(made(growth=[Growth("Memory grows by step: list `losses`", "train.py:4")])))
    assert "! Memory grows by step: list `losses`" in said


def test_the_report_without_memory_says_nothing_of_it() -> None:
    assert memory(Study(), [], 80, blocks=True) == []
    assert memory_section(Memory()) == ""


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        del attrs
        self.tags.append(tag)


def test_the_picture_is_escaped() -> None:
    found = made(
        holders=[Holder(HOSTILE, 5, HOSTILE)],
        peak_at=PeakAt(1, HOSTILE, None, HOSTILE, HOSTILE),
        growth=[Growth(HOSTILE)],
        notes=[HOSTILE],
    )
    assert found.timeline is not None
    found.timeline.phase = [HOSTILE] * 4
    text = memory_section(found)
    assert "script" not in Tags(text).tags
    assert "\x1b" not in text
    assert "\x1b" not in text_report(Study(memory=found))


@pytest.mark.parametrize(
    "timeline",
    [
        MemoryTimeline(ms=[0.0, 1.0], phase=["forward"], bytes={"saved": [1, 2]}),
        MemoryTimeline(ms=[1.0, 0.0], phase=["a", "b"], bytes={"saved": [1, 2]}),
        MemoryTimeline(ms=[0.0, 1.0], phase=["a", "b"], bytes={"saved": [-1, 2]}),
        MemoryTimeline(ms=[float("nan"), 1.0], phase=["a", "b"], bytes={"saved": [1, 2]}),
        MemoryTimeline(ms=[0.0, float("inf")], phase=["a", "b"], bytes={"saved": [1, 2]}),
        MemoryTimeline(ms=[0.0, 1.0], phase=["a", "b"], bytes={"unheard of": [1, 2]}),
        MemoryTimeline(),
    ],
)
def test_columns_that_make_no_sense_are_no_picture(timeline: MemoryTimeline) -> None:
    found = made(timeline=timeline)
    assert memory_section(found) == ""
    assert not any("█" in line for line in lines(found))
