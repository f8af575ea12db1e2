"""Kernels between rows of features, and the median bandwidth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Float64, Int64

from synthbench.errors import MetricError
from synthbench.metrics.inference.pairs import subject_sums
from synthbench.metrics.inference.resampling import LARGE_SET
from synthbench.metrics.inference.sections import Sums, in_sections
from synthbench.metrics.inference.tiles import Images, Tile, triangle
from synthbench.metrics.metric import as_float64, check_features
from synthbench.metrics.subjects import n_subjects, subject_index
from synthbench.runtime.parallel import in_place

ROUNDING = 1e-12
"""Relative size below which a difference is rounding."""

BLOCK_NUMBERS = 2**22
"""Largest number of matrix elements that a step with a copy handles at a time."""

SAMPLED_PAIRS = 2**20
"""Random pairs, at most, from which the place of a large set's median distance is estimated."""

SAMPLE_MARGIN = 3.0
"""Six standard errors of the rank of a sample's median, times the root of the sample's size."""


def squared_distances(
    x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"]
) -> Float64[np.ndarray, "n m"]:
    """Squared Euclidean distances between the rows of two matrices."""
    # Distances do not depend on the origin. An origin near the data loses the fewest digits.
    origin = x.mean(axis=0)
    a = x - origin
    # The product of a matrix with itself takes half the time and is exactly symmetric.
    return squares_near_origin(a, a if y is x else y - origin)


def gaussian_kernel(
    x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"], bandwidth: float
) -> Float64[np.ndarray, "n m"]:
    """The kernel exp(-|x_i - y_j|^2 / (2 bandwidth^2)), in [0, 1]; zero where it underflows."""
    return _gaussian(squared_distances(x, y), bandwidth)


def gaussian_kernel_of_centred(
    x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"], bandwidth: float
) -> Float64[np.ndarray, "n m"]:
    """Return `gaussian_kernel` of rows that are near the origin: neither is copied."""
    return _gaussian(squares_near_origin(x, y), bandwidth)


def _gaussian(squares: Float64[np.ndarray, "n m"], bandwidth: float) -> Float64[np.ndarray, "n m"]:
    """Return the kernel of squared distances, in their memory."""

    def exponential(rows: Float64[np.ndarray, "k m"], _: slice) -> None:
        rows /= -2 * bandwidth**2
        np.exp(rows, out=rows)

    in_place(exponential, squares)
    return squares


def polynomial_kernel(
    x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"]
) -> Float64[np.ndarray, "n m"]:
    """The kernel of KID, (x_i . y_j / d + 1)^3 (Binkowski et al. 2018)."""
    kernel: Float64[np.ndarray, "n m"] = x @ y.T

    def cube(rows: Float64[np.ndarray, "k m"], _: slice) -> None:
        rows /= x.shape[1]
        rows += 1
        rows *= rows**2

    in_place(cube, kernel)
    return kernel


def zero_within_subjects(
    pairs: Float64[np.ndarray, "n n"], index: Int64[np.ndarray, " n"]
) -> Float64[np.ndarray, "n n"]:
    """Set the pairs within a subject to zero, in place, and return the matrix."""
    for rows in row_blocks(pairs):
        pairs[rows][index[rows, None] == index[None, :]] = 0.0
    return pairs


def subject_means(
    pairs: Float64[np.ndarray, "n m"],
    rows: Int64[np.ndarray, " n"],
    columns: Int64[np.ndarray, " m"],
) -> Float64[np.ndarray, "s t"]:
    """Return the mean over the pairs of images of each pair of subjects."""
    sums = subject_sums(subject_sums(pairs, columns).T, rows).T
    sizes = np.bincount(rows)[:, None] * np.bincount(columns)
    return sums if (sizes == 1).all() else sums / sizes


def distance_kernels(
    real: Float64[np.ndarray, "n n"],
    synth: Float64[np.ndarray, "m m"],
    cross: Float64[np.ndarray, "n m"],
) -> tuple[Float64[np.ndarray, "n n"], Float64[np.ndarray, "m m"], Float64[np.ndarray, "n m"]]:
    """The kernel -|a - b|^2 / 2 from inner products a.b; it gives the linear-kernel MMD^2.

    The squares |a|^2 cancel between the terms of the U-statistic where all subjects have the same
    number of images. Under other weights the linear kernel itself depends on the origin, and this
    one does not. In float64, inner products of float32 voxels have a relative error of 1e-16, so
    a discrepancy of 1e-4 of their size keeps 12 digits.

    Returns
    -------
    The kernel within the real set, within the synthetic set, and between real rows and synthetic
    columns.
    """
    half_x, half_y = np.diag(real) / 2, np.diag(synth) / 2
    return (
        real - half_x[:, None] - half_x,
        synth - half_y[:, None] - half_y,
        cross - half_x[:, None] - half_y,
    )


def median_bandwidth(real: Float64[np.ndarray, "n d"], subjects: np.ndarray | None = None) -> float:
    """The median heuristic: l^2 is the median squared distance between distinct real images.

    Parameters
    ----------
    real
        Feature matrix of the frozen reference.
    subjects
        The subject of each image; pairs within a subject are left out.

    Returns
    -------
    l, in feature units.

    Raises
    ------
    MetricError
        The features are unusable, all images belong to one subject, or the median is zero.
    """
    x = check_features("median bandwidth", widen=False, real=real)["real"]
    index = subject_index(None if subjects is None else {"real": subjects}, real=len(x))["real"]
    check_subjects({"real": index})
    if len(x) > LARGE_SET:
        median = float(np.mean(middle_squares(x, index)))
    else:
        distances = _distinct_squared_distances(as_float64(x), index)
        median = float(np.median(distances, overwrite_input=True))
    if median <= ROUNDING**2 * float(np.einsum("ij,ij->i", x, x).max()):
        raise MetricError(
            "median bandwidth: the median distance between distinct real images must be above "
            "zero; found 0, so at least half of the pairs are equal. Look for duplicated volumes "
            "or an extractor whose output is constant, or pass bandwidth=.",
            "no spread",
        )
    return float(np.sqrt(median))


def squares_near_origin(
    a: Float64[np.ndarray, "n d"],
    b: Float64[np.ndarray, "m d"],
    norms: Float64[np.ndarray, " m"] | None = None,
) -> Float64[np.ndarray, "n m"]:
    """Squared distances of rows near the origin: neither matrix is copied.

    `norms` are `squared_norms` of b, where they are known: of many rows they take as long to
    compute as products with a few.
    """
    squares: Float64[np.ndarray, "n m"] = a @ b.T
    of_a, of_b = squared_norms(a), squared_norms(b) if norms is None else norms

    def square(rows: Float64[np.ndarray, "k m"], chunk: slice) -> None:
        rows *= -2
        rows += of_a[chunk, None]
        rows += of_b
        np.maximum(rows, 0.0, out=rows)

    in_place(square, squares)
    return squares


def squared_norms(x: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
    """Return the squared norm of each row."""
    norms: Float64[np.ndarray, " n"] = np.einsum("ij,ij->i", x, x)
    return norms


def _distinct_squared_distances(
    x: Float64[np.ndarray, "n d"], index: Int64[np.ndarray, " n"]
) -> Float64[np.ndarray, " p"]:
    """Squared distances of all pairs of images of distinct subjects, each pair once."""
    n, filled = len(x), 0
    distances = np.empty(n * (n - 1) // 2)
    centred, step = x - x.mean(axis=0), rows_per_block(n)
    for start in range(0, n, step):
        rows = slice(start, start + step)
        squares = squares_near_origin(centred[rows], centred[start:])
        upper = squares[np.triu(index[rows, None] != index[None, start:], k=1)]
        distances[filled : filled + len(upper)] = upper
        filled += len(upper)
    return distances[:filled]


def middle_squares(
    x: Float[np.ndarray, "n d"], index: Int64[np.ndarray, " n"]
) -> tuple[float, float]:
    """Return the two middle ones of `_distinct_squared_distances`, without holding all of them.

    Their mean is the median. Of an odd number of pairs both are the same. Random pairs give an
    interval that holds the median; a pass over all pairs counts those below it and keeps those
    inside. Where the median is not inside, the interval is made wider.
    """
    images = Images(x, index, x.mean(axis=0, dtype=np.float64))
    sample = np.sort(_random_squared_distances(images))
    margin = SAMPLE_MARGIN / np.sqrt(max(len(sample), 1))
    while True:
        low, high = -np.inf, np.inf
        if margin < 0.5:
            low, high = np.quantile(sample, [0.5 - margin, 0.5 + margin])
            # The distances of the tiles are rounded in another way than those of the sample.
            low, high = low * (1 - 1e-9), high * (1 + 1e-9)
        below, count, inside = 0, 0, []
        for found in _around(images, float(low), float(high)):
            below += int(found["below"].sum())
            count += int(found["count"].sum())
            inside.append(found["inside"])
        kept = np.sort(np.concatenate(inside))
        middle = (count - 1) // 2 - below, count // 2 - below
        if middle[0] >= 0 and middle[1] < len(kept):
            return float(kept[middle[0]]), float(kept[middle[1]])
        margin *= 4


def _around(images: Images, low: float, high: float) -> Iterator[Sums]:
    """Yield, of each section of all pairs of distinct subjects: how many there are, how many
    squared distances are below an interval, and those inside it.
    """

    def compute(tiles: Sequence[Tile]) -> Sums:
        below, count, inside = 0, 0, [np.zeros(0)]
        for tile in tiles:
            squares = squares_near_origin(images.block(tile.rows), images.block(tile.columns))
            if tile.on_diagonal:
                index = images.index[tile.rows]
                squares = squares[np.triu(index[:, None] != index, k=1)]
            count += squares.size
            below += int(np.count_nonzero(squares < low))
            inside.append(squares[(squares >= low) & (squares <= high)])
        return {
            "below": np.array([below]), "count": np.array([count]),
            "inside": np.concatenate(inside),
        }  # fmt: skip

    return in_sections(
        "median", lambda: (images.digest, low, high), triangle(images.ranges), compute
    )


def _random_squared_distances(images: Images) -> Float64[np.ndarray, " p"]:
    """Return the squared distances of some random pairs of distinct subjects."""
    n, rng = len(images), np.random.default_rng(0)
    pairs = rng.integers(n, size=(2, min(SAMPLED_PAIRS, n * n // 64)))
    left, right = pairs[:, images.subjects[pairs[0]] != images.subjects[pairs[1]]]
    x, step = images.features, rows_per_block(images.features.shape[1])
    found = []
    for start in range(0, len(left), step):
        some = slice(start, start + step)
        apart = x[left[some]].astype(np.float64) - x[right[some]]
        found.append((apart**2).sum(axis=1))
    return np.concatenate(found)


def rows_per_block(columns: int) -> int:
    """Return how many rows of a matrix have at most `BLOCK_NUMBERS` elements; one at least."""
    return max(1, BLOCK_NUMBERS // columns)


def row_blocks(matrix: Float64[np.ndarray, "n m"]) -> Iterator[slice]:
    """Yield slices of rows with at most `BLOCK_NUMBERS` elements each."""
    step = rows_per_block(matrix.shape[1])
    for start in range(0, len(matrix), step):
        yield slice(start, start + step)


def check_bandwidth(bandwidth: float) -> None:
    """Raise a MetricError unless the bandwidth is a positive number."""
    if not (np.isfinite(bandwidth) and bandwidth > 0):
        raise MetricError(
            f"bandwidth must be a positive number of feature units; found {bandwidth}. "
            "Use median_bandwidth(real)."
        )


def check_subjects(index: Mapping[str, Int64[np.ndarray, " n"]]) -> None:
    """Raise a MetricError unless every role has at least two subjects."""
    for role, subjects in index.items():
        if n_subjects(subjects) < 2:
            raise MetricError(
                f"{role} needs images of at least 2 subjects; found 1 subject with "
                f"{len(subjects)} images. Add subjects: scans of one subject are not independent.",
                "too few subjects",
                needed=2,
                found=1,
            )
