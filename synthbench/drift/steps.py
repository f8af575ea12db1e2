"""Steps in a history: the values as a piecewise constant line, as asv draws benchmarks.

The line with k pieces has the smallest sum of absolute deviations (the L1 Potts functional of
Friedrich et al. 2008), found by dynamic programming. An information criterion chooses k, with the
penalty of asv (`asv.step_detect`), 4 log(n) / n for each piece.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from heapq import heappush, heappushpop

import numpy as np
from jaxtyping import Float64

SHORTEST = 3
"""Runs of the shortest piece: one odd run is no step."""

MOST = 10
"""The largest number of pieces."""


@dataclass(frozen=True)
class Piece:
    """Runs `first` to `last` (both counted) at one level, their median."""

    first: int
    last: int
    level: float


def pieces(values: Float64[np.ndarray, " n"], smallest: float = 0.0) -> list[Piece]:
    """Return the piecewise constant line through the values of the runs.

    Parameters
    ----------
    values
        Of the runs, in their order; at least one.
    smallest
        Mean absolute deviation below which values differ by rounding.
    """
    x = np.asarray(values, np.float64)
    n = x.size
    cost = _costs(x)
    # Sums of equal values differ by rounding.
    smallest = max(smallest, 1e-12 * float(np.abs(x).max()), float(np.finfo(np.float64).tiny))
    # best[j]: the cost of the first j values in the present number of pieces.
    best = np.concatenate([[np.inf], cost[0, :]])
    cuts: list[np.ndarray] = []
    chosen, smallest_criterion = 1, math.inf
    for k in range(1, min(MOST, max(n // SHORTEST, 1)) + 1):
        if k > 1:
            both = best[:-1, None] + cost  # a piece begins at the row's run, ends at the column's
            cuts.append(np.argmin(both, axis=0))
            best = np.concatenate([[np.inf], np.min(both, axis=0)])
        mean = max(float(best[n]) / n, smallest)
        criterion = math.log(mean) + 4 * math.log(n) / n * k if math.isfinite(mean) else math.inf
        if criterion < smallest_criterion:
            chosen, smallest_criterion = k, criterion
    ends = [n]
    for k in range(chosen - 1, 0, -1):
        ends.append(int(cuts[k - 1][ends[-1] - 1]))
    starts = [0, *reversed(ends[1:])]
    return [
        Piece(first, last - 1, float(np.median(x[first:last])))
        for first, last in zip(starts, [*starts[1:], n], strict=True)
    ]


def _costs(x: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, "n n"]:
    """Return the sum of absolute deviations from the median of each piece, by first and last run.

    Infinite for pieces that are too short, except where all values are one piece.
    """
    n = x.size
    cost = np.full((n, n), np.inf)
    for first in range(n):
        # The two halves of the sorted values: the lower one as negative numbers.
        low: list[float] = []
        high: list[float] = []
        total_low = total_high = 0.0
        for last in range(first, n):
            value = float(x[last])
            if len(low) > len(high):
                moved = -heappushpop(low, -value)
                total_low += value - moved
                heappush(high, moved)
                total_high += moved
            else:
                moved = heappushpop(high, value)
                total_high += value - moved
                heappush(low, -moved)
                total_low += moved
            if last - first + 1 >= SHORTEST or (first == 0 and last == n - 1):
                middle = -low[0] if len(low) > len(high) else 0.0
                cost[first, last] = total_high - total_low + middle
    return cost
