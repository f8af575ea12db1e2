"""How often does `synthbench drift --history` raise a false alarm, and how soon is a change seen?

Usage: python studies/drift_history.py

Three tables, which docs/drift.md shows:

- Runs between false alarms, where nothing changes: of normal values, of skewed ones, and of metrics
  of Gaussian features with an effective rank r (as in studies/detectable.py). A fixed real set of
  2 n images is compared with 2 n new synthetic ones in each run. The values of `--pool` runs are
  computed once, and histories draw from them.
- Delay: after some runs, the generator's mean moves, so that the mean of the metric grows by its
  minimum detectable effect, which the floor of the real set gives.
- Slow drift: the mean moves a little with each run, and ends some standard deviations of a run
  away. The chart is compared with tests of pairs of runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from scipy import optimize, stats

sys.path.insert(0, str(Path(__file__).parent))

from coverage_cells import spectrum
from detectable import DIMENSION, METRICS, against_shifted, material, statistic

from synthbench.drift.control_chart import (
    average_run_length,
    deviations,
    limit_for,
    runs_to_see,
    sums,
)
from synthbench.metrics.inference import floors
from synthbench.metrics.inference.resampling import estimate

TOGETHER = 200
"""Runs between false alarms of all metrics together."""
OF = ("mmd2", "kid", "fid", "ms_ssim")
BEFORE = (10, 20, 40)
LONGEST = 2000
"""Runs after which a history ends: where the mean is 200, one in 20,000 has no alarm by then."""


def first_alarms(values: Float64[np.ndarray, "*b n"], limit: float) -> np.ndarray:
    """Return the first run of each history that is an alarm; the number of runs for none."""
    up, down = sums(deviations(values))
    over = np.maximum(up, down) > limit
    return np.where(over.any(axis=-1), over.argmax(axis=-1), values.shape[-1])


def mean_words(x: np.ndarray) -> str:
    """Return a mean with its 95% interval."""
    half = 1.96 * x.std(ddof=1) / np.sqrt(x.size)
    digits = 0 if x.mean() >= 20 else 1
    return f"{x.mean():.{digits}f} [{x.mean() - half:.{digits}f}, {x.mean() + half:.{digits}f}]"


def share_words(hits: np.ndarray) -> str:
    """Return a share with its 95% interval."""
    ends = stats.binomtest(int(hits.sum()), hits.size).proportion_ci()
    return f"{hits.mean():.0%} [{ends.low:.0%}, {ends.high:.0%}]"


def lengths(draw: Callable[[int, int], np.ndarray], histories: int, limit: float) -> np.ndarray:
    """Return the run length of each history: the first alarm of any of its metrics.

    `draw` gives the values of so many histories and runs: histories, metrics, runs.
    """
    found = []
    for _ in range(0, histories, 50):
        alarms = first_alarms(draw(50, LONGEST), limit).min(axis=1)
        found.append(alarms + 1)
    return np.concatenate(found)


def noise(name: str, rng: np.random.Generator, metrics: int) -> Callable[[int, int], np.ndarray]:
    """Return what draws histories of independent metrics."""
    draws = {
        "normal": rng.standard_normal,
        "skewed (gamma, shape 4)": lambda size: rng.gamma(4.0, size=size),
        "long tails (t, 5 df)": lambda size: rng.standard_t(5, size=size),
        "very skewed (exponential)": lambda size: rng.exponential(size=size),
    }
    return lambda histories, runs: draws[name]((histories, metrics, runs))


# ---------------------------------------------------------------- metrics of features


class Pool:
    """The values of runs of one generator against one real set, and of a generator that moved."""

    def __init__(self, rank: int, n: int, size: int, seed: int) -> None:
        self.rng = np.random.default_rng([rank, n, seed])
        self.scale = np.sqrt(spectrum(rank, DIMENSION))
        self.n, self.size = n, size
        self.real = self.drawn(0.0)
        self.effects: dict[str, float] = {}
        self.before = np.array([self.values(OF, 0.0) for _ in range(size)]).T
        self.after = np.empty((len(OF), size))
        for i, name in enumerate(OF):
            effect = self.effect(name)
            self.effects[name] = effect
            dose = self.dose(name, self.before[i].mean() + effect)
            self.after[i] = [self.values((name,), dose)[0] for _ in range(size)]
            # The mean of the pool is the shift, to the digit.
            self.after[i] += self.before[i].mean() + effect - self.after[i].mean()

    def drawn(self, dose: float) -> np.ndarray:
        z = self.rng.standard_normal((2 * self.n, DIMENSION))
        return np.asarray(self.scale * (1 + dose + z))

    def values(self, names: tuple[str, ...], dose: float) -> list[float]:
        synth = self.drawn(dose)
        return [
            estimate(statistic(METRICS[name], material(METRICS[name], self.real),
                               material(METRICS[name], synth)))
            for name in names
        ]  # fmt: skip

    def effect(self, name: str) -> float:
        """The minimum detectable effect that a scorecard of this real set has."""
        metric, real = METRICS[name], material(METRICS[name], self.real)
        floor = floors.floor(
            statistic(metric, real, real), n=self.n, splits=200, seed=0,
            direction=metric.direction, shifted=partial(against_shifted, metric, real),
        )  # fmt: skip
        assert floor.minimum_detectable_effect is not None
        return floor.minimum_detectable_effect

    def dose(self, name: str, wanted: float) -> float:
        """The shift at which the mean value is the wanted one."""

        def excess(dose: float) -> float:
            self.rng, kept = np.random.default_rng(7), self.rng
            mean = np.mean([self.values((name,), dose)[0] for _ in range(40)])
            self.rng = kept
            return float(mean - wanted)

        return float(optimize.brentq(excess, 0.0, 6.0, xtol=0.02))


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--n", type=int, default=30, help="images per side of the floor")
    parser.add_argument("--rank", type=int, nargs="+", default=[2, 10, 32])
    parser.add_argument("--histories", type=int, default=400)
    parser.add_argument("--pool", type=int, default=200, help="runs per generator")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    pools = {rank: Pool(rank, given.n, given.pool, given.seed) for rank in given.rank}
    for table in (false_alarms(given, pools), delays(given, pools), slow(given)):
        print("\n".join(table), end="\n\n", flush=True)


def false_alarms(given: argparse.Namespace, pools: dict[int, Pool]) -> Iterator[str]:
    """Yield the rows of the first table."""
    yield ("| values | metrics | limit h | by formula | runs between false alarms | "
           "none in 100 runs |")  # fmt: skip
    yield "|---|---:|---:|---:|---:|---:|"
    rng = np.random.default_rng(given.seed)
    cells = [(name, k) for name in ("normal",) for k in (1, 6, 10)]
    cells += [(name, 6) for name in ("skewed (gamma, shape 4)", "long tails (t, 5 df)",
                                     "very skewed (exponential)")]  # fmt: skip
    draws = [(name, k, noise(name, rng, k)) for name, k in cells]
    for rank, pool in pools.items():

        def of_pool(histories: int, runs: int, pool: Pool = pool) -> np.ndarray:
            return pool.before[:, rng.integers(pool.size, size=(histories, runs))].swapaxes(0, 1)

        draws.append((f"{', '.join(OF)}; r = {rank}", len(OF), of_pool))
    for name, k, draw in draws:
        limit = limit_for(TOGETHER * k)
        found = lengths(draw, given.histories, limit)
        formula = average_run_length(0.5, limit) / k
        yield (f"| {name} | {k} | {limit:.2f} | {formula:.0f} | {mean_words(found)} | "
               f"{share_words(found > 100)} |")  # fmt: skip


def delays(given: argparse.Namespace, pools: dict[int, Pool]) -> Iterator[str]:
    """Yield the rows of the second table."""
    yield ("| metric | r | effect / sd of a run | runs before | runs until it is seen | "
           "in 5 runs | without noise |")  # fmt: skip
    yield "|---|---:|---:|---:|---:|---:|---:|"
    rng = np.random.default_rng(given.seed + 1)
    limit = limit_for(TOGETHER * len(OF))
    for i, name in enumerate(OF):
        for rank, pool in pools.items():
            ratio = pool.effects[name] / pool.before[i].std(ddof=1)
            for before in BEFORE:
                first = pool.before[i][rng.integers(pool.size, size=(given.histories, before))]
                later = pool.after[i][rng.integers(pool.size, size=(given.histories, 60))]
                alarms = first_alarms(np.concatenate([first, later], axis=1), limit)
                seen = (alarms - before + 1)[alarms >= before]
                cells = [name, rank, f"{ratio:.1f}", before, mean_words(seen)]
                cells += [share_words(seen <= 5), runs_to_see(ratio, before, limit)]
                yield f"| {' | '.join(map(str, cells))} |"


def slow(given: argparse.Namespace) -> Iterator[str]:
    """Yield the rows of the third table."""
    yield ("| drift in all, in sd of a run | two neighbouring runs | the first and the newest | "
           "the chart |")  # fmt: skip
    yield "|---:|---:|---:|---:|"
    rng = np.random.default_rng(given.seed + 2)
    runs, metrics = 50, 6
    # Each pair has a two-sided test at 5%, Holm over six metrics: the smallest p at 5% / 6.
    critical = float(stats.norm.isf(0.05 / metrics / 2)) * np.sqrt(2)
    for total in (0.0, 2.0, 3.0, 4.0):
        x = rng.standard_normal((given.histories, metrics, runs))
        x[:, 0] += total * np.clip((np.arange(runs) - 10) / (runs - 11), 0, 1)
        alarms = first_alarms(x, limit_for(TOGETHER * metrics))
        newest = np.abs(np.diff(x[..., -2:]))[..., 0].max(axis=1) > critical
        ends = np.abs(x[..., -1] - x[..., 0]).max(axis=1) > critical
        yield (f"| {total:g} | {share_words(newest)} | {share_words(ends)} | "
               f"{share_words(alarms.min(axis=1) < runs)} |")  # fmt: skip


if __name__ == "__main__":
    main()
