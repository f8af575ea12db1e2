"""Radiomic features of a region: first order, and four matrices of grey levels.

Levels are whole numbers from 1; 0 is outside the region. The co-occurrence and run-length matrices
are summed over the 13 directions of 26-connected voxels before features are computed ("3D, merged"
in the IBSI manual); PyRadiomics computes features for each direction and averages them. All
distances are one voxel.

Left out, because they grow with the number of voxels or repeat another feature: energy and total
energy, and the maximal correlation coefficient of the co-occurrence matrix.

References
----------
Zwanenburg et al., "The Image Biomarker Standardisation Initiative", Radiology 295, 2020, and its
reference manual, arXiv:1612.07003, for the definitions. Van Griethuysen et al., Cancer Res. 77,
2017: PyRadiomics, whose names are used. Haralick et al. 1973 (GLCM), Galloway 1975 (GLRLM),
Thibault et al. 2009 (GLSZM), Amadasun and King 1989 (NGTDM).
"""

from __future__ import annotations

from itertools import product

import numpy as np
from jaxtyping import Float64, Int64
from scipy import ndimage
from scipy.stats import kurtosis, skew

DIRECTIONS = tuple(d for d in product((-1, 0, 1), repeat=3) if d > (0, 0, 0))
"""One of each pair of opposite directions to the 26 neighbours."""

Levels = Int64[np.ndarray, "d h w"]
Matrix = Float64[np.ndarray, "g c"]


def first_order(x: Float64[np.ndarray, " n"]) -> dict[str, float]:
    """Return the first-order features of the intensities of a region.

    Entropy and uniformity are those of 32 bins of [0, 1]; logarithms have base 2. Kurtosis is 3 for
    a normal distribution; both it and skewness are 0 where all intensities are equal.
    """
    p10, p25, median, p75, p90 = np.percentile(x, [10, 25, 50, 75, 90])
    middle = x[(x >= p10) & (x <= p90)]
    share = np.bincount(levels_of(x)) / len(x)
    varies = bool(np.ptp(x) > 0)
    return {
        "Mean": float(x.mean()),
        "Median": float(median),
        "10Percentile": float(p10),
        "90Percentile": float(p90),
        "Minimum": float(x.min()),
        "Maximum": float(x.max()),
        "Range": float(np.ptp(x)),
        "InterquartileRange": float(p75 - p25),
        "MeanAbsoluteDeviation": float(np.abs(x - x.mean()).mean()),
        "RobustMeanAbsoluteDeviation": float(np.abs(middle - middle.mean()).mean()),
        "RootMeanSquared": float(np.sqrt((x**2).mean())),
        "Variance": float(x.var()),
        "Skewness": float(skew(x)) if varies else 0.0,
        "Kurtosis": float(kurtosis(x, fisher=False)) if varies else 0.0,
        "Entropy": _entropy(share),
        "Uniformity": float((share**2).sum()),
    }


def levels_of(x: Float64[np.ndarray, "*shape"], bins: int = 32) -> Int64[np.ndarray, "*shape"]:
    """Return the level of each intensity in [0, 1]: 1 to `bins`, bins of equal width.

    >>> levels_of(np.array([0.0, 0.5, 1.0]))
    array([ 1, 17, 32])
    """
    return np.asarray(np.minimum(np.floor(x * bins).astype(np.int64) + 1, bins))


def cooccurrence(levels: Levels, bins: int) -> Matrix:
    """Return the symmetric co-occurrence matrix: counts of pairs of neighbours by their levels."""
    counts = np.zeros(bins * bins)
    padded = np.pad(levels, 1)
    inner = (slice(1, -1),) * 3
    for direction in DIRECTIONS:
        other = np.roll(padded, [-step for step in direction], axis=(0, 1, 2))[inner]
        both = (levels > 0) & (other > 0)
        pairs = (levels[both] - 1) * bins + other[both] - 1
        counts += np.bincount(pairs, minlength=bins * bins)
    matrix = counts.reshape(bins, bins)
    return np.asarray(matrix + matrix.T)


def run_lengths(levels: Levels, bins: int) -> Matrix:
    """Return the run-length matrix: counts of runs of one level, by level and length."""
    padded = np.pad(levels, 1)
    flat, longest = padded.ravel(), max(levels.shape)
    strides = np.array([padded.shape[1] * padded.shape[2], padded.shape[2], 1])
    matrix = np.zeros((bins, longest))
    inside = np.flatnonzero(flat)
    for direction in DIRECTIONS:
        step = int(strides @ direction)
        # A run starts where the voxel before it has another level. Outside is level 0.
        position = inside[flat[inside - step] != flat[inside]]
        level = flat[position]
        for length in range(longest):
            goes_on = flat[position + step] == level
            matrix[:, length] += np.bincount(level[~goes_on] - 1, minlength=bins)
            position, level = position[goes_on] + step, level[goes_on]
            if not len(position):
                break
    return matrix


def zone_sizes(levels: Levels, bins: int) -> tuple[Matrix, Float64[np.ndarray, " c"]]:
    """Return counts of 26-connected zones of one level, by level and size, and the sizes found."""
    found = []
    for level in range(1, bins + 1):
        labels, count = ndimage.label(levels == level, np.ones((3, 3, 3)))
        found.append(np.bincount(labels.ravel(), minlength=count + 1)[1:])
    sizes = np.unique(np.concatenate(found))
    matrix = np.stack([(np.searchsorted(sizes, zones)[:, None] == np.arange(len(sizes))).sum(axis=0)
                       for zones in found]).astype(np.float64)  # fmt: skip
    return matrix, sizes.astype(np.float64)


def grey_tone_differences(levels: Levels, bins: int) -> tuple[Float64[np.ndarray, " g"], ...]:
    """Return counts n and sums s of |level - mean of the neighbours inside|, by level.

    Voxels without a neighbour in the region do not count.
    """
    inside = (levels > 0).astype(np.float64)
    kernel = np.ones((3, 3, 3))
    kernel[1, 1, 1] = 0
    neighbours = ndimage.convolve(inside, kernel, mode="constant")
    total = ndimage.convolve(levels.astype(np.float64), kernel, mode="constant")
    counted = (inside > 0) & (neighbours > 0)
    level = levels[counted]
    difference = np.abs(level - total[counted] / neighbours[counted])
    return (
        np.bincount(level - 1, minlength=bins).astype(np.float64),
        np.bincount(level - 1, weights=difference, minlength=bins),
    )


def cooccurrence_features(matrix: Matrix) -> dict[str, float]:
    """Return the features of a symmetric co-occurrence matrix of counts."""
    p = matrix / matrix.sum()
    bins = len(p)
    i, j = np.meshgrid(np.arange(1, bins + 1.0), np.arange(1, bins + 1.0), indexing="ij")
    px = p.sum(axis=1)
    mean = float(px @ np.arange(1, bins + 1.0))
    variance = float(px @ (np.arange(1, bins + 1.0) - mean) ** 2)
    at_sum, at_difference = (i + j).astype(int), np.abs(i - j).astype(int)
    sums = np.bincount(at_sum.ravel(), weights=p.ravel())
    differences = np.bincount(at_difference.ravel(), weights=p.ravel())
    k, s = np.arange(len(differences)), np.arange(len(sums))
    mean_difference = float(k @ differences)
    hx, hxy = _entropy(px), _entropy(p)
    product_of_margins = px[:, None] * px
    present = p > 0
    hxy1 = -float((p[present] * np.log2(product_of_margins[present])).sum())
    hxy2 = _entropy(product_of_margins)
    off = at_difference > 0
    return {
        "Autocorrelation": float((p * i * j).sum()),
        "JointAverage": mean,
        "ClusterProminence": float((p * (i + j - 2 * mean) ** 4).sum()),
        "ClusterShade": float((p * (i + j - 2 * mean) ** 3).sum()),
        "ClusterTendency": float((p * (i + j - 2 * mean) ** 2).sum()),
        "Contrast": float((p * (i - j) ** 2).sum()),
        "Correlation": float((p * (i - mean) * (j - mean)).sum() / variance) if variance else 1.0,
        "DifferenceAverage": mean_difference,
        "DifferenceEntropy": _entropy(differences),
        "DifferenceVariance": float(differences @ (k - mean_difference) ** 2),
        "Id": float((p / (1 + np.abs(i - j))).sum()),
        "Idm": float((p / (1 + (i - j) ** 2)).sum()),
        "Idmn": float((p / (1 + (i - j) ** 2 / bins**2)).sum()),
        "Idn": float((p / (1 + np.abs(i - j) / bins)).sum()),
        "Imc1": (hxy - hxy1) / hx if hx else 0.0,
        "Imc2": float(np.sqrt(max(0.0, 1 - np.exp(-2 * (hxy2 - hxy))))),
        "InverseVariance": float((p[off] / (i - j)[off] ** 2).sum()),
        "JointEnergy": float((p**2).sum()),
        "JointEntropy": hxy,
        "MaximumProbability": float(p.max()),
        "SumAverage": float(s @ sums),
        "SumEntropy": _entropy(sums),
        "SumSquares": variance,
    }


def size_features(
    matrix: Matrix, sizes: Float64[np.ndarray, " c"], voxels: float
) -> dict[str, float]:
    """Return the features of a matrix of counts by level and size: of runs, or of zones.

    Parameters
    ----------
    matrix
        Counts, one row per level from 1 on.
    sizes
        The size of each column, in voxels.
    voxels
        The number of voxels that all runs of one direction, or all zones, hold together; for runs
        merged over directions, times the number of directions.
    """
    total = matrix.sum()
    p = matrix / total
    i = np.arange(1, len(p) + 1.0)[:, None]
    j = sizes[None, :]
    rows, columns = matrix.sum(axis=1), matrix.sum(axis=0)
    mean_level, mean_size = float((p * i).sum()), float((p * j).sum())
    return {
        "SmallEmphasis": float((p / j**2).sum()),
        "LargeEmphasis": float((p * j**2).sum()),
        "LevelNonUniformityNormalized": float((rows**2).sum() / total**2),
        "SizeNonUniformityNormalized": float((columns**2).sum() / total**2),
        "Percentage": float(total / voxels),
        "LevelVariance": float((p * (i - mean_level) ** 2).sum()),
        "SizeVariance": float((p * (j - mean_size) ** 2).sum()),
        "SizeEntropy": _entropy(p),
        "LowLevelEmphasis": float((p / i**2).sum()),
        "HighLevelEmphasis": float((p * i**2).sum()),
        "SmallLowLevelEmphasis": float((p / (i**2 * j**2)).sum()),
        "SmallHighLevelEmphasis": float((p * i**2 / j**2).sum()),
        "LargeLowLevelEmphasis": float((p * j**2 / i**2).sum()),
        "LargeHighLevelEmphasis": float((p * i**2 * j**2).sum()),
    }


def difference_features(
    counts: Float64[np.ndarray, " g"], sums: Float64[np.ndarray, " g"]
) -> dict[str, float]:
    """Return the features of the neighbouring grey-tone difference matrix.

    Coarseness and busyness are 0 where no level differs from its neighbours.
    """
    used = counts > 0
    levels = np.arange(1, len(counts) + 1.0)[used]
    n, s = counts[used], sums[used]
    total, p = n.sum(), n / n.sum()
    weighted = float(p @ s)
    gaps = levels[:, None] - levels
    pi, pj = p[:, None], p[None, :]
    spread = float(np.abs(levels * p - (levels * p)[:, None]).sum())
    kinds = len(levels)
    pairs = kinds * (kinds - 1)
    return {
        "Coarseness": 1 / weighted if weighted else 0.0,
        "Contrast": float((pi * pj * gaps**2).sum() / pairs * s.sum() / total) if pairs else 0.0,
        "Busyness": weighted / spread if spread else 0.0,
        "Complexity": float((np.abs(gaps) * ((p * s)[:, None] + p * s) / (pi + pj)).sum() / total),
        "Strength": float(((pi + pj) * gaps**2).sum() / s.sum()) if s.sum() else 0.0,
    }


def features_of(levels: Levels, bins: int) -> dict[str, float]:
    """Return the features of the four matrices, named FAMILY.FEATURE.

    Parameters
    ----------
    levels
        1 to `bins` inside the region, 0 outside. At least two voxels that touch are inside.
    """
    runs, (zones, sizes) = run_lengths(levels, bins), zone_sizes(levels, bins)
    voxels = float((levels > 0).sum())
    families = {
        "glcm": cooccurrence_features(cooccurrence(levels, bins)),
        "glrlm": size_features(runs, np.arange(1.0, runs.shape[1] + 1), voxels * len(DIRECTIONS)),
        "glszm": size_features(zones, sizes, voxels),
        "ngtdm": difference_features(*grey_tone_differences(levels, bins)),
    }
    return {
        f"{family}.{name}": value
        for family, features in families.items()
        for name, value in features.items()
    }


def _entropy(p: Float64[np.ndarray, "*shape"]) -> float:
    """Entropy in bits; cells without probability count as 0."""
    present = p[p > 0]
    return float(-(present * np.log2(present)).sum()) + 0.0
