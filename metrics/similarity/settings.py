"""The settings of MS-SSIM: window, scales, weights, and the presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from synthbench.errors import MetricError, near_miss

WANG_2003 = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of the five scales, finest first. They sum to 1.0001, as they do in MONAI."""


def first_weights(scales: int) -> tuple[float, ...]:
    """Return the weights of the finest scales of Wang et al. over their sum; five at most.

    Raises
    ------
    MetricError
        There are no weights for so many scales.
    """
    if not 1 <= scales <= len(WANG_2003):
        raise MetricError(
            f"MS-SSIM: there are weights for 1 to {len(WANG_2003)} scales; found {scales}."
        )
    total = sum(WANG_2003[:scales])
    return tuple(weight / total for weight in WANG_2003[:scales])


@dataclass(frozen=True)
class Settings:
    """Every setting that can change an MS-SSIM value.

    Attributes
    ----------
    window
        Side of the Gaussian window, voxels.
    sigma
        Its standard deviation, voxels.
    weights
        Exponents of the scales, finest first, one per scale.
    k1, k2
        Stability constants of the luminance and the contrast term.
    data_range
        The intensities' range; volumes lie in [0, data_range].
    full_frame
        True where the mean is over the whole grid, without a mask.

    Raises
    ------
    MetricError
        A setting is outside its range.
    """

    window: int = 11
    sigma: float = 1.5
    weights: tuple[float, ...] = first_weights(3)
    k1: float = 0.01
    k2: float = 0.03
    data_range: float = 1.0
    full_frame: bool = False

    def __post_init__(self) -> None:
        if self.window < 2:
            raise MetricError(f"MS-SSIM: window must be at least 2 voxels; found {self.window}.")
        if not self.weights:
            raise MetricError("MS-SSIM: weights must hold at least one scale; found none.")
        positive = {
            "sigma": self.sigma,
            "k1": self.k1,
            "k2": self.k2,
            "data_range": self.data_range,
            "the smallest of weights": min(self.weights),
        }
        for name, value in positive.items():
            if not value > 0:
                raise MetricError(f"MS-SSIM: {name} must be above zero; found {value}.")

    @property
    def scales(self) -> int:
        """The number of scales."""
        return len(self.weights)


PRESETS: Mapping[str, Settings] = MappingProxyType(
    {
        "default": Settings(),
        "wang5": Settings(weights=WANG_2003),
        "monai-k4": Settings(window=4, weights=WANG_2003, full_frame=True),
    }
)
"""`default`: three scales with the first three weights over their sum, from 44 voxels per side.
`wang5`: the five scales of Wang et al. 2003, from 176 voxels per side. `monai-k4`: five scales
with a 4-voxel window over the full frame, as in MONAI's tutorials, from 64 voxels per side."""


def preset_settings(name: str) -> Settings:
    """Return the settings of a preset.

    Raises
    ------
    MetricError
        No preset has this name.
    """
    if name not in PRESETS:
        raise MetricError(f"MS-SSIM: no preset '{name}'; {near_miss(name, PRESETS)}")
    return PRESETS[name]


def smallest_side(scales: int, window: int) -> int:
    """Return the number of voxels per side that this many scales need.

    The coarsest grid must hold the window; MONAI also requires window x (scales - 1)^2 voxels.
    """
    return window * max(1 << (scales - 1), (scales - 1) ** 2)


def scales_that_fit(shape: tuple[int, ...], settings: Settings) -> int:
    """Return the largest number of scales that a grid of this shape allows with this window.

    >>> scales_that_fit((84, 128, 84), Settings())
    3
    """
    scales = 0
    while min(shape) >= smallest_side(scales + 1, settings.window):
        scales += 1
    return scales
