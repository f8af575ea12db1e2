"""Radiomic features against their definitions, written out in loops over voxels."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from synthbench.metrics.extractors.texture import (
    DIRECTIONS,
    cooccurrence,
    cooccurrence_features,
    difference_features,
    features_of,
    first_order,
    grey_tone_differences,
    levels_of,
    run_lengths,
    size_features,
    zone_sizes,
)

BINS = 4


@pytest.fixture(scope="module")
def levels():
    """Random levels in a box with a ragged region, and holes in it."""
    rng = np.random.default_rng(0)
    found = rng.integers(1, BINS + 1, size=(6, 5, 7))
    found[rng.random(found.shape) < 0.2] = 0
    return found


def neighbours(levels, at, directions=None):
    for step in directions or [d for d in product((-1, 0, 1), repeat=3) if d != (0, 0, 0)]:
        there = tuple(np.add(at, step))
        if all(0 <= i < side for i, side in zip(there, levels.shape, strict=True)):
            yield there


def test_there_are_thirteen_directions_and_no_opposite_ones():
    assert len(DIRECTIONS) == 13
    assert not {tuple(-i for i in d) for d in DIRECTIONS} & set(DIRECTIONS)


def test_pairs_of_neighbours_are_counted_both_ways(levels):
    expected = np.zeros((BINS, BINS))
    for at in np.argwhere(levels > 0):
        for there in neighbours(levels, at):
            if levels[there]:
                expected[levels[tuple(at)] - 1, levels[there] - 1] += 1
    np.testing.assert_array_equal(cooccurrence(levels, BINS), expected)


def test_runs_are_those_of_a_walk_along_every_line(levels):
    expected = np.zeros((BINS, max(levels.shape)))
    for step in DIRECTIONS:
        for at in np.argwhere(levels > 0):
            level = levels[tuple(at)]
            before = list(neighbours(levels, at, [tuple(-i for i in step)]))
            if before and levels[before[0]] == level:
                continue
            length, here = 1, tuple(at)
            while (after := list(neighbours(levels, here, [step]))) and levels[after[0]] == level:
                length, here = length + 1, after[0]
            expected[level - 1, length - 1] += 1
    np.testing.assert_array_equal(run_lengths(levels, BINS), expected)


def test_zones_are_those_of_a_flood_fill(levels):
    seen, expected = set(), []
    for start in map(tuple, np.argwhere(levels > 0)):
        if start in seen:
            continue
        zone, border = {start}, [start]
        while border:
            for there in neighbours(levels, border.pop()):
                if levels[there] == levels[start] and there not in zone:
                    zone.add(there)
                    border.append(there)
        seen |= zone
        expected.append((levels[start], len(zone)))
    matrix, sizes = zone_sizes(levels, BINS)
    found = [
        (level + 1, int(sizes[column]))
        for level, column in np.argwhere(matrix)
        for _ in range(int(matrix[level, column]))
    ]
    assert sorted(found) == sorted(expected)


def test_grey_tone_differences_are_those_of_each_voxel(levels):
    counts, sums = np.zeros(BINS), np.zeros(BINS)
    for at in map(tuple, np.argwhere(levels > 0)):
        around = [levels[there] for there in neighbours(levels, at) if levels[there]]
        if around:
            counts[levels[at] - 1] += 1
            sums[levels[at] - 1] += abs(levels[at] - np.mean(around))
    found = grey_tone_differences(levels, BINS)
    np.testing.assert_array_equal(found[0], counts)
    np.testing.assert_allclose(found[1], sums, rtol=1e-12)


def test_cooccurrence_features_are_their_sums(levels):
    """Each is the sum of the definition in the IBSI manual, over the cells (i, j)."""
    matrix = cooccurrence(levels, BINS)
    p = matrix / matrix.sum()
    cells = [(i, j, p[i - 1, j - 1]) for i, j in product(range(1, BINS + 1), repeat=2)]
    found = cooccurrence_features(matrix)
    mean = sum(i * q for i, j, q in cells)
    variance = sum((i - mean) ** 2 * q for i, j, q in cells)
    apart = {k: sum(q for i, j, q in cells if abs(i - j) == k) for k in range(BINS)}
    together = {k: sum(q for i, j, q in cells if i + j == k) for k in range(2, 2 * BINS + 1)}
    margin = p.sum(axis=1)
    mean_apart = sum(k * q for k, q in apart.items())

    def bits(values):
        return -sum(q * np.log2(q) for q in values if q > 0)

    hxy1 = -sum(q * np.log2(margin[i - 1] * margin[j - 1]) for i, j, q in cells if q)
    hxy2 = bits([margin[i - 1] * margin[j - 1] for i, j, _ in cells])
    joint = bits([q for _, _, q in cells])
    expected = {
        "Autocorrelation": sum(i * j * q for i, j, q in cells),
        "JointAverage": mean,
        "ClusterProminence": sum((i + j - 2 * mean) ** 4 * q for i, j, q in cells),
        "ClusterShade": sum((i + j - 2 * mean) ** 3 * q for i, j, q in cells),
        "ClusterTendency": sum((i + j - 2 * mean) ** 2 * q for i, j, q in cells),
        "Contrast": sum((i - j) ** 2 * q for i, j, q in cells),
        "Correlation": (sum(i * j * q for i, j, q in cells) - mean**2) / variance,
        "DifferenceAverage": mean_apart,
        "DifferenceEntropy": bits(apart.values()),
        "DifferenceVariance": sum((k - mean_apart) ** 2 * q for k, q in apart.items()),
        "Id": sum(q / (1 + k) for k, q in apart.items()),
        "Idm": sum(q / (1 + k**2) for k, q in apart.items()),
        "Idmn": sum(q / (1 + k**2 / BINS**2) for k, q in apart.items()),
        "Idn": sum(q / (1 + k / BINS) for k, q in apart.items()),
        "Imc1": (joint - hxy1) / bits(margin),
        "Imc2": np.sqrt(1 - np.exp(-2 * (hxy2 - joint))),
        "InverseVariance": sum(q / k**2 for k, q in apart.items() if k),
        "JointEnergy": sum(q**2 for _, _, q in cells),
        "JointEntropy": joint,
        "MaximumProbability": max(q for _, _, q in cells),
        "SumAverage": sum(k * q for k, q in together.items()),
        "SumEntropy": bits(together.values()),
        "SumSquares": variance,
    }
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_size_features_are_their_sums(levels):
    matrix, sizes = zone_sizes(levels, BINS)
    voxels = (levels > 0).sum()
    total = matrix.sum()
    cells = [
        (i + 1, sizes[j], matrix[i, j] / total) for i, j in product(range(BINS), range(len(sizes)))
    ]
    mean_level = sum(i * q for i, j, q in cells)
    mean_size = sum(j * q for i, j, q in cells)
    expected = {
        "SmallEmphasis": sum(q / j**2 for i, j, q in cells),
        "LargeEmphasis": sum(q * j**2 for i, j, q in cells),
        "LevelNonUniformityNormalized": sum(
            sum(q for i, j, q in cells if i == level) ** 2 for level in range(1, BINS + 1)
        ),
        "SizeNonUniformityNormalized": sum(
            sum(q for i, j, q in cells if j == size) ** 2 for size in sizes
        ),
        "Percentage": total / voxels,
        "LevelVariance": sum((i - mean_level) ** 2 * q for i, j, q in cells),
        "SizeVariance": sum((j - mean_size) ** 2 * q for i, j, q in cells),
        "SizeEntropy": -sum(q * np.log2(q) for i, j, q in cells if q),
        "LowLevelEmphasis": sum(q / i**2 for i, j, q in cells),
        "HighLevelEmphasis": sum(q * i**2 for i, j, q in cells),
        "SmallLowLevelEmphasis": sum(q / i**2 / j**2 for i, j, q in cells),
        "SmallHighLevelEmphasis": sum(q * i**2 / j**2 for i, j, q in cells),
        "LargeLowLevelEmphasis": sum(q * j**2 / i**2 for i, j, q in cells),
        "LargeHighLevelEmphasis": sum(q * i**2 * j**2 for i, j, q in cells),
    }
    assert size_features(matrix, sizes, voxels) == pytest.approx(expected, rel=1e-10)
    # All voxels are in one zone, and in one run of each direction.
    assert (matrix @ sizes).sum() == voxels
    runs = run_lengths(levels, BINS)
    assert (runs @ np.arange(1, runs.shape[1] + 1)).sum() == 13 * voxels


def test_difference_features_are_their_sums():
    """On the matrix of the example of 16 voxels in PyRadiomics' documentation of the NGTDM."""
    n, s = np.array([6.0, 2, 4, 0, 4]), np.array([13.35, 2.0, 2.63, 0.0, 10.075])
    p, total = n / 16, 16
    used = [i for i in range(5) if n[i]]
    pairs = [(i, j) for i in used for j in used]
    weighted = sum(p[i] * s[i] for i in used)
    expected = {
        "Coarseness": 1 / weighted,
        "Contrast": sum(p[i] * p[j] * (i - j) ** 2 for i, j in pairs) / (4 * 3) * s.sum() / total,
        "Busyness": weighted / sum(abs((i + 1) * p[i] - (j + 1) * p[j]) for i, j in pairs),
        "Complexity": sum(
            abs(i - j) * (p[i] * s[i] + p[j] * s[j]) / (p[i] + p[j]) for i, j in pairs
        ) / total,
        "Strength": sum((p[i] + p[j]) * (i - j) ** 2 for i, j in pairs) / s.sum(),
    }  # fmt: skip
    assert difference_features(n, s) == pytest.approx(expected, rel=1e-12)


def test_first_order_features_are_those_of_numpy():
    x = np.random.default_rng(1).beta(2, 3, size=500)
    found = first_order(x)
    share = np.histogram(x, bins=32, range=(0, 1))[0] / 500
    centred = x - x.mean()
    low, high = np.percentile(x, [10, 90])
    inner = x[(x >= low) & (x <= high)]
    expected = {
        "Mean": x.mean(), "Median": np.median(x), "10Percentile": low, "90Percentile": high,
        "Minimum": x.min(), "Maximum": x.max(), "Range": x.max() - x.min(),
        "InterquartileRange": np.percentile(x, 75) - np.percentile(x, 25),
        "MeanAbsoluteDeviation": np.abs(centred).mean(),
        "RobustMeanAbsoluteDeviation": np.abs(inner - inner.mean()).mean(),
        "RootMeanSquared": np.sqrt((x**2).mean()), "Variance": (centred**2).mean(),
        "Skewness": (centred**3).mean() / (centred**2).mean() ** 1.5,
        "Kurtosis": (centred**4).mean() / (centred**2).mean() ** 2,
        "Entropy": -sum(q * np.log2(q) for q in share if q), "Uniformity": (share**2).sum(),
    }  # fmt: skip
    assert found == pytest.approx(expected, rel=1e-10)


def test_one_level_has_finite_features():
    found = features_of(np.ones((3, 3, 3), dtype=int), BINS)
    assert all(np.isfinite(value) for value in found.values())
    assert found["glcm.JointEntropy"] == 0
    assert found["glszm.Percentage"] == pytest.approx(1 / 27)
    assert first_order(np.full(9, 0.5))["Kurtosis"] == 0


def test_a_mirror_image_has_the_same_features(levels):
    assert features_of(levels[::-1], BINS) == pytest.approx(features_of(levels, BINS), rel=1e-10)


def test_levels_are_bins_of_equal_width():
    x = np.linspace(0, 1, 257)
    expected = np.minimum(np.digitize(x, [0.25, 0.5, 0.75]) + 1, 4)
    np.testing.assert_array_equal(levels_of(x, 4), expected)
