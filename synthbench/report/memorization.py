"""The results of a scorecard's tests for copies of training images, worded once for all pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from synthbench.records.memorization import MemorizationRecord
from synthbench.records.scorecard import Scorecard
from synthbench.render.numbers import p_text

CopiesVerdict = Literal["detected", "none detected", "not assessed"]


@dataclass(frozen=True)
class CopiesFound:
    """The verdict over all spaces, of the volumes as they are and mirrored.

    Attributes
    ----------
    verdict
        "detected" where any test detected copies.
    details
        The spaces with their p, or the power of the tests; empty where there was no test.
    """

    verdict: CopiesVerdict
    details: str

    @property
    def text(self) -> str:
        """The verdict with its details."""
        return f"{self.verdict} {self.details}".strip()


def copies_found(card: Scorecard) -> CopiesFound:
    """Return the verdict on copies of training images over all spaces, plain and mirrored."""
    if not card.memorization:
        return CopiesFound("not assessed", "")
    tests = [(r.space, t) for r in card.memorization for t in (r.plain, r.flipped) if t]
    p_of: dict[str, float] = {}
    for space, test in tests:
        if test.detected:
            p_of[space] = min(test.p, p_of.get(space, 1.0))
    if p_of:
        exact = max(record.exact_copies for record in card.memorization)
        spaces = ", ".join(f"{space} (p {p_text(p)})" for space, p in p_of.items())
        return CopiesFound("detected", f"in {spaces}" + (f"; {exact} exact" if exact else ""))
    shares = [t.detectable_share for _, t in tests if t.detectable_share is not None]
    power = f"80% power at {min(shares):.0%}" if shares else "power below 80% at 50%"
    return CopiesFound("none detected", f"({power})")


def copies_lines(card: Scorecard) -> list[str]:
    """Return one line per space with the results of its tests, or why there was no test."""
    if card.not_assessed:
        return [f"copies: {card.not_assessed}"]
    return [_line(record) for record in card.memorization]


def _line(record: MemorizationRecord) -> str:
    plain = record.plain
    line = f"copies ({record.space}): {plain.text}; p {p_text(plain.p)}"
    if record.flipped is not None:
        line += f"; mirrored: {record.flipped.text}; p {p_text(record.flipped.p)}"
    if record.exact_copies:
        line += f"; {record.exact_copies} exact copies"
    return f"{line}; AuthPct {record.auth_pct:.0f}%; n = {record.n} per side"
