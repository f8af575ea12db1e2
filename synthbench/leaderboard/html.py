"""A benchmark's comparable entries as one page for a browser."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synthbench.errors import ScorecardError
from synthbench.leaderboard.board import (
    Board,
    Key,
    floor_of,
    key_heading,
    plain_title,
    ranked_keys,
    ranking_by,
    stale_words,
)
from synthbench.leaderboard.columns import (
    RANKING,
    Column,
    Entry,
    entries_of,
    filled,
    rows_of,
    title_of,
)
from synthbench.leaderboard.front import front_columns, legend, metric_column
from synthbench.leaderboard.methods import KINDS, kind_of
from synthbench.leaderboard.pictures import forest_file, pictures
from synthbench.leaderboard.ranking import Comparisons, MetricRanking, Pair
from synthbench.leaderboard.takeaways import takeaways
from synthbench.records.scorecard import Scorecard
from synthbench.render.numbers import number, p_text
from synthbench.report.html import render_page
from synthbench.report.memorization import copies_found
from synthbench.report.ranking import RankCell, Ranking, RankRow
from synthbench.report.sections.section import Page
from synthbench.report.standing import SATURATED, headline, verdict
from synthbench.report.verdicts import copied_parts
from synthbench.runtime.text import one_line

COPIES = {
    "copies": "copies or copied parts found",
    "nearer": "nearer to training than to unseen images",
    "none": "none found",
    "unknown": "not tested, or cannot be told",
}
"""What rows are filtered by; of several training seeds, the first that holds for one."""

SHOWN_ELSEWHERE = ("rank", "verdict", "copies of training images")
"""Columns of the whole ranking that the first columns hold already, in fewer words."""


def leaderboard_report(folder: Path | str) -> str:
    """Return a benchmark's comparable entries as one page, ordered by its primary metric.

    The page sorts and filters the entries and compares two of them, without a network; without
    scripts it shows the plain table. Ranks and differences are shown where `comparisons.json` is
    there; where an entry of it is gone or changed, the page says so.

    Raises
    ------
    ScorecardError
        There is no benchmark, no entry of it can be compared, or one cannot be read.
    """
    board = Board.read(Path(folder))
    if not board.ordered:
        raise ScorecardError(
            f"{folder}: none of its {len(board.cards)} entries has the benchmark's protocol and "
            f"real cohort. Score one: synthbench score --benchmark {folder} --real REAL --synth "
            f"SYNTH --out {folder}/entries/NAME.json"
        )
    # Stale comparisons are told among the takeaways.
    notes = [stale_words(board, what, Path(folder)) for what in board.stale if what == "multiverse"]
    apart = sorted(board.called(entry) for entry in board.cards if entry not in board.ordered)
    if apart:
        notes.append(f"Left out, with another protocol or real cohort: {', '.join(apart)}.")
    page = Page(
        list(board.ordered.values()),
        [plain_title(board, entry) for entry in board.ordered],
        ranking=_ranking(board, Path(folder)),
    )
    return render_page(page, title=f"Leaderboard {board.benchmark.name}", notes=notes)


def _ranking(board: Board, folder: Path) -> Ranking:
    key = ranked_keys(board)[0]
    columns = _columns(board, key)
    floor = floor_of(key, board)
    rows = rows_of(board, key)
    shown = [
        RankRow(
            f"{index}. {title_of(entries)}",
            kind_of(entries[0].card),
            _copies([entry.card for entry in entries]),
            tuple(_cell(column, entries, more) for column, more in columns),
        )
        for index, entries in enumerate(rows, 1)
    ]
    marked = any(SATURATED in cell.text for row in shown for cell in row.cells)
    return Ranking(
        takeaways=takeaways(board, folder),
        words=legend(board, key, marked=marked),
        heads=[(column.head(board, key), column.prose, more) for column, more in columns],
        floor=[column.floor(floor).text if column.floor else "" for column, _ in columns]
        if floor
        else [],
        rows=shown,
        kinds={kind: words for kind, words in KINDS.items()
               if any(kind_of(row[0].card) == kind for row in rows)},
        copies={key: words for key, words in COPIES.items()
                if any(_copies([entry.card for entry in row]) == key for row in rows)},
        picture=_picture(board, key),
        entries=[one_line(plain_title(board, name)) for name in board.ordered],
        compared=[_compared(board, key) for key in ranked_keys(board)],
        pairs=_pairs(board, key),
    )  # fmt: skip


def _columns(board: Board, key: Key) -> list[tuple[Column, bool]]:
    """Return the columns, and True for those that are shown on request only."""
    first = front_columns(board, key)
    entries = entries_of(board, key)
    heads = {column.head(board, key) for column in first}
    others = [metric_column(other, board) for other in ranked_keys(board)[1:]]
    whole = [column for column in RANKING if column.title not in SHOWN_ELSEWHERE]
    more = [
        column for column in (*others, *filled(whole, entries))
        if column.head(board, key) not in heads
    ]  # fmt: skip
    return [*((column, False) for column in first), *((column, True) for column in more)]


def _cell(column: Column, entries: Sequence[Entry], more: bool) -> RankCell:
    cell = column.of_row(entries)
    sort = cell.text if cell.sort is None and column.prose else cell.sort
    return RankCell(cell.text, "" if sort is None else sort, cell.standing, column.prose, more)


def _copies(cards: Sequence[Scorecard]) -> str:
    """Return a key of `COPIES`: the gravest finding of the entries of a row."""
    found = [copies_found(card).verdict for card in cards]
    if any(card.local_copying and copied_parts(card).standing == "worse" for card in cards):
        return "copies"
    return next((key for key in ("copies", "nearer", "none") if key in found), "unknown")


def _picture(board: Board, key: Key) -> tuple[str, str]:
    drawn = pictures(board)[forest_file(key, board)]
    data = base64.b64encode(drawn.encode()).decode()
    return f"data:image/svg+xml;base64,{data}", f"{key.label}: values, intervals and the floor"


# ---------------------------------------------------------------- two entries side by side


def _compared(board: Board, key: Key) -> dict[str, Any]:
    """Return a metric's label, a value with its verdict per entry, and its pairs by index."""
    found = ranking_by(board, key)
    pairs = {}
    if found is not None and board.comparisons is not None:
        names = {name: index for index, name in enumerate(board.ordered)}
        for pair in found.pairs:
            ends = names[pair.first], names[pair.second]
            pairs["{},{}".format(*ends)] = _pair(pair, found, board.comparisons, 1)
            pairs["{},{}".format(*ends[::-1])] = _pair(pair, found, board.comparisons, -1)
    return {
        "label": one_line(key_heading(key, board, n=False)),
        "values": [_value(key, card) for card in board.ordered.values()],
        "pairs": pairs,
    }


def _value(key: Key, card: Scorecard) -> str:
    row = key.of(card)
    found = headline(row) if row else None
    if row is None or found is None:
        return "–"
    if row.floor is None:
        return found.text
    judged = verdict(row)
    return one_line(f"{judged.sign} {found.text}: {judged.words}")


def _pair(pair: Pair, found: MetricRanking, comparisons: Comparisons, sign: int) -> dict[str, Any]:
    """Return a pair as it is shown where its first entry is chosen first (1) or second (-1).

    `better` is 0 for the one that is chosen first, 1 for the other, None without a difference.
    """
    difference = sign * pair.difference
    low, high = sorted((sign * pair.low, sign * pair.high))
    every = "" if pair.p_all is None else f" ({p_text(pair.p_all)})"
    better = None
    if pair.p <= 1 - comparisons.level + 1e-12:
        # Distances from zero are compared where zero is best: there less is better too.
        better = int((difference > 0) == (found.direction == "higher"))
    return {
        "difference": f"{number(difference)} [{number(low)}, {number(high)}]",
        "p": p_text(pair.p) + every,
        "better": better,
    }


def _pairs(board: Board, key: Key) -> list[tuple[str, str, str, str, float]]:
    found = ranking_by(board, key)
    return [
        (
            plain_title(board, pair.first),
            plain_title(board, pair.second),
            f"{number(pair.difference)} [{number(pair.low)}, {number(pair.high)}]",
            p_text(pair.p),
            pair.p,
        )
        for pair in (found.pairs if found else ())
    ]
