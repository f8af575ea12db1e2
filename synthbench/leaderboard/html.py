"""A benchmark's comparable entries as one page for a browser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from synthbench.errors import ScorecardError
from synthbench.leaderboard.board import Board, plain_title, ranked_keys, stale_words
from synthbench.leaderboard.columns import (
    ONE_SEED,
    RANKING,
    Column,
    Entry,
    entries_of,
    filled,
    rows_of,
    title_of,
)
from synthbench.leaderboard.ranks import SEEDS
from synthbench.render.numbers import number, p_text
from synthbench.report.html import render_page
from synthbench.report.sections.ranking import RankCell, Ranking
from synthbench.report.sections.section import Page


def leaderboard_report(folder: Path | str) -> str:
    """Return a benchmark's comparable entries as one page, ordered by its primary metric.

    Ranks, ties and the matrix of differences are shown where `comparisons.json` fits the entries;
    where it does not, the page says so.

    Raises
    ------
    ScorecardError
        There is no benchmark, no entry of it can be compared, or one cannot be read.
    """
    board = Board.read(Path(folder))
    name, primary = board.benchmark.name, board.benchmark.primary
    if not board.ordered:
        raise ScorecardError(
            f"{folder}: none of its {len(board.cards)} entries has the benchmark's protocol and "
            f"real cohort. Score one: synthbench score --benchmark {folder} --real REAL --synth "
            f"SYNTH --out {folder}/entries/NAME.json"
        )
    notes = [stale_words(board, what, Path(folder)) for what in board.stale]
    ranking = _ranking(board)
    if ranking is None:
        notes.append(
            f"Ordered by {primary}. An order is no ranking: neighbours may be ties, and comparing "
            f"intervals is not a test. Run synthbench leaderboard {folder} --compare on the "
            "machine that scored the entries to rank them."
        )
    apart = sorted(board.called(entry) for entry in board.cards if entry not in board.ordered)
    if apart:
        notes.append(f"Left out, with another protocol or real cohort: {', '.join(apart)}.")
    page = Page(
        list(board.ordered.values()),
        [plain_title(board, entry) for entry in board.ordered],
        ranking=ranking,
    )
    return render_page(page, title=f"Leaderboard {name}", notes=notes)


def _ranking(board: Board) -> Ranking | None:
    comparisons = board.comparisons
    found = comparisons and comparisons.ranking(board.benchmark.primary)
    if not comparisons or not found:
        return None
    key = next(
        key
        for key in ranked_keys(board)
        if (key.metric, key.extractor) == (found.metric, found.extractor)
    )
    columns = filled(RANKING, entries_of(board, key))
    places = {place.entry for place in found.places}
    rows = tuple(
        (
            f"{number_}. {title_of(entries)}",
            tuple(_cell(column, entries) for column in columns),
        )
        for number_, entries in enumerate(rows_of(board, key), 1)
        if any(entry.name in places for entry in entries)
    )
    pairs = tuple(
        (
            plain_title(board, pair.first),
            plain_title(board, pair.second),
            f"{number(pair.difference)} [{number(pair.low)}, {number(pair.high)}]",
            p_text(pair.p),
            pair.p,
        )
        for pair in found.pairs
    )
    words = (
        f"By {found.label}. A rank interval runs from 1 + the number of entries that are "
        f"significantly better to {len(rows)} minus the number that are significantly worse. Tied "
        f"entries do not differ significantly at {comparisons.level:.0%}, over all pairs together "
        f"(max-t, {comparisons.resamples} resamples). 'Best' is the share of resamples in which "
        "an entry is the best; it is not a p-value. Ranks are of these volumes: with fewer than "
        f"three training seeds ({ONE_SEED}) they do not rank the method."
        + (f" {SEEDS}" if any(len(row) > 1 for row in board.rows) else "")
    )
    heads = tuple((column.head(board, key), column.prose) for column in columns)
    return Ranking(words, heads, rows, pairs)


def _cell(column: Column, entries: Sequence[Entry]) -> RankCell:
    cell = column.of_row(entries)
    sort = cell.text if cell.sort is None else cell.sort
    return RankCell(cell.text, sort, cell.standing, column.prose)
