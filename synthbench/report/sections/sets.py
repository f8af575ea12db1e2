"""The section on both sets as wholes: mean and spread at each voxel, and intensities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64

from synthbench.cohorts.disclosure import SMALL_CELL
from synthbench.render.charts import LineChart, Series, line_chart
from synthbench.render.png import data_uri, display_grid, png, three_planes
from synthbench.report.album.at_hand import AtHand
from synthbench.report.sections.section import Page, Section
from synthbench.runtime.callbacks import shown
from synthbench.volumes.grid import Space, resample
from synthbench.volumes.sets import Readable

BINS = 64
"""Of a histogram of intensities in [0, 1]."""
MAP_SIDE = 80
"""Voxels along the longest side of a map."""
EQUAL = 128
"""The grey of no difference in a map of differences."""
_HIDDEN = (
    "mean and spread of the real volumes: they were left out with the pictures of real volumes."
)


@dataclass(frozen=True)
class Moments:
    """A set's mean and standard deviation at each voxel, and its mean histogram in the mask."""

    mean: Float64[np.ndarray, "d h w"]
    deviation: Float64[np.ndarray, "d h w"]
    shares: Float64[np.ndarray, " bins"]


def moments(volumes: Readable, mask: Bool[np.ndarray, "d h w"], bar: Any = None) -> Moments:
    """Return a set's mean and standard deviation at each voxel, and its histogram.

    Parameters
    ----------
    volumes
        Two or more, intensities in [0, 1]; each is read once.
    mask
        The voxels of the histogram.
    bar
        Called with the number of volumes done and their total.

    Returns
    -------
    Moments: the standard deviation is that of the sample (n - 1), by Welford's update (1962); the
    shares of `BINS` equal bins over [0, 1] add up to 1, with each volume of the same weight.
    """
    mean = np.zeros(mask.shape)
    squares = np.zeros(mask.shape)
    counts = np.zeros(BINS)
    for index, volume in enumerate(volumes):
        values = volume.astype(np.float64)
        gap = values - mean
        mean += gap / (index + 1)
        squares += gap * (values - mean)
        found, _ = np.histogram(values[mask], bins=BINS, range=(0, 1))
        counts += found / mask.sum()
        if bar is not None:
            bar(index + 1, len(volumes))
    n = len(volumes)
    return Moments(mean, np.sqrt(squares / max(n - 1, 1)), counts / n)


@dataclass(frozen=True)
class Map:
    """A map as three planes: its title, what its greys mean, and its picture."""

    title: str
    words: str
    picture: str
    size: tuple[int, int]


def _build(page: Page) -> Mapping[str, Any] | None:
    if not page.at_hand:
        return None
    cards = [_card(page.names[index], at_hand) for index, at_hand in page.at_hand.items()]
    return {"cards": cards, "several": page.several}


def _card(name: str, at_hand: AtHand) -> Mapping[str, Any]:
    space = at_hand.samples["real"].volumes.space
    found = {
        role: moments(
            at_hand.samples[role].volumes, at_hand.mask, shown(f"means, {role}", at_hand.progress)
        )
        for role in ("real", "synth")
    }
    mapped = [] if _why_no_maps(at_hand) else maps(found["real"], found["synth"], space)
    return {"name": name, "maps": mapped, "chart": histogram(found["real"], found["synth"])}


def maps(real: Moments, synth: Moments, space: Space) -> list[Map]:
    """Return the means and standard deviations of both sets, and their differences."""
    rows = []
    for what, one, other in (
        ("Mean", real.mean, synth.mean),
        ("Standard deviation", real.deviation, synth.deviation),
    ):
        top = max(float(one.max()), float(other.max())) or 1.0
        gap = other - one
        reach = float(np.abs(gap).max()) or 1.0
        greys = f"white is {top:.2g}"
        rows += [
            _map(f"{what}, real", greys, one / top, space),
            _map(f"{what}, synthetic", greys, other / top, space),
            _map(
                f"{what}, synthetic minus real",
                f"grey is equal, white is {reach:.2g} more, black {reach:.2g} less",
                gap / (2 * reach) + 0.5, space, beside=EQUAL,
            ),
        ]  # fmt: skip
    return rows


def _map(
    title: str, words: str, values: Float64[np.ndarray, "d h w"], space: Space, beside: int = 0
) -> Map:
    grid = display_grid(space, MAP_SIDE)
    moved: Float32[np.ndarray, "d h w"] = resample(values.astype(np.float32), space, grid)
    image = three_planes(moved, grid, beside)
    return Map(title, words, data_uri(png(image)), (image.shape[1], image.shape[0]))


def histogram(real: Moments, synth: Moments) -> LineChart:
    """Return a chart of both sets' mean histograms of intensities inside the mask."""
    middles = (np.arange(BINS) + 0.5) / BINS
    gap = synth.shares - real.shares
    at = int(np.abs(gap).argmax())
    return line_chart(
        "Intensities inside the mask", "intensity", "share of voxels",
        f"Mean histograms of {BINS} bins. They differ most at {middles[at]:.2g}, by "
        f"{gap[at]:+.2%} of the voxels (synthetic minus real).",
        [
            Series("real", "real", middles, real.shares),
            Series("synthetic", "synth", middles, synth.shares),
        ],
    )  # fmt: skip


def _why_no_maps(at_hand: AtHand) -> str:
    """Return why there are no maps; a mean of few people would still show each of them."""
    if not at_hand.shows_real:
        return _HIDDEN
    people = len(set(at_hand.samples["real"].subjects.tolist()))
    if people < SMALL_CELL:
        return (
            f"mean and spread of the volumes: {people} real subjects are fewer than {SMALL_CELL}, "
            "and a mean would show each of them."
        )
    return ""


def _lacking(page: Page) -> Sequence[str]:
    return [
        f"{page.about(index)}{why}"
        for index, at_hand in page.at_hand.items()
        if (why := _why_no_maps(at_hand))
    ]


SECTION = Section("sets", "Both sets", "Both sets as wholes", 67, _build, _lacking)
