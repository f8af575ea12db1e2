"""Rules that bring intensities to [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32

from synthbench.errors import CohortError, UsageError, near_miss

INTENSITY_RULES = {
    "percentile": "on the common grid, divided by the 99.9th percentile of the foreground, "
    "clipped to [0, 1], and zero below 0.01 of it",
    "unit": "taken as it is; values outside [0, 1] are an error",
    "constant:SCALE:UNIT": "a quantitative map: divided by SCALE, one constant for the whole "
    "cohort, and zero below 0.01 of it; samples are written in UNIT",
}

Intensity: TypeAlias = str
"""An intensity rule: one of `INTENSITY_RULES`, such as "constant:0.003:mm2/s"."""

# What is darker than this share of the scale is background. Interpolation leaves a rim of tiny
# positive values around a brain, and generators leave faint noise behind it; extractors that
# standardise over "voxels above zero" would take both for tissue, on one side only.
BACKGROUND = 0.01

# Resampling by other programs leaves small negative values in a zero background. Up to this share
# of the 99.9th percentile they are set to zero; larger ones are no overshoot, but an error.
OVERSHOOT = 0.05


@dataclass(frozen=True)
class Quantity:
    """The quantity of a quantitative map: the value that becomes 1, and its unit."""

    scale: float
    unit: str


def quantity(rule: Intensity) -> Quantity | None:
    """Return the quantity of an intensity rule `constant:SCALE:UNIT`; None for the others.

    Raises
    ------
    UsageError
        There is no such rule, or SCALE is not a positive number.

    >>> quantity("constant:0.003:mm2/s")
    Quantity(scale=0.003, unit='mm2/s')
    """
    if rule in ("percentile", "unit"):
        return None
    name, *rest = rule.split(":")
    if name != "constant":
        raise UsageError(f"no intensity rule '{rule}': {near_miss(name, INTENSITY_RULES)}")
    try:
        scale, unit = rest
        number = float(scale)
    except ValueError:
        number, unit = float("nan"), ""
    if not (0 < number < float("inf") and unit.strip()):
        raise UsageError(
            f"intensity rule '{rule}': write it as constant:SCALE:UNIT, with the value that "
            "becomes 1 and its unit, for example constant:0.003:mm2/s for mean diffusivity."
        )
    return Quantity(number, unit.strip())


def intensity_words(rule: Intensity) -> str:
    """Return the description of a rule, as a protocol keeps it."""
    found = quantity(rule)
    if found is None:
        return INTENSITY_RULES[rule]
    return (
        f"divided by {found.scale:g} {found.unit}, a constant, clipped to [0, 1], and zero below "
        "0.01 of it"
    )


def range_refusal(low: float, high: float) -> str | None:
    """Return why a volume with these extremes breaks the rule 'unit'; None where it does not."""
    if low >= 0 and high <= 1:
        return None
    return (
        f"the intensity rule 'unit' needs values in [0, 1]; found {low:.4g} to {high:.4g}. "
        "Use --intensity percentile, or rescale the volume."
    )


def scale_refusal(brightest: float, declared: Quantity) -> str | None:
    """Return why a volume cannot be a map of the declared quantity; None where it can.

    Parameters
    ----------
    brightest
        The 99.9th percentile of its foreground.
    """
    scale, unit = declared.scale, declared.unit
    if BACKGROUND * scale < brightest <= scale:
        return None
    return (
        f"the 99.9th percentile of its foreground is {brightest:.4g}, which does not lie between "
        f"{BACKGROUND * scale:.4g} and {scale:.4g} {unit}. Is the volume in {unit}? If so, "
        f"declare a scale that holds all tissue: --intensity constant:{1.2 * brightest:.2g}:{unit}"
    )


def to_unit(
    volume: Float32[np.ndarray, "d h w"], rule: Intensity, name: str
) -> Float32[np.ndarray, "d h w"]:
    """Scale a volume's intensities to [0, 1] by the named rule (`INTENSITY_RULES`).

    Raises
    ------
    CohortError
        The volume has no voxel above zero, has negative values that are more than interpolation
        overshoot, or breaks the rule. `name` is the volume's name in the message.
    UsageError
        There is no such rule.
    """
    declared = quantity(rule)
    low, high = float(volume.min()), float(volume.max())
    if rule == "unit":
        if refusal := range_refusal(low, high):
            raise CohortError(f"{name}: {refusal}")
        return volume
    positive = volume[volume > 0]
    if positive.size == 0:
        raise CohortError(f"{name}: no voxel is above zero; found {low:.4g} to {high:.4g}.")
    # The percentile is taken twice. The first one counts the faint rim too, the second does not,
    # so a volume that is already scaled is not changed.
    rough = float(np.percentile(positive, 99.9))
    brightest = float(np.percentile(positive[positive >= BACKGROUND * rough], 99.9))
    scale = brightest if declared is None else declared.scale
    if declared is not None and (refusal := scale_refusal(brightest, declared)):
        raise CohortError(f"{name}: {refusal}")
    if low < -OVERSHOOT * brightest:
        raise CohortError(
            f"{name}: negative values down to {low:.4g}, with a 99.9th percentile of "
            f"{brightest:.4g}. Intensities must be non-negative with background zero: undo the "
            "centring (for example (x + 1) / 2 for volumes in [-1, 1]) before scoring."
        )
    with np.errstate(over="ignore"):  # of one voxel far above the scale
        scaled = np.clip(volume / np.float32(scale), 0, 1)
    return np.where(scaled < BACKGROUND, np.float32(0), scaled)
