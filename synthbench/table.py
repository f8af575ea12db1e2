"""A scorecard as a table for people, as STATISTICS' default table draws it."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from synthbench.scorecard import Scorecard, Value

DAGGER = "†"
BIASED = f"{DAGGER} sampling variability at this n; it excludes bias: read it beside the floor"


def number(x: float) -> str:
    """Format a value with three significant digits, and enough of them to tell small ones.

    >>> number(19.391), number(0.03614), number(-0.00012)
    ('19.4', '0.0361', '-0.00012')
    """
    if x == 0:
        return "0"
    return f"{x:.3g}" if abs(x) >= 1e-4 else f"{x:.2g}"


def interval_words(value: Value) -> str:
    """Format a row's interval, marked where it is conditional on n."""
    if value.interval is None:
        return "-"
    words = f"[{number(value.interval.low)}, {number(value.interval.high)}]"
    return f"{words} {DAGGER}" if "excludes bias" in value.interval.label else words


def p_words(p: float | None) -> str:
    """Format a p-value."""
    return "-" if p is None else f"{p:.3f}" if p >= 0.001 else "<0.001"


def header(card: Scorecard) -> str:
    """Return the line above the table: the cohorts, the extractors, the rank, the protocol."""
    ranks = {v.extractor: v.effective_rank for v in card.values if v.effective_rank is not None}
    extractors = [
        e.label + (f" | r = {ranks[e.name]:.0f}" if e.name in ranks else "")
        for e in card.protocol.extractors
    ]
    return " | ".join(
        [card.name, f"real {card.real.n}", f"synth {card.synth.n}", *extractors,
         f"protocol {card.protocol_hash}"]
    )  # fmt: skip


def scorecard_table(card: Scorecard) -> Group:
    """Return the scorecard as a Rich renderable."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    floors = sorted({v.floor.n for v in card.values if v.floor})
    n = "/".join(map(str, floors))
    level = f"{card.protocol.level:.0%} CI"
    table.add_column("")
    for title in ("value", level, f"synth (n={n})", f"floor, real vs real (n={n})", "p"):
        table.add_column(title, justify="right")
    missing: list[Text] = []
    several = len(card.protocol.extractors) > 1
    for value in card.values:
        label = value.label
        if value.metric == "fid":
            label = f"FID (n={min(card.real.n, card.synth.n)})"
        if "." in value.metric:
            label = f"  {label}"
        if several and value.extractor:
            label += f" {value.extractor}"
        if value.missing:
            missing.append(Text(f"{label}  {value.missing}", style="yellow"))
            continue
        floor, matched = "", ""
        if value.floor:
            f = value.floor
            floor = f"{number(f.mean)} ({number(f.low)} to {number(f.high)})"
            matched = number(f.synth_mean)
        assert value.value is not None
        table.add_row(
            label, number(value.value), interval_words(value), matched, floor,
            "" if "." in value.metric else p_words(value.p),
        )  # fmt: skip
    lines: list[Table | Text] = [Text(header(card), style="bold"), table, *missing]
    if any("excludes bias" in v.interval.label for v in card.values if v.interval):
        lines.append(Text(BIASED, style="dim"))
    lines += [Text(f"note: {note}", style="dim") for note in card.notes]
    return Group(*lines)
