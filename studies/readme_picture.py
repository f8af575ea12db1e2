"""The picture of README.md: samples of generators, and how far each lies from real by each judge.

No real volume is drawn. Name no folder for a generator whose samples hold parts of training
volumes: it is then only in the chart.

Usage: python studies/readme_picture.py BOARD OUT.png ENTRY=FOLDER [ENTRY=FOLDER ...] [ENTRY ...]
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure

import synthbench
from synthbench.render.montage import planes

ROWS = (
    ("kid", "random-resnet10"), ("kid", "qiu2022"), ("kid", "anatomy"), ("coverage", "qiu2022"),
    ("ms_ssim", None), ("spectrum", None),
)  # fmt: skip
MARKERS = "osD^vP*X"
PICTURED = 3  # volumes per set
NEAREST, FARTHEST = 0.1, 1000.0  # in widths of the floor; what is beyond is drawn at the edge


def main() -> None:
    """Draw planes of each set, and below them each row beside its floor."""
    board, out = Path(sys.argv[1]), Path(sys.argv[2])
    named = [text.partition("=") for text in sys.argv[3:]]
    folders = {name: Path(folder) for name, _, folder in named if folder}
    figure = Figure(figsize=(11, 1.3 * len(folders) + 3.6), facecolor="white", dpi=100)
    FigureCanvasAgg(figure)
    top, below = figure.subfigures(2, 1, height_ratios=[1.3 * len(folders), 3.6])
    draw_planes(top, folders)
    ax = below.subplots()
    below.subplots_adjust(left=0.2, right=0.98, top=0.96, bottom=0.36)
    draw_floors(ax, board / "entries", [name for name, _, _ in named])
    figure.savefig(out, metadata={"Software": None})
    print(out)


def draw_planes(figure: SubFigure, folders: dict[str, Path]) -> None:
    """Draw three planes of some volumes of each set, with the intensities that are scored."""
    axes = figure.subplots(len(folders), 3 * PICTURED, squeeze=False)
    for line, (name, folder) in zip(axes, folders.items(), strict=True):
        cohort = synthbench.read_cohort(folder)
        volumes = cohort.volumes()
        shown = [plane for i in range(PICTURED) for plane in planes(volumes[i], cohort.grid)]
        for ax, plane in zip(line, shown, strict=True):
            ax.imshow(plane, cmap="gray", vmin=0, vmax=1, interpolation="bilinear")
            ax.set(xticks=[], yticks=[])
            for spine in ax.spines.values():
                spine.set_visible(False)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=8)
    figure.subplots_adjust(left=0.12, right=0.99, top=0.99, bottom=0.01, wspace=0.02, hspace=0.02)


def draw_floors(ax: Axes, entries: Path, names: list[str]) -> None:
    """Draw how far each generator lies from real against real, in widths of the floor."""
    cards = {name: synthbench.Scorecard.load(entries / f"{name}.json") for name in names}
    labels = []
    for y, (metric, extractor) in enumerate(ROWS):
        for number, (name, card) in enumerate(cards.items()):
            value = card.row(metric, extractor)
            assert value is not None
            assert value.floor is not None
            distance = abs(value.floor.distance(value.floor.synth_mean))
            ax.plot(
                min(max(distance, NEAREST), FARTHEST),
                y + 0.5 * (number / max(1, len(cards) - 1) - 0.5),
                MARKERS[number % len(MARKERS)],
                color=f"C{number % 10}",
                label=name if y == 0 else None,
                markersize=7,
                alpha=0.85,
            )
            if number == 0:
                labels.append(f"{value.label}, {extractor}" if extractor else value.label)
    ax.axvspan(0.9 * NEAREST, 1, color="0.85", label="floor: real against real")
    ax.set(xscale="log", xlim=(0.9 * NEAREST, 1.1 * FARTHEST), ylim=(len(ROWS) - 0.5, -0.5))
    ax.set_yticks(range(len(ROWS)), labels)
    ax.set_xticks([0.1, 1, 10, 100, 1000], ["≤ 0.1", "1", "10", "100", "≥ 1000"])
    ax.set_xlabel("distance from the floor's middle; 1 is its edge")
    ax.legend(ncols=6, loc="upper center", bbox_to_anchor=(0.4, -0.3), fontsize=8, frameon=False)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


if __name__ == "__main__":
    main()
