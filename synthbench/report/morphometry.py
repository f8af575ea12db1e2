"""A scorecard's regional morphometry, worded once for all pages."""

from __future__ import annotations

from synthbench.metrics.measures.morphometry import REJECT_SD, SMALL
from synthbench.records.morphometry import MorphometryRecord, RegionRecord
from synthbench.records.scorecard import Scorecard
from synthbench.render.numbers import number, p_text

MOST_NAMED = 3
"""How many regions a line names."""


def differing(record: MorphometryRecord) -> list[RegionRecord]:
    """Return the regions that differ by more than chance, the surest first."""
    return [one for one in record.worst if one.p <= 1 - record.level]


def regions_text(record: MorphometryRecord) -> str:
    """Return the finding in a few clauses.

    The share within 0.2 at the floor's n, the worst regions with their intervals, the rejects.
    """
    share = (
        f"{record.within:.0%} of {len(record.regions)} regions within {SMALL:g} sd of real "
        f"(real halves at n={record.floor_n}: {record.within_low:.0%} to {record.within_high:.0%})"
    )
    differ = differing(record)
    worst = ", ".join(region_words(one) for one in record.worst[:MOST_NAMED])
    if differ:
        more = f"{len(differ)} differ by more than chance, worst"
        worst = ", ".join(region_words(one) for one in differ[:MOST_NAMED])
    else:
        more = "none differs by more than chance, most"
    return (
        f"{share}; {more} {worst}; rejects (a region beyond {REJECT_SD:g} sd): "
        f"{record.rejects_synth} of {record.n_synth} synthetic, {record.rejects_real} of "
        f"{record.n_real} real"
    )


def region_words(one: RegionRecord) -> str:
    """Return a region with its d, the simultaneous interval and the adjusted p."""
    return f"{one.name} d={one.d:+.2f} [{one.low:+.2f}, {one.high:+.2f}] p {p_text(one.p)}"


def regions_lines(card: Scorecard) -> list[str]:
    """Return one line per source of measures."""
    return [f"regions ({one.source}): {regions_text(one)}" for one in card.morphometry]


def distance_text(record: MorphometryRecord) -> str:
    """Return the mean distance beside that of real halves."""
    return (
        f"{number(record.distance)} (real halves: {number(record.distance_low)} to "
        f"{number(record.distance_high)})"
    )
