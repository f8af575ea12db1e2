"""A record of paired measures as a table for a terminal."""

from __future__ import annotations

from rich.console import Group

from synthbench.paired.record import PairedRecord, PairedValue
from synthbench.render.numbers import number
from synthbench.render.terminal import Table, Text


def paired_table(record: PairedRecord) -> Group:
    """Return the measures with their intervals, and what they are of."""
    table = Table()
    table.add_column("")
    for title in (f"mean over {record.pairs} images", "least", "most"):
        table.add_column(title, justify="right")
    compared = record.baseline is not None
    if compared:
        table.add_column("baseline", justify="right")
        table.add_column("images less baseline", justify="right")
    for value in record.values:
        cells = [_label(value), _with_interval(value.value, value.low, value.high)]
        cells += [number(value.least), number(value.most)]
        if compared:
            assert value.baseline is not None
            assert value.difference is not None
            assert value.difference_low is not None
            assert value.difference_high is not None
            cells += [
                number(value.baseline),
                _with_interval(value.difference, value.difference_low, value.difference_high),
            ]
        table.add_row(*cells)
    clipped = f"; at most {record.clipped:.1%} of an image clipped" if record.clipped else ""
    return Group(
        Text(f"{record.name}: {record.pairs} images of {record.subjects} subjects, each against "
             "its own target"),
        table,
        Text(f"[..]: {record.values[0].level:.0%} confidence interval of the mean, by subjects",
             style="dim"),
        Text(f"intensities: {record.rule}{clipped}", style="dim"),
        Text(f"inside the mask: {record.mask}", style="dim"),
    )  # fmt: skip


def _label(value: PairedValue) -> str:
    unit = f" ({value.unit})" if value.unit else ""
    return f"{value.label}{unit}, {value.better} is better"


def _with_interval(value: float, low: float, high: float) -> str:
    return f"{number(value)} [{number(low)}, {number(high)}]"
