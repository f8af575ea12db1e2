"""A control chart (CUSUM) of one metric over many runs, which finds slow drift too.

A cumulative sum (Page 1954, Biometrika 41) adds up small deviations in one direction, so it finds a
change that no two runs show. Its two numbers are k, the deviation per run that is passed over, and
h, the sum at which it signals. h follows from the mean number of runs between two false alarms.

The level and the spread of the runs are not known before. So each run is compared with all runs
before it (self-starting CUSUM; Hawkins 1987, The Statistician 36). Where nothing changes, the
values that are summed are independent and standard normal from the third run on, for values that
are normal with any mean and spread. So h holds exactly, without a phase of calibration.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from jaxtyping import Float64
from scipy import optimize, stats

from synthbench.errors import UsageError

ALLOWANCE = 0.5
"""k, in standard deviations of a run. A shift of 2 k = 1 is the one that this k sees soonest. A
larger k would miss slow drift. A smaller one would see large shifts later."""

FIRST = 2
"""Number of runs before the first that can be compared: their spread is not known before."""

LARGEST = 2.5
"""The largest deviation that one run counts for. So one odd run is no alarm, and values that are
skewed or have long tails raise not more of them than normal ones (docs/drift.md)."""

NODES = 64
"""Nodes of the Gauss-Legendre rule for the run length."""

Way = Literal["up", "down"]


# ---------------------------------------------------------------- the limit


def average_run_length(k: float, h: float, shift: float = 0.0) -> float:
    """Return the mean number of runs until a two-sided CUSUM signals; 1: at the first run.

    The run length L of one side, begun at s, solves L(s) = 1 + L(0) F(k - s) + integral over
    [0, h] of L(y) f(y - s + k) dy, with the normal distribution F and density f (Page 1954). It is
    solved at the nodes of a Gauss-Legendre rule. For both sides together,
    1/L = 1/L_up + 1/L_down (Van Dobben de Bruyn 1968).

    Parameters
    ----------
    k, h
        Allowance and limit, in standard deviations; h is above 0.
    shift
        Mean of the values, in standard deviations; 0: nothing changed.
    """
    return 1 / (1 / _one_side(k, h, shift) + 1 / _one_side(k, h, -shift))


def _one_side(k: float, h: float, mean: float) -> float:
    at, weights = np.polynomial.legendre.leggauss(NODES)
    nodes = np.concatenate([[0.0], (at + 1) * h / 2])
    kernel = np.empty((nodes.size, nodes.size))
    kernel[:, 0] = stats.norm.cdf(k - nodes - mean)
    kernel[:, 1:] = stats.norm.pdf(nodes[1:] - nodes[:, None] + k - mean) * weights * h / 2
    return float(np.linalg.solve(np.eye(nodes.size) - kernel, np.ones(nodes.size))[0])


@cache
def limit_for(runs: float, k: float = ALLOWANCE) -> float:
    """Return the limit h with so many runs between false alarms, on average.

    Raises
    ------
    UsageError
        `runs` is below 10 or above a million.
    """
    if not 10 <= runs <= 1e6:
        raise UsageError(
            f"runs between false alarms: must lie between 10 and a million for each metric; found "
            f"{runs:g}. Use 200."
        )
    return float(optimize.brentq(lambda h: average_run_length(k, h) - runs, 0.1, 20.0))


# ---------------------------------------------------------------- the chart


@dataclass(frozen=True)
class Chart:
    """A CUSUM of one metric.

    Attributes
    ----------
    up, down
        Sums of deviations above and below the runs before, both at least 0; 0 in the first two
        runs.
    limit
        h.
    alarm
        The first run whose sum is above the limit; None: there is none.
    since
        The run with which the change began, as far as the chart can tell: the first after the sum
        last was 0 (Page 1954).
    way
        The direction of the change.
    """

    up: Float64[np.ndarray, " n"]
    down: Float64[np.ndarray, " n"]
    limit: float
    alarm: int | None = None
    since: int | None = None
    way: Way | None = None


def deviations(
    values: Float64[np.ndarray, "*b n"], smallest_sd: float = 0.0
) -> Float64[np.ndarray, "*b n"]:
    """Return how far each value lies from all before it, as standard normal values.

    u_n = F^-1(T_{n-2}(sqrt((n-1)/n) (x_n - mean_{n-1}) / sd_{n-1})), with Student's distribution T
    and the normal one F (Hawkins 1987), and at most `LARGEST` in size. The first two are 0.

    Parameters
    ----------
    values
        Of the runs, in their order, along the last axis.
    smallest_sd
        A spread below this one is rounding, and is taken as this one.
    """
    x = np.asarray(values, np.float64)
    n = np.arange(1, x.shape[-1] + 1)
    # Values that agree to many digits keep their spread when they are centred.
    centred = x - x[..., :1]
    mean = np.cumsum(centred, axis=-1) / n
    # Welford's update: sums of squares of differences never become negative.
    steps = (centred[..., 1:] - mean[..., :-1]) * (centred[..., 1:] - mean[..., 1:])
    squares = np.concatenate([np.zeros_like(x[..., :1]), np.cumsum(steps, axis=-1)], axis=-1)
    out = np.zeros_like(x)
    if x.shape[-1] <= FIRST:
        return out
    before = n[FIRST - 1 : -1]
    sd = np.sqrt(squares[..., FIRST - 1 : -1] / (before - 1))
    apart = centred[..., FIRST:] - mean[..., FIRST - 1 : -1]
    # Where all runs before agree, any other value is far away, but not at infinity.
    least = np.maximum(smallest_sd, np.maximum(np.abs(apart) * 1e-12, np.finfo(np.float64).tiny))
    t = np.sqrt(before / (before + 1)) * apart / np.maximum(sd, least)
    # The lower tail keeps its digits; the upper one would round to 1.
    size = -stats.norm.ppf(stats.t.cdf(-np.abs(t), before - 1))
    out[..., FIRST:] = np.sign(t) * np.minimum(size, LARGEST)
    return out


def sums(
    deviation: Float64[np.ndarray, "*b n"], k: float = ALLOWANCE
) -> tuple[Float64[np.ndarray, "*b n"], Float64[np.ndarray, "*b n"]]:
    """Return the cumulative sums of a CUSUM, above and below."""
    up, down = np.zeros_like(deviation), np.zeros_like(deviation)
    for i in range(deviation.shape[-1]):
        last = (up[..., i - 1], down[..., i - 1]) if i else (0.0, 0.0)
        up[..., i] = np.maximum(0, last[0] + deviation[..., i] - k)
        down[..., i] = np.maximum(0, last[1] - deviation[..., i] - k)
    return up, down


def chart(values: Float64[np.ndarray, " n"], runs: float, *, smallest_sd: float = 0.0) -> Chart:
    """Return the control chart of a metric.

    Parameters
    ----------
    values
        Of the runs, in their order.
    runs
        Mean number of runs between false alarms of this metric.
    smallest_sd
        Spread below which values differ by rounding.

    Raises
    ------
    UsageError
        `runs` has no allowed value.
    """
    limit = limit_for(runs)
    up, down = sums(deviations(values, smallest_sd))
    over = np.flatnonzero(np.maximum(up, down) > limit)
    if not over.size:
        return Chart(up, down, limit)
    alarm = int(over[0])
    way: Way = "up" if up[alarm] > limit else "down"
    side = up if way == "up" else down
    since = int(np.flatnonzero(side[:alarm] == 0)[-1]) + 1
    return Chart(up, down, limit, alarm, since, way)


def runs_to_see(shift: float, before: int, limit: float, k: float = ALLOWANCE) -> int | None:
    """Return how many runs a shift needs until the chart signals, where runs had no noise.

    The runs after the shift enter the level and the spread that they are compared with. So what
    each counts for becomes smaller, and a small shift after few runs is never seen.

    Parameters
    ----------
    shift
        In standard deviations of a run.
    before
        Number of runs before the shift, at least 3.
    limit
        h.

    Returns
    -------
    The number of runs; None: above 50, or never.
    """
    # Runs of variance 1 whose mean is 0: half of them on each side.
    spread = np.sqrt((before - 1) / (before - before % 2))
    values = np.zeros(before + 50)
    values[: before - before % 2] = spread * np.resize([1.0, -1.0], before - before % 2)
    values[before:] = abs(shift)
    deviation = deviations(values)
    deviation[:before] = 0
    up, _ = sums(deviation, k)
    over = np.flatnonzero(up > limit)
    return int(over[0]) - before + 1 if over.size else None
