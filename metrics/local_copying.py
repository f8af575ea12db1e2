"""Local copying: are parts of synthetic images copies of the same parts of training images?

A generator may build its images from parts of many training images. No whole image is then near to
a training image, and `synthbench.metrics.memorization` sees nothing. This test compares cubes of
voxels at the same place. A synthetic cube is a copy of a real subject where it is less than half as
far from this subject as from every other real subject, of training or hold-out. Some cubes are
copies by chance. But if nothing was copied, training and hold-out subjects have equally many such
cubes, so a permutation of their labels gives the test.

Whether a cube is a copy does not depend on the labels. So the statistic is linear in them, and sets
of unequal sizes are compared without drawing subsets. It is studentized, so that the test also
holds its level where subjects of one side have more scans than those of the other.

References
----------
Kamb and Ganguli, "An analytic theory of creativity in convolutional diffusion models", ICML 2025:
generators whose images are mosaics of training patches.
Chung and Romano, "Exact and asymptotically robust permutation tests", Annals of Statistics 2013:
permutation of a studentized statistic.
Westfall and Young, "Resampling-based multiple testing", 1993: the largest statistic over scales.
Szekely and Rizzo, "Energy statistics", Journal of Statistical Planning and Inference 2013: the test
of training against hold-out images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from scipy import stats

from synthbench.metrics.metric import VolumeSource
from synthbench.metrics.nearest.labellings import p_values
from synthbench.metrics.nearest.patches import Found, Rule, Search, search
from synthbench.metrics.nearest.planted_parts import (
    PART,
    PLANTING_LABELLINGS,
    detectable_images,
    parts_power_text,
)
from synthbench.metrics.nearest.refusals import TrainingMetric, check_testable
from synthbench.metrics.nearest.studentized import (
    adjusted_p,
    excess,
    studentized,
    studentized_interval,
)
from synthbench.metrics.nearest.verdict import CopyVerdict
from synthbench.metrics.subjects import n_subjects, subject_index

SIDES = (3, 5, 9)
"""Sides of the cubes, in voxels."""

PLACES = 1500
"""Largest number of places at which cubes are compared."""

RATIO = 0.5
"""A cube is a copy where it is less than this times as far from one subject as from all others."""

FLOOR = 1e-2
"""Smaller distances are set to this, in units of the typical distance to the nearest other subject.
So rounding decides nothing, and no cube contributes much more than log(100) to the gap."""

LEAST = 0.002
"""Copied parts are found where the share of copied cubes exceeds chance by this much. A part of 5%
that is copied into one image in ten leaves a share of 0.002 to 0.004. A smooth function that is
fitted to the training images leaves less than 0.0015, although the test may reject there."""

Searched = Callable[..., Search]
"""`search`, or a function of the same parameters."""

LEVEL = 0.05
"""Largest probability of "copied parts found" where nothing was copied."""

WORDS: Mapping[CopyVerdict, str] = {
    "copies": "copied parts found",
    "sides_differ": "cannot be told: training and hold-out differ",
    "nearer": "no copied parts found; parts are nearer to training than to unseen images",
    "none": "no copied parts found",
}
"""The words of each verdict, the gravest verdict first."""


@dataclass(frozen=True)
class Scale:
    """The finding for cubes of one side.

    Attributes
    ----------
    side
        Their side, in voxels.
    share, share_low, share_high
        Share of all synthetic cubes that are copies of training subjects, less the share that
        chance explains, with a 95% interval for the draw of real subjects.
    least
        The share from which it is of the size of copies: `LEAST`, added to the share of real cubes
        that are copies of other real subjects by chance.
    p
        Permutation p-value of that share, adjusted for the number of scales.
    gap, gap_low, gap_high
        Mean log(d_H / d_T) over places and images, with a 95% interval for the draw of synthetic
        images. Above zero: nearer to training. It is an estimate and no accusation.
    nearer_p
        Permutation p-value of the share of cubes that are nearest to a training subject, adjusted
        likewise.
    """

    side: int
    share: float
    share_low: float
    share_high: float
    least: float
    p: float
    gap: float
    gap_low: float
    gap_high: float
    nearer_p: float


@dataclass(frozen=True)
class PlaceMap:
    """Where copied parts lie: cubes of one side.

    Attributes
    ----------
    side
        The side whose evidence is strongest.
    share
        For each place, the share of synthetic images whose cube is a copy of a training subject,
        less the share that chance explains.
    threshold
        By chance, the largest share over all places exceeds this with probability `LEVEL`.
    p
        The probability by chance of a largest share as large as the one found.
    """

    side: int
    share: Float64[np.ndarray, " p"]
    threshold: float
    p: float

    @property
    def exceeding(self) -> int:
        """The number of places whose share exceeds the threshold."""
        return int((self.share > self.threshold).sum())


@dataclass(frozen=True)
class LocalAssessment:
    """Copied parts: the finding over all scales.

    Attributes
    ----------
    scales
        One finding per side of the cubes.
    map
        Where copies lie.
    places
        The voxels at which cubes are centred, shape (p, 3).
    stride
        Voxels between neighbouring places.
    n_train, n_holdout
        Numbers of subjects.
    sides_p
        p-value of the test that training and hold-out images come from one population.
    level
        The level of each test.
    detectable
        The smallest share of images with a copied part that is found with 80% probability; None
        where even copied parts in all images are not.
    part
        The share of an image that such a part takes.
    """

    scales: Sequence[Scale]
    map: PlaceMap
    places: Int64[np.ndarray, "p 3"]
    stride: int
    n_train: int
    n_holdout: int
    sides_p: float
    level: float
    detectable: float | None
    part: float

    @property
    def verdict(self) -> CopyVerdict:
        """The finding as a key of `WORDS`."""
        if any(scale.p <= self.level and scale.share >= scale.least for scale in self.scales):
            return "copies"
        if self.sides_p <= self.level:
            return "sides_differ"
        if min(scale.nearer_p for scale in self.scales) <= self.level:
            return "nearer"
        return "none"

    @property
    def text(self) -> str:
        """The finding as a table prints it; it is no statement on privacy."""
        words = WORDS[self.verdict]
        if self.verdict in ("copies", "sides_differ"):
            return words
        return f"{words} ({parts_power_text(self.detectable, self.part)})"


class LocalCopying(TrainingMetric):
    """Cubes of synthetic images against the same cubes of training and of unseen images."""

    name = "local_copying"
    label = "copied parts"
    formula = (
        "share of cubes with d to one real subject < ratio x d to every other, of training less of "
        "hold-out subjects; cubes inside the mask, real ones as they are or mirrored; permuted "
        "labels, studentized, max over sides"
    )
    sees = "parts of synthetic images that are copies of the same parts of training images"
    misses = (
        "parts that were copied to another place, and copies in fewer images than it prints: it "
        "is no privacy guarantee"
    )
    responds_to: tuple[str, ...] = ()

    def freeze(
        self,
        real: Float64[np.ndarray, "n d"] | None = None,
        subjects: np.ndarray | None = None,
        *,
        spacing: tuple[float, float, float] | None = None,
    ) -> dict[str, Any]:
        """The constants of the test, whatever the real set."""
        return {
            "sides": list(SIDES),
            "places": PLACES,
            "ratio": RATIO,
            "floor": FLOOR,
            "least": LEAST,
            "part": PART,
            "alpha": LEVEL,
        }

    def assess(
        self,
        sources: Mapping[str, VolumeSource],
        mask: Bool[np.ndarray, "d h w"],
        *,
        permutations: int,
        seed: int,
        subjects: Mapping[str, np.ndarray] | None = None,
        progress: Callable[[int, int], None] | None = None,
        searched: Searched = search,
        **settings: Any,
    ) -> LocalAssessment:
        """Test for copied parts.

        Parameters
        ----------
        sources
            "synth", "train" and "holdout": volumes on one grid in RAS+.
        mask
            The voxels that are compared.
        permutations
            Number of permuted labellings.
        seed
            Seed of the labellings, and of the simulated copies from which power is computed.
        subjects
            The subject of each image, by the names of `sources`; None: one image per subject.
        progress
            Called with the number of places done and the number of all places.
        searched
            `search`, or a function that may also return what `search` returned earlier.
        **settings
            The values of `freeze`; those that are left out have their defaults.

        Raises
        ------
        MetricError
            There are too few subjects or permutations, or `search` refuses the volumes.
        """
        chosen = {**self.freeze(), **settings}
        level = float(chosen["alpha"])
        index = subject_index(subjects, **{role: len(source) for role, source in sources.items()})
        n_train, n_holdout = n_subjects(index["train"]), n_subjects(index["holdout"])
        check_testable(self.name, {"train": n_train, "holdout": n_holdout}, permutations, level)
        rule = Rule(
            tuple(chosen["sides"]), int(chosen["places"]), float(chosen["ratio"]),
            float(chosen["floor"]),
        )  # fmt: skip
        for_pool, for_labels, for_sides, for_parts = np.random.default_rng(seed).spawn(4)
        compared = searched(sources, index, mask, rule, for_pool, progress)
        labels = labellings(n_train, n_holdout, permutations, for_labels)
        found = judged(compared, labels, float(chosen["least"]), level)
        sides_p = sides_p_value(compared.between_real, permutations, for_sides)
        detectable = detectable_images(
            compared, labels[: PLANTING_LABELLINGS + 1], level=level,
            least=float(chosen["least"]), part=float(chosen["part"]), rng=for_parts,
        )  # fmt: skip
        return LocalAssessment(
            *found, compared.places, compared.stride, n_train, n_holdout, sides_p, level,
            detectable, float(chosen["part"]),
        )  # fmt: skip


def local_copying(
    synth: Float32[np.ndarray, "m d h w"],
    train: Float32[np.ndarray, "n_t d h w"],
    holdout: Float32[np.ndarray, "n_h d h w"],
    mask: Bool[np.ndarray, "d h w"] | None = None,
    *,
    permutations: int = 1000,
    seed: int = 0,
    subjects: Mapping[str, np.ndarray] | None = None,
) -> LocalAssessment:
    """Test whether parts of synthetic images are copies of the same parts of training images.

    Parameters
    ----------
    synth, train, holdout
        Stacks of volumes on one grid: the synthetic images, the generator's training images, and
        real images that the generator never saw. Axis 1 is left-right: parts may be mirrored.
    mask
        The voxels that are compared; None: all.
    permutations
        Number of permuted labellings.
    seed
        Their seed.
    subjects
        For "synth", "train" and "holdout", the subject of each image; None is one image per
        subject.

    Returns
    -------
    The finding. "No copied parts found" is no privacy guarantee: its text names the copies that
    the test would have found.

    Raises
    ------
    MetricError
        There are too few subjects or permutations, or the volumes and the mask do not fit.
    """
    sources = {"synth": synth, "train": train, "holdout": holdout}
    inside = np.ones(np.shape(train)[1:], np.bool_) if mask is None else np.asarray(mask, np.bool_)
    return LocalCopying().assess(
        sources, inside, permutations=permutations, seed=seed, subjects=subjects
    )


def labellings(
    n_train: int, n_holdout: int, permutations: int, rng: np.random.Generator
) -> Float64[np.ndarray, "b s"]:
    """Return the observed labelling of the subjects, and random ones below it.

    Parameters
    ----------
    n_train, n_holdout
        Numbers of subjects. Training subjects come first, and are 1 in the observed labelling.
    permutations, rng
        Number of random labellings, and their random generator.
    """
    observed = np.arange(n_train + n_holdout) < n_train
    random = rng.permuted(np.tile(observed, (permutations, 1)), axis=1)
    return np.vstack([observed, random]).astype(np.float64)


def judged(
    compared: Search, labels: Float64[np.ndarray, "b s"], least: float, level: float
) -> tuple[list[Scale], PlaceMap]:
    """Return the finding of each scale, and where copies lie at the scale of strongest evidence.

    Parameters
    ----------
    compared
        The nearest subjects of all cubes.
    labels
        Labellings of the subjects, 1 for training; the observed one first.
    least, level
        As in `LocalCopying.freeze`.
    """
    n = labels.shape[1]
    observed = np.zeros(len(compared.found), np.int64)
    copies = np.stack([found.shares(n) for found in compared.found.values()])
    p = adjusted_p(studentized(copies, labels), observed)
    nearest = np.stack([found.nearest_shares(n) for found in compared.found.values()])
    nearer_p = adjusted_p(studentized(nearest, labels), observed)
    scales = []
    for row, (side, found) in enumerate(compared.found.items()):
        share, low, high = studentized_interval(copies[row], labels[0])
        gap = float(found.gaps.mean())
        m = len(found.gaps)
        reach = float(stats.t.ppf(0.975, m - 1) * stats.sem(found.gaps)) if m > 1 else math.nan
        scales.append(
            Scale(
                side, share, low, high, least + float(found.by_chance.mean()), float(p[row]),
                gap, gap - reach, gap + reach, float(nearer_p[row]),
            )
        )  # fmt: skip
    strongest = int(studentized(copies, labels[:1])[:, 0].argmax())
    side, found = list(compared.found.items())[strongest]
    return scales, _map(side, found, labels, level)


def _map(side: int, found: Found, labels: Float64[np.ndarray, "b s"], level: float) -> PlaceMap:
    rounds, images, places = found.copied.shape
    by_place = np.zeros((places, labels.shape[1]))
    k, m, p = np.nonzero(found.copied)
    np.add.at(by_place, (p, found.nearest[k, m, p]), 1 / (rounds * images))
    shares = excess(by_place, labels)
    largest = shares.max(axis=0)
    return PlaceMap(
        side=side,
        share=shares[:, 0],
        threshold=float(np.quantile(largest, 1 - level, method="higher")),
        p=float(p_values(largest[None], np.array([0]))[0]),
    )


def sides_p_value(
    distances: Float64[np.ndarray, "r r"], permutations: int, rng: np.random.Generator
) -> float:
    """Return the permutation p-value of the energy distance between two sets of equal size.

    Parameters
    ----------
    distances
        Between all images, one per subject: first those of one set, then those of the other.
    permutations, rng
        Number of random labellings, and their random generator.
    """
    n = len(distances) // 2
    labels = labellings(n, n, permutations, rng)
    other = 1 - labels
    to_first = labels @ distances
    across = (to_first * other).sum(axis=1)
    within = (to_first * labels).sum(axis=1) + ((other @ distances) * other).sum(axis=1)
    energy = 2 * across / n**2 - within / (n * (n - 1))
    return float(p_values(energy[None], np.array([0]))[0])
