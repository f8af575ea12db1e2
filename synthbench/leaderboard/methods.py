"""Methods: their kind, and those with several training seeds, whose entries share one row.

Entries belong to one method where all that their sidecars say of the training is equal but its
seed, and so are sampler and training cohort, and each has weights of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from synthbench.leaderboard.entries import in_order
from synthbench.leaderboard.ranking import MetricRanking
from synthbench.records.keys import JobKey
from synthbench.records.scorecard import BASELINES, Scorecard

Row: TypeAlias = tuple[str, ...]
"""The names of the entries in one row."""

Kind = Literal["trained", "baseline", "unstated"]
"""What made the volumes: a trained network, a generator without one, or nothing that is stated
(real volumes among them)."""

KINDS: dict[Kind, str] = {
    "trained": "trained generator",
    "baseline": "baseline without a network",
    "unstated": "no generator stated",
}
"""The words of each kind."""


def kind_of(card: Scorecard) -> Kind:
    """Return what made the volumes of a scorecard, as their sidecars state it."""
    if card.origin.generator is None:
        return "unstated"
    return "baseline" if card.origin.generator in BASELINES else "trained"


Method: TypeAlias = tuple[str | int | None, ...]
"""What is equal for all training seeds of one method."""


def method_of(card: Scorecard) -> Method | None:
    """Return what tells the method of a scorecard's volumes; None where it is not stated."""
    origin = card.origin
    if origin.method is None or origin.weights_sha256 is None:
        return None
    return (origin.method, origin.training_cohort, origin.drawing)


def rows_in_order(cards: Mapping[str, Scorecard], primary: JobKey) -> tuple[Row, ...]:
    """Return the rows of a leaderboard, the best by the primary metric first.

    A row with several training seeds is placed by the mean of its values; its entries are in the
    order of their values.
    """
    groups: dict[Method, list[str]] = {}
    for name in in_order(cards, primary):
        origin = cards[name].origin
        key = method_of(cards[name]) or (name,)
        weights = [cards[other].origin.weights_sha256 for other in groups.get(key, [])]
        if origin.weights_sha256 in weights:
            key = (name,)  # the same network, sampled again
        groups.setdefault(key, []).append(name)

    def place(names: list[str]) -> tuple[bool, float]:
        values = [loss for name in names if (loss := _loss(cards[name], primary)) is not None]
        return (not values, sum(values) / len(values) if values else 0.0)

    return tuple(tuple(names) for names in sorted(groups.values(), key=place))


def _loss(card: Scorecard, primary: JobKey) -> float | None:
    row = card.row(primary.metric, primary.extractor)
    if row is None or row.value is None:
        return None
    return {"lower": row.value, "zero": abs(row.value), "higher": -row.value}[row.direction]


def row_ranks(
    row: Row, rows: Sequence[Row], found: MetricRanking, level: float
) -> tuple[int, int] | None:
    """Return the rank interval of a row among the rows; None where it has no value.

    A row is better than another where each of its entries is significantly better than each of
    the other's. The interval runs from 1 + the number of rows that are better to the number of
    rows minus those that are worse, as for entries. Pairs that were not compared count as ties, so
    a row with an entry that was added later has all ranks.
    """
    with_value = [one for one in (_with_value(r, found) for r in rows) if one]
    own = _with_value(row, found)
    if not own:
        return None
    others = [other for other in with_value if other != own]
    better = sum(_beats(other, own, found, level) for other in others)
    worse = sum(_beats(own, other, found, level) for other in others)
    return 1 + better, len(with_value) - worse


def row_ties(row: Row, rows: Sequence[Row], found: MetricRanking, level: float) -> list[int]:
    """Return the indices of the other rows that are neither better nor worse than a row.

    Rows with an entry that was added later were not compared, and are left out.
    """
    if not_all_compared(row, found):
        return []
    own = _placed(row, found)
    tied = []
    for index, candidate in enumerate(rows):
        other = _placed(candidate, found)
        if not own or not other or other == own or not_all_compared(candidate, found):
            continue
        if not (_beats(own, other, found, level) or _beats(other, own, found, level)):
            tied.append(index)
    return tied


def beats(row: Row, other: Row, found: MetricRanking, level: float) -> bool:
    """Return True where each entry of a row is significantly better than each of the other's."""
    own, others = _with_value(row, found), _with_value(other, found)
    return bool(own and others) and _beats(own, others, found, level)


def not_all_compared(row: Row, found: MetricRanking) -> bool:
    """Return True where an entry of a row was added after the comparison."""
    return any(name in found.added for name in row)


def _placed(row: Row, found: MetricRanking) -> Row:
    """Return the entries of a row that have a place, best first."""
    return tuple(place.entry for place in found.places if place.entry in row)


def _with_value(row: Row, found: MetricRanking) -> Row:
    """Return the entries of a row that have a value, compared or not."""
    return (*_placed(row, found), *(name for name in row if name in found.added))


def _beats(one: Row, other: Row, found: MetricRanking, level: float) -> bool:
    order = [place.entry for place in found.places]
    for first in one:
        for second in other:
            pair = found.pair(first, second)
            differs = pair is not None and pair.p <= 1 - level + 1e-12
            if not differs or order.index(first) > order.index(second):
                return False
    return True
