"""MMD^2 with a linear kernel on voxels: for comparison with papers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from synthbench.errors import MetricError
from synthbench.metrics.kernels import check_subjects, distance_kernels, zero_within_subjects
from synthbench.metrics.metric import (
    BaseMetric,
    IntervalMethod,
    Needs,
    Reuse,
    Role,
    Target,
    VolumeSource,
    as_float64,
    check_features,
)
from synthbench.metrics.mmd import KernelDiscrepancy
from synthbench.metrics.subjects import subject_index
from synthbench.metrics.voxel_gram import voxel_gram


class MMDLinear(BaseMetric):
    """Linear-kernel MMD^2 on raw voxels, as MONAI's `MMDMetric`: for comparison with papers."""

    name = "mmd_linear"
    label = "linear MMD² (voxels)"
    role: Role = "for_papers"
    formula = "U-statistic; -|a-b|^2 / 2 over all voxels, which gives the linear kernel's value"
    needs: Needs = "volumes"
    target: Target = "zero"
    interval: IntervalMethod = "studentized"
    pairs = True
    reuse: Reuse | None = "set"
    needs_cross = True
    sees = "differences between the mean volumes, in squared intensities summed over voxels"
    misses = "everything but the mean: diversity, texture, and copies of one average volume"
    responds_to: tuple[str, ...] = ("noise", "gamma")

    def measure(
        self,
        volumes: VolumeSource,
        mask: Bool[np.ndarray, "d h w"],
        settings: Mapping[str, Any],
        progress: Callable[[int, int], None] | None = None,
    ) -> Float64[np.ndarray, "n n"]:
        """Return the inner products of the volumes of a set, over the full frame.

        Parameters
        ----------
        volumes
            Float32 arrays, intensities in [0, 1].
        mask
            Not used: `MMDMetric` has no mask.
        settings
            Not used: none are frozen.
        progress
            Called with the number of volumes read so far and the number of reads in all.

        Raises
        ------
        MetricError
            `voxel_gram` refuses the volumes.
        """
        return voxel_gram(volumes, progress=progress)

    def measure_across(
        self,
        real: VolumeSource,
        synth: VolumeSource,
        mask: Bool[np.ndarray, "d h w"],
        settings: Mapping[str, Any],
        progress: Callable[[int, int], None] | None = None,
    ) -> Float64[np.ndarray, "n m"]:
        """Return the inner products of real with synthetic volumes; raise as `measure` does."""
        return voxel_gram(real, synth, progress=progress)

    def prepare(
        self,
        real: Float64[np.ndarray, "n n"],
        synth: Float64[np.ndarray, "m m"],
        *,
        cross: Float64[np.ndarray, "n m"] | None = None,
        subjects: Mapping[str, np.ndarray] | None = None,
        **settings: Any,
    ) -> KernelDiscrepancy:
        """Return the statistic of three matrices of inner products.

        Parameters
        ----------
        real, synth
            Inner products within the two sets, from `measure`.
        cross
            Inner products between them, from `measure_across`.
        subjects
            For each role, the subject of each image; None is one image per subject.

        Raises
        ------
        MetricError
            A matrix is missing, has a wrong shape or is not finite, or a role has fewer than two
            subjects.
        """
        if cross is None:
            raise MetricError(
                "mmd_linear: cross must hold the inner products of real with synthetic volumes; "
                "found None. Pass measure_across(real, synth, ...)."
            )
        grams = {"real": as_float64(real), "synth": as_float64(synth), "cross": as_float64(cross)}
        _check_grams(grams)
        index = subject_index(subjects, real=len(grams["real"]), synth=len(grams["synth"]))
        check_subjects(index)
        xx, yy, xy = distance_kernels(grams["real"], grams["synth"], grams["cross"])
        return KernelDiscrepancy(
            real=zero_within_subjects(xx, index["real"]),
            synth=zero_within_subjects(yy, index["synth"]),
            cross=xy,
            subjects=index,
        )


def mmd_linear(x: Float64[np.ndarray, "n d"], y: Float64[np.ndarray, "m d"]) -> float:
    """Return the unbiased MMD^2 under the linear kernel: it detects differences of means only.

    For sets of equal size it equals MONAI's `MMDMetric`.

    Returns
    -------
    The estimate of the squared distance between the means; it may be negative.
    """
    sets = check_features("mmd_linear", real=x, synth=y)
    a, b = sets["real"], sets["synth"]
    # Sums in place of Gram matrices, since rows may be whole volumes. The value does not depend
    # on the origin; an origin near the data loses the fewest digits.
    origin = (a.mean(axis=0) + b.mean(axis=0)) / 2
    sum_a, own_a = _sum_and_squares(a, origin)
    sum_b, own_b = _sum_and_squares(b, origin)
    n, m = len(a), len(b)
    return float(
        (sum_a @ sum_a - own_a) / (n * (n - 1))
        + (sum_b @ sum_b - own_b) / (m * (m - 1))
        - 2 * (sum_a @ sum_b) / (n * m)
    )


def _check_grams(grams: Mapping[str, Float64[np.ndarray, "_ _"]]) -> None:
    found = ", ".join(f"{name} {'x'.join(map(str, g.shape))}" for name, g in grams.items())
    n, m = len(grams["real"]), len(grams["synth"])
    shapes = {"real": (n, n), "synth": (m, m), "cross": (n, m)}
    if min(n, m) < 2 or any(grams[name].shape != shape for name, shape in shapes.items()):
        raise MetricError(
            "mmd_linear: inner products must be matrices n x n (real), m x m (synth) and n x m "
            f"(cross) of at least 2 images each; found {found}. Use measure and measure_across."
        )
    for name, gram in grams.items():
        if not np.isfinite(gram).all():
            raise MetricError(
                f"mmd_linear: the inner products of {name} hold NaN or infinity. "
                "Use measure and measure_across, which name the volume.",
                "intensities",
            )


def _sum_and_squares(
    rows: Float64[np.ndarray, "n d"], origin: Float64[np.ndarray, " d"]
) -> tuple[Float64[np.ndarray, " d"], float]:
    """The sum of the rows and the sum of their squared norms, relative to `origin`."""
    total, squares = np.zeros_like(origin), 0.0
    for row in rows:
        moved = row - origin
        total += moved
        squares += float(moved @ moved)
    return total, squares
