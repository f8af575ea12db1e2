"""The training volumes that are nearest to synthetic ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from synthbench.metrics.voxel_gram import voxel_gram, voxel_squares
from synthbench.report.sections.at_hand import AtHand
from synthbench.report.sections.gallery import PICTURED, Chosen, Plan
from synthbench.runtime.callbacks import Progress, shown
from synthbench.scoring.statistics import Sample
from synthbench.volumes.sets import Flipped


@dataclass(frozen=True)
class Nearest:
    """The nearest training volume of each synthetic one, by the voxels inside the mask.

    Attributes
    ----------
    index
        Of the training volume.
    distance
        Root mean squared difference of intensities in [0, 1].
    mirrored
        True where the synthetic volume is nearest when it is mirrored left to right.
    usual
        The median over training volumes of the distance to the nearest one of another subject.
    """

    index: Any
    distance: Float64[np.ndarray, " m"]
    mirrored: Bool[np.ndarray, " m"]
    usual: float


def nearest_training(
    synth: Sample, train: Sample, mask: Bool[np.ndarray, "d h w"], progress: Progress | None = None
) -> Nearest:
    """Return each synthetic volume's nearest training volume, as it is or mirrored.

    Parameters
    ----------
    synth, train
        Volumes of one grid.
    mask
        The voxels that are compared.
    progress
        Called with (what, done, total).
    """
    voxels = int(mask.sum())
    bar = shown("nearest training volumes", progress)
    squares = voxel_squares(train.volumes, mask=mask)

    def apart(products: np.ndarray, own: np.ndarray) -> Float64[np.ndarray, "m n"]:
        squared = np.maximum(own[:, None] + squares - 2 * products, 0)
        distances: Float64[np.ndarray, "m n"] = np.sqrt(squared / voxels)
        return distances

    plain = apart(
        voxel_gram(synth.volumes, train.volumes, mask=mask, progress=bar),
        voxel_squares(synth.volumes, mask=mask),
    )
    mirrored = apart(
        voxel_gram(Flipped(synth.volumes), train.volumes, mask=mask),
        voxel_squares(Flipped(synth.volumes), mask=mask),
    )
    either = np.minimum(plain, mirrored)
    index = either.argmin(axis=1)
    rows = np.arange(len(index))
    within = apart(voxel_gram(train.volumes, mask=mask), squares)
    within[train.subjects[:, None] == train.subjects] = np.inf
    return Nearest(
        index=index,
        distance=either[rows, index],
        mirrored=mirrored[rows, index] < plain[rows, index],
        usual=float(np.median(within.min(axis=1))),
    )


def neighbours(at_hand: AtHand) -> Plan:
    """Return the synthetic volumes nearest to training volumes, each followed by its neighbour.

    The folder of the training set must have been named.
    """
    samples = at_hand.samples
    found = nearest_training(samples["synth"], samples["train"], at_hand.mask, at_hand.progress)
    plan = Plan(
        "Nearest to the training volumes",
        "The synthetic volumes nearest to a training volume, by the root mean squared difference "
        "of voxels inside the mask, as they are or mirrored. For comparison: the usual distance "
        f"of a training volume to the nearest other subject is {found.usual:.3g} (median)."
        + ("" if at_hand.shows_real else " The training volumes are neither shown nor named."),
        pairs=at_hand.shows_real,
    )
    for i in np.argsort(found.distance, kind="stable")[:PICTURED]:
        share = found.distance[i] / found.usual if found.usual > 0 else np.nan
        flipped = ", mirrored" if found.mirrored[i] else ""
        plan.volumes.append(
            Chosen(
                "synth", int(i), at_hand.title("synth", int(i)),
                f"synthetic; nearest at {found.distance[i]:.3g}{flipped}, {share:.0%} of the "
                "usual distance",
            )
        )  # fmt: skip
        if at_hand.shows_real:
            j = int(found.index[i])
            plan.volumes.append(
                Chosen("train", j, at_hand.title("train", j), "its nearest training volume")
            )
    return plan
