"""The contract of a metric: prepared once, then a function of weights over images.

A metric first prepares what it needs (a Gram matrix, a pair matrix). It returns a `Statistic`:
a function of non-negative weights on the images of each role. The point estimate has weights of
one, a bootstrap resample has multinomial counts, the jackknife gives one subject the weight zero,
and a real-vs-real floor gives each role its own half of the set. Inference is therefore written
once, in `synthbench.metrics.inference`, and works for every metric.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64

from synthbench.errors import MetricError
from synthbench.metrics.subjects import subject_index
from synthbench.runtime.memory import beyond_limit

Weights = Mapping[str, Float64[np.ndarray, "b n"]]
Needs = Literal["features", "volumes", "training"]
Direction = Literal["lower", "zero", "higher"]
Target = Literal["zero", "floor"]
IntervalMethod = Literal["studentized", "jackknife", "percentile", "score", "asinh"]
Role = Literal["ranked", "descriptive", "for_papers"]
"""The use of a metric. "ranked": it ranks entries, and a change of it is drift. "descriptive": it
ranks entries, but a change of it fails no comparison of samples. "for_papers": it is printed
separately, for comparison with papers, and ranks nothing."""

Reuse = Literal["volume", "pair", "set"]
"""What a measure of volumes depends on, besides mask, settings and formula. "volume": a row on its
volume alone. "pair": a value on its two volumes alone. "set": the matrix on all its volumes, as the
rounding of sums over blocks does. With the first two, `measure` and `measure_across` also take
`known`: a matrix of what earlier runs measured, with NaN for the rest, which alone is computed."""


@runtime_checkable
class Statistic(Protocol):
    """A metric on given images, as a function of weights.

    Attributes
    ----------
    subjects
        For each role, the subject index of each image: images of one subject are resampled
        together, and pairs of them are left out of within-set pairs.
    """

    @property
    def subjects(self) -> Mapping[str, Int64[np.ndarray, " _"]]:
        """The subject index of each image, by role."""
        ...

    def value(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The metric under each row of weights (counts, indicators or ones)."""
        ...


@runtime_checkable
class Studentized(Statistic, Protocol):
    """A statistic that also estimates its own sampling variance, for the studentized bootstrap."""

    def variance(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """Estimated sampling variance of `value` under each row of weights."""
        ...


@runtime_checkable
class Summed(Statistic, Protocol):
    """A statistic made of terms that may cancel, with a method that returns their size.

    A value near zero can be a difference of large terms. A change of it is rounding if it is
    small compared with those terms; the value itself is not a fair standard.
    """

    def magnitude(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The sum of the terms' absolute values under each row of weights."""
        ...


@runtime_checkable
class Composite(Statistic, Protocol):
    """A statistic made of others that have rows of their own in a scorecard."""

    def parts(self) -> dict[str, Part]:
        """The parts by their keys; the row of a part is named "METRIC.KEY"."""
        ...


class Part(NamedTuple):
    """A part of a metric, with a row of its own below the row of the whole.

    Attributes
    ----------
    label
        Its label in a table.
    statistic
        Its statistic.
    tabled
        True where pages list it together with the metrics' own rows. Other parts are listed at
        the floor's n only.
    drawn
        True where the figure of `synthbench sensitivity` has its curve.
    direction
        Its better side; None: that of the metric.
    """

    label: str
    statistic: Statistic
    tabled: bool = False
    drawn: bool = False
    direction: Direction | None = None


@runtime_checkable
class Metric(Protocol):
    """A named statistic of (real, synth).

    Attributes
    ----------
    name, label
        The key in a scorecard, and the label in a table.
    formula
        What is computed, in one line. It is part of the protocol: a change that moves a number
        needs another formula.
    needs
        What `prepare` takes of each set. "features": a matrix of features. "volumes": the matrix
        that `VolumeMetric.measure` returns. "training": the metric also needs the generator's
        training images, as `synthbench.metrics.memorization` does.
    direction
        The better side: "lower", "higher", or "zero" (closest to zero).
    target
        The score of samples of the real distribution: "zero", or the real-vs-real "floor" at this
        n, where the metric is biased.
    interval
        The default interval method.
    role
        The use of its values (`Role`).
    drawn
        True where the figure of `synthbench sensitivity` has its curve: one metric of a family.
    label_with_n
        True where a table adds the number of volumes to the label, as in "FID (n=141)": the value
        depends on it so much that it should not be read without.
    of_variety
        True where it compares how varied the two sets are: above zero the synthetic volumes are
        more alike than the real ones.
    sees, misses
        What it can and cannot detect, one sentence each, for `synthbench list metrics`.
    responds_to
        Names of corruptions (`synthbench.sensitivity.corruptions.corrupted`) under which the value
        leaves the floor and moves in one direction as the dose grows. A test checks this claim on
        the embedded cohort.
    """

    name: str
    label: str
    formula: str
    needs: Needs
    direction: Direction
    target: Target
    interval: IntervalMethod
    role: Role
    drawn: bool
    label_with_n: bool
    of_variety: bool
    sees: str
    misses: str
    responds_to: tuple[str, ...]

    def freeze(
        self,
        real: Float64[np.ndarray, "n d"] | None,
        subjects: Int64[np.ndarray, " n"] | None,
        *,
        spacing: tuple[float, float, float] | None = None,
    ) -> dict[str, Any]:
        """Return the settings that depend on the real set or the grid alone, as JSON values.

        They enter the protocol and come back as the `settings` of the other methods. A metric
        that needs volumes gets None for `real` and `subjects`, and the voxel sizes of the common
        grid in mm as `spacing`.
        """
        ...

    def prepare(
        self,
        real: Float64[np.ndarray, "n _"],
        synth: Float64[np.ndarray, "m _"],
        *,
        subjects: Mapping[str, np.ndarray] | None = None,
        **settings: Any,
    ) -> Statistic:
        """Return the statistic of a real and a synthetic set."""
        ...

    def p_value(
        self,
        real: Float64[np.ndarray, "n _"],
        synth: Float64[np.ndarray, "m _"],
        *,
        permutations: int,
        seed: int,
        subjects: Mapping[str, np.ndarray] | None = None,
        **settings: Any,
    ) -> float | None:
        """The p-value of the test that both sets have one distribution; None without a test."""
        ...


@runtime_checkable
class VolumeMetric(Metric, Protocol):
    """A metric that reads the volumes of a set once, and then needs only the measured matrix.

    Attributes
    ----------
    pairs
        True where `measure` returns a square matrix over pairs of the set's volumes, False where
        it returns a profile of each volume.
    """

    pairs: bool

    def measure(
        self,
        volumes: VolumeSource,
        mask: Bool[np.ndarray, "d h w"],
        settings: Mapping[str, Any],
        progress: Callable[[int, int], None] | None = None,
    ) -> Float64[np.ndarray, "n _"]:
        """Return the matrix that `prepare` takes: a profile of each volume, or all pairs.

        Raises
        ------
        MetricError
            The volumes or the mask do not fit the settings.
        """
        ...


@runtime_checkable
class CrossMetric(VolumeMetric, Protocol):
    """A metric that compares real volumes with synthetic ones, pair by pair.

    Its `prepare` takes what `measure_across` returns as the keyword `cross`.

    Attributes
    ----------
    needs_cross
        True where the value itself depends on those pairs, False where only a part does.
    """

    needs_cross: bool

    def measure_across(
        self,
        real: VolumeSource,
        synth: VolumeSource,
        mask: Bool[np.ndarray, "d h w"],
        settings: Mapping[str, Any],
        progress: Callable[[int, int], None] | None = None,
    ) -> Float64[np.ndarray, "n m"]:
        """Return the matrix over pairs of a real and a synthetic volume.

        Raises
        ------
        MetricError
            The volumes or the mask do not fit the settings.
        """
        ...


@runtime_checkable
class MultiScale(Metric, Protocol):
    """A metric with a number of scales. Users choose it, except for metrics for papers."""

    def with_scales(self, frozen: Mapping[str, Any], scales: int) -> dict[str, Any]:
        """Return what `freeze` returned, with another number of scales.

        Raises
        ------
        MetricError
            There cannot be so many.
        """
        ...


@runtime_checkable
class Indexed(Metric, Protocol):
    """A metric of nearest images, which an index may find in sets of many images."""

    def with_index(self, frozen: Mapping[str, Any], images: int) -> dict[str, Any]:
        """Return what `freeze` returned, with an index if the larger set has so many images."""
        ...


@dataclass(frozen=True)
class RowStatistic:
    """The statistic of a function of weights.

    Attributes
    ----------
    function
        The value under each row of weights.
    subjects
        For each role, the subject index of each image.
    bounds
        The lowest and the highest value that the function can have.
    independent
        The number of independent images of the smaller set, where it is below its number of
        subjects: copies of an image are not independent.
    target
        That of the metric: "floor" where the expected value depends on the number of images.
    """

    function: Callable[[Weights], Float64[np.ndarray, " b"]]
    subjects: Mapping[str, Int64[np.ndarray, " _"]]
    bounds: tuple[float, float] = (-math.inf, math.inf)
    independent: int | None = None
    target: Target = "floor"

    def value(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The function's value."""
        return self.function(weights)


class BaseMetric:
    """Defaults for a metric: nothing frozen, no test, the jackknife, the floor as its target.

    It ranks entries, is computed unless others are named, and its curve is not drawn.

    The short way to write a metric: give the class a name, and the method `value`, a function of
    the rows of both sets and of the weights. This base class is optional: a metric must only
    satisfy `Metric`.
    """

    name: str
    label: str
    formula: str
    needs: Needs = "features"
    direction: Direction = "lower"
    target: Target = "floor"
    interval: IntervalMethod = "jackknife"
    large_interval: IntervalMethod | None = None
    """The default interval method of large sets; None: that of small ones."""
    role: Role = "ranked"
    drawn: bool = False
    label_with_n: bool = False
    of_variety: bool = False
    of_measures: bool = False
    """True where each feature must be a measure that a person can name: the metric is computed of
    the extractors only that have a list `measures` of names."""
    pairs: bool = False
    reuse: Reuse | None = None
    """What a measure depends on, so that later runs can use it; None: it is always computed."""
    bounds: tuple[float, float] = (-math.inf, math.inf)
    """The lowest and the highest value that the metric can have: intervals end there."""
    sees: str
    misses: str
    responds_to: tuple[str, ...] = ()

    def value(
        self,
        real: Float64[np.ndarray, "n d"],
        synth: Float64[np.ndarray, "m d"],
        weights: Weights,
        **settings: Any,
    ) -> Float64[np.ndarray, " b"]:
        """The metric under each row of weights; `weights` has one matrix for each role."""
        raise NotImplementedError(f"{self.name}: write value(), or a prepare() of your own")

    def freeze(
        self,
        real: Float64[np.ndarray, "n d"] | None,
        subjects: np.ndarray | None,
        *,
        spacing: tuple[float, float, float] | None = None,
    ) -> dict[str, Any]:
        """An empty dict: there are no settings."""
        return {}

    def prepare(
        self,
        real: Float64[np.ndarray, "n d"],
        synth: Float64[np.ndarray, "m d"],
        *,
        subjects: Mapping[str, np.ndarray] | None = None,
        **settings: Any,
    ) -> Statistic:
        """Check the rows of both sets, and return the statistic that `value` computes.

        Parameters
        ----------
        real, synth
            Features or profiles, one row per image.
        subjects
            For each role, the subject of each image; None is one image per subject.
        settings
            What `freeze` returned.

        Raises
        ------
        MetricError
            `check_features` refuses the rows.
        """
        sets = check_features(self.name, real=real, synth=synth)
        index = subject_index(subjects, real=len(sets["real"]), synth=len(sets["synth"]))
        function = partial(self.value, sets["real"], sets["synth"], **settings)
        return RowStatistic(function, index, self.bounds, target=self.target)

    def p_value(
        self,
        real: Float64[np.ndarray, "n _"],
        synth: Float64[np.ndarray, "m _"],
        *,
        permutations: int,
        seed: int,
        subjects: Mapping[str, np.ndarray] | None = None,
        **settings: Any,
    ) -> float | None:
        """None, because no test is defined."""
        return None


class VolumeSource(Protocol):
    """Volumes read one by one: float32 arrays of one shape, intensities in [0, 1]."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Float32[np.ndarray, "d h w"]: ...


def ones(statistic: Statistic) -> dict[str, Float64[np.ndarray, "1 n"]]:
    """The weights of the point estimate: one for every image."""
    return {role: np.ones((1, len(s))) for role, s in statistic.subjects.items()}


def as_float64(array: Any) -> Float64[np.ndarray, "*shape"]:
    """Return an array, or a tensor on any device, as a float64 array."""
    if hasattr(array, "detach"):
        # NumPy has no bfloat16: tensors are widened before they become arrays.
        array = array.detach().cpu().double()
    return np.asarray(array, dtype=np.float64)


def check_features(
    metric: str, /, power: int = 4, *, widen: bool = True, **sets: Float[np.ndarray, "n d"]
) -> dict[str, Float[np.ndarray, "n d"]]:
    """Return the feature matrices as float64, by role.

    Parameters
    ----------
    metric
        Its name, for messages.
    power
        The highest power of a feature that the metric, its variance or a test of it computes. It
        decides which features are too large or too small for float64.
    widen
        False: float32 features stay float32. Statistics of large sets widen them block by block.
    sets
        The matrices, by role.

    Raises
    ------
    MetricError
        A matrix is not 2-D, has fewer than two rows, holds NaN or infinity, has features whose
        powers float64 cannot hold, or the number of columns differs between sets.
    """
    checked: dict[str, Float[np.ndarray, "n d"]] = {}
    for role, matrix in sets.items():
        narrow = not widen and getattr(matrix, "dtype", None) == np.float32
        x = matrix if narrow else as_float64(matrix)
        if x.ndim != 2:
            raise MetricError(
                f"{metric}: {role} must be a matrix of features with one row per image; "
                f"found an array of shape {x.shape}. Flatten or stack the features."
            )
        if len(x) < 2:
            raise MetricError(
                f"{metric}: {role} needs at least 2 images; found {len(x)}.",
                "too few images",
                needed=2,
                found=len(x),
            )
        if not np.isfinite(x).all():
            rows = np.flatnonzero(~np.isfinite(x).all(axis=1))
            raise MetricError(
                f"{metric}: {role} features hold NaN or infinity in {len(rows)} of {len(x)} rows "
                f"(first: row {rows[0]}). Score those volumes alone to find the cause.",
                "not finite",
                found=len(rows),
            )
        _check_range(metric, role, x, power)
        checked[role] = x
    widths = {role: x.shape[1] for role, x in checked.items()}
    if len(set(widths.values())) > 1:
        found = ", ".join(f"{role} {d}" for role, d in widths.items())
        raise MetricError(
            f"{metric}: all sets need the same number of features; found {found}. "
            "Use one extractor for every set.",
            "other length",
        )
    return checked


def check_memory(metric: str, numbers: int, what: str) -> None:
    """Check that matrices over pairs of images fit into `--max-memory`, before they are computed.

    Parameters
    ----------
    metric
        Its name, for the message.
    numbers
        The 8-byte numbers of all matrices that are in memory together.
    what
        The sets, for the message.

    Raises
    ------
    MetricError
        They do not fit.
    """
    if too_large := beyond_limit(8 * numbers):
        raise MetricError(
            f"{metric}: {what}: this {too_large}. Or take fewer images, or another metric.",
            "too much memory",
            needed=8 * numbers / 2**30,
        )


def _check_range(metric: str, role: str, x: Float[np.ndarray, "n d"], power: int) -> None:
    """Raise where powers of these features overflow float64 to infinity, or vanish to zero."""
    sizes = np.maximum(x.max(axis=1, initial=0.0), -x.min(axis=1, initial=0.0))
    largest = float(sizes.max())
    # 28 of the 308 decades are left for sums over images and features.
    most = 10.0 ** (280 / power)
    if 1 / most <= largest <= most or largest == 0:
        return
    what = "overflow" if largest > most else "vanish"
    raise MetricError(
        f"{metric}: {role} features reach {largest:.3g} (row {int(sizes.argmax())}): their powers "
        f"up to {power} {what} in float64. The largest feature must lie between {1 / most:.0e} and "
        f"{most:.0e}. Look for a network that diverged, or scale the features of all sets by one "
        "factor.",
        "feature size",
    )
