"""The coverage study: simulated populations, and the counts of each cell."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any

import numpy as np
import scipy
from coverage_gate import GATED
from jaxtyping import Float64
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq
from scipy.stats import chi2

import synthbench
from synthbench.metrics.fid import FID
from synthbench.metrics.inference.intervals import interval
from synthbench.metrics.inference.pairs import distinct_pairs
from synthbench.metrics.inference.resampling import estimate
from synthbench.metrics.kernels import median_bandwidth, polynomial_kernel
from synthbench.metrics.metric import IntervalMethod, Statistic
from synthbench.metrics.mmd import MMD2, KernelDiscrepancy
from synthbench.metrics.mmd_permutation import permutation_p
from synthbench.metrics.msssim import MSSSIM

DIMENSION = 512
SIZES = (30, 86, 300)
RANKS = (2, 32, 512)
LEVEL = 0.95
ALPHA = 0.05

METHODS: Mapping[str, IntervalMethod] = {
    "mmd2": MMD2.interval,
    "ms_ssim": MSSSIM.interval,
    "fid": FID.interval,
    "kid": "studentized",
}
"""The interval of each metric. KID's default is another (`coverage_designs`); here it stands for
the studentized bootstrap under a kernel with heavy tails."""

SSIM_CONSTANT = 0.01
"""The constant of the similarity, relative to the trace of the real covariance."""

Features = Float64[np.ndarray, "n d"]


@dataclass(frozen=True)
class Regime:
    """A difference of the synthetic features from the real ones.

    Attributes
    ----------
    shift
        Distance of the means, relative to the root of the trace of the real covariance.
    spread
        Standard deviation of the synthetic features, relative to the real ones.
    degrees
        Degrees of freedom of a multivariate t on both sides; None is Gaussian.
    """

    shift: float = 0.0
    spread: float = 1.0
    degrees: float | None = None

    @property
    def null(self) -> bool:
        """True where both sides have the same distribution."""
        return self.shift == 0 and self.spread == 1


REGIMES: Mapping[str, Regime] = {
    "null": Regime(),
    "mean shift": Regime(shift=0.5),
    "spread change": Regime(spread=0.6),
    "small spread change": Regime(spread=0.8),
    "t3, mean shift": Regime(shift=0.5, degrees=3),
    "t3, null": Regime(degrees=3),
}


@dataclass(frozen=True)
class Cell:
    """One combination of the study, and what is computed for it.

    Attributes
    ----------
    n
        Number of images of each role.
    rank
        Effective rank of the real covariance.
    regime
        A name in `REGIMES`.
    metrics
        The metrics whose intervals are computed.
    resamples
        Number of resamples of an interval.
    fid_every
        The Frechet distance is computed in every repetition of this many.
    permutations
        Number of permutations of the test; 0 is no test.
    """

    n: int
    rank: int
    regime: str
    metrics: tuple[str, ...]
    resamples: int
    fid_every: int = 1
    permutations: int = 0

    @property
    def name(self) -> str:
        """The cell's key in the file, and part of its seed."""
        return f"n={self.n} r={self.rank} {self.regime}"


def cells(sizes: Iterable[int] = SIZES) -> Iterator[Cell]:
    """Yield the cells of the study, cheap ones first.

    Left out because of their cost: the test at n = 300, KID at n = 300, and four of five Frechet
    intervals above n = 30 (a delete-one jackknife at n = 86 takes 172 singular value
    decompositions). KID is also left out under t3, where its expectation does not exist. The small
    spread change is for the gated metrics up to n = 86, and the heavy-tailed null for the test.
    """
    for n in sizes:
        for rank in RANKS:
            for name, regime in REGIMES.items():
                if (regime.null and regime.degrees) or (name == "small spread change" and n > 86):
                    metrics: tuple[str, ...] = ()
                elif name == "small spread change":
                    metrics = GATED
                elif n > 86 or regime.degrees:
                    metrics = ("mmd2", "ms_ssim", "fid")
                else:
                    metrics = ("mmd2", "ms_ssim", "fid", "kid")
                permutations = 199 if regime.null and n <= 86 else 0
                if metrics or permutations:
                    yield Cell(
                        n,
                        rank,
                        name,
                        metrics,
                        resamples=500 if n <= 30 else 300 if n <= 86 else 250,
                        fid_every=1 if n <= 30 else 5,
                        permutations=permutations,
                    )


# The populations


def spectrum(rank: float, dimension: int = DIMENSION) -> Float64[np.ndarray, " d"]:
    """Return eigenvalues exp(-c j) with a given effective rank, scaled to the sum `dimension`.

    Parameters
    ----------
    rank
        (sum lambda)^2 / sum lambda^2, above 1 and at most `dimension`.
    dimension
        The number of eigenvalues.
    """

    def eigenvalues(decay: float) -> Float64[np.ndarray, " d"]:
        values = np.exp(-decay * np.arange(dimension))
        scaled: Float64[np.ndarray, " d"] = values * (dimension / values.sum())
        return scaled

    def excess(decay: float) -> float:
        values = eigenvalues(decay)
        return float(values.sum() ** 2 / (values**2).sum()) - rank

    if rank == dimension:
        return np.ones(dimension)
    return eigenvalues(float(brentq(excess, 0.0, 50.0, xtol=1e-14)))


def simulate(
    n: int, regime: Regime, eigenvalues: Float64[np.ndarray, " d"], rng: np.random.Generator
) -> tuple[Features, Features]:
    """Return `n` random real and `n` synthetic feature vectors.

    In units of the real standard deviation along each axis the real mean is 1, the synthetic
    one 1 + shift: features have a common part, as images of one anatomy do.
    """
    scale = np.sqrt(eigenvalues)

    def rows() -> Features:
        normal = rng.standard_normal((n, len(scale)))
        if regime.degrees is not None:
            normal *= np.sqrt(regime.degrees / rng.chisquare(regime.degrees, size=(n, 1)))
        return normal

    return scale * (1 + rows()), scale * (1 + regime.shift + regime.spread * rows())


def expected_kernel(
    bandwidth: float,
    variances: Float64[np.ndarray, "k d"],
    shift: Float64[np.ndarray, " d"] | float = 0.0,
) -> Float64[np.ndarray, " k"]:
    """Return E exp(-|z|^2 / (2 l^2)) for Gaussian z with mean `shift` and diagonal covariances.

    It is prod_j (1 + s_j/l^2)^(-1/2) exp(-1/2 sum_j shift_j^2 / (l^2 + s_j)), for each row s of
    variances.
    """
    square = bandwidth**2
    exponent = np.log1p(variances / square) + shift**2 / (square + variances)
    expected: Float64[np.ndarray, " k"] = np.exp(-0.5 * exponent.sum(axis=1))
    return expected


def population_mmd2(
    regime: Regime, eigenvalues: Float64[np.ndarray, " d"]
) -> Callable[[float], float]:
    """Return MMD^2 of the two populations, as a function of the kernel's bandwidth.

    For Gaussians it has a closed form. Under t it is the average over both sides' scale mixtures,
    tabulated over bandwidths and interpolated.
    """
    shift = regime.shift * np.sqrt(eigenvalues)
    if regime.degrees is None:
        other = regime.spread**2 * eigenvalues
        sums = [eigenvalues * 2, other * 2, eigenvalues + other]

        def gaussian(bandwidth: float) -> float:
            real, synth, _ = expected_kernel(bandwidth, np.array(sums))
            cross = expected_kernel(bandwidth, np.array(sums[2:]), shift)[0]
            return float(real + synth - 2 * cross)

        return gaussian
    if regime.spread != 1:
        raise ValueError("t with unequal spreads: the two sides' mixtures no longer add up")
    return _interpolated_mixture(regime.degrees, shift, eigenvalues)


def _interpolated_mixture(
    degrees: float, shift: Float64[np.ndarray, " d"], eigenvalues: Float64[np.ndarray, " d"]
) -> Callable[[float], float]:
    """Return MMD^2 of two multivariate t's of equal scale, for 1/10 to 10 times the typical l."""
    abscissae, weights = np.polynomial.legendre.leggauss(100)
    mixing = degrees / chi2.ppf((1 + abscissae) / 2, degrees)
    # A difference of two vectors is Gaussian given the sum of their mixing variances.
    sums = np.log(mixing[:, None] + mixing[None, :])
    nodes = np.linspace(sums.min(), sums.max(), 300)
    variances = np.exp(nodes)[:, None] * eigenvalues

    def exact(bandwidth: float) -> float:
        gap = expected_kernel(bandwidth, variances) - expected_kernel(bandwidth, variances, shift)
        return 2 * float(weights @ CubicSpline(nodes, gap)(sums) @ weights) / 4

    typical = np.sqrt(2 * eigenvalues.sum())
    bandwidths = np.geomspace(typical / 10, typical * 10, 60)
    table = CubicSpline(np.log(bandwidths), [exact(bandwidth) for bandwidth in bandwidths])

    def interpolated(bandwidth: float) -> float:
        if not bandwidths[0] <= bandwidth <= bandwidths[-1]:
            raise ValueError(f"bandwidth {bandwidth:g} is outside the table")
        return float(table(np.log(bandwidth)))

    return interpolated


def population_fid(regime: Regime, eigenvalues: Float64[np.ndarray, " d"]) -> float:
    """Return the Frechet distance of the populations' means and (commuting) covariances."""
    # The covariance of a multivariate t is its scale matrix times degrees / (degrees - 2).
    covariance = 1.0 if regime.degrees is None else regime.degrees / (regime.degrees - 2)
    relative = regime.shift**2 + covariance * (1 - regime.spread) ** 2
    return relative * float(eigenvalues.sum())


# A repetition, and a cell


def similarity(x: Features, constant: float) -> Float64[np.ndarray, "n n"]:
    """Return (2 x.y + c) / (|x|^2 + |y|^2 + c) of every pair, a similarity in the form of SSIM."""
    products = x @ x.T
    squares = np.diag(products)
    pairs: Float64[np.ndarray, "n n"] = (2 * products + constant) / (
        squares[:, None] + squares[None, :] + constant
    )
    return pairs


def prepare(metric: str, x: Features, y: Features, bandwidth: float) -> Statistic:
    """Return the metric's statistic on two sets of features."""
    if metric == "mmd2":
        return MMD2().prepare(x, y, bandwidth=bandwidth)
    if metric == "ms_ssim":
        constant = SSIM_CONSTANT * x.shape[1]
        return MSSSIM().prepare(similarity(x, constant), similarity(y, constant))
    if metric == "fid":
        return FID().prepare(x, y)
    if metric == "kid":
        subjects = {"real": np.arange(len(x)), "synth": np.arange(len(y))}
        return KernelDiscrepancy(
            real=distinct_pairs(polynomial_kernel(x, x), subjects["real"]),
            synth=distinct_pairs(polynomial_kernel(y, y), subjects["synth"]),
            cross=polynomial_kernel(x, y),
            subjects=subjects,
        )
    raise ValueError(f"no metric {metric!r} in this study")


@dataclass
class Intervals:
    """A metric's estimates and intervals over the repetitions, with the target where known."""

    estimates: list[float] = field(default_factory=list)
    lows: list[float] = field(default_factory=list)
    highs: list[float] = field(default_factory=list)
    targets: list[float] = field(default_factory=list)

    def summary(self, target: float | None = None) -> dict[str, float]:
        """Return the counts of covers and misses; None is the target of each repetition."""
        low, high = np.array(self.lows), np.array(self.highs)
        aims = np.array(self.targets) if target is None else np.full(len(low), target)
        return {
            "reps": len(low),
            "covered": int(((low <= aims) & (aims <= high)).sum()),
            "below": int((high < aims).sum()),
            "above": int((low > aims).sum()),
            "target": float(aims.mean()),
            "mean": float(np.mean(self.estimates)),
            "sd": float(np.std(self.estimates, ddof=1)),
            "width": float((high - low).mean()),
        }


def run_cell(cell: Cell, reps: int, seed: int) -> dict[str, Any]:
    """Return the record of a simulated cell.

    Its random numbers depend only on `seed` and the cell's name, so cells are independent and each
    of them can be repeated alone.

    Returns
    -------
    The settings, and under "intervals" a summary for each metric and target.
    """
    start = time.perf_counter()
    rng = np.random.default_rng([seed, *cell.name.encode()])
    regime, eigenvalues = REGIMES[cell.regime], spectrum(cell.rank)
    mmd2_at = population_mmd2(regime, eigenvalues)
    kept = {metric: Intervals() for metric in cell.metrics}
    rejected = 0
    for repetition in range(reps):
        x, y = simulate(cell.n, regime, eigenvalues, rng)
        bandwidth = median_bandwidth(x)
        stream = int(rng.integers(2**31))
        for metric, intervals in kept.items():
            if metric == "fid" and repetition % cell.fid_every:
                continue
            statistic = prepare(metric, x, y, bandwidth)
            ends = interval(
                statistic, METHODS[metric], resamples=cell.resamples, level=LEVEL, seed=stream
            )
            intervals.estimates.append(estimate(statistic))
            intervals.lows.append(ends.low)
            intervals.highs.append(ends.high)
            if metric == "mmd2":
                intervals.targets.append(mmd2_at(bandwidth))
        if cell.permutations:
            p = permutation_p(x, y, bandwidth, permutations=cell.permutations, seed=stream)
            rejected += p <= ALPHA
    return {
        "name": cell.name,
        **asdict(cell),
        "reps": reps,
        "seed": seed,
        "intervals": _summaries(kept, regime, eigenvalues),
        "rejected": int(rejected),
        "seconds": round(time.perf_counter() - start, 1),
        "date": date.today().isoformat(),
        "versions": {
            "synthbench": synthbench.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        },
        "hardware": f"{os.cpu_count()} {platform.machine().replace('_', '-')} cores",
    }


def _summaries(
    kept: Mapping[str, Intervals], regime: Regime, eigenvalues: Float64[np.ndarray, " d"]
) -> dict[str, dict[str, float]]:
    summaries = {}
    for metric, intervals in kept.items():
        expected = float(np.mean(intervals.estimates))
        if metric == "mmd2":
            summaries[metric] = intervals.summary()
        elif metric == "fid":
            summaries["fid"] = intervals.summary(expected)
            summaries["fid population"] = intervals.summary(population_fid(regime, eigenvalues))
        else:
            summaries[metric] = intervals.summary(0.0 if regime.null else expected)
    return summaries
