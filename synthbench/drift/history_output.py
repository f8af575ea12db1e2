"""A history as a table, as a page for a browser, and as a comment for a pull request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Group

from synthbench.drift.history import History, MetricHistory, why_not_comparable
from synthbench.drift.output import OUTCOMES, STYLES
from synthbench.errors import ScorecardError, UsageError
from synthbench.records.scorecard import Scorecard
from synthbench.records.values import Value
from synthbench.render import markdown
from synthbench.render.charts import Band, LineChart, Series, line_chart
from synthbench.render.numbers import number
from synthbench.render.terminal import Table, Text
from synthbench.report.html import page_of

REFERENCES = 2
"""Number of rows that a comment compares the newest run with."""


# ---------------------------------------------------------------- a terminal


def history_table(found: History) -> Group:
    """Return a history as a Rich renderable: runs, what was left out, and the metrics."""
    lines: list[Text | Table] = [Text(found.statement)]
    lines += [Text(f"  left out: {one.file}: {one.why}", style="dim") for one in found.left_out]
    if found.metrics:
        titles = ["", "first level", "last level", "newest", "sd of a run"]
        titles += ["min. detectable effect", "is seen after", ""]
        table = Table()
        for i, title in enumerate(titles):
            table.add_column(title, justify="right" if 0 < i < len(titles) - 1 else "left")
        for row in found.metrics:
            table.add_row(row.name, *_cells(row), row.words, style=STYLES[row.status])
        lines.append(table)
    lines += [Text(f"note: {note}", style="dim") for note in found.notes]
    lines.append(Text(found.verdict, style=f"bold {OUTCOMES[found.outcome]}"))
    return Group(*lines)


def _cells(row: MetricHistory) -> list[str]:
    levels = [row.levels[i].level for i in (0, -1)] if row.levels else [None, None]
    newest = row.values[-1] if row.values else None
    cells = [_number(x) for x in (*levels, newest, row.sd, row.effect)]
    return [*cells, seen_words(row)]


def _number(x: float | None) -> str:
    return "" if x is None else number(x)


def seen_words(row: MetricHistory) -> str:
    """Return after how many runs one minimum detectable effect is seen."""
    if row.effect is None or row.limit is None:
        return ""
    if row.runs_to_see is None:
        return "more than 50 runs"
    return f"{row.runs_to_see} run{'s' if row.runs_to_see > 1 else ''}"


# ---------------------------------------------------------------- a page


@dataclass(frozen=True)
class _Charts:
    """The charts of a metric, under its name and its judgement."""

    name: str
    words: str
    status: str
    charts: tuple[LineChart, ...]


def history_page(found: History) -> str:
    """Return a history as a self-contained HTML page: one control chart for each metric."""
    order = {"fail": 0, "warn": 1, "not compared": 2, "pass": 3, "shown": 4}
    rows = sorted(found.metrics, key=lambda row: order[row.status])
    return page_of(
        "history.html.jinja",
        found=found,
        metrics=[_Charts(row.name, row.words, row.status, tuple(_charts(row))) for row in rows],
        table=[(row.name, _cells(row), row.words) for row in rows],
    )


def _charts(row: MetricHistory) -> Iterator[LineChart]:
    known = [i for i, value in enumerate(row.values) if value is not None]
    if len(known) < 2:
        return
    values = [float(v) for v in row.values if v is not None]
    series = [Series("value of each run", "real", [i + 1 for i in known], values)]
    for level in row.levels:
        ends = [level.first + 1, max(level.last, level.first) + 1]
        series.append(Series("level", "synth", ends, [level.level] * 2))
    series += _mark(row, min(values), max(values))
    yield line_chart(
        "Values", "run", row.label, "Solid: each run. Dashed: its levels. Dotted: the change.",
        series,
    )  # fmt: skip
    if row.limit is None or len(row.points) < 2:
        return
    runs = [i + 1 for i in row.points]
    down = [-x for x in row.down]
    lowest, highest = min(-row.limit, *down), max(row.limit, *row.up)
    yield line_chart(
        "Control chart (CUSUM)", "run", "sum of deviations, sd",
        "Solid: sums above (up) and below (down) the runs before. Grey: no alarm.",
        [Series("above", "real", runs, row.up), Series("below", "real", runs, down),
         *_mark(row, lowest, highest)],
        [Band("no alarm", [runs[0], runs[-1]], [-row.limit] * 2, [row.limit] * 2)],
    )  # fmt: skip


def _mark(row: MetricHistory, low: float, high: float) -> list[Series]:
    if row.since is None:
        return []
    return [Series("the change", "null", [row.since + 1] * 2, [low, high])]


# ---------------------------------------------------------------- a comment


def references_of(
    cards: Sequence[tuple[str, Scorecard]], found: History, named: Sequence[Path] = ()
) -> list[tuple[str, Scorecard]]:
    """Return the two rows that a comment compares the newest run with, with their names.

    Parameters
    ----------
    cards
        Of the history.
    named
        Scorecards, at most two, of any generator. Empty: the first run of the history, and the
        one before the newest.

    Raises
    ------
    UsageError
        More than two are named.
    ScorecardError
        One cannot be read, or cannot be compared with the newest run.
    """
    if len(named) > REFERENCES:
        raise UsageError(f"--reference: at most two scorecards; {len(named)} were named.")
    newest = cards[-1][1]
    for file in named:
        why = why_not_comparable(newest, Scorecard.load(file), rivals=True)
        if why is not None:
            raise ScorecardError(
                f"--reference {file}: cannot be compared with the newest run: {why}. Score it "
                "against the same benchmark."
            )
    if named:
        loaded = [Scorecard.load(file) for file in named]
        return [(card.name, card) for card in loaded]
    by_file = dict(cards)
    places = dict.fromkeys(i for i in (0, len(found.runs) - 2) if 0 <= i < len(found.runs) - 1)
    words = {0: "first run", len(found.runs) - 2: "run before"}
    return [
        (f"{words[i]}, {found.runs[i].created[:10]}", by_file[found.runs[i].file]) for i in places
    ]


def comment(found: History, newest: Scorecard, references: Sequence[tuple[str, Scorecard]]) -> str:
    """Return a comment for a pull request (markdown): the newest run beside two reference rows.

    Names in scorecards are not trusted: they are escaped.
    """
    head = ["metric", "better", f"this run [{newest.protocol.level:.0%} CI]"]
    for name, _ in references:
        head += [markdown.escaped(name, 60), "change"]
    rows = [_comment_row(row, newest, references) for row in found.metrics]
    mark = {"pass": "No drift shown", "warn": "Small drift", "drift": "Drift",
            "not comparable": "Cannot be judged"}[found.outcome]  # fmt: skip
    parts = [
        f"### synthbench: {mark}",
        f"{markdown.escaped(found.statement)}.",
        f"**{markdown.escaped(found.verdict)}.**",
        markdown.table([*head, "history"], rows, words=2, prose=[len(head)]),
        "MDE: the metric's minimum detectable effect. A change of one run below 1 MDE is often "
        "chance; the last column is what the whole history shows.",
        *[f"- {markdown.escaped(note)}" for note in found.notes],
    ]
    if found.left_out:
        lines = [f"- {markdown.code(o.file)}: {markdown.escaped(o.why)}" for o in found.left_out]
        summary = f"<summary>{len(found.left_out)} scorecards left out</summary>"
        parts.append("\n".join(["<details>", summary, "", *lines, "", "</details>"]))
    return "\n\n".join(parts) + "\n"


def _comment_row(
    row: MetricHistory, newest: Scorecard, references: Sequence[tuple[str, Scorecard]]
) -> list[str]:
    now = newest.row(row.metric, row.extractor)
    assert now is not None
    cells = [markdown.escaped(row.name), _BETTER[now.direction], _value(now)]
    for _, card in references:
        other = card.row(row.metric, row.extractor)
        cells += ["" if other is None else _number(other.value), _change(now, other, row.effect)]
    return [*cells, markdown.escaped(row.words)]


_BETTER = {"lower": "lower", "higher": "higher", "zero": "near 0"}


def _value(row: Value) -> str:
    if row.value is None:
        return "-"
    if row.interval is None:
        return number(row.value)
    return f"{number(row.value)} [{number(row.interval.low)}, {number(row.interval.high)}]"


def _change(now: Value, other: Value | None, effect: float | None) -> str:
    if other is None or now.value is None or other.value is None:
        return ""
    change = now.value - other.value
    words = f"{'+' if change > 0 else ''}{number(change)}"
    if not effect or not np.isfinite(change / effect):
        return words
    return f"{words} ({abs(change) / effect:.2g} MDE)"
