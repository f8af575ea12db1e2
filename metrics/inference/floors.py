"""Real against real: the floor of a statistic at a given number of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from synthbench.errors import MetricError
from synthbench.metrics.inference.contracts import Spread
from synthbench.metrics.inference.detectable import minimum_detectable_effect
from synthbench.metrics.inference.resampling import (
    drawn_images,
    one_set,
    random_ranks,
    values_of,
)
from synthbench.metrics.metric import Direction, Statistic, Weights
from synthbench.metrics.subjects import n_subjects


def floor(
    statistic: Statistic,
    *,
    n: int | None = None,
    splits: int = 200,
    seed: int,
    direction: Direction = "lower",
    shifted: Callable[[float], Statistic] | None = None,
    n_synth: int | None = None,
) -> Spread:
    """Return the real-vs-real floor: the statistic between disjoint random halves of one set.

    Each subject gives one image to a split, drawn at random where it has several. So a floor is
    at `n` images of `n` subjects per side, as `matched` is: many statistics depend on both.

    With `shifted`, it has a `minimum_detectable_effect`
    (`synthbench.metrics.inference.detectable.minimum_detectable_effect`): a generator whose
    expected value exceeds the floor's mean by so much comes out of `matched` beyond the floor's
    edge with 80% probability, if it differs from the real set by such a shift.

    Parameters
    ----------
    statistic
        Prepared with the real set in both roles, "real" and "synth".
    n
        Subjects per side; None is half of them, rounded down.
    splits
        Number of random splits.
    seed
        Seed of the splits.
    direction
        The better side of the metric. A difference shows above the 97.5th percentile for
        "lower", below the 2.5th for "higher", beyond either for "zero".
    shifted
        From a dose above zero to the statistic of the real set and of the same set with every
        image shifted: the alternative of the minimum detectable effect. None: it has none.
    n_synth
        Number of synthetic subjects that the value will have; None is that of the real set.

    Raises
    ------
    MetricError
        The two roles do not hold the same subjects, or there are fewer than two sides of `n`.
    """
    index = one_set(statistic, "floor", "(real, real)")
    available = n_subjects(index)
    side = available // 2 if n is None else n
    if not 2 <= side <= available // 2:
        raise MetricError(
            f"floor: two disjoint sides need at least 2 subjects each; found {available} "
            f"subjects for two sides of {side}. Use n between 2 and {available // 2}, "
            "or more real volumes.",
            "too few subjects",
            needed=2 * max(side, 2),
            found=available,
        )
    rng = np.random.default_rng(seed)
    ranks = random_ranks(available, splits, rng)[:, index]
    drawn = drawn_images(index, 1, splits, rng)
    first = (ranks < side) * drawn
    second = ((ranks >= side) & (ranks < 2 * side)) * drawn
    weights = {"real": first, "synth": second}
    values = values_of(statistic, weights)
    spread = _spread(values, side)
    if shifted is None:
        return spread
    effect = minimum_detectable_effect(
        values,
        lambda dose: values_of(shifted(dose), weights),
        side * (1 / available + 1 / (available if n_synth is None else n_synth)) / 2,
        direction,
    )
    return replace(spread, minimum_detectable_effect=effect)


def matched(statistic: Statistic, n: int, *, repeats: int = 200, seed: int) -> Spread:
    """Return the statistic at `n` subjects per role, over random subsamples without replacement.

    Each subject gives one image, drawn anew for each subsample where it has several. So the value
    is comparable with `floor` at the same n, and at no other n.

    Raises
    ------
    MetricError
        `n` is below 2 or above the number of subjects of a role.
    """
    return _spread(values_of(statistic, matched_weights(statistic, n, repeats, seed)), n)


def matched_weights(statistic: Statistic, n: int, repeats: int, seed: int) -> Weights:
    """Return the rows of weights of `matched`, which raises the same errors."""
    rng = np.random.default_rng(seed)
    weights = {}
    for role, index in sorted(statistic.subjects.items()):
        available = n_subjects(index)
        if not 2 <= n <= available:
            raise MetricError(
                f"matched: n must lie between 2 and the {available} subjects of {role}; "
                f"found {n}. Use a smaller n.",
                "too few subjects",
                needed=2,
                found=min(n, available),
            )
        chosen = random_ranks(available, repeats, rng)[:, index] < n
        weights[role] = chosen * drawn_images(index, 1, repeats, rng)
    return weights


def _spread(values: Float64[np.ndarray, " r"], n: int) -> Spread:
    if not np.isfinite(values).all():
        raise MetricError(
            f"the statistic is undefined at {n} subjects per role. Use a larger n.",
            "undefined",
            found=n,
        )
    low, high = np.quantile(values, [0.025, 0.975])
    return Spread(float(values.mean()), float(low), float(high), n=n, repeats=len(values))
