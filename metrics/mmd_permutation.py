"""The permutation test of MMD^2: the largest statistic over several bandwidths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float64, Int64

from synthbench.errors import MetricError
from synthbench.metrics.inference.multiplicity import combined_p
from synthbench.metrics.inference.pairs import ratio, subject_sums
from synthbench.metrics.inference.resampling import GROUP_ROWS, LARGE_SET, equal_draws
from synthbench.metrics.inference.sections import Sums, in_sections
from synthbench.metrics.inference.tiles import PooledImages, Tile, triangle
from synthbench.metrics.kernels import (
    ROUNDING,
    check_bandwidth,
    check_subjects,
    gaussian_kernel,
    gaussian_kernel_of_centred,
    zero_within_subjects,
)
from synthbench.metrics.metric import as_float64, check_features
from synthbench.metrics.subjects import n_subjects, subject_index
from synthbench.runtime.parallel import in_place

BANDWIDTH_FACTORS = (4.0, 2.0, 1.0, 0.5, 0.25)
"""Multiples of the bandwidth over which the permutation test takes its maximum, widest first."""


def permutation_p(
    real: Float64[np.ndarray, "n d"],
    synth: Float64[np.ndarray, "m d"],
    bandwidth: float,
    *,
    permutations: int = 1000,
    seed: int,
    subjects: Mapping[str, np.ndarray] | None = None,
    paired: bool = False,
) -> float:
    """Test that both sets have one distribution, with the maximum over five bandwidths.

    MMD^2 at each of {1/4, 1/2, 1, 2, 4} times `bandwidth` is standardised by its mean and
    standard deviation over all labellings, the observed one included. So the statistic treats all
    labellings alike, and the test is exact. The largest of the five values is compared:
    p = (1 + #{permuted >= observed}) / (permutations + 1).

    All images of a subject keep one label. Each subject belongs to one set: integer labels are
    counted within each set (0 in both sets means two subjects), other labels are names.

    A subject with more images is known more precisely. So where subjects have different numbers
    of images, they are not exchangeable, even if the sets have one distribution. Then as many
    images of each subject as the smallest subject has are drawn at random: for such a draw the
    test is exact. `combined_p` combines the p of `DRAWS` draws, each with `DRAWS` times as many
    labellings.

    Where subject i of both sets comes from one source, as two volumes of one seed do, the sets
    are not exchangeable, but the two images of each pair are. `paired` then exchanges the labels
    within pairs, and detects changes far below the spread of a set.

    Parameters
    ----------
    real, synth
        Feature matrices.
    bandwidth
        The kernel's l, in feature units.
    permutations
        Number of random labellings.
    seed
        Seed of the labellings.
    subjects
        For each role, the subject of each image.
    paired
        True where subject i of one set and subject i of the other set belong together.

    Returns
    -------
    p in [1/(permutations + 1), 1].

    Raises
    ------
    MetricError
        The features or the bandwidth are unusable, `permutations` is below 1, a named subject
        is in both sets, or paired sets differ in their numbers of subjects.
    """
    sets = check_features("permutation test", widen=False, real=real, synth=synth)
    check_bandwidth(bandwidth)
    if permutations < 1:
        raise MetricError(f"permutations must be at least 1; found {permutations}. Use 1000.")
    _check_no_shared_subject(subjects or {})
    index = subject_index(subjects, real=len(sets["real"]), synth=len(sets["synth"]))
    check_subjects(index)
    n_real = n_subjects(index["real"])
    pooled = np.concatenate([index["real"], n_real + index["synth"]])
    sizes, rng = (n_real, n_subjects(index["synth"])), np.random.default_rng(seed)
    deal = _swapped_labels if paired else _permuted_labels
    draws = equal_draws(pooled, _equal_counts(index, paired), rng.spawn(1)[0]) > 0
    labels = deal(*sizes, len(draws) * permutations, rng)[:, pooled]
    if max(len(x) for x in sets.values()) > LARGE_SET:
        origin = sets["real"].mean(axis=0, dtype=np.float64)
        p = []
        for drawn in draws:
            images = PooledImages(
                sets["real"], sets["synth"], np.flatnonzero(drawn), pooled[drawn], origin
            )
            p.append(_blocked_p(images, labels if drawn.all() else labels[:, drawn], bandwidth))
        return combined_p(p)
    labels = labels.astype(np.float64)
    rows = as_float64(np.concatenate([sets["real"], sets["synth"]]))
    kernel = zero_within_subjects(
        gaussian_kernel(rows, rows, BANDWIDTH_FACTORS[0] * bandwidth), pooled
    )
    p = []
    for drawn in draws:
        chosen = kernel if drawn.all() else kernel[np.ix_(drawn, drawn)]
        p.append(_p(chosen, labels[:, drawn], pooled[drawn]))
    return combined_p(p)


def _equal_counts(
    index: Mapping[str, Int64[np.ndarray, " _"]], paired: bool
) -> int | Int64[np.ndarray, " s"]:
    """Return the number of images to take of each subject, so that labels are exchangeable."""
    real, synth = np.bincount(index["real"]), np.bincount(index["synth"])
    # Labels are exchanged within a pair only: other pairs may have more images.
    return np.tile(np.minimum(real, synth), 2) if paired else int(min(real.min(), synth.min()))


def _blocked_p(images: PooledImages, labels: Bool[np.ndarray, "b k"], bandwidth: float) -> float:
    """Return p as `_p`, from kernels that are computed in tiles, once for all labels.

    With l a labelling and K a kernel, l'Kl and the row sums of K give all three terms.
    """
    labels, index = images.in_order(labels), images.index
    widths = len(BANDWIDTH_FACTORS)

    def compute(tiles: Sequence[Tile]) -> Sums:
        labelled, row_sums = np.zeros((widths, len(labels))), np.zeros((widths, len(images)))
        for tile in tiles:
            left, right = images.block(tile.rows), images.block(tile.columns)
            kernel = gaussian_kernel_of_centred(left, right, BANDWIDTH_FACTORS[0] * bandwidth)
            times = 1 if tile.on_diagonal else 2
            if tile.on_diagonal:
                own = index[tile.rows]
                kernel[own[:, None] == own] = 0.0
            for i, factor in enumerate(BANDWIDTH_FACTORS):
                if i:
                    _raise(kernel, (BANDWIDTH_FACTORS[i - 1] / factor) ** 2)
                row_sums[i, tile.rows] += kernel.sum(axis=1)
                if not tile.on_diagonal:
                    row_sums[i, tile.columns] += kernel.sum(axis=0)
                product = labels[:, tile.columns].astype(np.float64) @ kernel.T
                labelled[i] += times * (product * labels[:, tile.rows]).sum(axis=1)
        return {"labelled": labelled, "row sums": row_sums}

    labelled, row_sums = np.zeros((widths, len(labels))), np.zeros((widths, len(images)))
    for found in in_sections(
        "permutations", lambda: (images.digest, bandwidth, labels), triangle(images.ranges), compute
    ):
        labelled += found["labelled"]
        row_sums += found["row sums"]
    scores = np.full(len(labels), -np.inf)
    # Labels are widened some rows at a time: all of them would take as much as the features.
    groups = [labels[start : start + GROUP_ROWS] for start in range(0, len(labels), GROUP_ROWS)]
    pairs = [
        np.concatenate([_weight_of_pairs(side(group), index) for group in groups])
        for side in (np.asarray, np.logical_not)
    ]
    n_labelled = labels.sum(axis=1)
    between = n_labelled * (labels.shape[1] - n_labelled)
    for within, sums in zip(labelled, row_sums, strict=True):
        of_labelled = np.concatenate([group.astype(np.float64) @ sums for group in groups])
        of_other = sums.sum() - 2 * of_labelled + within
        u = (
            ratio(within, pairs[0])
            + ratio(of_other, pairs[1])
            - 2 * ratio(of_labelled - within, between)
        )
        scores = np.maximum(scores, _standardised(u))
    return _share_at_least(scores)


def _weight_of_pairs(
    side: Bool[np.ndarray, "b k"], index: Int64[np.ndarray, " k"]
) -> Float64[np.ndarray, " b"]:
    """Return the number of ordered pairs of images of one side and of distinct subjects."""
    w = side.astype(np.float64)
    weight: Float64[np.ndarray, " b"] = (w * weight_of_others(w, index)).sum(axis=1)
    return weight


def _raise(kernel: Float64[np.ndarray, "k k"], power: float) -> None:
    """Raise a kernel to a power in place; squares are ten times as fast as any other power."""

    def raised(rows: Float64[np.ndarray, "k l"], _: slice) -> None:
        if power == 4.0:
            np.square(rows, out=rows)
            np.square(rows, out=rows)
        else:
            np.power(rows, power, out=rows)

    in_place(raised, kernel)


def _p(
    kernel: Float64[np.ndarray, "k k"],
    labels: Float64[np.ndarray, "b k"],
    index: Int64[np.ndarray, " k"],
) -> float:
    """Return p of the observed labelling, the first one; `kernel`, the widest one, is replaced."""
    scores = _standardised(_split_discrepancy(kernel, labels, index))
    for wider, narrower in pairwise(BANDWIDTH_FACTORS):
        # exp(-s / (2 (l/r)^2)) = exp(-s / (2 l^2))^(r^2): distances need not be stored as well.
        np.power(kernel, (wider / narrower) ** 2, out=kernel)
        scores = np.maximum(scores, _standardised(_split_discrepancy(kernel, labels, index)))
    return _share_at_least(scores)


def _share_at_least(scores: Float64[np.ndarray, " 1+b"]) -> float:
    """Return the share of the labellings whose score is at least the observed one, the first."""
    # Labellings with the observed value count, also where rounding makes them a little smaller.
    at_least = int((scores[1:] >= scores[0] - ROUNDING * max(1.0, abs(scores[0]))).sum())
    return (1 + at_least) / len(scores)


def _permuted_labels(
    n: int, m: int, permutations: int, rng: np.random.Generator
) -> Bool[np.ndarray, "b s"]:
    """Indicators of the subjects labelled real; the first row is the observed labelling."""
    observed = np.arange(n + m) < n
    return np.vstack([observed, rng.permuted(np.tile(observed, (permutations, 1)), axis=1)])


def _swapped_labels(
    n: int, m: int, permutations: int, rng: np.random.Generator
) -> Bool[np.ndarray, "b s"]:
    """Return what `_permuted_labels` does, with labels that are exchanged within random pairs."""
    if n != m:
        raise MetricError(
            f"paired permutation test: both sets need the same number of subjects; found {n} and "
            f"{m}. Leave out those without a partner."
        )
    coins = np.vstack([np.zeros((1, n)), rng.integers(2, size=(permutations, n))]) > 0
    return np.hstack([~coins, coins])


def _split_discrepancy(
    kernel: Float64[np.ndarray, "k k"],
    labels: Float64[np.ndarray, "b k"],
    index: Int64[np.ndarray, " k"],
) -> Float64[np.ndarray, " b"]:
    """MMD^2 between the two sides of each labelling of the pooled images."""
    other = 1 - labels
    # One product serves all three terms: the row sums of both sides add up to the matrix's own.
    to_labelled = labels @ kernel
    to_other = kernel.sum(axis=0) - to_labelled
    within = ratio(
        (to_labelled * labels).sum(axis=1), (labels * weight_of_others(labels, index)).sum(axis=1)
    ) + ratio((to_other * other).sum(axis=1), (other * weight_of_others(other, index)).sum(axis=1))
    across = ratio((to_labelled * other).sum(axis=1), labels.sum(axis=1) * other.sum(axis=1))
    u: Float64[np.ndarray, " b"] = within - 2 * across
    return u


def _standardised(values: Float64[np.ndarray, " b"]) -> Float64[np.ndarray, " b"]:
    """Centre and scale the values; return zeros where all of them are equal."""
    sd = values.std()
    if sd <= ROUNDING:
        return np.zeros_like(values)
    scores: Float64[np.ndarray, " b"] = (values - values.mean()) / sd
    return scores


def weight_of_others(
    w: Float64[np.ndarray, "b n"], index: Int64[np.ndarray, " n"]
) -> Float64[np.ndarray, "b n"]:
    """For each image, the weight of all images of other subjects."""
    others: Float64[np.ndarray, "b n"] = (
        w.sum(axis=1, keepdims=True) - subject_sums(w, index)[:, index]
    )
    return others


def _check_no_shared_subject(subjects: Mapping[str, np.ndarray]) -> None:
    names = [np.asarray(labels) for labels in subjects.values()]
    if len(names) < 2 or any(np.issubdtype(labels.dtype, np.integer) for labels in names):
        return
    shared = sorted(set(names[0].tolist()) & set(names[1].tolist()))
    if shared:
        raise MetricError(
            f"permutation test: a subject must be in one set only; found {len(shared)} in both "
            f"(first: {shared[0]!r}). Remove them from one set: paired sets are not exchangeable."
        )
