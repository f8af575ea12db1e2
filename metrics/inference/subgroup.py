"""A statistic restricted to some of its images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from synthbench.errors import MetricError, near_miss
from synthbench.metrics.inference.contracts import (
    Blocked,
    JointlyStudentized,
    LinearStudentized,
)
from synthbench.metrics.metric import Statistic, Studentized, Weights
from synthbench.metrics.subjects import subject_index


@dataclass(frozen=True)
class Subgroup:
    """A statistic of some of its images: the others have no weight.

    Attributes
    ----------
    whole
        The statistic of all images.
    chosen
        For each role, True for the images in the subgroup.
    subjects
        For each role, the subject index of each image of the subgroup.
    """

    whole: Statistic
    chosen: Mapping[str, Bool[np.ndarray, " n"]]
    subjects: Mapping[str, Int64[np.ndarray, " k"]]

    def value(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """The metric under each row of weights on the subgroup's images."""
        return self.whole.value(self._on_all_images(weights))

    def _on_all_images(self, weights: Weights) -> dict[str, Float64[np.ndarray, "b n"]]:
        spread = {}
        for role, chosen in self.chosen.items():
            spread[role] = np.zeros((len(weights[role]), len(chosen)))
            spread[role][:, chosen] = weights[role]
        return spread


@dataclass(frozen=True)
class StudentizedSubgroup(Subgroup):
    """A subgroup's statistic that estimates its own sampling variance."""

    whole: Studentized

    def variance(self, weights: Weights) -> Float64[np.ndarray, " b"]:
        """Estimated sampling variance of `value` under each row of weights."""
        return self.whole.variance(self._on_all_images(weights))


@dataclass(frozen=True)
class LinearSubgroup(StudentizedSubgroup):
    """A subgroup's statistic that also gives the first-order term of each image."""

    whole: LinearStudentized

    def contributions(self, weights: Weights) -> dict[str, Float64[np.ndarray, "b k"]]:
        """The terms of the subgroup's images."""
        terms = self.whole.contributions(self._on_all_images(weights))
        return {role: values[:, self.chosen[role]] for role, values in terms.items()}


class _OfBlocked:
    """A subgroup of a large set: its rows of weights are evaluated together."""

    whole: Any
    chosen: Mapping[str, Bool[np.ndarray, " n"]]

    @property
    def numbers_per_row(self) -> int:
        """Those of the whole, and the weights on all its images."""
        images = sum(len(mask) for mask in self.chosen.values())
        return int(self.whole.numbers_per_row) + images


@dataclass(frozen=True)
class BlockedSubgroup(_OfBlocked, Subgroup):
    """A subgroup's statistic of a large set."""


@dataclass(frozen=True)
class BlockedLinearSubgroup(_OfBlocked, LinearSubgroup):
    """A subgroup's statistic of a large set, with value and variance from one pass."""

    def value_and_variance(
        self, weights: Weights
    ) -> tuple[Float64[np.ndarray, " b"], Float64[np.ndarray, " b"]]:
        """The results of `value` and `variance`."""
        whole = self.whole
        assert isinstance(whole, JointlyStudentized)
        return whole.value_and_variance(self._on_all_images(weights))


def subgroup(statistic: Statistic, chosen: Mapping[str, Bool[np.ndarray, " n"]]) -> Subgroup:
    """Restrict a statistic to some of its images, without preparing it again.

    Values and intervals are those of the statistic prepared on the subset alone, with the
    settings (a bandwidth, a mask) of the whole. The subgroup has a variance and contributions
    where the whole has them. It has no derivative, even where the whole is `Differentiable`: that
    derivative is at equal weights on all images, which a subgroup never has. So the jackknife of
    a subgroup leaves one subject out at any size.

    Parameters
    ----------
    statistic
        The statistic of all images.
    chosen
        For each role, True for the images in the subgroup; a role not named keeps all images.

    Raises
    ------
    MetricError
        A role is unknown, or its booleans do not fit its images or choose none of them.

    Examples
    --------
    >>> from synthbench.metrics.mmd import MMD2, mmd2
    >>> x = np.arange(12.0).reshape(6, 2)
    >>> women = np.array([True, True, False, True, False, True])
    >>> from synthbench.metrics.inference.resampling import estimate
    >>> part = subgroup(MMD2().prepare(x, x + 1, bandwidth=2.0), {"real": women})
    >>> bool(np.isclose(estimate(part), mmd2(x[women], x + 1, bandwidth=2.0)))
    True
    """
    for role, images in chosen.items():
        if role not in statistic.subjects:
            raise MetricError(
                f"subgroup: no role '{role}' here; {near_miss(role, statistic.subjects)}"
            )
        mask, n = np.asarray(images), len(statistic.subjects[role])
        if mask.shape != (n,) or mask.dtype != np.bool_ or not mask.any():
            raise MetricError(
                f"subgroup: chosen['{role}'] must be a boolean for each of the {n} images, at "
                f"least one of them True; found shape {mask.shape} of {mask.dtype}, "
                f"{np.count_nonzero(mask)} nonzero. Make it from a column of the participants "
                'table, as in table["sex"] == "F".'
            )
    every = {
        role: np.ones(len(index), dtype=np.bool_) for role, index in statistic.subjects.items()
    }
    masks = {role: np.asarray(images) for role, images in {**every, **chosen}.items()}
    labels = {role: statistic.subjects[role][mask] for role, mask in masks.items()}
    index = subject_index(labels, **{role: len(images) for role, images in labels.items()})
    if isinstance(statistic, Blocked):
        joint = isinstance(statistic, LinearStudentized) and isinstance(
            statistic, JointlyStudentized
        )
        of_blocked = BlockedLinearSubgroup if joint else BlockedSubgroup
        return of_blocked(statistic, masks, index)  # type: ignore[arg-type]
    if isinstance(statistic, LinearStudentized):
        return LinearSubgroup(statistic, masks, index)
    if isinstance(statistic, Studentized):
        return StudentizedSubgroup(statistic, masks, index)
    return Subgroup(statistic, masks, index)
