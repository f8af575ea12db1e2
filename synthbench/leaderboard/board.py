"""A benchmark's folder as it was read: entries in order, the rows of scorecards, their text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from synthbench.leaderboard import multiverse as multiverse_module
from synthbench.leaderboard.entries import comparable, read_entries
from synthbench.leaderboard.multiverse import Multiverse
from synthbench.leaderboard.ranking import Comparisons, MetricRanking
from synthbench.metrics.metric import Direction
from synthbench.records.scorecard import Scorecard
from synthbench.records.values import FloorRecord, Value
from synthbench.render.markdown import escaped
from synthbench.render.numbers import number
from synthbench.report.text import SATURATED, interval_words
from synthbench.scoring.benchmark import Benchmark, FrozenFloor

REASON = 80
"""Characters of the reason why a value is missing; its scorecard has all of them."""
ARROWS = {"lower": "↓", "higher": "↑", "zero": "→ 0"}

Floor = FrozenFloor | FloorRecord


@dataclass(frozen=True)
class Board:
    """A benchmark's folder, as it was read.

    Attributes
    ----------
    folder, benchmark
        The benchmark.
    cards
        All its scorecards, by the names of their files.
    ordered
        The comparable ones, by the primary metric.
    comparisons, multiverse
        Where they are of these entries.
    stale
        By what is of other entries ("comparisons", "multiverse"), what changed since.
    """

    folder: Path
    benchmark: Benchmark
    cards: Mapping[str, Scorecard]
    ordered: Mapping[str, Scorecard]
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
        names = sorted(ordered, key=lambda name: _place(ordered[name], name, benchmark.primary))
        ordered = {name: ordered[name] for name in names}
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
        return cls(folder, benchmark, cards, ordered, comparisons, multiverse, stale)

    def called(self, name: str) -> str:
        """What an entry's scorecard calls it, with its file's name where others are called so."""
        own = self.cards[name].name
        shared = sum(card.name == own for card in self.cards.values()) > 1
        return f"{own} ({name})" if shared and own != name else own

    def number(self, name: str) -> int:
        """An entry's number on the page, from 1."""
        return list(self.ordered).index(name) + 1


@dataclass(frozen=True)
class Key:
    """A row of scorecards: a metric, by one extractor where it uses features.

    `row` is one of them, for what all say of their metric.
    """

    metric: str
    extractor: str | None
    row: Value

    @property
    def label(self) -> str:
        """The words in a table."""
        return self.row.label

    @property
    def direction(self) -> Direction:
        """Which way is better."""
        return self.row.direction

    @property
    def is_part(self) -> bool:
        """Whether it is a part of a metric."""
        return self.row.key.part is not None

    @property
    def for_papers(self) -> bool:
        """Whether it is shown for comparison with papers only."""
        return self.row.role == "for_papers"

    def of(self, card: Scorecard) -> Value | None:
        """The row in a card; `Scorecard.row` would take None for any extractor."""
        for value in card.values:
            if (value.metric, value.extractor) == (self.metric, self.extractor):
                return value
        return None


def all_keys(cards: Iterable[Scorecard]) -> list[Key]:
    """Return all rows that any of the cards has, in the order in which they are met."""
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
    return sorted(found, key=lambda key: key.metric != board.benchmark.primary)


def _place(card: Scorecard, name: str, primary: str) -> tuple[int, float, str]:
    row = card.row(primary)
    if row is None or row.value is None:
        return (1, 0.0, name)
    key = {"lower": row.value, "zero": abs(row.value), "higher": -row.value}[row.direction]
    return (0, key, name)


def stale_words(board: Board, what: str, folder: Path) -> str:
    """Return what is of other entries, and the command that fixes it in that folder."""
    file, option = {
        "comparisons": ("comparisons.json", "--compare"),
        "multiverse": (multiverse_module.FILE, "--multiverse"),
    }[what]
    return (
        f"{file} is of other entries ({'; '.join(board.stale[what])}): run synthbench leaderboard "
        f"{folder} {option} where they were scored"
    )


def usual_folder(board: Board) -> Path:
    """Return where benchmarks are kept: a page is the same from wherever it is rendered."""
    return Path("leaderboards") / board.folder.resolve().name


def plain_title(board: Board, name: str) -> str:
    """Return an entry's number and name as plain text."""
    return f"{board.number(name)}. {board.called(name)}"


def entry_title(name: str, board: Board) -> str:
    """Return an entry's number and name as markdown."""
    return escaped(plain_title(board, name))


def floor_of(key: Key, board: Board) -> Floor | None:
    """Return the benchmark's own floor of a row, else the one that the first entry found."""
    for floor in board.benchmark.floors:
        if (floor.metric, floor.extractor) == (key.metric, key.extractor):
            return floor
    rows = [key.of(card) for card in board.ordered.values()]
    return next((row.floor for row in rows if row and row.floor), None)


def ranking_by(board: Board, key: Key) -> MetricRanking | None:
    """Return the ranks under a metric, where the entries were compared."""
    if board.comparisons is None:
        return None
    return board.comparisons.ranking(key.metric, key.extractor)


def key_title(key: Key, board: Board, *, extractor: bool = True, n: bool = True) -> str:
    """Return a row's label as plain text, with its extractor where there are several."""
    label = key.row.label_at(_n(board.benchmark)) if n else key.label
    several = len(board.benchmark.protocol.extractors) > 1
    return f"{label}, {key.extractor}" if several and extractor and key.extractor else label


def key_heading(key: Key, board: Board, *, extractor: bool = True, n: bool = True) -> str:
    """Return a row's label with its direction as plain text."""
    # A part takes the whole's direction, and a mean of one set has none of its own.
    aimless = key.is_part and key.direction == "zero"
    arrow = "" if aimless else f" {ARROWS[key.direction]}"
    return key_title(key, board, extractor=extractor, n=n) + arrow


def is_saturated(key: Key, card: Scorecard) -> bool:
    """Return whether a card's value of a row is near the ceiling of its kernel."""
    row = key.of(card)
    return row is not None and bool(row.saturated)


def _n(benchmark: Benchmark) -> int:
    return min(benchmark.protocol.n_real, benchmark.protocol.n_synth)


def value_text(row: Value) -> str:
    """Return a value with its interval, or in short why there is none, as plain text."""
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
    """Return an entry's rank interval; a dash where it is not ranked."""
    for place in found.places:
        if place.entry == name:
            low, high = place.rank_low, place.rank_high
            return place_range(low, high)
    return "-"


def place_range(low: int, high: int) -> str:
    """Return a range of places."""
    return str(low) if low == high else f"{low}–{high}"
