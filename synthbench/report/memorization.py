"""A scorecard's findings on copies of training images, worded once for all pages."""

from __future__ import annotations

from dataclasses import dataclass

from synthbench.metrics.nearest.power import power_text
from synthbench.metrics.nearest.verdict import WORDS, CopyVerdict, gravest
from synthbench.records.memorization import CopiesTest, MemorizationRecord
from synthbench.records.scorecard import Scorecard
from synthbench.render.numbers import number, p_text

NOT_ASSESSED = "not assessed"


@dataclass(frozen=True)
class CopiesFound:
    """The verdict over all spaces, of the volumes as they are and mirrored.

    Attributes
    ----------
    verdict
        The gravest verdict of any space; None where there was no test.
    details
        The spaces with that verdict, or the power of the tests; empty where there was no test.
    share
        Where no copies were found, the smallest share of copies that a test would have found with
        80% probability; None where no test would have.
    """

    verdict: CopyVerdict | None
    details: str
    share: float | None = None

    @property
    def words(self) -> str:
        """The verdict in words, without the details."""
        return NOT_ASSESSED if self.verdict is None else WORDS[self.verdict]

    @property
    def text(self) -> str:
        """The verdict with its details."""
        return f"{self.words} {self.details}".strip()


def copies_found(card: Scorecard) -> CopiesFound:
    """Return the verdict on copies of training images over all spaces, plain and mirrored."""
    records = card.memorization
    if not records:
        return CopiesFound(None, "")
    verdict = gravest(record.verdict for record in records)
    if verdict == "none":
        tests = [t for record in records for t in (record.plain, record.flipped) if t]
        shares = [t.detectable_share for t in tests if t.detectable_share is not None]
        share = min(shares, default=None)
        return CopiesFound(verdict, f"({power_text(share)})", share)
    spaces = [_where(record) for record in records if record.verdict == verdict]
    details = f"in {', '.join(spaces)}"
    exact = max(record.exact_copies for record in records)
    if verdict == "copies" and exact:
        details += f"; {exact} exact"
    return CopiesFound(verdict, details)


def _where(record: MemorizationRecord) -> str:
    """Return a space with the figure behind its verdict."""
    tests = [t for t in (record.plain, record.flipped) if t]
    if record.verdict == "nearer":
        return f"{record.space} (gap {_gap(record.plain)})"
    if record.verdict == "sides_differ" and record.sides_p is not None:
        return f"{record.space} (p {p_text(record.sides_p)})"
    near = [t.near_p for t in tests if t.near_p is not None]
    p = min(near) if near else min(t.p for t in tests)
    return f"{record.space} (p {p_text(p)})"


def copies_lines(card: Scorecard) -> list[str]:
    """Return one line per space with the results of its tests, or why there was no test."""
    if card.not_assessed:
        return [f"copies: {card.not_assessed}"]
    return [_line(record) for record in card.memorization]


def _line(record: MemorizationRecord) -> str:
    line = f"copies ({record.space}): {_finding(record, record.plain)}"
    if record.flipped is not None:
        line += f"; mirrored: {_finding(record, record.flipped)}"
    if record.sides_p is not None:
        line += f"; training against hold-out p {p_text(record.sides_p)}"
    if record.exact_copies:
        line += f"; {record.exact_copies} exact copies"
    line += f"; AuthPct {record.auth_pct:.0f}%; n = {record.n} per side"
    return line + sampled_words(record.sampled)


def sampled_words(sampled: int | None) -> str:
    """Return what follows a finding that was made on some of the volumes only; else nothing."""
    return "" if sampled is None else f"; of {sampled} random volumes of each set that has more"


def _finding(record: MemorizationRecord, test: CopiesTest) -> str:
    verdict = record.verdict_of(test)
    words = WORDS[verdict]
    if verdict != "copies":
        words += f" ({power_text(test.detectable_share)})"
    if test.near_p is not None:
        words += f", near copies p {p_text(test.near_p)}"
    if test.close or test.holdout_close:
        words += (
            f", as close as a copy to one training subject: {test.close} volumes, to one hold-out "
            f"subject: {test.holdout_close}"
        )
    return f"{words}, gap {_gap(test)} p {p_text(test.p)}"


def _gap(test: CopiesTest) -> str:
    interval = test.interval
    if interval is None:
        return number(test.value)
    return f"{number(test.value)} [{number(interval.low)}, {number(interval.high)}]"
