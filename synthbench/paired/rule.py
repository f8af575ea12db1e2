"""The intensities of an image and its target: which values are compared, and inside what."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32
from scipy import ndimage

from synthbench.errors import MetricError, UsageError

NEGATIVE = 0.05
"""A target without a declared range may have negative values down to this share of its scale:
interpolation overshoots."""

BACKGROUND = 0.01
"""A voxel is background where it differs by at most this share of the range from the background's
value."""


@dataclass(frozen=True)
class IntensityRange:
    """A declared range of intensities, as in -1000:2000:HU. Both images are clipped to it.

    Attributes
    ----------
    low, high
        The ends, in the unit.
    unit
        Of the intensities and of the MAE.
    """

    low: float
    high: float
    unit: str

    @classmethod
    def parse(cls, text: str) -> IntensityRange:
        """Return the range that LOW:HIGH or LOW:HIGH:UNIT states.

        Raises
        ------
        UsageError
            It is not of this form, or LOW is not below HIGH.

        >>> IntensityRange.parse("-1000:2000:HU")
        IntensityRange(low=-1000.0, high=2000.0, unit='HU')
        """
        low, _, rest = text.partition(":")
        high, _, unit = rest.partition(":")
        try:
            ends = float(low), float(high)
        except ValueError:
            ends = (np.nan, np.nan)
        if not -np.inf < ends[0] < ends[1] < np.inf:
            raise UsageError(
                f"--range {text}: write it as LOW:HIGH:UNIT with LOW below HIGH, for example "
                "-1000:2000:HU for CT or -0.5:0.5:fraction for a map of differences."
            )
        return cls(*ends, unit.strip() or "as in the files")


@dataclass(frozen=True)
class Comparable:
    """A pair that is ready for the measures.

    Attributes
    ----------
    image, target
        From zero to `data_range`: the smallest possible value is subtracted.
    mask
        The voxels of the target that are not background.
    data_range
        In the unit of the intensities.
    clipped
        The share of the image's voxels inside the mask that were outside the range.
    """

    image: Float32[np.ndarray, "d h w"]
    target: Float32[np.ndarray, "d h w"]
    mask: Bool[np.ndarray, "d h w"]
    data_range: float
    clipped: float


def comparable(
    image: Float32[np.ndarray, "d h w"],
    target: Float32[np.ndarray, "d h w"],
    declared: IntensityRange | None,
) -> Comparable:
    """Return a pair with intensities that can be compared, by the rule that is declared.

    Without a declared range, both are divided by one number, the 99.9th percentile of the target's
    foreground. An image that is too bright is then an error of the image: no scale of its own
    removes it. With a range, both are clipped to it and stay in its unit.

    Raises
    ------
    MetricError
        The target is blank or, without a declared range, has negative values.
    """
    if declared is None:
        positive = target[target > 0]
        if positive.size == 0:
            raise MetricError("the target has no voxel above zero.", "blank volume")
        scale = float(np.percentile(positive, 99.9))
        low = float(target.min())
        if low < -NEGATIVE * scale:
            raise MetricError(
                f"the target has negative values down to {low:.4g}. Declare the range of signed "
                "intensities: --range LOW:HIGH:UNIT, as -1000:2000:HU.",
                "intensities",
            )
        x, y, size, clipped = image / scale, target / scale, 1.0, 0.0
        inside = _not_background(y, size)
    else:
        size = declared.high - declared.low
        inside = _not_background(np.clip(target, declared.low, declared.high), size)
        outside = (image < declared.low) | (image > declared.high)
        clipped = float(outside[inside].mean()) if inside.any() else 0.0
        x, y = (np.clip(v, declared.low, declared.high) - declared.low for v in (image, target))
    if not inside.any():
        raise MetricError("the target is all background: no voxel differs.", "blank volume")
    return Comparable(
        np.asarray(x, dtype=np.float32), np.asarray(y, dtype=np.float32), inside, size, clipped
    )


def _not_background(target: Float32[np.ndarray, "d h w"], size: float) -> Bool[np.ndarray, "d h w"]:
    """The voxels that differ from the median of the grid's faces, with what they enclose."""
    faces = [np.take(target, [0, -1], axis=axis).ravel() for axis in range(3)]
    background = float(np.median(np.concatenate(faces)))
    return np.asarray(ndimage.binary_fill_holes(np.abs(target - background) > BACKGROUND * size))
