"""A benchmark's folder as it was read: entries in order, the rows of scorecards, their text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from synthbench.leaderboard import multiverse as multiverse_module
from synthbench.leaderboard.entries import comparable, read_entries
from synthbench.leaderboard.methods import Row, rows_in_order
from synthbench.leaderboard.multiverse import Multiverse
from synthbench.leaderboard.ranking import Comparisons, MetricRanking
from synthbench.metrics.metric import Direction
from synthbench.records.scorecard import Scorecard
from synthbench.records.values import FloorRecord, Value
from synthbench.render.markdown import escaped
from synthbench.render.numbers import number
from synthbench.report.standing import SATURATED
from synthbench.report.text import interval_words
from synthbench.scoring.benchmark import Benchmark, FrozenFloor

REASON = 80
"""Characters that are shown of the reason why a value is missing; the scorecard has all."""
ARROWS = {"lower": "↓", "higher": "↑", "zero": "→ 0"}

NOT_COMPARED = "not compared"
"""What stands in place of the rank of an entry that came after the comparison."""

Floor = FrozenFloor | FloorRecord


@dataclass(frozen=True)
class Board:
    """A benchmark's folder, as it was read.

    Attributes
    ----------
    folder, benchmark
        The folder, and the benchmark in it.
    cards
        All its scorecards, by the names of their files.
    rows
        The comparable ones, the best by the primary metric first; those of one method with
        different training seeds share a row.
    comparisons, multiverse
        None where there are none, or an entry of theirs is gone or changed. Entries that were
        added later take no part in them.
    stale
        By the record of which an entry is gone or changed ("comparisons", "multiverse"), what
        changed since it was written.
    """

    folder: Path
    benchmark: Benchmark
    cards: Mapping[str, Scorecard]
    rows: tuple[Row, ...]
    comparisons: Comparisons | None
    multiverse: Multiverse | None
    stale: Mapping[str, Sequence[str]]

    @classmethod
    def read(cls, folder: Path) -> Board:
        """Read a benchmark's folder.

        Raises
        ------
        ScorecardError
            There is no benchmark, no entry, or a file cannot be read.
        """
        benchmark = Benchmark.load(folder)
        cards = read_entries(folder)
        ordered = comparable(cards, benchmark)
        stale: dict[str, Sequence[str]] = {}
        comparisons = Comparisons.find(folder)
        if comparisons is not None:
            changed = comparisons.stale(folder, ordered, benchmark.protocol.hash)
            if changed:
                stale["comparisons"] = changed
                comparisons = None
        multiverse = Multiverse.find(folder)
        if multiverse is not None:
            changed = multiverse.stale(folder, ordered, benchmark.protocol.hash)
            if changed:
                stale["multiverse"] = changed
                multiverse = None
        rows = rows_in_order(ordered, benchmark.primary_key)
        return cls(folder, benchmark, cards, rows, comparisons, multiverse, stale)

    @cached_property
    def ordered(self) -> dict[str, Scorecard]:
        """The comparable scorecards, in the order of the rows."""
        return {name: self.cards[name] for row in self.rows for name in row}

    def row(self, name: str) -> Row:
        """Return the row of an entry."""
        return next(row for row in self.rows if name in row)

    def called(self, name: str) -> str:
        """Return an entry's name in its scorecard, with its file's where others share the name.

        Among several training seeds, it is told by its seed.
        """
        own = self.cards[name].name
        if name in self.ordered and len(self.row(name)) > 1:
            return f"{own}, seed {self.cards[name].origin.training_seed}"
        shared = sum(card.name == own for card in self.cards.values()) > 1
        return f"{own} ({name})" if shared and own != name else own

    def number(self, name: str) -> int:
        """Return the number of an entry's row on the page, from 1."""
        return self.rows.index(self.row(name)) + 1

    def tag(self, name: str) -> str:
        """Return what tells an entry on the page: "3", or "3b" for the second seed of a row."""
        row = self.row(name)
        letter = _letter(row.index(name)) if len(row) > 1 else ""
        return f"{self.number(name)}{letter}"


@dataclass(frozen=True)
class Key:
    """A row of scorecards: a metric, by one extractor where it uses features.

    `row` is the row of one of the cards, for what the metric declares of itself.
    """

    metric: str
    extractor: str | None
    row: Value

    @property
    def label(self) -> str:
        """The metric's label in a table."""
        return self.row.label

    @property
    def direction(self) -> Direction:
        """Which way is better."""
        return self.row.direction

    @property
    def is_part(self) -> bool:
        """True where it is a part of a metric."""
        return self.row.key.part is not None

    @property
    def for_papers(self) -> bool:
        """True where it is shown for comparison with papers only."""
        return self.row.role == "for_papers"

    def of(self, card: Scorecard) -> Value | None:
        """Return the row in a card; None where it has none."""
        # `Scorecard.row` would take None for any extractor.
        for value in card.values:
            if (value.metric, value.extractor) == (self.metric, self.extractor):
                return value
        return None


def _letter(index: int) -> str:
    """Return a, b, ... z, then 27, 28, ..."""
    return chr(ord("a") + index) if index < 26 else f"-{index + 1}"


def all_keys(cards: Iterable[Scorecard]) -> list[Key]:
    """Return all rows that any of the cards has, in order of first appearance."""
    found: dict[tuple[str, str | None], Key] = {}
    for card in cards:
        for value in card.values:
            place = value.metric, value.extractor
            found.setdefault(place, Key(*place, value))
    return list(found.values())


def own_keys(board: Board) -> list[Key]:
    """Return the metrics' own rows, and the parts that pages list."""
    keys = all_keys(board.ordered.values())
    return [key for key in keys if not key.for_papers and key.row.tabled]


def ranked_keys(board: Board) -> list[Key]:
    """Return the rows that entries are ordered by, the primary metric's first."""
    found = [key for key in own_keys(board) if not key.is_part]
    return sorted(found, key=lambda key: board.benchmark.place(key.metric, key.extractor))


def stale_words(board: Board, what: str, folder: Path) -> str:
    """Return what changed since a record was written, and the command that writes it again."""
    file, option = {
        "comparisons": ("comparisons.json", "--compare"),
        "multiverse": (multiverse_module.FILE, "--multiverse"),
    }[what]
    return (
        f"{file} was computed from other entries ({'; '.join(board.stale[what])}): run "
        f"synthbench leaderboard {folder} {option} on the machine that scored them"
    )


def usual_folder(board: Board) -> Path:
    """Return the folder below the one that holds it, so that a page is the same from anywhere."""
    folder = board.folder.resolve()
    return Path(folder.parent.name) / folder.name


def plain_title(board: Board, name: str) -> str:
    """Return an entry's number and name as plain text."""
    return f"{board.tag(name)}. {board.called(name)}"


def entry_title(name: str, board: Board) -> str:
    """Return an entry's number and name as markdown."""
    return escaped(plain_title(board, name))


def floor_of(key: Key, board: Board) -> Floor | None:
    """Return the benchmark's own floor of a row, else that of the first entry with one."""
    for floor in board.benchmark.floors:
        if (floor.metric, floor.extractor) == (key.metric, key.extractor):
            return floor
    rows = [key.of(card) for card in board.ordered.values()]
    return next((row.floor for row in rows if row and row.floor), None)


def ranking_by(board: Board, key: Key) -> MetricRanking | None:
    """Return the ranks under a metric, where the entries were compared.

    Entries that came after the comparison and have a value are listed in its `added`.
    """
    if board.comparisons is None:
        return None
    found = board.comparisons.ranking(key.metric, key.extractor)
    if found is None:
        return None
    with_value = [name for name in not_compared(board) if _has_value(key, board.cards[name])]
    return found.model_copy(update={"added": tuple(with_value)})


def not_compared(board: Board) -> list[str]:
    """Return the comparable entries that came after the comparison; none where there is none."""
    compared = board.ordered if board.comparisons is None else board.comparisons.entries
    return [name for name in board.ordered if name not in compared]


def _has_value(key: Key, card: Scorecard) -> bool:
    row = key.of(card)
    return row is not None and row.value is not None


def key_title(key: Key, board: Board, *, extractor: bool = True, n: bool = True) -> str:
    """Return a row's label as plain text, with its extractor where there are several."""
    protocol = board.benchmark.protocol
    label = key.row.label_at(protocol.n_real, protocol.n_synth) if n else key.label
    several = len(protocol.extractors) > 1
    return f"{label}, {key.extractor}" if several and extractor and key.extractor else label


def key_heading(key: Key, board: Board, *, extractor: bool = True, n: bool = True) -> str:
    """Return a row's label with its direction as plain text."""
    # A part has the direction of its metric, which means nothing for a mean of one set.
    without = key.is_part and key.direction == "zero"
    arrow = "" if without else f" {ARROWS[key.direction]}"
    return key_title(key, board, extractor=extractor, n=n) + arrow


def is_saturated(key: Key, card: Scorecard) -> bool:
    """Return True where a card's value of a row is near the ceiling of its kernel."""
    row = key.of(card)
    return row is not None and bool(row.saturated)


def value_text(row: Value) -> str:
    """Return a value with its interval, or a short reason why there is none, as plain text."""
    if row.value is None:
        words = str(row.missing or "missing")
        return words if len(words) <= REASON else f"{words[:REASON]}…"
    mark = f" {SATURATED}" if row.saturated else ""
    return f"{number(row.value)}{mark} {interval_words(row)}"


def value_cell(row: Value | None) -> str:
    """Return the markdown of `value_text`; empty without a row."""
    if row is None:
        return ""
    return escaped(value_text(row)) if row.value is None else value_text(row)


def sentence(text: str) -> str:
    """Return text as a sentence of markdown."""
    return f"{escaped(text)}."


def rank_text(name: str, found: MetricRanking) -> str:
    """Return an entry's rank interval; a dash where it is not ranked.

    An entry that was added later may take any place, so the intervals of the others end as many
    places later.
    """
    if name in found.added:
        return NOT_COMPARED
    for place in found.places:
        if place.entry == name:
            return place_range(place.rank_low, place.rank_high + len(found.added))
    return "-"


def place_range(low: int, high: int) -> str:
    """Return a range of places."""
    return str(low) if low == high else f"{low}–{high}"
