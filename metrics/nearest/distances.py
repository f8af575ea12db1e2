"""Distances from synthetic images to training and hold-out images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from scipy.spatial.distance import cdist

from synthbench.errors import MetricError
from synthbench.metrics.metric import VolumeSource, check_features, check_memory
from synthbench.metrics.nearest.pairs import MatrixPairs, Pairs
from synthbench.metrics.nearest.rows import Rows
from synthbench.metrics.voxel_gram import voxel_gram

LOG_FLOOR = 1e-2
"""Smaller distances are set to this before the logarithm, in units of `typical_distance`. So no
single image contributes much more than log(100), however close its copy."""

COPY_TOLERANCE = 1e-3
"""A distance up to this many `typical_distance`s is an exact copy. Rounding leaves less, both in
inner products of voxels and in features of float32 networks. A copy rounded to 8 bits (about 0.02)
is a near copy, which the test must detect."""

NEAR_COPY = 0.5
"""Power is computed for copies at this distance from their training image, in units of that
image's distance to its own nearest neighbour."""


class CopyDistances(Protocol):
    """What the tests for copies need of the distances in one space.

    Rows have columns for all real images, the training images first.
    """

    @property
    def sizes(self) -> Mapping[str, int]:
        """The number of images of each role."""
        ...

    @property
    def numbers(self) -> int:
        """How many 8-byte numbers it holds: what is computed from them needs room beside them."""
        ...

    @property
    def real(self) -> Rows:
        """From real images, the training images first."""
        ...

    @property
    def to_real(self) -> Rows:
        """From synthetic images."""
        ...

    @property
    def flipped_to_real(self) -> Rows | None:
        """The smaller one of each synthetic image, as it is and flipped; None: not compared."""
        ...

    def pairs(self, chosen: Int64[np.ndarray, " k"]) -> Pairs:
        """Return the pairs of some real images."""
        ...


@dataclass(frozen=True)
class Distances:
    """Euclidean distances in one space: an extractor's features, or the voxels of a mask.

    Attributes
    ----------
    train, holdout
        From synthetic images (rows) to training and to hold-out images (columns).
    within_train, within_holdout, train_holdout
        Between real images, in the order of the columns of `train` and `holdout`.
    flipped_train, flipped_holdout
        The same as `train` and `holdout` for the synthetic images flipped left to right; None
        where flips are not compared.

    Raises
    ------
    MetricError
        The shapes do not fit together, a set has fewer than two images, or a distance is
        negative, NaN or infinite.
    """

    train: Float64[np.ndarray, "m n_t"]
    holdout: Float64[np.ndarray, "m n_h"]
    within_train: Float64[np.ndarray, "n_t n_t"]
    within_holdout: Float64[np.ndarray, "n_h n_h"]
    train_holdout: Float64[np.ndarray, "n_t n_h"]
    flipped_train: Float64[np.ndarray, "m n_t"] | None = None
    flipped_holdout: Float64[np.ndarray, "m n_h"] | None = None

    def __post_init__(self) -> None:
        sizes = self.sizes
        for role, size in sizes.items():
            if size < 2:
                raise MetricError(
                    f"memorization: {role} needs at least 2 images; found {size}. Add volumes.",
                    "too few images",
                    needed=2,
                    found=size,
                )
        if (self.flipped_train is None) != (self.flipped_holdout is None):
            raise MetricError(
                "memorization: distances under a flip are needed to both sides or to none; found "
                "one side. Pass flipped_train and flipped_holdout."
            )
        for name, rows, columns in _LAYOUT:
            matrix = getattr(self, name)
            if matrix is None:
                continue
            if matrix.shape != (sizes[rows], sizes[columns]):
                raise MetricError(
                    f"memorization: distances.{name} must have {sizes[rows]} rows ({rows}) and "
                    f"{sizes[columns]} columns ({columns}); found shape {matrix.shape}. "
                    "Take all of them from one call of feature_distances or voxel_distances."
                )
            if not (np.isfinite(matrix).all() and (matrix >= 0).all()):
                raise MetricError(
                    f"memorization: distances.{name} must be finite and not negative; found NaN, "
                    "infinity or a negative number. Look for such values in the images.",
                    "not finite output",
                )

    @property
    def sizes(self) -> dict[str, int]:
        """The number of images of each role."""
        m, n_train = self.train.shape
        return {"synth": m, "train": n_train, "holdout": self.holdout.shape[1]}

    @property
    def numbers(self) -> int:
        """The numbers of all matrices, and of the joined ones that are made of them."""
        sizes = self.sizes
        there = ((a, b) for name, a, b in _LAYOUT if getattr(self, name) is not None)
        return 2 * sum(sizes[rows] * sizes[columns] for rows, columns in there)

    @cached_property
    def _real(self) -> Float64[np.ndarray, "n n"]:
        return np.block(
            [[self.within_train, self.train_holdout], [self.train_holdout.T, self.within_holdout]]
        )

    @property
    def real(self) -> Rows:
        """The distances between all real images, the training images first."""
        return Rows.of(self._real)

    @property
    def to_real(self) -> Rows:
        """The distances from synthetic images to all real images, the training images first."""
        return Rows.of(np.hstack([self.train, self.holdout]))

    @property
    def flipped_to_real(self) -> Rows | None:
        """The smaller of the distances of each synthetic image, as it is and flipped, or None."""
        if self.flipped_train is None or self.flipped_holdout is None:
            return None
        train = np.minimum(self.train, self.flipped_train)
        return Rows.of(np.hstack([train, np.minimum(self.holdout, self.flipped_holdout)]))

    def pairs(self, chosen: Int64[np.ndarray, " k"]) -> Pairs:
        """Return the pairs of some real images."""
        return MatrixPairs(self._real[np.ix_(chosen, chosen)])


_LAYOUT = (
    ("train", "synth", "train"),
    ("holdout", "synth", "holdout"),
    ("within_train", "train", "train"),
    ("within_holdout", "holdout", "holdout"),
    ("train_holdout", "train", "holdout"),
    ("flipped_train", "synth", "train"),
    ("flipped_holdout", "synth", "holdout"),
)
"""The roles of the rows and of the columns of each matrix of `Distances`."""


def feature_distances(
    synth: Float64[np.ndarray, "m d"],
    train: Float64[np.ndarray, "n_t d"],
    holdout: Float64[np.ndarray, "n_h d"],
    flipped: Float64[np.ndarray, "m d"] | None = None,
) -> Distances:
    """Return the distances between features.

    Parameters
    ----------
    synth, train, holdout
        Feature matrices (arrays or tensors), one row per image.
    flipped
        Features of the synthetic images flipped left to right, in the order of `synth`.

    Raises
    ------
    MetricError
        `check_features` refuses the features, or `flipped` and `synth` differ in their numbers of
        rows.
    """
    sets = {"synth": synth, "train": train, "holdout": holdout}
    if flipped is not None:
        sets["flipped"] = flipped
    x = check_features("memorization", 4, widen=True, **sets)
    return Distances(
        train=cdist(x["synth"], x["train"]),
        holdout=cdist(x["synth"], x["holdout"]),
        within_train=cdist(x["train"], x["train"]),
        within_holdout=cdist(x["holdout"], x["holdout"]),
        train_holdout=cdist(x["train"], x["holdout"]),
        flipped_train=cdist(x["flipped"], x["train"]) if "flipped" in x else None,
        flipped_holdout=cdist(x["flipped"], x["holdout"]) if "flipped" in x else None,
    )


def voxel_distances(
    synth: VolumeSource,
    train: VolumeSource,
    holdout: VolumeSource,
    mask: Bool[np.ndarray, "d h w"],
    progress: Callable[[int, int], None] | None = None,
) -> Distances:
    """Return the distances between volumes inside a mask, also with the synthetic ones flipped.

    They come from inner products. Rounding leaves a distance of about 1e-7 of a volume's norm
    between equal volumes: well below `COPY_TOLERANCE`, up to which a distance is an exact copy.

    Parameters
    ----------
    synth, train, holdout
        Volumes on one grid in RAS+, so that axis 0 is left-right.
    mask
        The voxels that are compared.
    progress
        Called with the number of volumes read so far and the number of reads in all.

    Raises
    ------
    MetricError
        A set or the mask is empty, a volume is on another grid or not finite, or the products and
        distances take more than `--max-memory`.
    """
    gram = voxel_products(synth, train, holdout, mask, progress)
    return distances_of_products(gram, len(synth), len(train))


def voxel_products(
    synth: VolumeSource,
    train: VolumeSource,
    holdout: VolumeSource,
    mask: Bool[np.ndarray, "d h w"],
    progress: Callable[[int, int], None] | None = None,
) -> Float64[np.ndarray, "n n"]:
    """Return the inner products of synthetic, mirrored synthetic, training and hold-out volumes.

    The parameters and errors are those of `voxel_distances`; the sets follow each other.
    """
    rows = 2 * len(synth) + len(train) + len(holdout)
    check_memory(
        "memorization", 2 * rows * rows,
        f"the distances between the voxels of {len(synth)} synthetic, {len(train)} training and "
        f"{len(holdout)} hold-out images",
    )  # fmt: skip
    sources = (synth, _Mirrored(synth), train, holdout)
    return voxel_gram(_Joined(sources), mask=mask, progress=progress)


def distances_of_products(
    gram: Float64[np.ndarray, "n n"], n_synth: int, n_train: int
) -> Distances:
    """Return the distances between volumes, from `voxel_products`."""
    squares = np.diag(gram)
    distances = np.sqrt((squares[:, None] + squares[None, :] - 2 * gram).clip(min=0.0))
    s, f = slice(n_synth), slice(n_synth, 2 * n_synth)
    t, h = slice(f.stop, f.stop + n_train), slice(f.stop + n_train, None)
    return Distances(
        train=distances[s, t],
        holdout=distances[s, h],
        within_train=distances[t, t],
        within_holdout=distances[h, h],
        train_holdout=distances[t, h],
        flipped_train=distances[f, t],
        flipped_holdout=distances[f, h],
    )


@dataclass(frozen=True)
class _Mirrored:
    """Volumes flipped along axis 0."""

    source: VolumeSource

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int, /) -> Float32[np.ndarray, "d h w"]:
        return self.source[index][::-1]


@dataclass(frozen=True)
class _Joined:
    """Several sources, one after the other."""

    sources: Sequence[VolumeSource]

    def __len__(self) -> int:
        return sum(len(source) for source in self.sources)

    def __getitem__(self, index: int, /) -> Float32[np.ndarray, "d h w"]:
        for source in self.sources:
            if index < len(source):
                return source[index]
            index -= len(source)
        raise IndexError(index)


def typical_distance(real: Rows, subjects: Int64[np.ndarray, " n"], n_train: int) -> float:
    """Return the median distance of a training image to the nearest one of another subject.

    It is the unit of the constants of memorization: so no finding depends on the scale of the
    features.

    Parameters
    ----------
    real, subjects
        The distances between real images, and the subject of each.
    n_train
        The number of training images, which come first.

    Raises
    ------
    MetricError
        The median is zero.
    """
    train = np.arange(n_train)
    is_train = np.arange(len(real)) < n_train
    unit = float(np.median(real.taken(train).closest(is_train, subjects, subjects[train])[1]))
    if unit == 0:
        raise MetricError(
            "memorization: training images of different subjects must differ; found an identical "
            "twin for at least half of them. Remove duplicates from the training set, or give its "
            "subjects in the participants table.",
            "equal images",
        )
    return unit


def authentic(to_real: Rows, real: Rows, n_train: int) -> Bool[np.ndarray, " m"]:
    """Return True for each synthetic image that is authentic (Alaa et al. 2022, section 3.3).

    Take the training image that is nearest to a synthetic image. The synthetic image is authentic
    where another training image lies nearer to this training image than the synthetic image does.
    AuthPct is the percentage of authentic images.
    """
    image = np.arange(len(real))
    nearest, distance = to_real.closest(image < n_train)
    train = np.arange(n_train)
    to_other = real.taken(train).closest(image < n_train, image, train)[1]
    farther: Bool[np.ndarray, " m"] = distance > to_other[nearest]
    return farther


def distances_from_near_copies(
    real: Rows, subjects: Int64[np.ndarray, " n"], near_copy: float
) -> Rows:
    """Return the distances from a near copy of each real image (rows) to all real images.

    A copy lies at the distance delta from its original, in a direction at right angles to the
    other images. So its distance to an image at d from the original is sqrt(d^2 + delta^2).
    """
    to_other = real.closest(np.ones(len(real), dtype=np.bool_), subjects, subjects)[1]
    return real.lifted(near_copy * to_other)
