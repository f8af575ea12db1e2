"""The second page's sections on ranks: by the primary metric, by the others, over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from synthbench.leaderboard.board import (
    Board,
    Key,
    entry_title,
    floor_of,
    is_saturated,
    key_heading,
    key_title,
    not_compared,
    place_range,
    rank_text,
    ranked_keys,
    ranking_by,
    sentence,
    stale_words,
    usual_folder,
)
from synthbench.leaderboard.columns import (
    ONE_SEED,
    RANKING,
    entries_of,
    few_seeds,
    filled,
    heads,
    rows_of,
    title_of,
)
from synthbench.leaderboard.overall import Overall
from synthbench.leaderboard.pictures import forest_file
from synthbench.leaderboard.ranking import Comparisons, MetricRanking
from synthbench.records.keys import JobKey
from synthbench.render import html
from synthbench.render.markdown import code, escaped, table
from synthbench.render.numbers import number, p_text
from synthbench.report.standing import SATURATED, VERDICT_WORDS
from synthbench.report.text import SATURATION
from synthbench.runtime.text import one_line

SEEDS = (
    "Entries of one method with different training seeds share a row. It is better than another "
    "row where each of its seeds is significantly better than each of the other's; the other "
    "tables show every seed."
)

ADDED = (
    'A row is "not compared" where one of its entries was added after the comparison. It may take '
    "any rank, so the rank intervals of the other rows are wider."
)

MATRIX = 10
"""Entries up to which pairs are shown as a matrix; more are shown as a list."""


def heading(board: Board) -> str:
    """Return the page's title, and a paragraph on the cohorts and the protocol."""
    benchmark, protocol = board.benchmark, board.benchmark.protocol
    extractors = ", ".join(code(e.label) for e in protocol.extractors)
    what = f"Extractor {extractors}. " if extractors else ""
    return (
        f"# {escaped(benchmark.name)}\n\n"
        f"{protocol.n_synth} synthetic against {protocol.n_real} real volumes "
        f"({benchmark.real_subjects} subjects), {protocol.space.grid}. "
        f"{what}Protocol `{protocol.hash}`, real cohort {code(benchmark.real_fingerprint[:12])}."
    )


def ranking(board: Board) -> str:
    """Return the table of entries by the primary metric, with all columns."""
    key = ranked_keys(board)[0]
    columns = filled(RANKING, entries_of(board, key))
    rows = []
    floor = floor_of(key, board)
    if floor:
        cells = [column.floor(floor).markdown() if column.floor else "" for column in columns]
        rows.append(["", "**real vs real (floor)**", *cells])
    for number_, entries in enumerate(rows_of(board, key), 1):
        cells = [column.of_row(entries).markdown() for column in columns]
        rows.append([str(number_), escaped(title_of(entries)), *cells])
    head = ["", "entry", *heads(columns, board, key)]
    return (
        f"## Ranking by {escaped(key.label)}, all columns\n\n{table(head, rows, words=2)}\n\n"
        + _ranking_words(board, key, ranking_by(board, key))
    )


def _ranking_words(board: Board, key: Key, found: MetricRanking | None) -> str:
    lines = []
    if floor_of(key, board) is not None:
        lines.append(f"{VERDICT_WORDS[0].upper()}{VERDICT_WORDS[1:]}.")
    if found is not None and board.comparisons is not None:
        c = board.comparisons
        of_compared = " of those that were compared" if found.added else ""
        lines.append(
            "A rank interval runs from 1 + the number of entries that are significantly better to "
            f"{ranked_count(board, found)} minus the number that are significantly worse. Tied "
            f"rows do not differ significantly at {c.level:.0%}, over all pairs together. "
            f'"Best" is the share of resamples in which the row is the best{of_compared}; it is '
            "not a p-value."
        )
        if any(len(row) > 1 for row in board.rows):
            lines.append(SEEDS)
        if found.added:
            lines.append(ADDED)
    else:
        lines.append(
            f"{sentence(stale_words(board, 'comparisons', usual_folder(board)))} Until then the "
            "rows are only ordered."
            if "comparisons" in board.stale
            else f"Ranks and ties need the images: run {code(_command(board))} on the machine that "
            "scored the entries. Until then "
            "the rows are only ordered: neighbours may be ties, and comparing intervals is not a "
            "test."
        )
    if any(few_seeds([board.cards[name] for name in row]) for row in board.rows):
        lines.append(
            f"{ONE_SEED} fewer than three training seeds: the rank is of these volumes, not of the "
            "method."
        )
    primary = ranked_keys(board)[0]
    if any(is_saturated(primary, card) for card in board.ordered.values()):
        lines.append(f"{SATURATED} {SATURATION}: ranks among such rows mean nothing.")
    lines.append("A test for copies does not guarantee privacy.")
    return " ".join(lines)


def ranked_count(board: Board, found: MetricRanking) -> int:
    """Return the number of rows that have a rank under a metric, or may get one."""
    names = {*found.added, *(place.entry for place in found.places)}
    return sum(any(name in names for name in row) for row in board.rows)


def _command(board: Board) -> str:
    return f"synthbench leaderboard {usual_folder(board)} --compare"


def differences(board: Board) -> str:
    """Return the pairs under the primary metric; empty where they were not compared."""
    key = ranked_keys(board)[0]
    found = ranking_by(board, key)
    if found is None or board.comparisons is None:
        return ""
    return (
        f"### Differences in {escaped(key.label)}\n\n{_pairs(found, board)}\n\n"
        f"{_how_compared(found, board.comparisons)}"
    )


def _how_compared(found: MetricRanking, comparisons: Comparisons) -> str:
    size = "distance from zero" if found.direction == "zero" else "value"
    how = {
        "studentized": "studentized paired bootstrap",
        "jackknife": "paired jackknife standard error, joint distribution by the bootstrap",
    }[found.method]
    left = f" {found.excluded} degenerate resamples were left out." if found.excluded else ""
    return (
        f"Column minus row, in the {size}: [interval] and p, adjusted for all pairs by max-t; "
        f"bold: p ≤ {1 - comparisons.level:.2g}. {how[0].upper()}{how[1:]}; "
        f"{comparisons.resamples} resamples, seed {comparisons.seed}, shared weights on the real "
        f"images.{left}"
    )


def _pairs(found: MetricRanking, board: Board) -> str:
    assert board.comparisons is not None
    names = [place.entry for place in found.places]
    level = board.comparisons.level

    def cell(first: str, second: str) -> str:
        pair = found.pair(first, second)
        assert pair is not None
        sign = 1 if pair.first == first else -1
        ends = sorted((sign * pair.low, sign * pair.high))
        words = f"{number(sign * pair.difference)} [{number(ends[0])}, {number(ends[1])}]"
        marked = f"**{words}**" if pair.p <= 1 - level + 1e-12 else words
        return f"{marked} p {p_text(pair.p)}"

    if len(names) > MATRIX:
        rows = [
            [entry_title(a, board), entry_title(b, board), cell(a, b)]
            for a, b in combinations(names, 2)
        ]
        return table(["row", "column", "difference"], rows, words=2)
    head = ["", *(board.tag(name) for name in names[1:])]
    rows = [
        [entry_title(first, board), *("" if j <= i else cell(first, second)
         for j, second in enumerate(names) if j)]
        for i, first in enumerate(names[:-1])
    ]  # fmt: skip
    return table(head, rows)


def other_metrics(board: Board) -> str:
    """Return the ranks under the other metrics; empty where entries were not compared."""
    if board.comparisons is None:
        return ""
    primary, *others = ranked_keys(board)
    ranked = [(key, ranking_by(board, key)) for key in others]
    shown = [(key, found) for key, found in ranked if found is not None]
    if not shown:
        return ""
    head = ["entry", *(escaped(key_heading(key, board)) for key, _ in shown)]
    rows = [
        [
            entry_title(name, board),
            *(
                rank_text(name, found) + (f" {SATURATED}" if is_saturated(key, card) else "")
                for key, found in shown
            ),
        ]
        for name, card in board.ordered.items()
    ]
    details = [
        f"<details><summary>{html.escaped(one_line(key_title(key, board)))}: differences"
        "</summary>\n\n"
        f"![{escaped(key.label)}: values, intervals and the floor]({forest_file(key, board)})\n\n"
        f"{_pairs(found, board)}\n\n{_how_compared(found, board.comparisons)}\n\n</details>"
        for key, found in shown
    ]
    lacking = [
        "- " + escaped(f"{u.label}{f', {u.extractor}' if u.extractor else ''}: {u.why}")
        for u in board.comparisons.unranked
    ]
    return "\n\n".join(
        [
            f"## Ranks under the other metrics\n\n{table(head, rows)}",
            "Rank intervals; each metric is adjusted over its own pairs alone. "
            f"{escaped(primary.label)} is the benchmark's declared metric. A claim under several "
            "metrics at once needs the p over metrics × pairs, `p_all` in `comparisons.json`."
            + (f" {ADDED}" if any(found.added for _, found in shown) else ""),
            *details,
            *(["Not ranked:\n\n" + "\n".join(lacking)] if lacking else []),
        ]
    )


def overall(board: Board) -> str:
    """Return the order over all metrics; empty where entries were not compared."""
    overall = None if board.comparisons is None else board.comparisons.overall
    if overall is None:
        return ""
    head = [
        "entry",
        "mean rank",
        "place",
        "95% of resamples",
        "keeps its place",
        "without a metric",
    ]
    rows = [
        [
            entry_title(found.entry, board),
            f"{found.mean_rank:.2f}",
            str(found.place),
            place_range(found.low, found.high),
            f"{found.kept:.0%}",
            place_range(*found.without_one),
        ]
        for found in overall.places
    ]
    return (
        f"## Over all metrics\n\n{table(head, rows)}\n\nThe mean rank over "
        f"{len(overall.metrics)} metrics with equal weights: a summary and a choice, not a test. "
        f"{overall.kept:.0%} of the resamples give this order. The last column is the range of "
        "places when any one metric is left out." + _incomplete(overall, board)
    )


def _incomplete(found: Overall, board: Board) -> str:
    """Return the sentences on entries without a place, and on metrics that do not count."""
    titles = {_job_key(key): key_title(key, board) for key in ranked_keys(board)}

    def named(keys: Sequence[str]) -> str:
        return ", ".join(escaped(titles.get(key, key)) for key in keys)

    words = [
        f" {entry_title(entry, board)} has no place here, because it has no value of {named(keys)}."
        for entry, keys in found.incomplete.items()
    ]
    if added := not_compared(board):
        named_entries = ", ".join(entry_title(name, board) for name in added)
        words.append(
            f" Not compared, so without a place: {named_entries}. The places are among the others."
        )
    if found.not_counted:
        words.append(
            f" Not counted, because most entries have no value: {named(found.not_counted)}."
        )
    return "".join(words)


def _job_key(key: Key) -> str:
    return str(JobKey(key.metric, extractor=key.extractor))
