"""A benchmark's entries as its page shows them: what they say, one table, one picture, pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthbench.report.standing import SIGNS, Standing


@dataclass(frozen=True)
class RankCell:
    """A cell of a ranking.

    Attributes
    ----------
    text
        As a reader sees it.
    sort
        The key that the column is sorted by.
    standing
        A verdict, which is shown by its sign; None without one.
    prose
        True where the cell holds words, not a number.
    more
        True where the column is shown on request only.
    """

    text: str
    sort: float | str
    standing: Standing | None = None
    prose: bool = False
    more: bool = False

    @property
    def style(self) -> str:
        """The cell's classes in the style sheet."""
        kind = "verdict" if self.prose else "number"
        kind += " more" if self.more else ""
        return kind if self.standing is None else f"{kind} {self.standing.replace(' ', '-')}"

    @property
    def sign(self) -> str:
        """The verdict's sign; empty where there is none."""
        return "" if self.standing is None else SIGNS[self.standing]


@dataclass(frozen=True)
class RankRow:
    """A row of a ranking.

    Attributes
    ----------
    name
        Of the entry, or of the method.
    kind, copies
        What the row is filtered by: a key of `Ranking.kinds`, and one of `Ranking.copies`.
    cells
        After the name.
    """

    name: str
    kind: str
    copies: str
    cells: tuple[RankCell, ...]


@dataclass(frozen=True)
class Ranking:
    """A benchmark's entries, as its page shows them.

    Attributes
    ----------
    takeaways
        What they say, in sentences.
    words
        What the signs of the table mean.
    heads
        The heads of the columns after the entry's name: text, True where the cells are words,
        True where the column is shown on request only.
    floor
        The cells of the real-vs-real floor; empty where there is none.
    rows
        The best by the primary metric first.
    kinds, copies
        Words of the kinds of rows, and of what was found of copies, by key.
    picture
        A data URI of the forest plot, and its description.
    entries
        Names of the entries, which are compared: those of one row may be several.
    compared
        By metric: its label, a value and a verdict per entry, and what is known of each pair.
    pairs
        All pairs by the primary metric: first, second, difference, p as text, and p.
    """

    takeaways: Sequence[str]
    words: str
    heads: Sequence[tuple[str, bool, bool]]
    floor: Sequence[str]
    rows: Sequence[RankRow]
    kinds: Mapping[str, str]
    copies: Mapping[str, str]
    picture: tuple[str, str]
    entries: Sequence[str]
    compared: Sequence[Mapping[str, Any]]
    pairs: Sequence[tuple[str, str, str, str, float]]
