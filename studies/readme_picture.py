"""The picture of README.md: real, synthetic and floor, from a folder that `make demo` wrote.

Usage: python studies/readme_picture.py DEMO docs/real-synthetic-floor.png
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure

import synthbench
from synthbench.render.montage import planes

GENERATORS = {"ddpm3d": "o", "pca-gaussian": "s", "memorizer": "^", "noise": "X"}
METRICS = ("mmd2", "fid", "ms_ssim", "spectrum")
PICTURED = 2  # volumes per set


def main() -> None:
    """Draw planes of each set, and below them each metric beside its floor."""
    demo, out = Path(sys.argv[1]), Path(sys.argv[2])
    figure = Figure(figsize=(9, 9), facecolor="white", dpi=110)
    FigureCanvasAgg(figure)
    top, below = figure.subfigures(2, 1, height_ratios=[2.2, 1])
    draw_planes(top, demo)
    ax = below.subplots()
    below.subplots_adjust(left=0.16, right=0.98, top=0.98, bottom=0.33)
    draw_floors(ax, demo / "leaderboard" / "entries")
    figure.savefig(out, metadata={"Software": None})
    print(out)


def draw_planes(figure: SubFigure, demo: Path) -> None:
    """Draw three planes of some volumes of each set, with the intensities that are scored."""
    rows = {"real (simulated)": demo / "reference"}
    rows |= {name: demo / "synth" / name for name in GENERATORS}
    axes = figure.subplots(len(rows), 3 * PICTURED)
    for line, (name, folder) in zip(axes, rows.items(), strict=True):
        cohort = synthbench.read_cohort(folder)
        volumes = cohort.volumes()
        shown = [plane for i in range(PICTURED) for plane in planes(volumes[i], cohort.grid)]
        for ax, plane in zip(line, shown, strict=True):
            ax.imshow(plane, cmap="gray", vmin=0, vmax=1, interpolation="bilinear")
            ax.set(xticks=[], yticks=[])
            for spine in ax.spines.values():
                spine.set_visible(False)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=8)
    figure.subplots_adjust(left=0.16, right=0.98, top=0.99, bottom=0.01, wspace=0.02, hspace=0.02)


def draw_floors(ax: Axes, entries: Path) -> None:
    """Draw how far each generator lies from real against real, in widths of the floor."""
    for number, (name, marker) in enumerate(GENERATORS.items()):
        card = synthbench.Scorecard.load(entries / f"{name}.json")
        for y, metric in enumerate(METRICS):
            value = card.row(metric)
            assert value is not None
            assert value.floor is not None
            distance = abs(value.floor.distance(value.floor.synth_mean))
            label = name if y == 0 else None
            ax.plot(
                max(distance, 0.1),
                y,
                marker,
                color=f"C{number}",
                label=label,
                markersize=7,
                alpha=0.8,
            )
    ax.axvspan(0.09, 1, color="0.85", label="floor: real against real")
    labels = [card.row(metric).label for metric in METRICS]  # type: ignore[union-attr]
    ax.set(xscale="log", xlim=(0.09, None), ylim=(len(METRICS) - 0.5, -0.5))
    ax.set_yticks(range(len(METRICS)), labels)
    ax.set_xticks([0.1, 1, 10, 100], ["≤ 0.1", "1", "10", "100"])
    ax.set_xlabel("distance from the floor's middle; 1 is its edge")
    ax.legend(ncols=5, loc="upper center", bbox_to_anchor=(0.45, -0.32), fontsize=8, frameon=False)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


if __name__ == "__main__":
    main()
