"""The first page of a board: sentences, one table, one picture."""

from __future__ import annotations

from collections.abc import Sequence

from synthbench.leaderboard.board import (
    Board,
    Floor,
    Key,
    floor_of,
    key_heading,
    ranked_keys,
    ranking_by,
    usual_folder,
)
from synthbench.leaderboard.columns import (
    COST,
    EMPTY,
    RANKING,
    TRAINED_ON_REAL,
    Cell,
    Column,
    Entry,
    entries_of,
    few_seeds,
    filled,
    floor_cell,
    headline_cell,
    headline_cells,
    headline_head,
    rows_of,
    title_of,
)
from synthbench.leaderboard.pictures import forest_file
from synthbench.leaderboard.ranks import ADDED, SEEDS, ranked_count
from synthbench.leaderboard.takeaways import takeaways
from synthbench.render.markdown import escaped, table
from synthbench.report.memorization import copies_found
from synthbench.report.standing import (
    SATURATED,
    SIGNS,
    families,
    family_of,
    headline,
    ranked_rows,
    verdict,
)
from synthbench.report.text import FAILED, SATURATION
from synthbench.report.verdicts import copied_parts, copies

WIDEST = 8
"""Columns of the table at most: more do not fit the page of a repository."""

OTHERS = 3
"""Other metrics in the table at most."""

SHOWN_FIRST = ("variety", "spectrum", "nearest neighbours", "kernel distances", "intensity")
"""Families whose metric is shown first beside the primary one: those that look at another thing
than features do. A family that is not here comes last."""

NO_BREAK = "\u00a0"
"""Keeps a sign beside its number."""

EACH = 10
"""Numbers of rows that a sentence lists at most."""


def front(board: Board) -> str:
    """Return the first page after its title: sentences, the ranking, its picture."""
    key = ranked_keys(board)[0]
    told = [f"- {escaped(sentence)}" for sentence in takeaways(board, usual_folder(board))]
    columns = front_columns(board, key)
    rows = []
    floor = floor_of(key, board)
    if floor:
        cells = [column.floor(floor).markdown() if column.floor else "" for column in columns]
        rows.append(["**real vs real (floor)**", *cells])
    for number, entries in enumerate(rows_of(board, key), 1):
        cells = [column.of_row(entries).markdown() for column in columns]
        rows.append([escaped(f"{number}. {title_of(entries)}"), *cells])
    marked = any(SATURATED in cell for row in rows for cell in row[1:])
    head = ["entry", *(escaped(column.head(board, key)) for column in columns)]
    prose = [i for i, column in enumerate(columns, 1) if column.prose]
    return "\n\n".join(
        [
            "\n".join(told),
            f"## Ranking by {escaped(key.label)}",
            table(head, rows, prose=prose),
            escaped(legend(board, key, marked=marked)),
            f"![{escaped(key.label)}: values, intervals and the floor]({forest_file(key, board)})",
        ]
    )


def front_columns(board: Board, key: Key) -> list[Column]:
    """Return the table's columns after the entry's name: with it, `WIDEST` at most."""
    others = [metric_column(other, board) for other in other_keys(board, key)]
    before = [_named(RANKING, "rank"), Column(headline_head, headline_cell, floor=floor_cell,
                                              always=True, pooled=headline_cells)]  # fmt: skip
    after = [
        Column("verdict", _verdict, prose=True),
        Column("copies", _copies, prose=True),
        _named(RANKING, FAILED),
        Column("training", _training),
    ]
    entries = entries_of(board, key)
    before, after = _shown(before, entries), _shown(after, entries)
    room = WIDEST - 1 - len(before) - len(after)
    return [*before, *others[: max(min(room, OTHERS), 0)], *after]


def other_keys(board: Board, key: Key) -> list[Key]:
    """Return one metric with a floor for each other family, those of `SHOWN_FIRST` first."""
    found: dict[str, Key] = {}
    for other in ranked_keys(board):
        scored = [row for card in board.ordered.values() if (row := other.of(card))]
        if floor_of(other, board) and any(row.value is not None for row in scored):
            found.setdefault(family_of(other.row), other)
    found.pop(family_of(key.row), None)
    last = len(SHOWN_FIRST)
    place = {family: i for i, family in enumerate(SHOWN_FIRST)}
    return [found[family] for family in sorted(found, key=lambda name: place.get(name, last))]


def legend(board: Board, key: Key, *, marked: bool) -> str:
    """Return what the table's signs mean, as plain text.

    Parameters
    ----------
    board, key
        The benchmark, and its primary metric.
    marked
        True where a value of the table is marked as near its upper limit.
    """
    words = []
    floor = floor_of(key, board)
    level = f"{board.benchmark.protocol.level:.0%}"
    if floor is not None:
        words.append(
            f"Values are of {floor.n} synthetic against {floor.n} real volumes. The floor is what "
            f"{floor.n} real volumes score against {floor.n} others (central 95%); like real: the "
            "value is inside, and for a family of metrics all are. = inside the floor, ✗ outside "
            f"on the worse side, ≠ outside on the other side; [..] {level} interval, (..) central "
            "95% over the halves."
        )
    ranking = ranking_by(board, key)
    if ranking is not None and board.comparisons is not None:
        words.append(
            "A rank runs from 1 + the number of rows that are significantly better to "
            f"{ranked_count(board, ranking)} minus the number that are significantly worse, over "
            f"all pairs together at {board.comparisons.level:.0%}."
        )
        if ranking.added:
            words.append(ADDED)
        if any(len(row) > 1 for row in board.rows):
            words.append(SEEDS)
    words += _seeds_words(board)
    if marked:
        words.append(f"{SATURATED} {SATURATION}: ranks among such rows mean nothing.")
    words.append("A test for copies does not guarantee privacy.")
    return " ".join(words)


def _seeds_words(board: Board) -> list[str]:
    cards = {i: [board.cards[name] for name in row] for i, row in enumerate(board.rows, 1)}
    made = [i for i, own in cards.items() if any(card.origin.generator for card in own)]
    few = [i for i in made if few_seeds(cards[i])]
    if not few:
        return []
    if len(few) == len(made):
        who = "Every generator has"
    else:
        more = f" and {len(few) - EACH} more" if len(few) > EACH else ""
        who = f"Rows {', '.join(map(str, few[:EACH]))}{more} have" if len(few) > 1 else (
            f"Row {few[0]} has"
        )  # fmt: skip
    return [f"{who} fewer than three training seeds: such a rank is of these volumes, not of the "
            "method."]  # fmt: skip


# ---------------------------------------------------------------- columns


def _named(columns: Sequence[Column], title: str) -> Column:
    return next(column for column in columns if column.title == title)


def _shown(columns: Sequence[Column], entries: Sequence[Entry]) -> list[Column]:
    """Return the columns with a cell to show; a dash alone is none."""
    shown = []
    for column in filled(columns, entries):
        if column.title != "rank" or any(entry.ranking is not None for entry in entries):
            shown.append(column)
    return shown


def metric_column(key: Key, board: Board) -> Column:
    """Return the column of a metric that is not the primary one: its value, and how it stands."""
    own = floor_of(key, board)

    def cell(entry: Entry) -> Cell:
        row = key.of(entry.card)
        found = headline(row) if row else None
        if row is None or found is None:
            return Cell("–" if row is not None else "")
        standing = verdict(row).standing
        return Cell(f"{SIGNS[standing]}{NO_BREAK}{found.number}", sort=found.value)

    def floor(_: Floor) -> Cell:
        return EMPTY if own is None else floor_cell(own)

    return Column(key_heading(key, board, n=False), cell, floor=floor)


def _verdict(entry: Entry) -> Cell:
    """Return the verdict by the primary metric, and in how many families it is like real."""
    words, standing = "", None
    if entry.row is not None and entry.row.floor is not None:
        found = verdict(entry.row)
        words, standing = found.words, found.standing
    stand = families(ranked_rows(entry.card))
    if len(stand) < 2:
        return Cell(words, quoted=True, standing=standing)
    within = sum(found == "within" for found in stand.values())
    share = f"{within} of {len(stand)} families like real"
    return Cell(f"{words}; {share}" if words else share, quoted=True, standing=standing)


def _copies(entry: Entry) -> Cell:
    """Return the verdict on copies in a few words."""
    if entry.card.scored_on_training:
        return Cell(TRAINED_ON_REAL, strong=TRAINED_ON_REAL, standing="worse")
    found = copies_found(entry.card)
    words = found.words
    if found.verdict == "none":
        words += " (the test is too weak)" if found.share is None else (
            f" ({found.share:.0%} would have been)")  # fmt: skip
    strong = found.words if found.verdict == "copies" else ""
    standing = copies(entry.card).standing
    if entry.card.local_copying and copied_parts(entry.card).standing == "worse":
        words, standing = f"{words}; copied parts", "worse"
    return Cell(words, quoted=True, strong=strong, standing=standing)


def _training(entry: Entry) -> Cell:
    """Return the time and the energy of the training, where they are known."""
    time, energy = (_named(COST, title).cell(entry) for title in ("training", "energy"))
    return Cell("; ".join(c.text for c in (time, energy) if c.text), sort=time.sort)
