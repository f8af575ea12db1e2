"""The analysis of a study as tables and sentences for a terminal."""

from __future__ import annotations

from rich.console import Group

from synthbench.readers.results import KAPPA, Analysis
from synthbench.render.numbers import number, p_text
from synthbench.render.terminal import Table, Text
from synthbench.report.readers import (
    CONTROL_WORDS,
    VERDICTS,
    comparison_sentence,
    control_sentence,
    correlation_note,
    correlation_table,
    estimate_text,
    share_text,
)


def analysis_table(found: Analysis) -> Group:
    """Return all tables of an analysis, with the sentences that go with them."""
    parts: list[Table | Text] = [Text(line) for line in sentences(found)]
    for table in (
        _compared(found),
        _rated(found),
        _differences(found),
        _repeated(found),
        _correlations(found),
    ):
        if table.row_count:
            parts += [Text(), table]
    return Group(*parts)


def sentences(found: Analysis) -> list[str]:
    """Return what the readers saw, in words."""
    lines = [
        f"{one.group}: {comparison_sentence(one.accuracy, one.verdict, found.margin)}."
        for one in found.compared
        if not one.control
    ]
    lines += [
        f"{said}."
        for one in found.compared
        if one.control and (said := control_sentence(one.group, one.accuracy))
    ]
    if found.bias is not None:
        left = found.bias.left
        lines.append(f"Readers said left in {share_text(left)}% of the comparisons.")
    drift = found.drift
    if drift is not None and drift.accuracy is not None:
        first, second = drift.seconds
        lines.append(
            f"Second half of the session less the first: accuracy "
            f"{estimate_text(drift.accuracy, scale=100, sign='+', digits=0)} points; "
            f"{first:.0f} s, then {second:.0f} s per trial."
        )
    open_ = [name for name, one in found.readers.items() if one.answered < one.asked]
    if open_:
        lines.append(f"Not finished: {', '.join(open_)}. The numbers are of the answers so far.")
    if found.compared:
        lines.append(KAPPA)
    if note := correlation_note(found.correlations):
        lines.append(note)
    return lines


def _compared(found: Analysis) -> Table:
    table = Table("which is real?", "accuracy, %", "d'", "p equivalent", "readers x pairs", "")
    for one in found.compared:
        name = CONTROL_WORDS.get(one.group, one.group) if one.control else one.group
        table.add_row(
            name, share_text(one.accuracy), estimate_text(one.d_prime),
            p_text(one.equivalence_p), f"{one.readers} x {one.cases}", VERDICTS[one.verdict],
        )  # fmt: skip
    return table


def _rated(found: Analysis) -> Table:
    groups = list(dict.fromkeys(group for one in found.rated for group in one.means))
    table = Table("mean level", *groups, "alpha", "AC2")
    for one in found.rated:
        means = [estimate_text(one.means.get(group), digits=1) for group in groups]
        top = len(one.levels)
        table.add_row(
            f"{one.item} (1-{top})", *means, estimate_text(one.alpha), estimate_text(one.ac2)
        )
    return table


def _differences(found: Analysis) -> Table:
    table = Table("difference", "first less second", "value", "p (Holm)")
    for one in found.differences:
        scale, digits = (100, 0) if one.what == "accuracy" else (1, 2)
        shown = estimate_text(one.difference, scale=scale, sign="+", digits=digits)
        what = "accuracy, points" if one.what == "accuracy" else one.what
        table.add_row(what, f"{one.first} - {one.second}", shown, p_text(one.adjusted_p))
    return table


def _repeated(found: Analysis) -> Table:
    table = Table("same answer again", "share, %", "trials")
    for one in found.repeated:
        table.add_row(one.kind, share_text(one.same), number(one.trials))
    return table


def _correlations(found: Analysis) -> Table:
    heads, rows = correlation_table(found.correlations)
    table = Table(*heads)
    for row in rows:
        table.add_row(*row)
    return table
