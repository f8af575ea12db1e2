"""A sensitivity study as a table and as a figure."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synthbench.errors import MetricError
from synthbench.runtime.files import write_atomic
from synthbench.runtime.text import in_figure
from synthbench.sensitivity.curve import Curve, Row, short
from synthbench.sensitivity.read_back import Sensitivity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.console import Group

    from synthbench.render.terminal import Table


Column = tuple[str, str | None]
"""A column of the table: a metric, and its extractor."""

_LEGEND = "the dose at which a metric leaves the real-vs-real floor; not seen: it does not"
_TURNS = "~ turns back: more damage can score less"
_REWARDS = "better: the metric rewards the damage"


def _columns(sensitivity: Sensitivity) -> dict[Column, str]:
    """Return the label of each metric and extractor, in order of first appearance."""
    return {(row.metric, row.extractor): row.label for row in sensitivity.rows}


def _corruptions(sensitivity: Sensitivity) -> dict[str, str]:
    """Return a heading with the unit for each corruption, in order of first appearance."""
    return {row.corruption: f"{row.corruption_label}, {row.curve.unit}" for row in sensitivity.rows}


def _by_key(sensitivity: Sensitivity) -> dict[tuple[str, str, str | None], Row]:
    return {(row.corruption, row.metric, row.extractor): row for row in sensitivity.rows}


def _verdict(row: Row) -> str:
    """Return the text of a cell: the dose at which the metric leaves the floor, and marks."""
    if row.leaves_floor is None:
        return "not seen" if row.monotone else "not seen ~"
    marks = ("" if row.monotone else " ~") + (" better" if row.response == "better" else "")
    return short(row.leaves_floor) + marks


def table(sensitivity: Sensitivity) -> Group:
    """Return the study as a Rich renderable: the dose from which each metric sees a corruption.

    Rows are corruptions, columns are metrics; each extractor has its own table.
    """
    from rich.console import Group

    from synthbench.render.terminal import Text

    studied = sensitivity.rows
    parts = [f"real {sensitivity.real.n}", f"{sensitivity.n} per side"]
    header = " | ".join([*parts, f"protocol {sensitivity.protocol.hash}"])
    extractors = dict.fromkeys(extractor for _, extractor in _columns(sensitivity))
    legend = [_LEGEND]
    if any(not row.monotone for row in studied):
        legend.append(_TURNS)
    if any(row.response == "better" for row in studied):
        legend.append(_REWARDS)
    if any(row.leaves_floor == 0 for row in studied):
        legend.append("0: outside the floor with no damage at all")
    legend += [f"note: {note}" for note in sensitivity.notes]
    return Group(
        Text(header, style="bold"),
        *(_extractor_table(sensitivity, extractor) for extractor in extractors),
        *(Text(line, style="dim") for line in legend),
    )


def _extractor_table(sensitivity: Sensitivity, extractor: str | None) -> Table:
    from synthbench.render.terminal import Table

    rows = _by_key(sensitivity)
    columns = {m: label for (m, e), label in _columns(sensitivity).items() if e == extractor}
    drawn = Table()
    drawn.add_column(extractor or "on volumes", no_wrap=True)
    for label in columns.values():
        drawn.add_column(label, justify="right", overflow="fold")
    for name, heading in _corruptions(sensitivity).items():
        found = [rows.get((name, metric, extractor)) for metric in columns]
        drawn.add_row(heading, *("" if row is None else _verdict(row) for row in found))
    return drawn


def figure(sensitivity: Sensitivity, file: Path, metrics: Sequence[str] | None = None) -> None:
    """Write the study as a PNG: a map of the doses that are seen, and curves below it.

    Parameters
    ----------
    sensitivity
        The study.
    file
        The file to write.
    metrics
        Names of the metrics whose curves are drawn; None: the first six columns.

    Raises
    ------
    MetricError
        A name is not among the study's metrics, or there are no rows.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns, corruptions = _columns(sensitivity), _corruptions(sensitivity)
    if not columns:
        raise MetricError("figure: the study has no rows. Score at least one metric.")
    known = {metric for metric, _ in columns}
    if unknown := [name for name in metrics or () if name not in known]:
        raise MetricError(
            f"figure: no metric {unknown[0]!r} in this study; it has {', '.join(sorted(known))}."
        )
    drawn = {
        key: heading
        for i, (key, heading) in enumerate(columns.items())
        if (i < 6 if metrics is None else key[0] in metrics)
    }
    width = 2.4 + 1.25 * max(len(corruptions), 4)
    tall = (1.3 + 0.36 * len(columns), 0.7 + 1.05 * len(drawn))
    picture = Figure(figsize=(width, sum(tall)), dpi=100, layout="constrained")
    FigureCanvasAgg(picture)
    parts: Any = picture.subfigures(2, 1, height_ratios=tall)
    above, below = parts
    above.suptitle(
        f"{_LEGEND} (darker: an earlier step of the doses tried)\n{_TURNS}; {_REWARDS}", fontsize=9
    )
    _draw_map(above.subplots(), sensitivity)
    _draw_curves(below, sensitivity, drawn)
    content = io.BytesIO()
    picture.savefig(content, format="png", metadata={"Software": None})
    write_atomic(Path(file), content.getvalue())


def _heading(column: Column, label: str) -> str:
    extractor = column[1]
    return label if extractor is None else f"{label} | {extractor}"


def _rank(row: Row) -> float:
    """Return the place of the seen dose among all doses: 0 for no damage, 1 for the last."""
    assert row.leaves_floor is not None
    steps = np.linspace(0, 1, len(row.curve.doses))
    return float(np.interp(row.leaves_floor, row.curve.doses, steps))


def _draw_map(axes: Axes, sensitivity: Sensitivity) -> None:
    """Draw one row per metric, one column per corruption; darker where a smaller dose is seen."""
    from matplotlib.patches import Rectangle

    columns, corruptions = _columns(sensitivity), _corruptions(sensitivity)
    rows = _by_key(sensitivity)
    for y, (metric, extractor) in enumerate(columns):
        for x, name in enumerate(corruptions):
            row = rows.get((name, metric, extractor))
            if row is None:
                continue
            seen = row.leaves_floor is not None
            shade = 0.25 + 0.67 * _rank(row) if seen else 1.0
            axes.add_patch(
                Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=str(shade), edgecolor="white")
            )
            ink = "white" if shade < 0.55 else "black" if seen else "0.5"
            axes.text(
                x, y, in_figure(_verdict(row)), ha="center", va="center", fontsize=8, color=ink
            )
    axes.set_xlim(-0.5, len(corruptions) - 0.5)
    axes.set_ylim(len(columns) - 0.5, -0.5)
    axes.set_xticks(
        range(len(corruptions)),
        [in_figure(h).replace(", ", "\n") for h in corruptions.values()],
        fontsize=8,
    )
    axes.xaxis.tick_top()
    axes.set_yticks(
        range(len(columns)),
        [in_figure(_heading(*column)) for column in columns.items()],
        fontsize=8,
    )
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_curves(below: Any, sensitivity: Sensitivity, drawn: dict[Column, str]) -> None:
    """Draw all curves on one scale: distances from the floor's mean, in its half-widths."""
    corruptions, rows = _corruptions(sensitivity), _by_key(sensitivity)
    panels = below.subplots(len(drawn), len(corruptions), sharey=True, sharex="col", squeeze=False)
    lowest: dict[str, tuple[Axes, Row]] = {}
    for y, (metric, extractor) in enumerate(drawn):
        heading = _heading((metric, extractor), drawn[metric, extractor]).replace(" | ", "\n")
        for x, name in enumerate(corruptions):
            axes, row = panels[y, x], rows.get((name, metric, extractor))
            if row is None:
                axes.set_axis_off()
                continue
            _draw_curve(axes, row.curve)
            # The first panel that is drawn in a row has the row's name.
            axes.set_ylabel(in_figure(heading), fontsize=8)
            heading = ""
            lowest[name] = (axes, row)
    for x, name in enumerate(corruptions):
        axes, row = lowest[name]
        axes.set_xlabel(in_figure(row.curve.unit), fontsize=7)
        axes.tick_params(labelbottom=True)
        panels[0, x].set_title(in_figure(row.corruption_label), fontsize=8)
    below.suptitle(
        "distance from the floor's mean, in the floor's half-widths; grey: the floor; dotted: "
        "where the curve leaves it",
        fontsize=9,
    )


def _draw_curve(axes: Axes, curve: Curve) -> None:
    distance = curve.in_half_widths
    axes.axhspan(*distance((curve.floor.low, curve.floor.high)).tolist(), color="0.85", lw=0)
    if curve.intervals is not None:
        axes.vlines(curve.doses, *distance(curve.intervals).T, color="0.4", lw=1)
    axes.plot(curve.doses, distance(curve.values), "o-", color="black", ms=2.5, lw=1)
    if curve.leaves_floor:
        axes.axvline(curve.leaves_floor, color="black", ls=":", lw=0.8)
    axes.set_yscale("symlog", linthresh=2)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.tick_params(labelsize=6, length=2)
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
