"""What both tests for copies refuse: missing sets, too few subjects, too few permutations."""

from __future__ import annotations

import math
from collections.abc import Mapping

from synthbench.errors import MetricError
from synthbench.metrics.nearest.labellings import ROUNDING


def needs_training_images(metric: str) -> MetricError:
    """Return the error of a test that was given a real and a synthetic set only.

    Parameters
    ----------
    metric
        The name of the test; its function is `synthbench.metrics.NAME`.
    """
    return MetricError(
        f"{metric}: compares synthetic images with training images and with a hold-out; found a "
        "real and a synthetic set only. Pass --train, or call "
        f"synthbench.metrics.{metric}(synth, train, holdout).",
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
