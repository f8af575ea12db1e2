"""The page's sections on values: of metrics, of conditions, of utility, against the floor."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from synthbench.leaderboard.board import (
    Board,
    Key,
    all_keys,
    entry_title,
    floor_of,
    key_heading,
    own_keys,
    value_cell,
)
from synthbench.leaderboard.literature import REPORTED
from synthbench.leaderboard.pictures import ASKED
from synthbench.records.scorecard import Scorecard
from synthbench.records.values import Value
from synthbench.render.markdown import code, escaped, table
from synthbench.render.numbers import number, p_text
from synthbench.report.adherence import condition_charts, headline, leakage_lines
from synthbench.report.failures import share_words
from synthbench.report.readers import (
    correlation_note,
    correlation_table,
    correlations,
    rating_words,
    share_text,
    verdict_cell,
)
from synthbench.report.standing import SATURATED
from synthbench.report.text import BIASED, FAILED, SATURATION
from synthbench.utility.table import subject_words, trained_words, verdict_words

FAILURES = (
    f"{FAILED}: the share of the drawn volumes that could not be scored, such as empty ones. The "
    "values are of the others: read them together. An empty cell: not counted, any failure would "
    "have stopped the scoring."
)


def values(board: Board) -> str:
    """Return the tables of values with their intervals."""
    protocol = board.benchmark.protocol
    tables = [
        f"{title}\n\n" + _by_entry(board, keys, value_cell)
        for title, keys in _groups(own_keys(board), board)
    ]
    cards = board.ordered.values()
    saturated = any(value.saturated for card in cards for value in card.values)
    tested = [key for key in own_keys(board) if any(
        row is not None and row.p is not None for row in map(key.of, board.ordered.values())
    )][:1]  # fmt: skip
    tests = [[entry_title(name, board), p_text(row.p)] for key in tested
             for name, card in board.ordered.items()
             if (row := key.of(card)) is not None]  # fmt: skip
    legend = [
        f"{BIASED}. ↓: lower is better; ↑: higher is better; → 0: nearest to zero is best. MMD² is "
        "the unbiased estimate and may be negative. The MS-SSIM gap is synthetic minus real: above "
        "zero the synthetic volumes are too alike."
    ]
    if saturated:
        legend.append(f"{SATURATED} {SATURATION}.")
    if any(card.synth.failed for card in cards):
        legend.append(FAILURES)
    parts = [f"## Values, with {protocol.level:.0%} intervals", *tables, " ".join(legend)]
    if tests:
        parts.append(
            f"Permutation test on {escaped(tested[0].label)} that both sets come from one "
            "distribution: " + "; ".join(f"{entry} p {p}" for entry, p in tests) + "."
        )
    return "\n\n".join(parts)


def conditional(board: Board) -> str:
    """Return how conditional entries follow their conditions; empty where there are none."""
    cards = {name: card for name, card in board.ordered.items() if card.adherence is not None}
    records = [card.adherence for card in cards.values() if card.adherence is not None]
    names = list(dict.fromkeys(c.name for record in records for c in record.conditions))
    if not names:
        return ""
    rows = []
    for name, record in zip(cards, records, strict=True):
        found = {condition.name: headline(condition) for condition in record.conditions}
        leaks = sum(line.shown for line in leakage_lines(record))
        rows.append(
            [entry_title(name, board), *(escaped(found.get(n, "")) for n in names),
             f"{leaks} of {len(record.leakage)}" if record.leakage else "", _effects(cards[name])]
        )  # fmt: skip
    head = ["entry", *(escaped(n) for n in names), "leaks", "effects replicated"]
    drawn = any(condition_charts(record) for record in records)
    picture = f"![Requested against measured]({ASKED})\n\n" if drawn else ""
    return (
        f"## Condition adherence\n\n{picture}{table(head, rows)}\n\n"
        "Requested against measured: the correlation where the condition is a number, the area "
        "under the curve (AUC) where it has two levels, the accuracy where it has more. Each is "
        "shown with its interval, followed by what the same measure reaches on the real volumes. "
        "Leaks: pairs in which requesting one condition changes the measure of another more than "
        "in the real volumes. Unranked: other values may have been requested of each entry."
    )


def _effects(card: Scorecard) -> str:
    if card.replication is None or not card.replication.effects:
        return ""
    words = [effect.word for effect in card.replication.effects]
    undecided = words.count("cannot tell")
    share = f"{words.count('replicated')} of {len(words)}"
    return f"{share} ({undecided} undecided)" if undecided else share


def utility(board: Board) -> str:
    """Return which entries helped a model for real people; empty where none was studied."""
    rows = [
        [entry_title(name, board), escaped(verdict_words(found)), escaped(trained_words(found)),
         escaped(subject_words(found)), escaped(found.model), p_text(found.p)]
        for name, card in board.ordered.items()
        if (found := card.utility) is not None
    ]  # fmt: skip
    if not rows:
        return ""
    head = ["entry", "real + synthetic minus real", "trained on", "tested on", "model", "p"]
    return (
        f"## Utility\n\n{table(head, rows, words=5)}\n\nA model is trained on real and synthetic "
        "volumes, and another one on the real volumes alone; both are tested on the same real "
        'subjects. "Did not help" includes "cannot tell": look at the '
        "interval's width. Unranked: labels, training volumes and test subjects may differ."
    )


def readers(board: Board) -> str:
    """Return what readers saw of the entries, and whether metrics agree; empty without a study."""
    seen = {name: card.readers for name, card in board.ordered.items() if card.readers is not None}
    if not seen:
        return ""
    rows = [
        [entry_title(name, board), escaped(verdict_cell(found)),
         "" if found.comparison is None else p_text(found.comparison.equivalence_p),
         share_text(found.controls.get("blurred")),
         escaped(", ".join(rating_words(one) for one in found.ratings)), code(found.study[:12])]
        for name, found in seen.items()
    ]  # fmt: skip
    head = [
        "entry",
        "which is real?",
        "p equivalent",
        "blurred control, %",
        "mean ratings",
        "study",
    ]
    parts = [
        "## Readers",
        table(head, rows, words=2),
        "Readers saw a real and a synthetic volume side by side and said which is real: 50% is "
        "guessing, and the blurred control must be found. Or they rated single volumes; level 1 is "
        "the worst. Intervals of 95% are for new readers and new cases. Unranked: readers and real "
        "volumes of two studies differ.",
    ]
    found = correlations(list(board.ordered.values()))
    heads, compared = correlation_table(found)
    if compared:
        cells = [[escaped(cell) for cell in row] for row in compared]
        parts += ["### Do the metrics agree with readers?",
                  table([escaped(one) for one in heads], cells)]  # fmt: skip
    if note := correlation_note(found):
        parts.append(escaped(note))
    return "\n\n".join(parts)


def _groups(keys: Sequence[Key], board: Board) -> list[tuple[str, list[Key]]]:
    """Return keys by the title of their table: one per extractor, and one for the volumes."""
    extractors = dict.fromkeys(key.extractor for key in keys)
    groups = []
    for extractor in sorted(extractors, key=lambda e: (e is None, list(extractors).index(e))):
        title = (
            "On the volumes"
            if extractor is None
            else f"On features of {code(_label(extractor, board))}"
        )
        groups.append((f"**{title}**", [key for key in keys if key.extractor == extractor]))
    return groups


def _label(extractor: str, board: Board) -> str:
    labels = {e.name: e.label for e in board.benchmark.protocol.extractors}
    return labels.get(extractor, extractor)


def _by_entry(board: Board, keys: Sequence[Key], cell: Callable[[Value | None], str]) -> str:
    head = ["entry", *(escaped(key_heading(key, board, extractor=False)) for key in keys)]
    rows = [
        [entry_title(name, board), *(cell(key.of(card)) for key in keys)]
        for name, card in board.ordered.items()
    ]
    return _with_failed(head, rows, board)


def _with_failed(head: list[str], rows: list[list[str]], board: Board) -> str:
    """Return a table of entries, with the share of volumes that failed where it was counted."""
    shares = {entry_title(name, board): share_words(c.synth) for name, c in board.ordered.items()}
    if any(shares.values()):
        head, rows = [*head, FAILED], [[*row, shares.get(row[0], "")] for row in rows]
    return table(head, rows)


def floors(board: Board) -> str:
    """Return the values at the floor's n beside the floor, for the rows that have one."""
    keys = [key for key in all_keys(board.ordered.values()) if floor_of(key, board)]
    if not keys:
        return ""
    tables = []
    for title, group in _groups(keys, board):
        floors = [floor_of(key, board) for key in group]
        head = [
            "entry",
            *(escaped(key_heading(key, board, extractor=False, n=False)) for key in group),
        ]
        first = ["**real vs real (floor)**"] + [
            f"{number(f.mean)} ({number(f.low)} to {number(f.high)})" for f in floors if f
        ]
        rows = [first]
        for name, card in board.ordered.items():
            matched = [key.of(card) for key in group]
            rows.append(
                [entry_title(name, board)]
                + [number(row.floor.synth_mean) if row and row.floor else "" for row in matched]
            )
        tables.append(f"{title}\n\n{_with_failed(head, rows, board)}")
    n = "/".join(map(str, sorted({f.n for key in keys if (f := floor_of(key, board))})))
    return "\n\n".join(
        [
            f"## Against the real-vs-real floor, at n = {n} per side",
            *tables,
            "The floor is the mean (2.5th to 97.5th percentile) over random disjoint halves of the "
            "real cohort. The value of an entry is the mean over random subsets of the same size.",
        ]
    )


def papers(board: Board) -> str:
    """Return the values by measures of papers, and what papers report where the board asks."""
    keys = [key for key in all_keys(board.ordered.values()) if key.for_papers]
    parts = []
    if keys:
        cells = _by_entry(board, keys, value_cell)
        parts.append(f"## By measures of papers, unranked\n\n{cells}")
    if board.benchmark.literature:
        parts.append(_literature())
    return "\n\n".join(parts)


def _literature() -> str:
    head = ["model", "FID", "MMD", "MS-SSIM", "4-G-R-SSIM", "s per volume", "source"]
    rows = [
        [escaped(r.model), escaped(r.fid), escaped(r.mmd), escaped(r.ms_ssim), escaped(r.g4r_ssim),
         escaped(r.seconds_a_volume), escaped(f"{r.source}. {r.protocol}")]
        for r in REPORTED
    ]  # fmt: skip
    return (
        "## Reported in papers, under other protocols\n\nAs printed. None of these numbers can be "
        "compared with a number on this page, nor the rows of one paper with those of another: "
        f"cohort, n, features, kernel and estimator differ.\n\n{table(head, rows)}"
    )
