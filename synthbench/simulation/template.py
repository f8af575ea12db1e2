"""The template that simulated subjects are deformed from: tissues, ventricles, mobility."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Float64
from scipy import ndimage
from torch import Tensor

from synthbench.errors import CohortError
from synthbench.simulation.deformation import (
    DEFORMATION_SHAPE,
    EXTENT_MM,
    Shape,
    box_affine,
    box_units,
    exponential,
    gradient_field,
    grid_points,
    sample,
)
from synthbench.volumes import mni152
from synthbench.volumes.grid import Space
from synthbench.volumes.mni152 import TemplateMap

GROWTH_STRENGTHS = np.linspace(-3.0, 5.0, 17)


class _Tissue(NamedTuple):
    """The order of the tissue classes along a map's first axis."""

    grey: int = 0
    white: int = 1
    sulcal: int = 2
    ventricle: int = 3


TISSUE = _Tissue()

LABELS = {1: "grey matter", 2: "white matter", 3: "sulcal fluid", 4: "lateral ventricles"}
"""The values of a label map, in the order of the tissue classes."""


@dataclass(frozen=True)
class _Template:
    """The MNI152 template at 1 mm in the classic box.

    `tissues` is the probability of each class (they sum to 1 in the brain, 0 outside). `detail` is
    the part of the T1 image that they do not explain: deep nuclei, myelination.
    """

    tissues: Float32[np.ndarray, "4 181 217 181"]
    detail: Float32[np.ndarray, "181 217 181"]


@dataclass(frozen=True)
class _Anatomy:
    """The measures of the template that a deformation needs, on the deformation grid.

    Volumes are in mm3. `ventricle_growth` is a velocity that widens the ventricles. At each of
    `GROWTH_STRENGTHS` it multiplies their volume by a factor, whose logarithm is in `log_ratios`.
    `mobility` is the share of the finer random velocities that acts at each place.
    """

    head_volume: float
    ventricle_volume: float
    ventricle_growth: Float32[Tensor, "3 d h w"]
    log_ratios: Float64[np.ndarray, " k"]
    mobility: Float32[Tensor, "d h w"]


@lru_cache(maxsize=1)
def template_anatomy() -> _Anatomy:
    """Return the measures of the template that a deformation needs."""
    template = _template()
    maps = sample(antialiased_maps(DEFORMATION_SHAPE), grid_points(DEFORMATION_SHAPE))
    tissues = maps[:4].double().numpy()
    spacing = np.array(EXTENT_MM) / np.array(DEFORMATION_SHAPE)
    velocity = _ventricle_velocity(
        ventricle=tissues[TISSUE.ventricle], white=tissues[TISSUE.white], spacing=spacing
    )
    growth = box_units(torch.from_numpy(velocity.astype(np.float32)))
    return _Anatomy(
        head_volume=float(template.tissues.sum(dtype=np.float64)),
        ventricle_volume=float(template.tissues[TISSUE.ventricle].sum(dtype=np.float64)),
        ventricle_growth=growth,
        log_ratios=_log_ratios(growth, maps[TISSUE.ventricle]),
        mobility=torch.from_numpy(_mobility(tissues.sum(axis=0), spacing).astype(np.float32)),
    )


def _log_ratios(
    growth: Float32[Tensor, "3 d h w"], ventricle: Float32[Tensor, "d h w"]
) -> Float64[np.ndarray, " k"]:
    """Return the log of the change in the ventricles' volume, for each strength of growth."""
    volumes = []
    for strength in GROWTH_STRENGTHS:
        displacement = exponential(-strength * growth)
        points = grid_points(DEFORMATION_SHAPE) + displacement.movedim(0, -1)
        volumes.append(float(sample(ventricle[None], points).sum(dtype=torch.float64)))
    return np.log(np.array(volumes) / float(ventricle.sum(dtype=torch.float64)))


def _mobility(
    brain: Float64[np.ndarray, "d h w"], spacing: Float64[np.ndarray, " 3"]
) -> Float64[np.ndarray, "d h w"]:
    """Return the share of the finer random velocities that acts at each place.

    It is smaller at the hull, which the skull keeps smooth, and at the midline, where the falx
    holds the brain.
    """
    hull = ndimage.binary_closing(np.pad(brain > 0.5, 6), iterations=4)[6:-6, 6:-6, 6:-6]
    depth = ndimage.distance_transform_edt(hull, sampling=spacing)
    share = ndimage.gaussian_filter(0.25 + 0.75 * np.clip(depth / 16, 0, 1), 5 / spacing)
    x = box_affine(brain.shape)[0, 3] + spacing[0] * np.arange(brain.shape[0])
    midline = 1 - 0.6 * np.exp(-((x / 14) ** 2))
    return np.asarray(share * midline[:, None, None], dtype=np.float64)


def _ventricle_velocity(
    ventricle: Float64[np.ndarray, "d h w"],
    white: Float64[np.ndarray, "d h w"],
    spacing: Float64[np.ndarray, " 3"],
) -> Float64[np.ndarray, "3 d h w"]:
    """Return a velocity in mm that widens the ventricles.

    Its divergence, the rate of log-volume, is 1 in the ventricles and negative in the white
    matter around them, which makes room.
    """
    source = np.sqrt(ventricle / ventricle.max())
    around = white * ndimage.gaussian_filter(ventricle, 14 / spacing)
    return gradient_field(source - around * (source.sum() / around.sum()), spacing)


# --- template -----------------------------------------------------------------------------------


@lru_cache(maxsize=2)
def antialiased_maps(shape: Shape) -> Float32[Tensor, "5 181 217 181"]:
    """Return the template's tissues and detail at 1 mm, blurred for a grid of this shape.

    The Gaussian's sigma is sqrt(ratio^2 - 1) / 2.355 mm for voxels of `ratio` mm (Cardoso et al.
    2015, MICCAI); finer grids are not blurred.
    """
    template = _template()
    maps = np.concatenate([template.tissues, template.detail[None]])
    ratio = np.array(EXTENT_MM) / np.array(shape)
    sigma = np.sqrt(np.clip(ratio**2 - 1, 0, None)) / 2.355
    blurred = [ndimage.gaussian_filter(m, sigma, mode="constant", truncate=3.0) for m in maps]
    return torch.from_numpy(np.stack(blurred))


@lru_cache(maxsize=1)
def _template() -> _Template:
    in_box = _in_box("T1", mni152.t1())
    t1 = in_box.values
    grey = _in_box("grey matter", mni152.grey_matter()).values
    white = _in_box("white matter", mni152.white_matter()).values
    brain = t1 > 0
    grey, white = grey * brain, white * brain
    excess = np.maximum(grey + white, 1)
    grey, white = grey / excess, white / excess
    fluid = np.maximum(brain - grey - white, 0)
    # Dilated, because the edge of the ventricles is brighter than their inside.
    ventricles = ndimage.binary_dilation(mni152.lateral_ventricles(in_box), iterations=2)
    tissues = np.stack([grey, white, fluid * ~ventricles, fluid * ventricles]).astype(np.float32)
    return _Template(tissues=_sharpened(tissues), detail=_unexplained(t1, tissues))


def _in_box(name: str, image: TemplateMap) -> TemplateMap:
    """Return the part of a 1 mm MNI152 image that lies in the classic box."""
    shape = (181, 217, 181)
    matrix = image.space.matrix
    offset = box_affine(shape)[:3, 3] - matrix[:3, 3]
    first = np.round(offset).astype(int)
    inside = (first >= 0).all() and (first + shape <= image.values.shape).all()
    if not (np.allclose(matrix[:3, :3], np.eye(3)) and np.allclose(first, offset) and inside):
        raise CohortError(
            f"nilearn's MNI152 {name} map must cover the classic MNI box at 1 mm; found the shape "
            f"{image.values.shape} and the affine {matrix.tolist()}. Install nilearn 0.14.1."
        )
    box = tuple(slice(f, f + side) for f, side in zip(first, shape, strict=True))
    return TemplateMap(image.values[box], Space.of(shape, box_affine(shape)))


def _sharpened(tissues: Float32[np.ndarray, "c d h w"]) -> Float32[np.ndarray, "c d h w"]:
    """Return sharper probabilities: one person has sharper borders than an average of many."""
    powers = tissues**1.5
    total = powers.sum(axis=0)
    return powers / np.where(total > 0, total, 1)


def _unexplained(
    t1: Float32[np.ndarray, "d h w"], tissues: Float32[np.ndarray, "c d h w"]
) -> Float32[np.ndarray, "d h w"]:
    """Return T1 minus its least-squares fit on the tissue probabilities, 0 outside the brain."""
    brain = t1 > 0
    design = tissues[:, brain].astype(np.float64)
    means = np.linalg.solve(design @ design.T, design @ t1[brain].astype(np.float64))
    detail = np.zeros_like(t1)
    detail[brain] = t1[brain] - means @ design
    return detail
