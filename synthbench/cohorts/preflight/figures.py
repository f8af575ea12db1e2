"""Figures of a cohort: its volumes, their intensities and their place; odd ones are named."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from synthbench.cohorts.cohort import read_volume
from synthbench.cohorts.file_names import without_folders
from synthbench.cohorts.inspection import Inspection
from synthbench.cohorts.preflight.check import Report
from synthbench.cohorts.preflight.survey import inspection_of
from synthbench.render.montage import montage
from synthbench.runtime.files import write_atomic
from synthbench.runtime.text import in_figure
from synthbench.volumes.grid import PAPER_GRID, resample

_MOST_NAMED = 8
_MOST_SHOWN = 12


def figures(report: Report, out: Path) -> list[Path]:
    """Write `montage.png` and `histograms.png` of the volumes that could be read.

    Returns
    -------
    The files; none where no volume could be read.
    """
    if not report.entries:
        return []
    files = [out / "montage.png", out / "histograms.png"]
    odd = report.odd()
    volumes(report, odd, files[0])
    histograms({e.name: inspection_of(e) for e in report.entries}, odd, files[1])
    return files


def volumes(report: Report, odd: Mapping[str, Sequence[str]], file: Path) -> None:
    """Write a PNG of up to twelve volumes, three planes of each: odd ones first, labelled.

    The grey scale of each goes from its background to its 99.9th percentile.
    """
    by_name = {entry.name: entry for entry in report.entries}
    first = [by_name[name] for name in odd]
    chosen = [*first, *(e for e in report.entries if e.name not in odd)][:_MOST_SHOWN]
    grids = {inspection_of(entry).grid for entry in report.entries}
    # Scans with a grid of their own are shown in the place that their affine gives.
    space = PAPER_GRID if len(grids) > 1 else grids.pop()
    rows = {}
    names = without_folders([entry.name for entry in report.entries])
    for entry in chosen:
        inspection = inspection_of(entry)
        floor, span = inspection.background[1], inspection.scale - inspection.background[1]
        shown = (read_volume(entry) - np.float32(floor)) / np.float32(span if span > 0 else 1)
        rules = ", ".join(dict.fromkeys(odd.get(entry.name, ())))
        label = f"{names[entry.name]}: {rules}" if rules else names[entry.name]
        rows[label] = [np.clip(resample(shown, inspection.grid, space), 0, 1)]
    montage(rows, space, file)


def histograms(
    inspections: Mapping[str, Inspection], odd: Mapping[str, Sequence[str]], file: Path
) -> None:
    """Write a PNG of three panels: intensities, non-zero share, overlap with the MNI152 brain.

    Parameters
    ----------
    inspections
        By name of the volume.
    odd
        Names of volumes to show in colour, and their rules; the first eight are named.
    file
        The PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3, width_ratios=(2, 1, 1))
    named = [name for name in odd if name in inspections][:_MOST_NAMED]
    colours = {name: f"C{i}" for i, name in enumerate(named)}
    _intensities(left, inspections, odd, colours)
    _strip(
        middle, {name: i.nonzero for name, i in inspections.items()}, colours,
        "share of non-zero voxels",
    )  # fmt: skip
    _strip(
        right, {name: i.placement.overlap for name, i in inspections.items()}, colours,
        "overlap with the MNI152 brain (Dice)",
    )  # fmt: skip
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    write_atomic(file, picture.getvalue())


def _intensities(
    axes: Any,
    inspections: Mapping[str, Inspection],
    odd: Mapping[str, Sequence[str]],
    colours: Mapping[str, str],
) -> None:
    short = without_folders(inspections)
    for name, inspection in inspections.items():
        shares = np.array(inspection.histogram)
        centres = (np.arange(len(shares)) + 0.5) / len(shares)
        if name in colours:
            label = f"{short[name]}: {', '.join(dict.fromkeys(odd[name]))}"
            axes.plot(
                centres, shares, color=colours[name], lw=1.4, zorder=3, label=in_figure(label)
            )
        else:
            axes.plot(centres, shares, color="0.5", lw=0.6, alpha=0.5)
    axes.set_xlabel("intensity over the 99.9th percentile")
    axes.set_ylabel("share of the foreground")
    axes.set_title(f"foreground of {len(inspections)} volumes")
    if colours:
        axes.legend(fontsize=7, frameon=False)


def _strip(axes: Any, values: Mapping[str, float], colours: Mapping[str, str], title: str) -> None:
    """Draw one point per volume, placed by rank so that none hides another."""
    names = sorted(values, key=lambda name: (np.isnan(values[name]), values[name]))
    for rank, name in enumerate(names):
        chosen = name in colours
        axes.plot(
            rank, values[name], "o", color=colours.get(name, "0.5"), ms=6 if chosen else 3,
            zorder=3 if chosen else 2,
        )  # fmt: skip
    axes.set_xlabel("volumes, in order")
    axes.set_title(title, fontsize=10)
