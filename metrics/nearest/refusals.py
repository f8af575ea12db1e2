"""What tests on training images refuse: missing sets, too few subjects, too few permutations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64

from synthbench.errors import MetricError
from synthbench.metrics.metric import BaseMetric, Needs, Statistic
from synthbench.metrics.nearest.labellings import ROUNDING


class TrainingMetric(BaseMetric):
    """A test that also needs the training images, so two sets are not enough for it."""

    needs: Needs = "training"

    def prepare(
        self,
        real: Float64[np.ndarray, "n d"],
        synth: Float64[np.ndarray, "m d"],
        *,
        subjects: Mapping[str, np.ndarray] | None = None,
        **settings: Any,
    ) -> Statistic:
        """Raise a MetricError that names the function of the test."""
        raise MetricError(
            f"{self.name}: compares synthetic images with training images and with a hold-out; "
            "found a real and a synthetic set only. Pass --train, or call "
            f"synthbench.metrics.{self.name}(synth, train, holdout).",
            "no training set",
        )


def check_testable(
    metric: str, subjects: Mapping[str, int], permutations: int, level: float
) -> None:
    """Check that a permutation of subjects can reject at a level.

    Parameters
    ----------
    metric
        The name of the test in messages.
    subjects
        The number of subjects of "train" and "holdout".
    permutations, level
        The number of permuted labellings, and the level of the test.

    Raises
    ------
    MetricError
        A side has fewer than two subjects, or the smallest p-value exceeds the level.
    """
    for role, n in subjects.items():
        if n < 2:
            raise MetricError(
                f"{metric}: {role} needs images of at least 2 subjects; found {n}. Add subjects: "
                "the test permutes whole subjects.",
                "too few subjects",
                needed=2,
                found=n,
            )
    least = math.ceil(1 / level - ROUNDING) - 1
    if permutations < least:
        raise MetricError(
            f"{metric}: with a level of {level:g} the test needs at least {least} permutations to "
            f"detect anything; found {permutations}. Use 1000.",
            "few permutations",
            needed=least,
            found=permutations,
        )
