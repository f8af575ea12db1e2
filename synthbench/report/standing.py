"""How a value stands against its floor: the number that decides, and its words.

The floor is what disjoint halves of the real volumes, n per side, score against each other. Some
metrics depend on n. So the number that is compared with the floor, and that stands beside it on
every page, is the mean of n synthetic against n real volumes. The value of all volumes is named
with their numbers. A verdict describes these volumes and is no test; tests are named as such.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from synthbench.records.scorecard import Scorecard
from synthbench.records.values import FloorRecord, Value
from synthbench.render.numbers import number, p_text

Standing = Literal["within", "worse", "other side", "no floor", "missing"]

SIGNS: dict[Standing, str] = {
    "within": "=",
    "worse": "✗",
    "other side": "≠",
    "no floor": "·",
    "missing": "–",
}
"""One sign per standing, so that readers do not depend on colour."""

SATURATED = "‡"
"""The mark of a value near the kernel's ceiling."""

TEST_LEVEL = 0.05
"""A permutation test finds a difference where its p is not above this."""

FAMILIES = {
    "mmd2": "kernel distances",
    "kid": "kernel distances",
    "precision": "nearest neighbours",
    "recall": "nearest neighbours",
    "density": "nearest neighbours",
    "coverage": "nearest neighbours",
    "clipped_density": "nearest neighbours",
    "clipped_coverage": "nearest neighbours",
    "rke": "variety",
    "ms_ssim": "variety",
    "spectrum": "spectrum",
    "intensity": "intensity",
    "morphometry": "regional volumes",
    "quality": "image quality",
    "constraints": "constraint violations",
}
"""Metrics of one family look at the same thing. A metric that is not here is its own family."""


@dataclass(frozen=True)
class Verdict:
    """How a value compares with its floor.

    Attributes
    ----------
    standing
        "within": in the floor's central 95%. "worse": outside, on the worse side. "other side":
        outside, on the better side. "no floor": nothing to compare with, or it cannot be told.
        "missing": no value.
    words
        A clause for a table.
    """

    standing: Standing
    words: str

    @property
    def sign(self) -> str:
        """The standing's sign."""
        return SIGNS[self.standing]


@dataclass(frozen=True)
class Headline:
    """The number of a row that decides, with what is known of its uncertainty.

    Attributes
    ----------
    value
        At the floor's n where there is a floor; otherwise of all volumes.
    n
        Volumes per side; None: all volumes.
    interval
        The confidence interval, where it covers this number: that of a metric whose expected
        value does not depend on n, or of all volumes.
    spread
        The central 95% of the value over the random halves, where it depends on n and an interval
        for all volumes would not belong to it. None: there is an interval, or an old scorecard.
    saturated
        True where the value is near the kernel's ceiling.
    """

    value: float
    n: int | None
    interval: tuple[float, float] | None = None
    spread: tuple[float, float] | None = None
    saturated: bool = False

    @property
    def number(self) -> str:
        """The number as text, marked where it is near its ceiling."""
        return f"{number(self.value)} {SATURATED}" if self.saturated else number(self.value)

    @property
    def text(self) -> str:
        """The number with its interval [..] or its spread (..)."""
        if self.interval is not None and self.interval[0] < self.interval[1]:
            return f"{self.number} [{number(self.interval[0])}, {number(self.interval[1])}]"
        if self.spread is not None and self.spread[0] < self.spread[1]:
            return f"{self.number} ({number(self.spread[0])}, {number(self.spread[1])})"
        return self.number


def depends_on_n(value: Value) -> bool:
    """Return True where the metric's expected value depends on the number of volumes."""
    return value.target != "zero"


def headline(value: Value) -> Headline | None:
    """Return the number of a row that decides; None where it has no value."""
    if value.value is None or value.missing is not None:
        return None
    found, floor = value.interval, value.floor
    interval = None if found is None else (found.low, found.high)
    saturated = bool(value.saturated)
    if floor is None:
        return Headline(value.value, None, interval, saturated=saturated)
    if not depends_on_n(value):
        return Headline(floor.synth_mean, floor.n, interval, saturated=saturated)
    spread = None
    if floor.synth_low is not None and floor.synth_high is not None:
        spread = (floor.synth_low, floor.synth_high)
    return Headline(floor.synth_mean, floor.n, spread=spread, saturated=saturated)


def headline_text(value: Value) -> str:
    """Return the number of a row that decides, without its interval; a dash where there is none."""
    found = headline(value)
    return "–" if found is None else found.number


def verdict(value: Value) -> Verdict:
    """Return how a row compares with its floor.

    Examples
    --------
    >>> from synthbench.records.values import FloorRecord
    >>> floor = FloorRecord(n=35, mean=0.74, low=0.69, high=0.85, synth_mean=21.5)
    >>> verdict(Value(metric="fid", label="FID", direction="lower", value=21.3, floor=floor)).words
    'too far'
    """
    found, floor = headline(value), value.floor
    if found is None:
        return Verdict("missing", "no value" if value.missing is None else value.missing.text)
    if floor is None:
        return Verdict("no floor", "no floor to compare with")
    if floor.low <= found.value <= floor.high or _reaches(found, floor):
        return Verdict("within", _like_real(value))
    above = found.value > floor.high
    if value.of_variety:
        return Verdict("worse", "too alike" if above else "too varied")
    # A distance below the floor is suspicious; a share of faults is only small, as for all alike.
    # Not where its halves lie above the floor too: a few volumes far from all others move an
    # unbiased kernel distance that far, to either side (a generator that fails now and then).
    if value.direction == "lower" and value.role != "descriptive":
        if above:
            return Verdict("worse", "too far")
        if floor.synth_high is not None and floor.synth_high > floor.high:
            return Verdict("no floor", "cannot be told: spread beyond real")
        return Verdict("other side", "too near: copies?")
    worse = value.direction == "zero" or above == (value.direction == "lower")
    return Verdict("worse" if worse else "other side", "above real" if above else "below real")


def _reaches(found: Headline, floor: FloorRecord) -> bool:
    """Return True where real volumes always score the same, and many draws of the value do too.

    A share may be 1 for all halves of a small real set. Then any single miss puts the mean outside.
    """
    if floor.low != floor.high or found.spread is None:
        return False
    return found.spread[0] <= floor.low <= found.spread[1]


def _like_real(value: Value) -> str:
    """Return the words within the floor; a test of all volumes may see more than n per side."""
    if value.p is None or value.p > TEST_LEVEL:
        return "like real"
    p = p_text(value.p)
    return f"like real, but p {p if p.startswith('<') else f'= {p}'}"


VERDICT_WORDS = (
    "floor: what real volumes score against other real volumes at this n (central 95%). like real: "
    "the value is inside. too far: further from real than real from itself"
)
TEST_WORDS = "p: a permutation test of all volumes finds a difference that this n does not show"


def ranked_rows(card: Scorecard) -> list[Value]:
    """Return the metrics' own rows, without their parts and without metrics for papers."""
    return [v for v in card.values if v.key.part is None and v.role != "for_papers"]


def family_of(value: Value) -> str:
    """Return the name of a row's family of metrics."""
    return FAMILIES.get(value.key.metric, value.label)


def families(rows: Iterable[Value]) -> dict[str, Standing]:
    """Return how each family stands that has a row with a floor: by the worst of its rows."""
    order: list[Standing] = ["worse", "other side", "within"]
    found: dict[str, Standing] = {}
    for row in rows:
        standing = verdict(row).standing
        if standing in order:
            before = found.get(family_of(row), "within")
            found[family_of(row)] = min(before, standing, key=order.index)
    return found


def families_words(card: Scorecard) -> str:
    """Return in how many families the volumes are further from real than real from itself.

    Empty where nothing can be compared with a floor.
    """
    found = families(ranked_rows(card))
    if not found:
        return ""
    by = {s: [name for name, own in found.items() if own == s] for s in found.values()}
    worse, nearer, within = (by.get(s, []) for s in ("worse", "other side", "within"))
    n = len(found)
    if n == 1:
        which = f"by the one family of metrics that was scored ({next(iter(found))})"
        if within:
            return f"as near to real as real is to itself {which}"
        far = "further from real than real from itself" if worse else "nearer to real than real"
        return f"{far} {which}"
    if not worse and not nearer:
        return f"as near to real as real is to itself in all {n} families of metrics"
    clauses = []
    if worse:
        which = f" ({', '.join(worse)})" if len(worse) <= n / 2 else ""
        if len(worse) > n / 2 and within and not nearer:
            which = f" (all but {', '.join(within)})"
        count = f"all {n}" if len(worse) == n else f"{len(worse)} of {n}"
        clauses.append(
            f"further from real than real from itself in {count} families of metrics{which}"
        )
    if nearer:
        clauses.append(
            f"nearer to real than real to itself in {len(nearer)} of {n} families "
            f"({', '.join(nearer)}): look for copies"
        )
    return " and ".join(clauses)
