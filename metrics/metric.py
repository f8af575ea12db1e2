"""The contract of a metric: prepared once, then a function of weights over images.

A metric first prepares what it needs (a Gram matrix, a pair matrix). What it hands back, a
`Statistic`, is a function of non-negative weights on the images of each role. The point
estimate is all-ones weights, a bootstrap resample is multinomial counts, a jackknife leaves
one subject out, a real-vs-real floor is a pair of disjoint indicators. Inference is therefore
written once, in `synthbench.metrics.inference.intervals`, and works for every metric.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from synthbench.errors import MetricError

Weights = Mapping[str, Float64[np.ndarray, "b n"]]
Needs = Literal["features", "volumes", "training"]
Direction = Literal["lower", "zero", "higher"]
Target = Literal["zero", "floor"]
IntervalMethod = Literal["studentized", "jackknife", "percentile"]
Role = Literal["ranked", "descriptive", "for_papers"]
"""What a metric is used for. "ranked": it ranks entries, and a change of it is drift.
"descriptive": it ranks entries, but a change of it fails no comparison of samples. "for_papers": it
is printed apart, for comparison with papers, and ranks nothing."""


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
    """A statistic that is made of terms which may cancel, and says how large they are.

    A value near zero can be a difference of large terms. Whether a change of it is rounding is
    then judged beside those terms, not beside the value.
    """

    def magnitude(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The sum of the terms' absolute values under each row of weights."""
        ...


@runtime_checkable
class Composite(Statistic, Protocol):
    """A statistic made of others that are worth a row of their own."""

    def parts(self) -> dict[str, Part]:
        """The parts by their keys: a part's row is named "METRIC.KEY"."""
        ...


class Part(NamedTuple):
    """A statistic that is worth a row of its own below the whole's.

    Attributes
    ----------
    label
        The words in a table.
    statistic
        Its statistic.
    tabled
        Whether pages list it beside the metrics' own rows. Others stand at the floor's n only.
    drawn
        Whether the figure of `synthbench sensitivity` has its curve.
    """

    label: str
    statistic: Statistic
    tabled: bool = False
    drawn: bool = False


@runtime_checkable
class Metric(Protocol):
    """A named statistic of (real, synth).

    Attributes
    ----------
    name, label
        The key in a scorecard, and the words in a table.
    formula
        What is computed, in a line: part of the protocol. A change that moves a number is
        another formula.
    needs
        Its space. "features": a set is handed over as a matrix of features. "volumes": as what
        `VolumeMetric.measure` makes of its volumes. "training": the metric compares with the
        generator's training images (see `synthbench.metrics.memorization`).
    direction
        Which way is better: "lower", "higher", or "zero" (closest to zero).
    target
        What samples of the real distribution would score: "zero", or the real-vs-real "floor"
        at this n, where the metric is biased.
    interval
        The default interval method.
    role
        What its values are used for, see `Role`.
    on_request
        Whether it is computed only where it is asked for by name.
    drawn
        Whether the figure of `synthbench sensitivity` has its curve: one metric of a family.
    label_with_n
        Whether a table adds the number of volumes to the label, as in "FID (n=141)": the value
        depends on it so much that none should be read without.
    of_variety
        Whether it compares how varied the two sets are: above zero the synthetic volumes are more
        alike than the real ones.
    sees, misses
        One sentence each, for `synthbench list metrics`.
    responds_to
        Names of corruptions (`synthbench.sensitivity.corruptions.corrupted`) under which the value
        leaves the floor and moves one way with the dose. A claim: on the embedded cohort it is
        tested.
    """

    name: str
    label: str
    formula: str
    needs: Needs
    direction: Direction
    target: Target
    interval: IntervalMethod
    role: Role
    on_request: bool
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
        """Settle the settings that depend on the real set or the grid alone, as JSON values.

        They enter the protocol and come back as the `settings` of the other methods. A metric
        that needs volumes is given None for `real` and `subjects`, and the voxel sizes of the
        common grid in mm.
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
        """Prepare the statistic of a real and a synthetic set once."""
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
        """Test that both sets come from one distribution; None where no test is defined."""
        ...


@runtime_checkable
class VolumeMetric(Metric, Protocol):
    """A metric that needs the volumes of a set once, and then a row for each of them.

    Attributes
    ----------
    pairs
        Whether `measure` gives a square matrix over pairs of the set's volumes, rather than a
        profile of each.
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
        Whether the value itself depends on those pairs, rather than one of its parts alone.
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


@dataclass(frozen=True)
class RowStatistic:
    """The statistic of a function of weights.

    Attributes
    ----------
    function
        The value under each row of weights.
    subjects
        For each role, the subject index of each image.
    """

    function: Callable[[Weights], Float64[np.ndarray, " b"]]
    subjects: Mapping[str, Int64[np.ndarray, " _"]]

    def value(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The function's value."""
        return self.function(weights)


class BaseMetric:
    """Defaults for a metric: nothing frozen, no test, the jackknife, the floor as its target.

    It ranks, is computed unless others are named, and its curve is not drawn.

    The short way to write one: name it, and give `value`, a function of both sets' rows and of
    the weights. A metric need not derive from this class; it need only satisfy `Metric`.
    """

    name: str
    label: str
    formula: str
    needs: Needs = "features"
    direction: Direction = "lower"
    target: Target = "floor"
    interval: IntervalMethod = "jackknife"
    role: Role = "ranked"
    on_request: bool = False
    drawn: bool = False
    label_with_n: bool = False
    of_variety: bool = False
    pairs: bool = False
    bounds: tuple[float, float] = (-math.inf, math.inf)
    """Values outside which the metric cannot lie, even in expectation: intervals end there."""
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
        """The metric under each row of weights, the images of a role weighted by its own."""
        raise NotImplementedError(f"{self.name}: give value(), or prepare() of your own")

    def freeze(
        self,
        real: Float64[np.ndarray, "n d"] | None,
        subjects: np.ndarray | None,
        *,
        spacing: tuple[float, float, float] | None = None,
    ) -> dict[str, Any]:
        """Nothing is frozen: there are no settings."""
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
            Features or profiles, one row an image.
        subjects
            For each role, the subject of each image; None is one image a subject.
        settings
            What `freeze` gave.

        Raises
        ------
        MetricError
            The rows are unusable (see `check_features`).
        """
        # inference builds on this module.
        from synthbench.metrics.subjects import subject_index

        sets = check_features(self.name, real=real, synth=synth)
        index = subject_index(subjects, real=len(sets["real"]), synth=len(sets["synth"]))
        function = partial(self.value, sets["real"], sets["synth"], **settings)
        return RowStatistic(function, index)

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
        """None: no test is defined."""
        return None


class VolumeSource(Protocol):
    """Volumes read one by one: float32 arrays of one shape, intensities in [0, 1]."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Float32[np.ndarray, "d h w"]: ...


def ones(statistic: Statistic) -> dict[str, Float64[np.ndarray, "1 n"]]:
    """The weights of the point estimate: one for every image."""
    return {role: np.ones((1, len(s))) for role, s in statistic.subjects.items()}


def as_float64(array: Any) -> Float64[np.ndarray, "*shape"]:
    """An array or a tensor, of any device, as a float64 array: statistics are computed in it."""
    if hasattr(array, "detach"):
        # NumPy has no bfloat16: tensors are widened before they become arrays.
        array = array.detach().cpu().double()
    return np.asarray(array, dtype=np.float64)


def check_features(
    metric: str, **sets: Float64[np.ndarray, "n d"]
) -> dict[str, Float64[np.ndarray, "n d"]]:
    """Return the feature matrices as float64, or say what is wrong with them.

    Raises
    ------
    MetricError
        A matrix is not 2-D, has fewer than two rows, holds NaN or infinity, or the number of
        columns differs between sets.
    """
    checked: dict[str, Float64[np.ndarray, "n d"]] = {}
    for role, matrix in sets.items():
        x = as_float64(matrix)
        if x.ndim != 2:
            raise MetricError(
                f"{metric}: {role} must be a matrix of features, one row an image; "
                f"found an array of shape {x.shape}. Flatten or stack the features."
            )
        if len(x) < 2:
            raise MetricError(f"{metric}: {role} needs at least 2 images; found {len(x)}.")
        if not np.isfinite(x).all():
            rows = np.flatnonzero(~np.isfinite(x).all(axis=1))
            raise MetricError(
                f"{metric}: {role} features hold NaN or infinity in {len(rows)} of {len(x)} rows "
                f"(first: row {rows[0]}). Score those volumes alone to find the cause."
            )
        checked[role] = x
    widths = {role: x.shape[1] for role, x in checked.items()}
    if len(set(widths.values())) > 1:
        found = ", ".join(f"{role} {d}" for role, d in widths.items())
        raise MetricError(
            f"{metric}: all sets need the same number of features; found {found}. "
            "Use one extractor for every set."
        )
    return checked
