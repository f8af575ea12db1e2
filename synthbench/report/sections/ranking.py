"""A benchmark's ranking, as the overview of its page shows it."""

from __future__ import annotations

from dataclasses import dataclass

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
    """

    text: str
    sort: float | str
    standing: Standing | None = None
    prose: bool = False

    @property
    def style(self) -> str:
        """The cell's classes in the style sheet."""
        kind = "verdict" if self.prose else "number"
        return kind if self.standing is None else f"{kind} {self.standing.replace(' ', '-')}"

    @property
    def sign(self) -> str:
        """The verdict's sign; empty where there is none."""
        return "" if self.standing is None else SIGNS[self.standing]


@dataclass(frozen=True)
class Ranking:
    """A benchmark's ranking.

    Attributes
    ----------
    words
        An explanation of ranks.
    heads
        The heads of the columns after the entry's name, and True where the cells are words.
    rows
        Each entry's name, and its cells.
    pairs
        All pairs: first, second, difference, p as text, and p.
    """

    words: str
    heads: tuple[tuple[str, bool], ...]
    rows: tuple[tuple[str, tuple[RankCell, ...]], ...]
    pairs: tuple[tuple[str, str, str, str, float], ...]
