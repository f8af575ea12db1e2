"""Multi-scale structural similarity of pairs of volumes, as a measure of diversity.

The mean over pairs within a set falls as the set grows more diverse. Pairs share images, so
its uncertainty comes from resampling images, never pairs.

With a mask of all voxels the values are those of MONAI's `compute_ms_ssim`, at a lower cost: the
means and variances of a volume are computed once, and a pair needs one separable blur per scale,
of the mask's bounding box.

References
----------
Wang, Simoncelli and Bovik, "Multiscale structural similarity for image quality assessment",
Asilomar 2003: equation 7, and the weights in section 3.2.
Wang et al., "Image quality assessment: from error visibility to structural similarity",
IEEE Transactions on Image Processing 13 (2004): window, k1 and k2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64

from synthbench.errors import MetricError
from synthbench.metrics.metric import (
    BaseMetric,
    Direction,
    IntervalMethod,
    Needs,
    Reuse,
    Role,
    Target,
    VolumeSource,
)
from synthbench.metrics.similarity.diversity import (
    CrossSimilarity,
    SimilarityGap,
    affordable_cross_design,
    affordable_design,
    computed_pairs,
    mean_similarity,
)
from synthbench.metrics.similarity.msssim_pairs import grid_refusal, pair_matrix
from synthbench.metrics.similarity.settings import (
    PRESETS,
    Settings,
    first_weights,
    scales_that_fit,
    smallest_side,
)
from synthbench.metrics.similarity.volumes import Tensors, completed, device_of
from synthbench.metrics.subjects import subject_index


class MSSSIM(BaseMetric):
    """MS-SSIM: the gap in diversity between the synthetic and the real set.

    All pairs of a set, or between the sets, are computed up to
    `synthbench.metrics.similarity.diversity.PAIR_BUDGET` pairs. Larger sets have a seeded random
    design of about that many pairs, with each image in equally many of them.
    """

    preset: ClassVar[str] = "default"

    name = "ms_ssim"
    label = "MS-SSIM gap"
    drawn = True
    of_variety = True
    formula = "mean MS-SSIM over synthetic pairs less that over real pairs, inside the mask"
    needs: Needs = "volumes"
    direction: Direction = "zero"
    target: Target = "zero"
    pairs = True
    reuse: Reuse | None = "pair"
    needs_cross = False
    interval: IntervalMethod = "studentized"
    sees = "how alike the volumes of a set are: lost (above zero) or excess (below) diversity"
    misses = "whether the volumes are realistic, and differences between equally diverse sets"
    responds_to: tuple[str, ...] = ("blur", "noise", "warp", "slices", "duplicates")

    def freeze(
        self,
        real: Float64[np.ndarray, "n d"] | None,
        subjects: np.ndarray | None,
        *,
        spacing: tuple[float, float, float] | None = None,
    ) -> dict[str, Any]:
        """The settings of the metric's preset, whatever the real set."""
        settings = PRESETS[self.preset]
        return {**asdict(settings), "weights": list(settings.weights)}

    def with_scales(self, frozen: Mapping[str, Any], scales: int) -> dict[str, Any]:
        """Return frozen settings with another number of scales, and their weights over their sum.

        Raises
        ------
        MetricError
            There are no weights for so many scales.
        """
        return {**frozen, "weights": list(first_weights(scales))}

    def measure(
        self,
        volumes: VolumeSource,
        mask: Bool[np.ndarray, "d h w"],
        settings: Mapping[str, Any],
        progress: Callable[[int, int], None] | None = None,
        known: Float64[np.ndarray, "n n"] | None = None,
    ) -> Float64[np.ndarray, "n n"]:
        """Return the pair matrix within a set, on the GPU where there is one.

        Parameters
        ----------
        volumes
            Float32 arrays, intensities in [0, 1].
        mask
            The voxels to average over; full-frame settings average over all.
        settings
            What `freeze` returned: the fields of `Settings`.
        progress
            Called with the number of pairs done and their total.
        known
            Values of pairs that are not computed again; NaN for the others.

        Returns
        -------
        The matrix of `pair_matrix`, NaN for pairs that a design leaves out.

        Raises
        ------
        MetricError
            There are fewer than 2 volumes, or `pair_matrix` refuses them.
        """
        n = len(volumes)
        if n < 2:
            raise MetricError(
                f"{self.name}: a mean over pairs needs at least 2 volumes; found {n}. Add more.",
                "too few images",
                needed=2,
                found=n,
            )
        chosen = self._averaged_over(mask, settings)

        def compute(design: Bool[np.ndarray, "n n"] | None) -> Float64[np.ndarray, "n n"]:
            total = n * (n - 1) // 2 if design is None else int(design.sum()) // 2
            return pair_matrix(
                Tensors(volumes, device_of()), **chosen, design=design,
                progress=_counted(total, progress),
            )  # fmt: skip

        return completed(compute, affordable_design(n), known, within=True)

    def measure_across(
        self,
        real: VolumeSource,
        synth: VolumeSource,
        mask: Bool[np.ndarray, "d h w"],
        settings: Mapping[str, Any],
        progress: Callable[[int, int], None] | None = None,
        known: Float64[np.ndarray, "n m"] | None = None,
    ) -> Float64[np.ndarray, "n m"]:
        """Return the pair matrix of real rows and synthetic columns.

        The parameters are those of `measure`, with a real and a synthetic set.

        Raises
        ------
        MetricError
            `pair_matrix` refuses the volumes.
        """
        n, m = len(real), len(synth)
        chosen, device = self._averaged_over(mask, settings), device_of()

        def compute(design: Bool[np.ndarray, "n m"] | None) -> Float64[np.ndarray, "n m"]:
            total = n * m if design is None else int(design.sum())
            return pair_matrix(
                Tensors(real, device), Tensors(synth, device), **chosen, design=design,
                progress=_counted(total, progress),
            )  # fmt: skip

        return completed(compute, affordable_cross_design(n, m), known, within=False)

    def prepare(
        self,
        real: Float64[np.ndarray, "n n"],
        synth: Float64[np.ndarray, "m m"],
        *,
        cross: Float64[np.ndarray, "n m"] | None = None,
        subjects: Mapping[str, np.ndarray] | None = None,
        **settings: Any,
    ) -> SimilarityGap:
        """Return the gap, from pair matrices within the two sets.

        Parameters
        ----------
        real, synth
            Symmetric matrices of `measure`; NaN stands for a pair that was not computed.
        cross
            The matrix of `measure_across`; with it, the mean between the sets is a part of the
            gap. Where one set has both roles, for a floor, it is the set's own matrix: the two
            sides of a floor share no image, so the diagonal is never used.
        subjects
            For each role, the subject of each image; None is one image per subject.
        settings
            Not used: the matrices were computed with them.

        Raises
        ------
        MetricError
            A matrix has the wrong shape, is smaller than 2 x 2, asymmetric or infinite, or
            leaves an image with fewer than `MIN_PARTNERS` pairs.
        """
        index = subject_index(subjects, real=len(real), synth=len(synth))
        within = {
            role: mean_similarity(self.name, role, matrix, index[role])
            for role, matrix in (("real", real), ("synth", synth))
        }
        across = None if cross is None else self._across(cross, index)
        return SimilarityGap(real=within["real"], synth=within["synth"], cross=across)

    def _averaged_over(
        self, mask: Bool[np.ndarray, "d h w"], settings: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The arguments `settings` and `mask` of `pair_matrix`; full-frame settings have no mask.

        Raises
        ------
        MetricError
            The settings do not fit the grid; the message names the option that does.
        """
        chosen = Settings(**{**settings, "weights": tuple(settings["weights"])})
        if refusal := grid_refusal(mask.shape, chosen):
            raise MetricError(
                f"{refusal} {self._remedy(scales_that_fit(mask.shape, chosen))}",
                "small grid",
                needed=smallest_side(chosen.scales, chosen.window),
                found=min(mask.shape),
            )
        inside = None if chosen.full_frame else torch.from_numpy(np.array(mask, dtype=bool))
        return {"settings": chosen, "mask": inside}

    def _remedy(self, fit: int) -> str:
        if fit and self.preset == "default":
            return (
                f"Use at most {fit} scales: --scales {fit}, of synthbench score or of synthbench "
                "benchmark init (a benchmark has frozen its own)."
            )
        return "It has no setting for smaller grids: leave it out, or use volumes on a finer grid."

    def _across(
        self, pairs: Float64[np.ndarray, "n m"], index: Mapping[str, Int64[np.ndarray, " _"]]
    ) -> CrossSimilarity:
        matrix = np.asarray(pairs, dtype=np.float64)
        shape = (len(index["real"]), len(index["synth"]))
        if matrix.shape != shape or np.isinf(matrix).any():
            raise MetricError(
                f"{self.name}: the cross pairs must be a finite matrix of {shape[0]} real by "
                f"{shape[1]} synthetic images; found shape {matrix.shape}. "
                "Use pair_matrix(real, synth, ...)."
            )
        computed = computed_pairs(
            self.name, "across", matrix, needed=np.ones(shape, dtype=np.bool_)
        )
        return CrossSimilarity(np.nan_to_num(matrix, nan=0.0), dict(index), computed)


class MSSSIMWang5(MSSSIM):
    """MS-SSIM with the five scales of Wang et al. 2003, for comparison with papers."""

    preset = "wang5"
    name = "ms_ssim_wang5"
    label = "MS-SSIM gap (five scales)"
    role: Role = "for_papers"
    drawn = False


class MSSSIMMonaiK4(MSSSIM):
    """MS-SSIM as in MONAI's tutorials, for comparison with papers.

    Papers report the mean and the spread over pairs within a set. The parts of this metric are
    those means, with intervals from resampling images.
    """

    preset = "monai-k4"
    name = "ms_ssim_monai_k4"
    label = "MS-SSIM gap (MONAI, 4-voxel window)"
    role: Role = "for_papers"
    drawn = False
    formula = "mean MS-SSIM over synthetic pairs less that over real pairs, over the full frame"
    misses = "diversity inside the brain: the background that all volumes share counts as alike"


def _counted(
    total: int, progress: Callable[[int, int], None] | None
) -> Callable[[int], None] | None:
    """Return a function that adds up pairs and calls `progress` with the sum and the total."""
    if progress is None:
        return None
    done = 0

    def advance(pairs: int) -> None:
        nonlocal done
        done += pairs
        progress(done, total)

    return advance
