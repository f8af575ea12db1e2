"""The share of images with a copied part that is found with 80% power, by simulation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64

from synthbench.metrics.nearest.patches import Search
from synthbench.metrics.nearest.power import POWER
from synthbench.metrics.nearest.studentized import adjusted_p, excess, studentized

PART = 0.05
"""The share of an image that a planted part takes."""

IMAGE_SHARES = (0.01, 0.02, 0.03, 0.05, 0.08, 0.10, 0.15, 0.20, 0.30, 0.50, 0.75, 1.0)
"""The shares of images with a planted part at which power is computed."""

PLANTING_LABELLINGS = 200
"""Number of labellings that test a simulated set: enough for a p-value near 0.05."""

PLANTINGS = 100
"""Number of simulated sets at each share of images."""


def detectable_images(
    compared: Search,
    labels: Float64[np.ndarray, "b s"],
    *,
    level: float,
    least: float,
    part: float,
    rng: np.random.Generator,
) -> float | None:
    """Return the smallest share of images whose copied parts are found with 80% probability.

    Each of `PLANTINGS` simulated sets takes one random labelling as the true one, so that nothing
    is a copy. Then some of its images get a part of a random training subject: a cube around a
    random place that holds the share `part` of all places. The cubes of the test that lie wholly
    inside it become copies of that subject, and the whole test runs.

    Parameters
    ----------
    compared
        The nearest subjects of all cubes.
    labels
        Labellings of the subjects, 1 for training.
    level, least
        Level of the test, and the share of copied cubes beyond chance that it needs.
    part, rng
        Size of a part, and random generator.

    Returns
    -------
    One of `IMAGE_SHARES`, rounded up to whole images, or None where copied parts in all images are
    not enough.
    """
    found = list(compared.found.values())
    _, images, places = found[0].copied.shape
    shares = np.stack([own.shares(labels.shape[1]) for own in found])
    needed = least + np.array([own.by_chance.mean() for own in found])
    inside = _cubes_inside(compared.places, list(compared.found), part) / (images * places)
    for count in sorted({math.ceil(share * images) for share in IMAGE_SHARES}):
        hits = 0
        for true in rng.integers(len(labels), size=PLANTINGS):
            planted = shares.copy()
            sources = rng.choice(np.flatnonzero(labels[true]), count)
            np.add.at(planted.T, sources, inside[:, rng.integers(places, size=count)].T)
            p = adjusted_p(studentized(planted, labels), np.full(len(planted), true))
            large = excess(planted, labels[true][None])[:, 0] >= needed
            hits += bool((large & (p <= level)).any())
        if hits >= POWER * PLANTINGS:
            return float(count / images)
    return None


def _cubes_inside(
    places: Int64[np.ndarray, "p 3"], sides: Sequence[int], part: float
) -> Float64[np.ndarray, "r p"]:
    """Return how many cubes of each side lie inside the part that is centred at each place."""
    counts = np.zeros((len(sides), len(places)))
    rank = math.ceil(part * len(places)) - 1
    for centre, place in enumerate(places):
        away = np.abs(places - place).max(axis=1)
        half = np.partition(away, rank)[rank]
        for row, side in enumerate(sides):
            counts[row, centre] = (away + side // 2 <= half).sum()
    return counts


def parts_power_text(detectable: float | None, part: float) -> str:
    """Return the power as it follows "no copied parts found" in a table."""
    power = f"{POWER:.0%}"
    if detectable is None:
        return f"power below {power} even where {part:.0%} of every image is copied"
    return f"{power} power where {part:.0%} of the image is copied in {detectable:.0%} of images"
