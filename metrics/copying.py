"""Memorization: are synthetic images nearer the training images than unseen ones?

For each synthetic image, d_T and d_H are the distances to its nearest training image and to its
nearest image of a hold-out that the generator never saw. A generator that copies makes d_T the
smaller of the two. The statistic is the mean of log(d_H / d_T); under the hypothesis that
nothing was copied, training and hold-out images are exchangeable, whatever the synthetic images
look like, so that a permutation of their labels gives the test.

Tests on distances are no privacy guarantee. They see images that lie close to a training image
in the space at hand; they do not see copied parts, nor what an attack can take from the model.

References
----------
Alaa et al., "How faithful is your synthetic data?", ICML 2022: authenticity.
Meehan et al., "A non-parametric test to detect data-copying", AISTATS 2020: the comparison of
distances to training and to unseen data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from scipy.spatial.distance import cdist

from synthbench.errors import MetricError
from synthbench.metrics.inference import n_subjects, ratio, subject_index, variance_of_mean
from synthbench.metrics.metric import (
    BaseMetric,
    IntervalMethod,
    Needs,
    Part,
    Statistic,
    Target,
    VolumeSource,
    Weights,
    check_features,
)
from synthbench.metrics.voxels import voxel_gram

LOG_FLOOR = 1e-2
"""Distances are floored before the logarithm, in units of `typical_distance`: so no single image
weighs more than log(100) or so, however close its copy."""

COPY_TOLERANCE = 1e-3
"""A distance up to this many `typical_distance`s is an exact copy: rounding leaves less, in inner
products of voxels and in features of float32 networks. A copy rounded to 8 bits (about 0.02) is a
near copy, for the test to find."""

NEAR_COPY = 0.5
"""Power is for copies this far from their training image, in units of that image's distance to
its own nearest neighbour."""

LEVEL = 0.05
"""The chance of "copying detected" where nothing was copied, at most; shared where images are
also compared under a flip."""

POWER = 0.8
"""The probability with which copies of the detectable share are found."""

PLANTED_SHARES = (0.01, 0.02, 0.03, 0.05, 0.08, 0.10, 0.15, 0.20, 0.30, 0.50)
"""The shares of copies at which power is computed."""

PLANTINGS = 200
"""Number of simulated sets at each share."""

PLANTING_LABELLINGS = 400
"""Labellings with which each simulated set is tested, at most: enough for a p-value near 0.05."""

NEGLIGIBLE = 1e-9
"""Probability below which a neighbour is too far down the order to matter."""

ROUNDING = 1e-12
"""Relative size below which a difference between two statistics is rounding."""

ROWS_A_CHUNK = 64
"""Images whose neighbours are walked through at once, under all labellings."""


@dataclass(frozen=True)
class Distances:
    """Euclidean distances in one space: an extractor's features, or the voxels of a mask.

    Attributes
    ----------
    train, holdout
        Synthetic rows to training and to hold-out columns.
    within_train, within_holdout, train_holdout
        Between real images, rows and columns in the order of the columns above.
    flipped_train, flipped_holdout
        As `train` and `holdout`, with the synthetic images flipped left to right; None where
        flips are not compared.

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
                    f"memorization: {role} needs at least 2 images; found {size}. Add volumes."
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
                    "infinity or a negative number. Look for such values in the images."
                )

    @property
    def sizes(self) -> dict[str, int]:
        """The number of images of each role."""
        m, n_train = self.train.shape
        return {"synth": m, "train": n_train, "holdout": self.holdout.shape[1]}

    @property
    def real(self) -> Float64[np.ndarray, "n n"]:
        """Between all real images, the training images first."""
        return np.block(
            [[self.within_train, self.train_holdout], [self.train_holdout.T, self.within_holdout]]
        )

    @property
    def to_real(self) -> Float64[np.ndarray, "m n"]:
        """Synthetic rows to all real images, the training images first."""
        return np.hstack([self.train, self.holdout])

    @property
    def flipped_to_real(self) -> Float64[np.ndarray, "m n"] | None:
        """The smaller of both distances of a synthetic image, as it is and flipped."""
        if self.flipped_train is None or self.flipped_holdout is None:
            return None
        flipped = np.hstack([self.flipped_train, self.flipped_holdout])
        smaller: Float64[np.ndarray, "m n"] = np.minimum(self.to_real, flipped)
        return smaller


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


class Neighbour(NamedTuple):
    """A synthetic image and the real images nearest to it.

    Attributes
    ----------
    synth, train, holdout
        Indices: of the synthetic image, and of its nearest training and hold-out image.
    train_distance, holdout_distance
        How far they are.
    """

    synth: int
    train: int
    train_distance: float
    holdout: int
    holdout_distance: float


@dataclass(frozen=True)
class LogRatio:
    """The mean over synthetic images of log(d_H / d_T), as a function of their weights.

    Training and hold-out images are held fixed: its variance, and an interval made with it, are
    for the draw of synthetic images alone. Whether the value is above zero is for the test.

    Attributes
    ----------
    contrasts
        log(d_H / d_T) of each synthetic image.
    authentic
        Which of them are authentic (see `authentic`).
    subjects
        The subject index of each image, under "synth".
    """

    contrasts: Float64[np.ndarray, " m"]
    authentic: Bool[np.ndarray, " m"]
    subjects: Mapping[str, Int64[np.ndarray, " m"]]

    def value(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The weighted mean of the contrasts."""
        return _weighted_mean(self.contrasts, weights["synth"])

    def variance(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The sampling variance of that mean, by subjects."""
        return variance_of_mean(self.contrasts[None, :], weights["synth"], self.subjects["synth"])

    def parts(self) -> dict[str, Part]:
        """The percentage of authentic images."""
        return {"auth_pct": Part("AuthPct", AuthenticShare(self.authentic, self.subjects))}


@dataclass(frozen=True)
class AuthenticShare:
    """AuthPct as a function of weights on the synthetic images, in [0, 100].

    A value without a verdict: it does not hold a level where synthetic images differ from real.
    """

    authentic: Bool[np.ndarray, " m"]
    subjects: Mapping[str, Int64[np.ndarray, " m"]]

    def value(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The weighted percentage."""
        return 100 * _weighted_mean(self.authentic.astype(np.float64), weights["synth"])


@dataclass(frozen=True)
class CopyingTest:
    """The one-sided test that synthetic images are nearer training than unseen images.

    Attributes
    ----------
    statistic
        Mean log(d_H / d_T) as a function of weights on the synthetic images.
    value
        Its value with every image counted once; above zero: nearer the training images.
    p
        Permutation p-value, in [1/(permutations + 1), 1].
    level
        The p-value at or below which copying is detected.
    copies, holdout_copies
        Synthetic images that equal a training image, or a hold-out image, up to rounding. An
        exact copy needs no test.
    detectable
        The smallest share of near copies among the synthetic images that this test would find
        with a probability of `POWER`; None where even half of them would not do.
    neighbours
        The nearest real images of each synthetic image, in the order of the synthetic images.
    """

    statistic: LogRatio
    value: float
    p: float
    level: float
    copies: int
    holdout_copies: int
    detectable: float | None
    neighbours: list[Neighbour] = field(repr=False)

    @property
    def copy_share(self) -> float:
        """Exact copies of training images, as a share of the synthetic images."""
        return self.copies / len(self.neighbours)

    @property
    def detected(self) -> bool:
        """Whether there is an exact copy, or the test rejects."""
        return self.copies > 0 or self.p <= self.level

    @property
    def text(self) -> str:
        """The finding, as a table prints it. It is never a statement on privacy."""
        if self.detected:
            return "copying detected"
        finding = f"no copying detected ({_power_words(self.detectable)})"
        if self.holdout_copies:
            finding += f"; {self.holdout_copies} synthetic images equal hold-out images"
        return finding


@dataclass(frozen=True)
class Assessment(CopyingTest):
    """Memorization in one space: the test on the images as they are, and what stands beside it.

    Attributes
    ----------
    auth_pct
        Percentage of authentic synthetic images (Alaa et al. 2022); no verdict.
    n
        Subjects a side, after the larger of training and hold-out is brought to the smaller.
    flipped
        The test with the smaller of each image's distances, as it is and flipped left to right;
        None where flips are not compared.
    """

    auth_pct: float
    n: int
    flipped: CopyingTest | None


class Memorization(BaseMetric):
    """Distance to training images against distance to unseen ones, with a permutation test."""

    name = "memorization"
    label = "memorization"
    drawn = True
    formula = (
        "mean over synth of log(d_H / d_T), d to the nearest image of the hold-out and of training "
        "(mean over subsets of equal numbers of subjects), floored; permuted labels, one-sided"
    )
    needs: Needs = "training"
    target: Target = "zero"
    interval: IntervalMethod = "studentized"
    sees = "synthetic images that lie nearer to training images than to unseen ones"
    misses = (
        "copied parts of images, rare copies below the share that it prints, and what an attack "
        "on the model could find: it is no privacy guarantee"
    )
    responds_to: tuple[str, ...] = ("copies",)

    def freeze(
        self,
        real: Float64[np.ndarray, "n d"] | None = None,
        subjects: np.ndarray | None = None,
        *,
        spacing: tuple[float, float, float] | None = None,
    ) -> dict[str, Any]:
        """The constants of the test; they do not depend on the real set."""
        return {
            "floor": LOG_FLOOR,
            "copy_tolerance": COPY_TOLERANCE,
            "near_copy": NEAR_COPY,
            "alpha": LEVEL,
        }

    def prepare(
        self,
        real: Float64[np.ndarray, "n d"],
        synth: Float64[np.ndarray, "m d"],
        *,
        subjects: Mapping[str, np.ndarray] | None = None,
        **settings: Any,
    ) -> Statistic:
        """Refuse: a real and a synthetic set are not enough; see `assess`."""
        raise MetricError(
            "memorization: compares synthetic images with training images and with a hold-out; "
            "found a real and a synthetic set only. Pass --train, or call "
            "synthbench.metrics.copying.memorization(synth, train, holdout)."
        )

    def assess(
        self,
        distances: Distances,
        *,
        permutations: int,
        seed: int,
        subjects: Mapping[str, np.ndarray] | None = None,
        floor: float = LOG_FLOOR,
        copy_tolerance: float = COPY_TOLERANCE,
        near_copy: float = NEAR_COPY,
        alpha: float = LEVEL,
        **settings: Any,
    ) -> Assessment:
        """Test for copying in one space.

        Where there are more training than hold-out subjects, or fewer, log d to the larger side
        is its mean over all subsets of as many subjects as the smaller has; in closed form, so
        nothing is drawn. Power is best with equal sides: among 1000 training and 86 hold-out
        images, 92% of labellings call a copied image training. Subjects are permuted whole. A
        subject is taken to be in training or in the hold-out, not in both: labels are counted
        within each side.

        Parameters
        ----------
        distances
            Between synthetic, training and hold-out images.
        permutations
            Number of permuted labellings.
        seed
            Seed of the labellings, and of the plantings from which power is computed.
        subjects
            For "synth", "train" and "holdout", the subject of each image; None is one image a
            subject.
        floor, copy_tolerance, near_copy, alpha
            As `freeze` gives them: see `LOG_FLOOR`, `COPY_TOLERANCE`, `NEAR_COPY` and `LEVEL`.

        Returns
        -------
        The finding. `alpha` is halved for each of the two tests where flips are compared, so
        that both together hold it.

        Raises
        ------
        MetricError
            There are too few subjects or permutations, the hold-out holds training images, or
            most training images have an identical twin.
        """
        index = subject_index(subjects, **distances.sizes)
        _check_subjects(index)
        tests = 1 if distances.flipped_to_real is None else 2
        _check_permutations(permutations, alpha / tests)
        unit = typical_distance(distances.within_train, index["train"])
        _check_disjoint(distances.train_holdout, copy_tolerance * unit)

        for_labels, for_plantings = np.random.default_rng(seed).spawn(2)
        sides = _Sides.permuted(index["train"], index["holdout"], permutations, for_labels)
        some = sides.first(PLANTING_LABELLINGS)
        near_copies = _near_copies(distances.real, sides.subjects, near_copy)
        planted = some.contrasts(near_copies, floor * unit)
        original = authentic(distances.train, distances.within_train)
        n_train = distances.sizes["train"]

        def test(to_real: Float64[np.ndarray, "m n"]) -> CopyingTest:
            contrasts = sides.contrasts(to_real, floor * unit)
            statistic = LogRatio(contrasts[:, 0], original, {"synth": index["synth"]})
            nearest = nearest_real(to_real[:, :n_train], to_real[:, n_train:])
            return CopyingTest(
                statistic=statistic,
                value=float(contrasts[:, 0].mean()),
                p=float(p_values(contrasts.mean(axis=0)[None, :], np.array([0]))[0]),
                level=alpha / tests,
                copies=sum(n.train_distance <= copy_tolerance * unit for n in nearest),
                holdout_copies=sum(n.holdout_distance <= copy_tolerance * unit for n in nearest),
                detectable=detectable_share(
                    contrasts[:, : len(some.labels)],
                    planted,
                    some.images,
                    alpha / tests,
                    for_plantings.spawn(1)[0],
                ),
                neighbours=nearest,
            )

        flipped = distances.flipped_to_real
        return Assessment(
            **vars(test(distances.to_real)),
            auth_pct=100 * float(original.mean()),
            n=min(n_subjects(index["train"]), n_subjects(index["holdout"])),
            flipped=None if flipped is None else test(flipped),
        )


# Distances


def feature_distances(
    synth: Float64[np.ndarray, "m d"],
    train: Float64[np.ndarray, "n_t d"],
    holdout: Float64[np.ndarray, "n_h d"],
    flipped: Float64[np.ndarray, "m d"] | None = None,
) -> Distances:
    """Distances between features.

    Parameters
    ----------
    synth, train, holdout
        Feature matrices (arrays or tensors), one row an image.
    flipped
        Features of the synthetic images flipped left to right, in the order of `synth`.

    Raises
    ------
    MetricError
        The features are unusable (see `check_features`), or `flipped` has other rows than
        `synth`.
    """
    sets = {"synth": synth, "train": train, "holdout": holdout}
    if flipped is not None:
        sets["flipped"] = flipped
    x = check_features("memorization", **sets)
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
    """Distances between the voxels inside a mask, with the synthetic volumes flipped as well.

    They come from inner products, whose rounding leaves about 1e-7 of a volume's norm between
    equal volumes: well below what `COPY_TOLERANCE` calls an exact copy.

    Parameters
    ----------
    synth, train, holdout
        Volumes on one grid in RAS+, so that axis 0 is left-right.
    mask
        The voxels that are compared.
    progress
        Called with the reads done and their number.

    Raises
    ------
    MetricError
        A set is empty, the mask is, or a volume is on another grid or not finite.
    """
    sources = (synth, _Mirrored(synth), train, holdout)
    gram = voxel_gram(_Joined(sources), mask=mask, progress=progress)
    squares = np.diag(gram)
    distances = np.sqrt((squares[:, None] + squares[None, :] - 2 * gram).clip(min=0.0))
    ends = np.cumsum([len(source) for source in sources])
    s, f, t, h = (
        slice(int(end) - len(source), int(end)) for end, source in zip(ends, sources, strict=True)
    )
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


# What is read from distances


def typical_distance(
    within_train: Float64[np.ndarray, "n n"], index: Int64[np.ndarray, " n"]
) -> float:
    """The median distance of a training image from the nearest one of another subject.

    The unit of this metric's constants: with it, nothing depends on the scale of the features.

    Raises
    ------
    MetricError
        It is zero.
    """
    unit = float(np.median(_nearest_other(within_train, index)))
    if unit == 0:
        raise MetricError(
            "memorization: training images of different subjects must differ; found an identical "
            "twin for at least half of them. Remove duplicates from the training set, or name its "
            "subjects in the participants table."
        )
    return unit


def authentic(
    train: Float64[np.ndarray, "m n_t"], within_train: Float64[np.ndarray, "n_t n_t"]
) -> Bool[np.ndarray, " m"]:
    """Which synthetic images are authentic (Alaa et al. 2022, section 3.3).

    An image is where its nearest training image lies farther from it than from the nearest other
    training image. The mean of it is AuthPct.
    """
    nearest = train.argmin(axis=1)
    to_other = _nearest_other(within_train, np.arange(len(within_train)))
    found: Bool[np.ndarray, " m"] = train.min(axis=1) > to_other[nearest]
    return found


def nearest_real(
    train: Float64[np.ndarray, "m n_t"], holdout: Float64[np.ndarray, "m n_h"]
) -> list[Neighbour]:
    """The nearest training and hold-out image of each synthetic image, of all there are."""
    of_train, of_holdout = train.argmin(axis=1), holdout.argmin(axis=1)
    return [
        Neighbour(i, int(t), float(train[i, t]), int(h), float(holdout[i, h]))
        for i, (t, h) in enumerate(zip(of_train, of_holdout, strict=True))
    ]


def _nearest_other(
    distances: Float64[np.ndarray, "n n"], index: Int64[np.ndarray, " n"]
) -> Float64[np.ndarray, " n"]:
    other = index[:, None] != index[None, :]
    nearest: Float64[np.ndarray, " n"] = np.where(other, distances, np.inf).min(axis=1)
    return nearest


def _near_copies(
    real: Float64[np.ndarray, "n n"], index: Int64[np.ndarray, " n"], near_copy: float
) -> Float64[np.ndarray, "n n"]:
    """Distances to the real images from a near copy of each of them.

    A copy is moved from its original by delta, in a direction unrelated to the other images, so
    that it is sqrt(d^2 + delta^2) from an image at d from its original.
    """
    delta = near_copy * _nearest_other(real, index)
    copies: Float64[np.ndarray, "n n"] = np.hypot(real, delta[:, None])
    return copies


# The statistic under labellings of the real images


@dataclass(frozen=True)
class _Sides:
    """Which subjects are labelled training; the first labelling is the observed one.

    Attributes
    ----------
    labels
        True for training, a row for each labelling, all with one number of training subjects.
    subjects
        The subject of each real image, training images first.
    """

    labels: Bool[np.ndarray, "b s"]
    subjects: Int64[np.ndarray, " n"]

    @classmethod
    def permuted(
        cls,
        train: Int64[np.ndarray, " n_t"],
        holdout: Int64[np.ndarray, " n_h"],
        permutations: int,
        rng: np.random.Generator,
    ) -> _Sides:
        """The observed labelling, and random ones of the same numbers of subjects."""
        n_train = n_subjects(train)
        observed = np.arange(n_train + n_subjects(holdout)) < n_train
        random = rng.permuted(np.tile(observed, (permutations, 1)), axis=1)
        return cls(np.vstack([observed, random]), np.concatenate([train, n_train + holdout]))

    def first(self, b: int) -> _Sides:
        """The first b labellings."""
        return _Sides(self.labels[:b], self.subjects)

    @property
    def images(self) -> Bool[np.ndarray, "b n"]:
        """The labels of the images."""
        return self.labels[:, self.subjects]

    def contrasts(
        self, distances: Float64[np.ndarray, "m n"], floor: float
    ) -> Float64[np.ndarray, "m b"]:
        """log(d_H / d_T) of each row of distances to real images, under each labelling."""
        to_subject = np.full((len(distances), self.labels.shape[1]), np.inf)
        np.minimum.at(to_subject.T, self.subjects, distances.T)
        logs = np.log(to_subject.clip(min=floor))
        return np.concatenate(
            [
                nearest_contrasts(logs[start : start + ROWS_A_CHUNK], self.labels)
                for start in range(0, len(logs), ROWS_A_CHUNK)
            ]
        )


def nearest_contrasts(
    logs: Float64[np.ndarray, "m s"], labels: Bool[np.ndarray, "b s"]
) -> Float64[np.ndarray, "m b"]:
    """Mean log distance to the nearest hold-out subject, less that to the nearest training one.

    The means are over all subsets of n subjects of a side, n being the number in the smaller
    side. With L_1 <= L_2 <= ... a row's sorted log distances, R_j the number of training subjects
    among the first j, and S(R) the probability that a subset holds none of R given subjects, the
    nearest lies beyond j with probability S, so that summation by parts gives

        E log d_T = L_1 + sum_j (L_{j+1} - L_j) S_T(R_j),

    likewise for the hold-out with j - R_j, and their difference.

    Parameters
    ----------
    logs
        Log distance of each image from each subject.
    labels
        Which subjects are labelled training; each labelling has as many.
    """
    n_train = int(labels[0].sum())
    n_holdout = labels.shape[1] - n_train
    n = min(n_train, n_holdout)
    none_of_train, none_of_holdout = _none_drawn(n_train, n), _none_drawn(n_holdout, n)
    order = np.argsort(logs, axis=1, kind="stable")
    steps = np.diff(np.take_along_axis(logs, order, axis=1), axis=1)
    by_subject = np.ascontiguousarray(labels.T).astype(np.intp)
    in_train = np.zeros((len(logs), len(labels)), dtype=np.intp)
    contrasts: Float64[np.ndarray, "m b"] = np.zeros(in_train.shape)
    for j in range(1, labels.shape[1]):
        in_train += by_subject[order[:, j - 1]]
        # By the number of training subjects among the j nearest; numbers that cannot occur clipped.
        counts = np.arange(min(j, n_train) + 1)
        gap = none_of_holdout[(j - counts).clip(max=n_holdout)] - none_of_train[counts]
        contrasts += steps[:, j - 1, None] * gap[in_train]
        fewest, most = int(in_train.min()), int(in_train.max())
        if max(none_of_train[fewest], none_of_holdout[j - most]) < NEGLIGIBLE:
            break
    return contrasts


def _none_drawn(size: int, n: int) -> Float64[np.ndarray, " r"]:
    """Probability that n draws without replacement from `size` hold none of 0, 1, ... size."""
    r = np.arange(size)
    steps = np.maximum(size - n - r, 0) / (size - r)
    return np.concatenate([[1.0], np.cumprod(steps)])


def p_values(
    values: Float64[np.ndarray, "r b"], observed: Int64[np.ndarray, " r"]
) -> Float64[np.ndarray, " r"]:
    """One-sided permutation p-value of each row: its share of values at least the observed one.

    Parameters
    ----------
    values
        The statistic under each labelling, the observed one among them.
    observed
        The column of the observed labelling in each row.
    """
    own = values[np.arange(len(values)), observed]
    # Labellings that tie with the observed one count, whatever their last digit.
    margin = ROUNDING * np.maximum(1.0, np.abs(own))
    shares: Float64[np.ndarray, " r"] = (values >= (own - margin)[:, None]).mean(axis=1)
    return shares


# Power


def detectable_share(
    contrasts: Float64[np.ndarray, "m b"],
    planted: Float64[np.ndarray, "n b"],
    labels: Bool[np.ndarray, "b n"],
    level: float,
    rng: np.random.Generator,
) -> float | None:
    """The smallest share of near copies that the test finds with a probability of `POWER`.

    In each of `PLANTINGS` simulated sets one of the labellings is taken for the true one, which
    makes nothing a copy; a random part of the synthetic images is then replaced by near copies
    of images labelled training, drawn with replacement, and the whole test is run.

    Parameters
    ----------
    contrasts
        log(d_H / d_T) of the synthetic images under each labelling.
    planted
        The same for a near copy of each real image.
    labels
        Which real images each labelling calls training.
    level
        Level of the test.
    rng
        Source of the plantings.

    Returns
    -------
    The share, of `PLANTED_SHARES` rounded up to whole images, or None where the largest of them
    is not enough.
    """
    m, n = len(contrasts), len(planted)
    for count in sorted({math.ceil(share * m) for share in PLANTED_SHARES}):
        true = rng.integers(labels.shape[0], size=PLANTINGS)
        ranks = np.argsort(rng.random((PLANTINGS, m)), axis=1)
        kept = (ranks >= count).astype(np.float64)
        of_train = labels[true] / labels[true].sum(axis=1, keepdims=True)
        copied = rng.multinomial(count, of_train).astype(np.float64).reshape(PLANTINGS, n)
        values = (kept @ contrasts + copied @ planted) / m
        if (p_values(values, true) <= level).mean() >= POWER:
            return count / m
    return None


def _power_words(detectable: float | None) -> str:
    power = f"{POWER:.0%}"
    if detectable is None:
        return f"power below {power} even at {max(PLANTED_SHARES):.0%} copies"
    return f"{power} power at {detectable:.0%} copies"


def memorization(
    synth: Float64[np.ndarray, "m d"],
    train: Float64[np.ndarray, "n_t d"],
    holdout: Float64[np.ndarray, "n_h d"],
    *,
    permutations: int = 1000,
    seed: int = 0,
    subjects: Mapping[str, np.ndarray] | None = None,
) -> Assessment:
    """Test whether synthetic images lie nearer to training images than to unseen ones.

    Parameters
    ----------
    synth, train, holdout
        Features of the synthetic images, of the generator's training images, and of real images
        that the generator never saw; arrays or tensors.
    permutations
        Number of permuted labellings.
    seed
        Their seed.
    subjects
        For "synth", "train" and "holdout", the subject of each image; None is one image a
        subject.

    Returns
    -------
    The finding. "No copying detected" is no privacy guarantee: it stands beside the share of
    copies that would have been found.

    Raises
    ------
    MetricError
        As `feature_distances` and `Memorization.assess` do.

    Examples
    --------
    >>> train, holdout = np.array([[0.0], [4.0]]), np.array([[2.0], [6.0]])
    >>> found = memorization(np.array([[0.5], [4.0]]), train, holdout)
    >>> found.copies, found.text
    (1, 'copying detected')
    >>> round(float(found.statistic.contrasts[0]), 6)  # log(1.5 / 0.5)
    1.098612
    """
    return Memorization().assess(
        feature_distances(synth, train, holdout),
        permutations=permutations,
        seed=seed,
        subjects=subjects,
    )


def _weighted_mean(
    values: Float64[np.ndarray, " m"], w: Float64[np.ndarray, "b m"]
) -> Float64[np.ndarray, " b"]:
    return ratio(w @ values, w.sum(axis=1))


def _check_subjects(index: Mapping[str, Int64[np.ndarray, " n"]]) -> None:
    for role in ("train", "holdout"):
        if n_subjects(index[role]) < 2:
            raise MetricError(
                f"memorization: {role} needs images of at least 2 subjects; found 1 subject with "
                f"{len(index[role])} images. Add subjects: scans of one are exchanged as one."
            )


def _check_permutations(permutations: int, level: float) -> None:
    least = math.ceil(1 / level - ROUNDING) - 1
    if permutations < least:
        raise MetricError(
            f"memorization: with a level of {level:g} a test needs at least {least} permutations "
            f"to detect anything; found {permutations}. Use 1000."
        )


def _check_disjoint(train_holdout: Float64[np.ndarray, "n_t n_h"], tolerance: float) -> None:
    shared = train_holdout <= tolerance
    if shared.any():
        first_train, first_holdout = np.argwhere(shared)[0]
        raise MetricError(
            "memorization: the hold-out must be images that the generator never saw; found that "
            f"the hold-out holds {shared.any(axis=0).sum()} training images (first: hold-out "
            f"image {first_holdout} is training image {first_train}). Remove them from the "
            "hold-out, or split by subject with synthbench data split."
        )
