"""Groups of scorecards with one protocol and one real cohort, which can share axes and tables."""

from __future__ import annotations

from dataclasses import dataclass

from synthbench.records.scorecard import Scorecard
from synthbench.records.values import Value
from synthbench.report.sections.section import Page


@dataclass(frozen=True)
class Group:
    """Scorecards that can be compared, and their names on the page."""

    cards: tuple[Scorecard, ...]
    names: tuple[str, ...]

    @property
    def words(self) -> str:
        """A line on their common cohort and protocol."""
        first = self.cards[0]
        return (
            f"{first.protocol.n_synth} synthetic against {first.real.n} real volumes, "
            f"{first.protocol.space.grid}, protocol {first.protocol_hash}, real cohort "
            f"{first.real.fingerprint[:12]}"
        )

    @property
    def several(self) -> bool:
        """True where there is more than one."""
        return len(self.cards) > 1

    def rows(self) -> list[tuple[str, list[tuple[str, Value]]]]:
        """Return each metric's label with the rows of all cards that have it, by their names."""
        keys = dict.fromkeys((v.metric, v.extractor) for card in self.cards for v in card.values)
        found = []
        for key in keys:
            rows = [
                (name, row)
                for name, card in zip(self.names, self.cards, strict=True)
                if (row := row_of(card, *key)) is not None
            ]
            found.append((self.label(rows[0][1]), rows))
        return found

    def label(self, value: Value) -> str:
        """Return a row's label, with its extractor where there are several."""
        several = len(self.cards[0].protocol.extractors) > 1
        return f"{value.label}, {value.extractor}" if several and value.extractor else value.label


def groups(page: Page) -> list[Group]:
    """Return the page's scorecards in groups of one protocol and one real cohort."""
    found: dict[tuple[str, str], list[int]] = {}
    for i, card in enumerate(page.cards):
        found.setdefault((card.protocol_hash, card.real.fingerprint), []).append(i)
    return [
        Group(tuple(page.cards[i] for i in group), tuple(page.names[i] for i in group))
        for group in found.values()
    ]


def row_of(card: Scorecard, metric: str, extractor: str | None) -> Value | None:
    """Return the row of a metric by exactly this extractor, or without one where it is None."""
    # `Scorecard.row` would take None for any extractor.
    rows = (v for v in card.values if (v.metric, v.extractor) == (metric, extractor))
    return next(rows, None)
