"""The search for pairs in a large set."""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import ndimage, stats

from synthbench.cohorts.preflight import pair_search
from synthbench.cohorts.preflight.alignment import (
    Turn,
    asymmetry_scores,
    best_turns,
    displacements,
)
from synthbench.cohorts.preflight.copies import Copies, mean_of
from synthbench.cohorts.preflight.pair_search import Differences, Wanted, ranks_of, search
from synthbench.runtime.memory import VARIABLE


class Rows:
    """Differences that are given."""

    def __init__(self, plain, mirrored):
        self.both = np.stack(
            [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (plain, mirrored)], axis=1
        ).astype(np.float32)
        self.cells = plain.shape[1]

    def __len__(self):
        return len(self.both)

    def rows(self, index):
        return self.both[index]


@pytest.fixture(scope="module")
def given():
    """Rows with copies whose correlation lies around the limits, as they are and mirrored."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((700, 250)) * np.linspace(3, 0.3, 250)
    noise = np.repeat([0.0, 0.01, 0.1, 0.3, 0.5], 20)[:, None] * rng.standard_normal((100, 250))
    rows[100:200] = rows[:100] + noise
    mirrored = rng.standard_normal(rows.shape)
    mirrored[300:400] = rows[:100] + noise
    return Rows(rows, mirrored)


def all_pairs(given, least):
    rows, mirrored = given.both[:, 0], given.both[:, 1]
    plain, turned = rows @ rows.T, np.maximum(rows @ mirrored.T, mirrored @ rows.T)
    best = np.triu(np.maximum(plain, turned), 1)
    return [
        (i, j, best[i, j], bool(turned[i, j] > plain[i, j]))
        for i, j in np.argwhere(best > least).tolist()
    ]


@pytest.mark.parametrize(("least", "pairs"), [(0.9, 300), (0.995, 220)])
def test_the_pairs_are_those_of_all_correlations(given, least, pairs):
    expected = all_pairs(given, least)
    assert len(expected) == pairs
    found = sorted(search(given, least, Wanted(len(given))))
    assert [(i, j, flipped) for i, j, _, flipped in found] == [
        (i, j, flipped) for i, j, _, flipped in expected
    ]
    np.testing.assert_allclose([r for _, _, r, _ in found], [r for _, _, r, _ in expected], 1e-6)


def test_one_partner_of_each_volume_is_the_first_of_all_pairs(given):
    n = len(given)
    contents = np.arange(n)
    contents[100:110] = contents[:10]
    sides = np.repeat([0, 1, 2], [50, 250, 400])
    every = [(i, j) for i, j, *_ in sorted(all_pairs(given, 0.9)) if contents[i] != contents[j]]
    of_seconds: dict[int, tuple[int, int]] = {}
    of_sides: dict[tuple[int, int], tuple[int, int]] = {}
    for i, j in every:
        of_seconds.setdefault(j, (i, j))
        if sides[i] != sides[j]:
            of_sides.setdefault((i, int(sides[j])), (i, j))
    found = search(given, 0.9, Wanted(n, contents, keep="seconds"))
    assert sorted(pair[:2] for pair in found) == sorted(of_seconds.values())
    found = search(given, 0.9, Wanted(n, contents, sides, keep="sides"))
    assert sorted(pair[:2] for pair in found) == sorted(of_sides.values())
    assert 0 < len(of_sides) < len(every)


def test_a_generator_of_three_images_makes_no_square_of_pairs():
    """Of 900 volumes that are three images with faint noise, each is named once."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((3, 300))
    rows = images[np.arange(900) % 3] + 0.01 * rng.standard_normal((900, 300))
    given: Any = Rows(rows, rng.standard_normal(rows.shape))
    found = list(search(given, 0.995, Wanted(900, keep="seconds")))
    assert sorted(j for _, j, *_ in found) == list(range(3, 900))
    assert all(i == j % 3 for i, j, *_ in found)


def test_ranks_are_those_of_scipy():
    values = np.random.default_rng(0).integers(0, 40, 300).astype(np.float32)
    np.testing.assert_array_equal(ranks_of(values), stats.rankdata(values))


def test_mirrored_rows_are_those_of_mirrored_volumes():
    rng = np.random.default_rng(0)
    stack = np.stack([drawn(i) for i in rng.integers(0, 1000, 6)])
    own = Differences(stack)
    given = Differences(stack, stack[:, ::-1])
    for i in range(6):
        np.testing.assert_allclose(own.rows(i), given.rows(i), atol=1e-5)


def test_the_mean_of_some_volumes_tells_the_same_pairs(monkeypatch):
    """Both means differ from the expected one by less than a third of a volume's difference."""
    stack = np.stack([drawn(seed) for seed in range(60)])
    stack[41] = 0.9 * stack[7] + 0.02 * (stack[7] > 0)
    whole = list(search(Differences(stack), 0.9, Wanted(60)))
    monkeypatch.setattr(pair_search, "MOST_IN_MEAN", 20)
    reads: Any = Counted(stack)
    some = list(search(Differences(reads), 0.9, Wanted(60)))
    assert [pair[:2] for pair in whole] == [pair[:2] for pair in some] == [(7, 41)]
    assert whole[0][2] == pytest.approx(some[0][2], abs=0.01)
    assert reads.count == 20 + 20 + 60  # for the mean brain, the mean of ranks, the rows


class Counted:
    """Volumes, and how often one was read."""

    def __init__(self, stack):
        self.stack, self.count = stack, 0

    def __len__(self):
        return len(self.stack)

    def __getitem__(self, index):
        self.count += 1
        return self.stack[index]


SHAPE = (16, 18, 16)


def drawn(seed):
    """A blob with smooth noise of its own."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, side) for side in SHAPE), indexing="ij")
    field = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 1.5)
    inside = sum(axis**2 for axis in axes) < 0.7
    return (inside * (0.6 + 0.1 * field / field.std())).astype(np.float32)


class Drawn:
    """The measurements of a volume that is drawn again at each use, as if it lay on the disk."""

    def __init__(self, seed):
        self.seed = seed

    @property
    def coarse(self):
        return drawn(self.seed).astype(np.float16)


def peak(n):
    """The largest memory of the comparisons of n volumes."""
    measured: Any = [Drawn(seed) for seed in range(n)]
    copies = Copies(measured)
    tracemalloc.start()
    best_turns(copies, 0.02, 0.8)
    asymmetry_scores(copies)
    displacements(copies, (6.0, 6.0, 6.0))
    found = list(search(Differences(copies), 0.995, Wanted(n)))
    largest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == []
    return largest


def test_memory_grows_by_fingerprints_and_not_by_copies(monkeypatch):
    """A copy has 18 KiB in 32 bits, the two rows 15; a fingerprint and its mirror image 1."""
    monkeypatch.setenv(VARIABLE, "1MiB")
    peak(150)  # what is kept from the first call, such as the template's grid, counts for none
    growth = (peak(350) - peak(150)) / 200
    assert growth < 4096


def test_the_mean_is_that_of_the_stack_and_of_nothing_refused():
    stack = np.stack([drawn(seed) for seed in range(5)])
    np.testing.assert_allclose(mean_of(stack), stack.mean(axis=0), atol=1e-6)
    with pytest.raises(ValueError, match="no volumes"):
        mean_of([])


def test_copies_are_turned_one_by_one():
    measured: Any = [SimpleNamespace(coarse=np.arange(8).reshape(2, 2, 2))]
    copies = Copies(measured, [Turn(reversed_axes=(0,))])
    assert len(copies) == 1
    np.testing.assert_array_equal(copies[0], np.arange(8).reshape(2, 2, 2)[::-1])
