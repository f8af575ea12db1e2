"""What a design can show: power of equivalence to chance, and the interval of agreement.

The power is that of the analysis itself, on simulated answers (`power`). `normal_trials` is the
textbook number, which takes the variance as known and so asks for too few with few readers.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf

import numpy as np
from jaxtyping import Float64
from scipy.stats import norm

from synthbench.readers.agreement import alpha, counts
from synthbench.readers.mrmc import mean

MARGIN = 0.10
"""Accuracy within 50 +- 10 points is equivalent to chance."""

READER_SD = 0.05
"""The assumed standard deviation of accuracy between readers."""

CASE_SD = 0.10
"""The assumed standard deviation of accuracy between cases."""

TARGET = 0.80
SIMULATIONS = 2000
MOST_TRIALS = 2000


def normal_trials(
    readers: int, *, margin: float = MARGIN, reader_sd: float = READER_SD, power: float = TARGET
) -> float:
    """Return the trials per reader for two one-sided tests at 5%, with the variance known.

    The variance of the mean is (sd_R^2 + 0.25 / n) / R. Infinite where no number of trials is
    enough.

    >>> [normal_trials(r) for r in (2, 3, 5, 8)], normal_trials(10, margin=0.05)
    ([inf, 250, 75, 37], 597)
    """
    needed = (margin / (norm.ppf(0.95) + norm.ppf((1 + power) / 2))) ** 2
    left = readers * needed - reader_sd**2
    return ceil(0.25 / left) if left > 0 else inf


def power(
    readers: int,
    cases: int,
    *,
    margin: float = MARGIN,
    reader_sd: float = READER_SD,
    case_sd: float = CASE_SD,
    seed: int = 0,
    simulations: int = SIMULATIONS,
) -> float:
    """Return how often readers at chance are found equivalent to it, by the study's own analysis.

    Answers are simulated: an answer is right where the sum of a reader's, a case's and its own
    normal deviate is positive. The standard deviations of accuracy are those between readers and
    between cases.
    """
    if readers < 2 or cases < 2:
        return 0.0
    answers = simulated(readers, cases, 0.5, reader_sd, case_sd, simulations, seed)
    p = mean(answers, share=True).equivalence_p(0.5 - margin, 0.5 + margin)
    return float(np.mean(p < 0.05))


def simulated(
    readers: int,
    cases: int,
    accuracy: float,
    reader_sd: float,
    case_sd: float,
    n: int,
    seed: int,
) -> Float64[np.ndarray, "n r c"]:
    """Return `n` tables of answers, 0 or 1, with this accuracy over all readers and cases.

    Each deviate is normal; the standard deviations of accuracy become those of deviates by the
    slope of the normal distribution at the accuracy.
    """
    rng = np.random.default_rng(seed)
    slope = float(norm.pdf(norm.ppf(accuracy)))
    shared = [sd / slope for sd in (reader_sd, case_sd)]
    own = np.sqrt(max(1e-6, 1 - shared[0] ** 2 - shared[1] ** 2))
    latent = norm.ppf(accuracy) + own * rng.standard_normal((n, readers, cases))
    latent += shared[0] * rng.standard_normal((n, readers, 1))
    latent += shared[1] * rng.standard_normal((n, 1, cases))
    found: Float64[np.ndarray, "n r c"] = (latent > 0).astype(np.float64)
    return found


def trials_needed(
    readers: int, *, target: float = TARGET, seed: int = 0, simulations: int = 1000
) -> float:
    """Return about how many cases reach a power, by bisection; infinite above `MOST_TRIALS`."""
    start = normal_trials(readers, power=target)
    low, high = 2, int(min(start, MOST_TRIALS))

    def reached(cases: int) -> bool:
        return power(readers, cases, seed=seed, simulations=simulations) >= target

    while not reached(high):
        if high >= MOST_TRIALS:
            return inf
        low, high = high, min(2 * high, MOST_TRIALS)
    while high - low > max(1, high // 20):
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


@dataclass(frozen=True)
class AgreementSpread:
    """Where 95% of the estimates of Krippendorff's alpha fall."""

    expected: float
    low: float
    high: float


def agreement_spread(
    readers: int,
    cases: int,
    *,
    levels: int = 4,
    reliability: float = 0.65,
    seed: int = 0,
    simulations: int = 400,
) -> AgreementSpread:
    """Return the spread of alpha over simulated ratings.

    Ratings are normal deviates, cut at their quantiles into levels of equal frequency. Two readers
    of one case correlate with `reliability`: 0.65 gives an alpha of about 0.6 on four levels.
    """
    rng = np.random.default_rng(seed)
    shared = np.sqrt(reliability) * rng.standard_normal((simulations, 1, cases))
    own = np.sqrt(1 - reliability) * rng.standard_normal((simulations, readers, cases))
    edges = norm.ppf(np.arange(1, levels) / levels)
    ratings = np.digitize(shared + own, edges).astype(np.float64) + 1
    one = np.ones((1, cases))
    values = [float(alpha(counts(table, levels), one)[0]) for table in ratings]
    low, high = np.quantile(values, (0.025, 0.975))
    return AgreementSpread(float(np.mean(values)), float(low), float(high))


@dataclass(frozen=True)
class Prospects:
    """What a design can show.

    Attributes
    ----------
    readers, cases
        Of the design: readers, and pairs per generator.
    power
        Of showing that readers at chance are within the margin.
    needed
        By number of readers, the pairs per generator for a power of `TARGET`; infinite: no number.
    agreement
        The spread of alpha over the rated volumes; None: nothing is rated, or by one reader.
    """

    readers: int
    cases: int
    power: float
    needed: dict[int, float]
    agreement: AgreementSpread | None

    def sentences(self) -> list[str]:
        """Return what to know before the first reader begins."""
        never = [n for n, trials in self.needed.items() if trials == inf]
        enough = [f"{n} readers {t:.0f}" for n, t in self.needed.items() if t < inf]
        spread = self.agreement
        found = [
            f"{self.readers} readers and {self.cases} pairs per generator: if nobody can tell, the "
            f"study shows that (accuracy within 50 +- {100 * MARGIN:.0f} points) with a "
            f"probability of {self.power:.0%}. Assumed: accuracy differs by "
            f"{100 * READER_SD:.0f} points between readers and {100 * CASE_SD:.0f} between pairs.",
            f"For {TARGET:.0%}, pairs per generator: {', '.join(enough) or 'none of these'}."
            + (f" Not with {', '.join(map(str, never))} readers." if never else ""),
        ]
        if spread is not None:
            found.append(
                f"Ratings: where Krippendorff's alpha is {spread.expected:.2f}, 95% of studies of "
                f"this size find {spread.low:.2f} to {spread.high:.2f}."
            )
        return found


def prospects(
    readers: int, cases: int, rated: int, *, counts: tuple[int, ...] = (3, 5, 8, 12), seed: int = 0
) -> Prospects:
    """Return what a design can show; `rated` is the number of rated volumes."""
    return Prospects(
        readers,
        cases,
        power(readers, cases, seed=seed),
        {n: trials_needed(n, seed=seed, simulations=500) for n in counts},
        agreement_spread(readers, rated, seed=seed) if min(readers, rated) > 1 else None,
    )
