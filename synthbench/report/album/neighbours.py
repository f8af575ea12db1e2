"""The training and the real volumes that are nearest to synthetic ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64

from synthbench.metrics.voxel_gram import voxel_gram, voxel_squares
from synthbench.report.album.at_hand import AtHand
from synthbench.report.album.gallery import PICTURED, Chosen, Neighbour, Plan
from synthbench.runtime.callbacks import Progress, shown
from synthbench.scoring.statistics import Sample
from synthbench.volumes.grid import Space
from synthbench.volumes.sets import Flipped, Readable


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


@dataclass(frozen=True)
class _Some:
    """Some volumes of a set, by their indices."""

    volumes: Readable
    indices: Sequence[int]

    @property
    def space(self) -> Space:
        return self.volumes.space

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int, /) -> Float32[np.ndarray, "d h w"]:
        return self.volumes[self.indices[place]]

    def __iter__(self) -> Iterator[Float32[np.ndarray, "d h w"]]:
        return (self.volumes[index] for index in self.indices)


def nearest_real(at_hand: AtHand, shown_ones: Sequence[int]) -> dict[int, Neighbour]:
    """Return the nearest real volume of some synthetic volumes, as they are, by their index.

    Mirrored volumes are not looked at, because the two are subtracted from each other. Empty where
    real volumes may not be shown.
    """
    if not at_hand.shows_real or not shown_ones:
        return {}
    mask, real = at_hand.mask, at_hand.samples["real"].volumes
    some = _Some(at_hand.samples["synth"].volumes, shown_ones)
    bar = shown("nearest real volumes", at_hand.progress)
    products = voxel_gram(some, real, mask=mask, progress=bar)
    squares = voxel_squares(some, mask=mask)[:, None] + voxel_squares(real, mask=mask)
    apart = np.sqrt(np.maximum(squares - 2 * products, 0) / int(mask.sum()))
    return {
        which: Neighbour(
            int(row.argmin()),
            f"nearest real volume, root mean squared difference {row.min():.3g} inside the mask",
        )
        for which, row in zip(shown_ones, apart, strict=True)
    }


def beside_real(at_hand: AtHand, found: Sequence[Chosen], near: dict[int, Neighbour]) -> Plan:
    """Return synthetic volumes, each followed by its nearest real one."""
    plan = Plan(
        "The synthetic examples beside their nearest real volumes",
        "The nearest by the root mean squared difference of voxels inside the mask, as they are. "
        "Two people's brains differ too: a neighbour is no original.",
        pairs=True,
    )
    for volume in found:
        neighbour = near[volume.index]
        title = at_hand.title("real", neighbour.index)
        plan.volumes.append(volume)
        plan.volumes.append(Chosen("real", neighbour.index, title, neighbour.words))
    return plan
