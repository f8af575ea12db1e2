"""Distances between the features of large sets: each image keeps its nearest real images.

Distances to all real images come from inner products, a block of rows at a time. They only choose
candidates: the distance of a candidate is computed again, pair by pair, as in small sets. So the
values are those of `synthbench.metrics.nearest.distances.Distances` up to rounding. The lists take
time O((m + n) n d) and memory O((m + n) (d + k)), for m synthetic and n real images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy.spatial.distance import cdist

from synthbench.errors import MetricError
from synthbench.metrics.blocked.balls import ROUNDING
from synthbench.metrics.inference import resampling
from synthbench.metrics.kernels import rows_per_block, squared_norms, squares_near_origin
from synthbench.metrics.metric import check_features, check_memory
from synthbench.metrics.nearest.distances import CopyDistances, feature_distances
from synthbench.metrics.nearest.pairs import FeaturePairs, Pairs
from synthbench.metrics.nearest.rows import NearestLists, Rows
from synthbench.metrics.subjects import n_subjects, subject_index
from synthbench.runtime.memory import memory_limit

NEIGHBOURS = 32
"""A list has so many images over the smaller side's share of the real images, for each scan of a
subject. A random labelling leaves the smaller side out of a list with a probability below
exp(-32) where each subject has one image."""


SHARE_OF_MEMORY = 8
"""Distances that are computed at once take this share of the memory that is allowed, at most."""


def copy_distances(
    synth: Float64[np.ndarray, "m d"],
    train: Float64[np.ndarray, "n_t d"],
    holdout: Float64[np.ndarray, "n_h d"],
    flipped: Float64[np.ndarray, "m d"] | None = None,
    subjects: Mapping[str, np.ndarray] | None = None,
) -> CopyDistances:
    """Return the distances between features: matrices of small sets, lists of large ones.

    Sets are large where one has more than `synthbench.metrics.inference.resampling.LARGE_SET`
    images. Parameters and errors are those of `nearest_distances`.
    """
    if max(len(synth), len(train), len(holdout)) > resampling.LARGE_SET:
        return nearest_distances(synth, train, holdout, flipped, subjects)
    return feature_distances(synth, train, holdout, flipped)


@dataclass(frozen=True)
class NearestDistances:
    """Euclidean distances between features, of which only those to the nearest images are held.

    Attributes
    ----------
    sizes
        The number of images of each role.
    real, to_real, flipped_to_real
        As in `synthbench.metrics.nearest.distances.CopyDistances`.
    features
        Those of the real images, the training images first, less their mean.
    numbers
        How many 8-byte numbers features and lists take.
    """

    sizes: Mapping[str, int]
    numbers: int
    real: Rows
    to_real: Rows
    flipped_to_real: Rows | None
    features: Float64[np.ndarray, "n d"]

    def pairs(self, chosen: Int64[np.ndarray, " k"]) -> Pairs:
        """Return the pairs of some real images."""
        whole = np.array_equal(chosen, np.arange(len(self.features)))
        return FeaturePairs(self.features if whole else self.features[chosen])


def nearest_distances(
    synth: Float64[np.ndarray, "m d"],
    train: Float64[np.ndarray, "n_t d"],
    holdout: Float64[np.ndarray, "n_h d"],
    flipped: Float64[np.ndarray, "m d"] | None = None,
    subjects: Mapping[str, np.ndarray] | None = None,
) -> NearestDistances:
    """Return the distances between features, without a matrix over pairs of images.

    Parameters
    ----------
    synth, train, holdout
        Feature matrices (arrays or tensors), one row per image.
    flipped
        Features of the synthetic images flipped left to right, in the order of `synth`.
    subjects
        For "train" and "holdout", the subject of each image: lists are longer where subjects have
        several images. None: one image per subject. It decides on the time, not on values.

    Raises
    ------
    MetricError
        `check_features` refuses the features, `flipped` and `synth` differ in their numbers of
        rows, or features and lists take more than `--max-memory`.
    """
    sets = {"synth": synth, "train": train, "holdout": holdout}
    if flipped is not None:
        if len(flipped) != len(synth):
            raise MetricError(
                "memorization: there must be as many flipped images as synthetic ones; found "
                f"{len(flipped)} and {len(synth)}. Flip each of them."
            )
        sets["flipped"] = flipped
    sizes = {"synth": len(synth), "train": len(train), "holdout": len(holdout)}
    k = list_length(sizes, subjects)
    listed = len(synth) * (len(sets) - 2) + len(train) + len(holdout)
    width = int(np.shape(synth)[-1])
    parts = _parts(len(train), len(holdout), k)
    numbers = listed * (2 * width + 2 * sum(most for _, most in parts))
    check_memory(
        "memorization", numbers,
        f"the features and the {k} nearest images of {len(synth)} synthetic, {len(train)} training "
        f"and {len(holdout)} hold-out images",
    )  # fmt: skip
    x = check_features("memorization", 4, widen=True, **sets)
    real = np.concatenate([x.pop("train"), x.pop("holdout")])
    # Distances do not depend on the origin. Near it, inner products lose the fewest digits.
    origin = real.mean(axis=0)
    real -= origin
    plain = x.pop("synth") - origin
    both = None if "flipped" not in x else (plain, x.pop("flipped") - origin)
    return NearestDistances(
        sizes=sizes,
        numbers=numbers,
        real=_rows((real,), real, parts),
        to_real=_rows((plain,), real, parts),
        flipped_to_real=None if both is None else _rows(both, real, parts),
        features=real,
    )


def list_length(sizes: Mapping[str, int], subjects: Mapping[str, np.ndarray] | None) -> int:
    """Return how many of the nearest real images a list holds.

    >>> list_length({"synth": 5, "train": 3000, "holdout": 1000}, None)
    128
    """
    n = sizes["train"] + sizes["holdout"]
    known = {role: of for role, of in (subjects or {}).items() if role != "synth"}
    index = subject_index(known, train=sizes["train"], holdout=sizes["holdout"])
    of_side = [n_subjects(index[role]) for role in ("train", "holdout")]
    scans = math.ceil(n / sum(of_side))
    return min(n, scans * math.ceil(NEIGHBOURS * sum(of_side) / min(of_side)))


def _parts(n_train: int, n_holdout: int, k: int) -> list[tuple[tuple[int, int], int]]:
    """Return the real images of each list and its length: of all images, and of each side.

    Under the observed labelling the smaller side needs its two nearest subjects. The larger one
    needs so many that a random subset of it, of the size of the smaller side, holds one of them.
    """
    sides = ((0, n_train), n_holdout), ((n_train, n_train + n_holdout), n_train)
    parts = [((0, n_train + n_holdout), k)]
    for (start, stop), other in sides:
        most = math.ceil(2 * k / 3) if stop - start > other else math.ceil(k / 4)
        parts.append(((start, stop), min(most, stop - start)))
    return parts


def _rows(
    views: Sequence[Float64[np.ndarray, "m d"]],
    real: Float64[np.ndarray, "n d"],
    parts: Sequence[tuple[tuple[int, int], int]],
) -> Rows:
    """Return the distances from the nearest of some views of each image to all real images."""

    def compute(rows: Int64[np.ndarray, " r"]) -> Float64[np.ndarray, "r n"]:
        distances: Float64[np.ndarray, "r n"] = cdist(views[0][rows], real)
        for view in views[1:]:
            np.minimum(distances, cdist(view[rows], real), out=distances)
        return distances

    return Rows((len(views[0]), len(real)), compute, _lists(views, real, parts))


def _lists(
    views: Sequence[Float64[np.ndarray, "m d"]],
    real: Float64[np.ndarray, "n d"],
    parts: Sequence[tuple[tuple[int, int], int]],
) -> tuple[NearestLists, ...]:
    m = len(views[0])
    found = tuple(
        NearestLists(among, np.zeros((m, k), np.int64), np.zeros((m, k)), np.full(m, k))
        for among, k in parts
    )
    norms = squared_norms(real)
    largest = max(float(norms.max()), *(float(squared_norms(view).max()) for view in views))
    step = _rows_at_once(len(real))
    for start in range(0, m, step):
        blocks = [view[start : start + step] for view in views]
        squares = squares_near_origin(blocks[0], real, norms)
        for block in blocks[1:]:
            np.minimum(squares, squares_near_origin(block, real, norms), out=squares)
        rounding = ROUNDING * (np.max([squared_norms(x) for x in blocks], axis=0) + largest)
        nearest = _nearest(squares, parts)
        for lists, chosen in zip(found, nearest, strict=True):
            _fill(lists, start, squares, chosen, rounding, blocks, real)
    return found


def _rows_at_once(n: int) -> int:
    """Return how many rows of distances to n images are computed at once.

    A product of few rows with very many reads these from memory for each: so there are up to four
    times as many as in other blocks, where the memory allows it.
    """
    least = rows_per_block(n)
    return max(least, min(4 * least, memory_limit() // SHARE_OF_MEMORY // (8 * n)))


def _nearest(
    squares: Float64[np.ndarray, "r n"], parts: Sequence[tuple[tuple[int, int], int]]
) -> list[Int64[np.ndarray, "r k"]]:
    """Return the candidates of each list: the nearest images by these squared distances.

    Each side is searched once, for as many as the list of all images holds: the nearest of all
    images, and the nearest of a side, are among those.
    """
    (_, k), *sides = parts
    of_sides = []
    for (begin, end), _ in sides:
        most = min(k, end - begin)
        near = np.argpartition(squares[:, begin:end], most - 1, axis=1)[:, :most]
        of_sides.append(begin + near)
    among = [np.concatenate(of_sides, axis=1), *of_sides]
    found = []
    for images, (_, size) in zip(among, parts, strict=True):
        own = np.take_along_axis(squares, images, axis=1)
        places = np.argpartition(own, size - 1, axis=1)[:, :size]
        # In the order of the images, so that equal distances are sorted as in small sets.
        found.append(np.sort(np.take_along_axis(images, places, axis=1), axis=1))
    return found


def _fill(
    lists: NearestLists,
    start: int,
    squares: Float64[np.ndarray, "r n"],
    chosen: Int64[np.ndarray, "r k"],
    rounding: Float64[np.ndarray, " r"],
    blocks: Sequence[Float64[np.ndarray, "r d"]],
    real: Float64[np.ndarray, "n d"],
) -> None:
    """Fill in some rows, from squared distances by inner products with this rounding.

    `chosen` are the candidates, in the order of the images.
    """
    rows = slice(start, start + len(squares))
    begin, end = lists.among
    exact = np.stack([
        np.min([cdist(x[row][None], real[some])[0] for x in blocks], axis=0)
        for row, some in enumerate(chosen)
    ])  # fmt: skip
    place = np.argsort(exact, axis=1, kind="stable")
    lists.order[rows] = np.take_along_axis(chosen, place, axis=1)
    lists.distances[rows] = np.take_along_axis(exact, place, axis=1)
    if chosen.shape[1] < end - begin:
        # Images beyond the candidates may be as near as the last of them.
        certain = np.take_along_axis(squares, chosen, axis=1).max(axis=1) - rounding
        lists.known[rows] = (lists.distances[rows] ** 2 < certain[:, None]).sum(axis=1)
