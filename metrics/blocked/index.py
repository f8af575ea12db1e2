"""Nearest images by an index, which misses some of them: for sets too large for all pairs.

The index of faiss (IndexIVFFlat) divides the images of a set among cells, by k-means, and compares
an image with those of the nearest cells only. Distances of what it finds are exact. The share of
the nearest images that it finds is measured on images drawn by a fixed seed.

References
----------
Douze et al., "The Faiss library", 2024, arXiv:2401.08281.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from synthbench.errors import MetricError

INDEX_SET = 20_000
"""Sets of at most so many images are compared image by image, where an index is asked for too."""

SHARE_SEARCHED = 16
"""One in so many cells is searched for each image."""

TRAINING_IMAGES = 64
"""Images per cell, at most, that k-means sees."""

ROWS = 4096
"""Images that are searched for together."""


def check_installed(metric: str) -> None:
    """Raise a MetricError where faiss is not installed."""
    if find_spec("faiss") is None:
        raise MetricError(
            f"{metric}: neighbours by an index need faiss, which is not installed. Type: pip "
            "install 'synthbench[index]', or leave out --index.",
            "not installed",
        )


@dataclass(frozen=True)
class Index:
    """An index of the images of a set.

    Attributes
    ----------
    rows
        One row per image, near the origin.
    """

    rows: Float32[np.ndarray, "n d"]

    @cached_property
    def _searched(self) -> Any:
        import faiss

        n, d = self.rows.shape
        cells = max(1, int(4 * np.sqrt(n)))
        cells = min(cells, n // 40 or 1)
        index = faiss.IndexIVFFlat(faiss.IndexFlatL2(d), d, cells)
        index.cp.seed = 1
        index.cp.max_points_per_centroid = TRAINING_IMAGES
        index.train(self.rows)
        index.add(self.rows)
        index.nprobe = max(8, cells // SHARE_SEARCHED)
        return index

    def nearest(self, rows: Float32[np.ndarray, "m d"], k: int) -> Int64[np.ndarray, "m k"]:
        """Return the k images that it finds nearest to each row; -1 where it finds fewer."""
        found = [
            self._searched.search(np.ascontiguousarray(rows[start : start + ROWS]), k)[1]
            for start in range(0, len(rows), ROWS)
        ]
        nearest: Int64[np.ndarray, "m k"] = np.concatenate(found).astype(np.int64)
        return nearest
