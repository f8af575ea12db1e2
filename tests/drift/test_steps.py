"""The piecewise constant line against an exhaustive search."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest

from synthbench.drift.steps import SHORTEST, pieces


def exhaustive(x):
    """The starts of the best pieces, among all ways to cut."""
    n = len(x)
    best: tuple[float, tuple[int, ...]] = (np.inf, ())
    for k in range(1, n // SHORTEST + 1):
        costs = []
        for cuts in combinations(range(1, n), k - 1):
            ends = [0, *cuts, n]
            parts = [x[a:b] for a, b in pairwise(ends)]
            if min(map(len, parts)) >= SHORTEST:
                cost = sum(np.abs(p - np.median(p)).sum() for p in parts)
                costs.append((cost, tuple(ends[:-1])))
        cost, starts = min(costs)
        best = min(best, (np.log(cost / n) + 4 * np.log(n) / n * k, starts))
    return best[1]


@pytest.mark.parametrize("seed", range(6))
def test_the_line_is_the_best_of_all(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=13)
    x[6 + seed % 3 :] += (seed % 4) * 3
    assert tuple(piece.first for piece in pieces(x)) == exhaustive(x)


def test_steps_are_found_where_they_are():
    x = np.random.default_rng(0).normal(size=60)
    x[20:] += 6
    x[45:] -= 9
    found = pieces(x)
    assert [(p.first, p.last) for p in found] == [(0, 19), (20, 44), (45, 59)]
    assert [p.level for p in found] == [np.median(x[p.first : p.last + 1]) for p in found]


def test_noise_and_one_odd_run_have_no_step():
    rng = np.random.default_rng(1)
    assert sum(len(pieces(rng.normal(size=40))) > 1 for _ in range(50)) <= 2
    x = rng.normal(size=40)
    x[17] = 50
    assert len(pieces(x)) == 1


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_equal_values_are_one_piece(n):
    (piece,) = pieces(np.full(n, 0.1))
    assert (piece.first, piece.last, piece.level) == (0, n - 1, 0.1)


def test_rounding_has_no_step():
    x = np.repeat([1.0, 1.0 + 1e-9], 10)
    assert len(pieces(x)) == 2
    assert len(pieces(x, smallest=1e-5)) == 1
