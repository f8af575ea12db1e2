"""The picture of README.md: real, synthetic and floor, from a folder that `make demo` wrote.

Usage: python studies/readme_picture.py DEMO docs/real-synthetic-floor.png
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import synthbench
from synthbench.render.montage import planes

ROWS = {
    "reference": "real (simulated)",
    "synth/ddpm3d": "ddpm3d",
    "synth/pca-gaussian": "pca-gaussian",
    "synth/memorizer": "memorizer",
}
PICTURED = 2  # volumes per set


def main() -> None:
    """Draw planes of each set, and below them the scorecard of ddpm3d."""
    demo, out = Path(sys.argv[1]), Path(sys.argv[2])
    figure = Figure(figsize=(9, 8.2), facecolor="white", dpi=110)
    FigureCanvasAgg(figure)
    top, below = figure.subfigures(2, 1, height_ratios=[1.35, 1])
    axes = top.subplots(len(ROWS), 3 * PICTURED)
    for line, (folder, name) in zip(axes, ROWS.items(), strict=True):
        cohort = synthbench.read_cohort(demo / folder)
        volumes = cohort.volumes(intensity="unit")
        shown = [plane for i in range(PICTURED) for plane in planes(volumes[i], cohort.grid)]
        for ax, plane in zip(line, shown, strict=True):
            ax.imshow(plane, cmap="gray", vmin=0, vmax=1, interpolation="bilinear")
            ax.set(xticks=[], yticks=[])
            for spine in ax.spines.values():
                spine.set_visible(False)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=8)
    top.subplots_adjust(left=0.15, right=0.99, top=0.99, bottom=0.01, wspace=0.02, hspace=0.02)
    card = synthbench.Scorecard.load(demo / "leaderboard" / "entries" / "ddpm3d.json")
    ax = below.subplots()
    card.plot(ax=ax)
    below.subplots_adjust(left=0.2, right=0.97, top=0.9, bottom=0.17)
    figure.savefig(out, metadata={"Software": None})
    print(out)


if __name__ == "__main__":
    main()
