"""What a report on ranks says in sentences, as findings and as an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from longpole.analysis.study import Answer, Finding

if TYPE_CHECKING:
    from longpole.analysis.device_results import RankReport

QUESTION = "Does one rank hold the others up?"


def sentences_of(report: RankReport) -> list[str]:
    found = [text for odd in report.odd for text in (odd.sentence, *odd.why)]
    found += [one.sentence for one in report.stragglers]
    waited = [one.waited_ms for one in report.ranks if one.waited_ms is not None]
    if len(report.ranks) > 1 and waited and not report.stragglers:
        each = "a step" if report.steps else "altogether"
        found.append(
            f"No single rank holds the others up: each waits {min(waited):.2f} to {max(waited):.2f} ms {each} in "
            "collectives for whichever comes last."
        )
    return [*found, *_clock_sentences(report)] if len(report.ranks) > 1 else []


def _clock_sentences(report: RankReport) -> list[str]:
    lost = [clock.rank for clock in report.clocks if clock.offset_ms is None]
    known = [clock for clock in report.clocks if clock.residual_ms is not None]
    found: list[str] = []
    if len(known) > 1:
        residual = max(clock.residual_ms or 0.0 for clock in known)
        apart = [clock.offset_ms or 0.0 for clock in known]
        found.append(
            f"Clocks of {len(known)} ranks aligned on up to {max(clock.matched for clock in known)} collectives: "
            f"they were {max(apart) - min(apart):.3f} ms apart, and ends agree to {residual:.3f} ms afterwards."
        )
    if lost:
        everyone = len(lost) == len(report.clocks)
        some = "No rank's clock could" if everyone else f"The clock of rank {', '.join(lost)} could not"
        found.append(
            f"{some} be aligned: no all-reduce, all-gather or the like was found on it and on another rank; waits and "
            "lateness across ranks are not known there."
        )
    return found


def findings_of(report: RankReport) -> list[Finding]:
    """A finding for each straggler and odd rank; empty where all ranks are alike."""
    found = [
        Finding(
            slug="straggler",
            sentence=one.sentence,
            saving_ms=one.ms if report.steps else None,
            confidence="measured on aligned clocks, at most so much",
        )
        for one in report.stragglers
    ]
    late = {one.rank for one in report.stragglers}  # what others wait for is said already
    odd = [" ".join([one.sentence, *one.why[1 if one.rank in late else 0 :]]) for one in report.odd]
    return found + [Finding(slug="odd-rank", sentence=sentence, confidence="measured") for sentence in odd]


def answer_of(report: RankReport) -> Answer:
    """Does one rank hold the others up?"""
    evidence = {
        "caused_ms": {one.rank: one.caused_ms for one in report.ranks},
        "waited_ms": {one.rank: one.waited_ms for one in report.ranks},
        "residual_ms": {clock.rank: clock.residual_ms for clock in report.clocks},
    }
    if not any(one.waited_ms is not None for one in report.ranks):
        told = "Not known: only one rank was opened." if len(report.ranks) < 2 else "Not known: " + _unaligned(report)
        return Answer(QUESTION, "not known", told, evidence)
    if report.stragglers:
        return Answer(QUESTION, "yes", f"Yes: {report.stragglers[0].sentence}", evidence)
    odd = f" But {report.odd[0].sentence[0].lower()}{report.odd[0].sentence[1:]}" if report.odd else ""
    told = next((text for text in report.sentences if text.startswith("No single rank")), "No.")
    return Answer(QUESTION, "no", told + odd, evidence)


def _unaligned(report: RankReport) -> str:
    told = _clock_sentences(report)
    return told[-1][0].lower() + told[-1][1:] if told else "the ranks have no collective in common."
