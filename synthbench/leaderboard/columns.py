"""The columns of a leaderboard, which the markdown page and the HTML page share.

To add a column, add a `Column` to `RANKING` or to `COST`. A column whose cells are all empty is
left out of the page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from synthbench.leaderboard.board import (
    NOT_COMPARED,
    Board,
    Floor,
    Key,
    floor_of,
    key_heading,
    place_range,
    ranking_by,
    value_text,
)
from synthbench.leaderboard.methods import not_all_compared, row_ranks, row_ties
from synthbench.leaderboard.ranking import MetricRanking
from synthbench.records.scorecard import Scorecard
from synthbench.records.values import Value
from synthbench.render.markdown import code, escaped
from synthbench.render.numbers import duration, number
from synthbench.report.failures import share_words
from synthbench.report.membership import membership_verdict
from synthbench.report.memorization import copies_found
from synthbench.report.opening import blur_cell
from synthbench.report.readers import verdict_cell
from synthbench.report.standing import Standing, headline, headline_text, verdict
from synthbench.report.text import FAILED
from synthbench.report.verdicts import FEW_SEEDS, copied_parts, copies
from synthbench.utility.table import verdict_words

ONE_SEED = "¹"
"""The mark of an entry with fewer than three training seeds."""


@dataclass(frozen=True)
class Entry:
    """One entry of a ranking, as the columns see it.

    Attributes
    ----------
    board, name, card
        The benchmark, the name of the entry's file, its scorecard.
    key
        The metric that the entries are ranked by.
    row
        The entry's value of that metric, where its scorecard has one.
    ranking
        The ranks, where the entries were compared.
    """

    board: Board
    name: str
    card: Scorecard
    key: Key
    row: Value | None
    ranking: MetricRanking | None


@dataclass(frozen=True)
class Cell:
    """The content of a cell.

    Attributes
    ----------
    text
        As a reader sees it.
    quoted
        True where the text holds names from the scorecard, which are not trusted: the markdown
        page escapes them. The HTML page escapes every text.
    strong
        The start of the text that is set in bold.
    code
        True where the text is set as code.
    sort
        The number that HTML sorts by; None: it sorts by the text.
    standing
        A verdict, which HTML shows by its sign.
    """

    text: str
    quoted: bool = False
    strong: str = ""
    code: bool = False
    sort: float | None = None
    standing: Standing | None = None

    def markdown(self) -> str:
        """Return the cell for a table of markdown."""
        if self.code:
            return code(self.text)
        text = escaped(self.text) if self.quoted else self.text
        if self.strong:
            text = f"**{self.strong}**{text.removeprefix(self.strong)}"
        return text


EMPTY = Cell("")


@dataclass(frozen=True)
class Column:
    """A column of a table of entries.

    Attributes
    ----------
    title
        The head as plain text, or a function of the benchmark and the metric that returns it.
    cell
        From an entry to its cell.
    floor
        From the real-vs-real floor to the cell in the floor's row; None leaves it empty.
    section
        The anchor of the section that the head links to; empty: no link.
    prose
        True where its cells are words, which HTML aligns to the left.
    always
        True where the column is shown although all its cells are empty.
    pooled
        From the entries of a method with several training seeds to one cell; None: the range of
        their cells, or all that they say.
    """

    title: str | Callable[[Board, Key], str]
    cell: Callable[[Entry], Cell]
    floor: Callable[[Floor], Cell] | None = None
    section: str = ""
    prose: bool = False
    always: bool = False
    pooled: Callable[[Sequence[Entry]], Cell] | None = None

    def head(self, board: Board, key: Key) -> str:
        """Return the column's head as plain text."""
        return self.title if isinstance(self.title, str) else self.title(board, key)

    def of_row(self, entries: Sequence[Entry]) -> Cell:
        """Return the cell of a row: of one entry, or of a method with several training seeds."""
        if len(entries) == 1:
            return self.cell(entries[0])
        if self.pooled is not None:
            return self.pooled(entries)
        return _together([self.cell(entry) for entry in entries])


def _together(cells: Sequence[Cell]) -> Cell:
    """Return one cell for several: what all say, their range, or each with how many say it."""
    told = {cell.text: cell for cell in cells if cell.text}
    if len(told) < 2:
        return next(iter(told.values()), EMPTY)
    found = sorted(told.values(), key=lambda cell: not cell.strong)
    numbers = [cell.sort for cell in found if cell.sort is not None]
    if len(numbers) == len(found):
        low = found[numbers.index(min(numbers))]
        high = found[numbers.index(max(numbers))]
        return replace(
            low, text=f"{low.text} to {high.text}", sort=sum(numbers) / len(numbers), strong=""
        )
    said = Counter(cell.text for cell in cells)
    who = [f"{said[cell.text]} of {len(cells)} seeds: " for cell in found]
    text = ". ".join(start + cell.text for start, cell in zip(who, found, strict=True))
    strong = who[0] + found[0].strong if found[0].strong else ""
    return replace(found[0], text=text, quoted=any(cell.quoted for cell in found), strong=strong)


def entries_of(board: Board, key: Key) -> list[Entry]:
    """Return the comparable entries, in the order of the board."""
    ranking = ranking_by(board, key)
    return [
        Entry(board, name, card, key, key.of(card), ranking) for name, card in board.ordered.items()
    ]


def rows_of(board: Board, key: Key) -> list[list[Entry]]:
    """Return the entries of each row, in the order of the board."""
    entries = {entry.name: entry for entry in entries_of(board, key)}
    return [[entries[name] for name in row] for row in board.rows]


def title_of(entries: Sequence[Entry]) -> str:
    """Return the name of a row as plain text."""
    first = entries[0]
    if len(entries) == 1:
        return first.board.called(first.name)
    return f"{first.card.name}, {len(entries)} training seeds"


def filled(columns: Sequence[Column], entries: Sequence[Entry]) -> list[Column]:
    """Return the columns that have a cell to show."""
    return [
        column
        for column in columns
        if column.always or any(column.cell(entry).text for entry in entries)
    ]


def heads(columns: Sequence[Column], board: Board, key: Key) -> list[str]:
    """Return the heads of columns for a table of markdown."""
    words = [escaped(column.head(board, key)) for column in columns]
    return [
        f"[{head}](#{column.section})" if column.section else head
        for column, head in zip(columns, words, strict=True)
    ]


# ---------------------------------------------------------------- the cells of a ranking


def _rank(entries: Sequence[Entry]) -> Cell:
    board, ranking = entries[0].board, entries[0].ranking
    if ranking is None or board.comparisons is None:
        return EMPTY
    row = tuple(entry.name for entry in entries)
    if not_all_compared(row, ranking):
        return Cell(NOT_COMPARED)
    found = row_ranks(row, board.rows, ranking, board.comparisons.level)
    return Cell("-") if found is None else Cell(place_range(*found), sort=found[0])


def _tied(entries: Sequence[Entry]) -> Cell:
    board, ranking = entries[0].board, entries[0].ranking
    if ranking is None or board.comparisons is None:
        return EMPTY
    row = tuple(entry.name for entry in entries)
    if not_all_compared(row, ranking):
        return EMPTY
    tied = row_ties(row, board.rows, ranking, board.comparisons.level)
    return Cell(", ".join(str(index + 1) for index in tied) or "-")


def _value_head(board: Board, key: Key) -> str:
    return f"{key_heading(key, board)} [{board.benchmark.protocol.level:.0%} CI]"


def _value(entry: Entry) -> Cell:
    if entry.row is None:
        return EMPTY
    text = value_text(entry.row)
    return Cell(text, quoted=entry.row.value is None, sort=entry.row.value)


def _values(entries: Sequence[Entry]) -> Cell:
    """Return the mean over training seeds, with their standard deviation and range."""
    values = [
        entry.row.value
        for entry in entries
        if entry.row is not None and entry.row.value is not None
    ]
    if len(values) < len(entries):
        return _together([_value(entry) for entry in entries])
    mean = float(np.mean(values))
    spread = f"sd {number(float(np.std(values, ddof=1)))} over seeds"
    ends = f"{number(min(values))} to {number(max(values))}"
    return Cell(f"mean {number(mean)}, {spread} ({ends})", sort=mean)


def headline_head(board: Board, key: Key) -> str:
    """Return the head of the column of the number that decides."""
    floor = floor_of(key, board)
    return key_heading(key, board, n=False) + (f" at n = {floor.n}" if floor else "")


def headline_cell(entry: Entry) -> Cell:
    """Return the number that decides, with its interval or its spread."""
    if entry.row is None:
        return EMPTY
    found = headline(entry.row)
    if found is None:
        return Cell(value_text(entry.row), quoted=True)
    return Cell(found.text, sort=found.value)


def headline_cells(entries: Sequence[Entry]) -> Cell:
    """Return the mean over training seeds, with their range."""
    found = [headline(entry.row) for entry in entries if entry.row is not None]
    values = [one.value for one in found if one is not None]
    if len(values) < len(entries):
        return _together([headline_cell(entry) for entry in entries])
    mean = float(np.mean(values))
    ends = f"{number(min(values))} to {number(max(values))}"
    return Cell(f"mean {number(mean)} (seeds {ends})", sort=mean)


def floor_cell(floor: Floor) -> Cell:
    """Return the floor's mean and its central 95%."""
    mean = number(floor.mean)
    return Cell(f"{mean} ({number(floor.low)} to {number(floor.high)})", strong=mean)


def _matched_head(board: Board, key: Key) -> str:
    floor = floor_of(key, board)
    at = f"n = {floor.n} per side" if floor else "the floor's n"
    return f"{key_heading(key, board, n=False)} at {at}"


def _matched(entry: Entry) -> Cell:
    if entry.row is None or entry.row.floor is None:
        return EMPTY
    return Cell(headline_text(entry.row), sort=entry.row.floor.synth_mean)


def _verdict(entry: Entry) -> Cell:
    if entry.row is None or entry.row.floor is None:
        return EMPTY
    found = verdict(entry.row)
    return Cell(found.words, quoted=True, standing=found.standing)


def _blur(entry: Entry) -> Cell:
    return Cell(blur_cell(entry.row) if entry.row else "", quoted=True)


def _best(entry: Entry) -> Cell:
    if entry.ranking is None:
        return EMPTY
    shares = [place.best for place in entry.ranking.places if place.entry == entry.name]
    return Cell(f"{shares[0]:.0%}", sort=shares[0]) if shares else EMPTY


def _best_of_row(entries: Sequence[Entry]) -> Cell:
    """Return the range over training seeds; nothing where one came after the comparison."""
    ranking = entries[0].ranking
    names = tuple(entry.name for entry in entries)
    if ranking is not None and not_all_compared(names, ranking):
        return EMPTY
    return _together([_best(entry) for entry in entries])


def _failed(entry: Entry) -> Cell:
    record = entry.card.synth
    return Cell(share_words(record), sort=record.failed_share)


def _size(entry: Entry) -> Cell:
    return Cell(str(entry.card.synth.n), sort=entry.card.synth.n)


def training_seeds(card: Scorecard) -> int | None:
    """Return the number of trained networks behind the volumes; None where it is not known."""
    if card.origin.training_seeds is not None:
        return card.origin.training_seeds
    return None if card.origin.weights_sha256 is None else 1


TRAINED_ON_REAL = "trained on the real volumes of this page"
"""Stands in place of a verdict on copies: nothing that the entry copies was held out."""


def few_seeds(cards: Sequence[Scorecard]) -> bool:
    """Return True where too few trainings stand behind a row for a claim on its method.

    Without a generator there is no method; where nothing in the fit is random, one is enough.
    """
    if all(card.origin.generator is None or card.origin.fixed_fit for card in cards):
        return False
    return sum(training_seeds(card) or 0 for card in cards) < FEW_SEEDS


def _seeds(entries: Sequence[Entry]) -> Cell:
    if all(entry.card.origin.fixed_fit for entry in entries):
        return Cell("not random")
    counted = [training_seeds(entry.card) for entry in entries]
    known = sum(count for count in counted if count is not None)
    if None in counted:
        stated = entries[0].card.origin.generator is None
        return Cell("" if stated else f"not stated {ONE_SEED}")
    return Cell(f"{known} {ONE_SEED}" if known < FEW_SEEDS else str(known), sort=known)


def _copies(entry: Entry) -> Cell:
    if entry.card.scored_on_training:
        return Cell(TRAINED_ON_REAL, strong=TRAINED_ON_REAL, standing="worse")
    found = copies_found(entry.card)
    strong = found.words if found.verdict == "copies" else ""
    standing = copies(entry.card).standing
    return Cell(found.text, quoted=True, strong=strong, standing=standing)


def _parts(entry: Entry) -> Cell:
    if entry.card.local_copying is None:
        return EMPTY
    found = copied_parts(entry.card)
    strong = found.words if found.standing == "worse" else ""
    return Cell(found.words, quoted=True, strong=strong, standing=found.standing)


def _membership(entry: Entry) -> Cell:
    if not entry.card.membership:
        return EMPTY
    found = membership_verdict(entry.card)
    strong = found.words if found.standing == "worse" else ""
    return Cell(found.words, quoted=True, strong=strong, standing=found.standing)


def _utility(entry: Entry) -> Cell:
    found = entry.card.utility
    return Cell(verdict_words(found), quoted=True) if found else EMPTY


def _readers(entry: Entry) -> Cell:
    found = entry.card.readers
    return Cell(verdict_cell(found), quoted=True) if found else EMPTY


_SEEDS_COLUMN = Column("training seeds", lambda entry: _seeds([entry]), always=True, pooled=_seeds)

RANKING: tuple[Column, ...] = (
    Column("rank", lambda entry: _rank([entry]), always=True, pooled=_rank),
    Column("tied with", lambda entry: _tied([entry]), always=True, pooled=_tied),
    Column(_matched_head, _matched, floor=floor_cell),
    Column("verdict", _verdict, prose=True),
    Column(_value_head, _value, always=True, pooled=_values),
    Column("as real, blurred by (mm FWHM)", _blur, prose=True),
    Column("best", _best, pooled=_best_of_row),
    Column("n", _size),
    Column(FAILED, _failed),
    _SEEDS_COLUMN,
    Column("copies of training images", _copies, prose=True),
    Column("copied parts", _parts, prose=True),
    Column("membership", _membership, prose=True),
    Column("utility", _utility, section="utility", prose=True),
    Column("readers", _readers, section="readers", prose=True),
)
"""The ranking's columns, after the entry's number and name."""


# ---------------------------------------------------------------- cost, licence and date


def _parameters(entry: Entry) -> Cell:
    count = entry.card.origin.parameters
    return EMPTY if count is None else Cell(f"{count / 1e6:.1f} M", sort=count)


def _training(entry: Entry) -> Cell:
    seconds = entry.card.origin.training_seconds
    return EMPTY if seconds is None else Cell(duration(seconds), sort=seconds)


def _energy(entry: Entry) -> Cell:
    energy = entry.card.origin.training_energy_kwh
    return EMPTY if energy is None else Cell(f"{number(energy)} kWh", sort=energy)


def _sampler(entry: Entry) -> Cell:
    return Cell(entry.card.origin.drawing, quoted=True)


def _pace(entry: Entry) -> Cell:
    seconds = entry.card.origin.seconds_a_volume
    return EMPTY if seconds is None else Cell(number(seconds), sort=seconds)


def _scored(entry: Entry) -> Cell:
    card = entry.card
    drawn = f"{card.synth.drawn} of {card.synth.available}"
    return Cell(f"{card.created[:10]}, {drawn}", quoted=True)


COST: tuple[Column, ...] = (
    Column("generator", lambda entry: Cell(entry.card.origin.generator or "", quoted=True)),
    Column("parameters", _parameters),
    Column("training", _training),
    Column("energy", _energy),
    Column("training seeds", _SEEDS_COLUMN.cell, pooled=_seeds),
    Column("sampler", _sampler),
    Column("s per volume", _pace),
    Column("licence", lambda entry: Cell(entry.card.origin.licence or "", quoted=True)),
    Column("protocol", lambda entry: Cell(entry.card.protocol_hash, code=True)),
    Column("scored", _scored),
)
"""The columns on what an entry cost, after its name."""
