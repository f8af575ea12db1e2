"""The measurement of each volume of a sweep."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from synthbench import registry
from synthbench.cohorts.conditions import Condition
from synthbench.errors import UsageError, near_miss
from synthbench.sampling.sweep_record import Axis, Measure, Read
from synthbench.volumes.grid import Space, resample

# Wider than the factor for measurements of the same volumes: here the training median is compared
# with a value that is typical of people in general.
_SAME_UNIT_WITHIN = 8.0


def default_measure(axes: Sequence[Axis]) -> Measure | None:
    """Return the measure of `anatomy` for the first varied condition that has one, or None."""
    from synthbench.metrics.extractors.anatomy import MEASURES

    names = [axis.name for axis in axes if axis.name in MEASURES]
    return measure_of(f"anatomy:{names[0]}", axes) if names else None


def measure_of(text: str, axes: Sequence[Axis]) -> Measure:
    """Return the measure of `EXTRACTOR:FEATURE`: of `anatomy` by name, of others by index.

    A volume of `anatomy` is in mL. If a varied condition has the same name, it is in the unit of
    that condition, mL or mm3: the size of the training median tells which.

    Raises
    ------
    UsageError
        There is no such extractor or feature.
    """
    from synthbench.metrics.extractors.anatomy import MEASURES, TYPICAL_ML, volumes_of
    from synthbench.scoring.condition_measures import VOLUME_UNITS

    extractor, _, feature = text.rpartition(":")
    if not extractor:
        raise UsageError(
            f"--measure {text}: write EXTRACTOR:FEATURE, for example "
            "anatomy:ventricle_volume or random-resnet10:3."
        )
    if extractor != "anatomy":
        return Measure(text, "", None, _feature(extractor, feature))
    if feature not in MEASURES:
        raise UsageError(
            f"--measure {text}: anatomy has no measure '{feature}': {near_miss(feature, MEASURES)}"
        )
    typical = TYPICAL_ML[MEASURES.index(feature)]
    same = next((a.condition for a in axes if a.name == feature), None)
    factor = None if same is None else _unit_factor(same, typical)
    per_millilitre = factor or 1.0

    def read(volume: Float32[np.ndarray, "d h w"], space: Space) -> float:
        return per_millilitre * volumes_of(volume, space)[feature]

    return Measure(text, VOLUME_UNITS[per_millilitre], feature if factor else None, read)


def _unit_factor(condition: Condition, typical_ml: float) -> float | None:
    """Return the factor from mL to the unit of a condition's training median, or None.

    None: the median is not the size of such a volume in any known unit.
    """
    from synthbench.scoring.condition_measures import VOLUME_UNITS, unit_factor

    median = condition.typical()
    if not isinstance(median, float) or typical_ml <= 0:
        return None
    return unit_factor(median / typical_ml, _SAME_UNIT_WITHIN, VOLUME_UNITS)


def _feature(extractor: str, feature: str) -> Read:
    plugin = registry.load("extractors", extractor)()
    if not (feature.isdigit() and int(feature) < plugin.dim):
        raise UsageError(
            f"--measure {extractor}:{feature}: the features of {extractor} are numbered from 0 to "
            f"{plugin.dim - 1}. Name one of them."
        )

    def read(volume: Float32[np.ndarray, "d h w"], space: Space) -> float:
        import torch

        shown = resample(volume, space, plugin.space or space)
        features = plugin.features(torch.from_numpy(np.ascontiguousarray(shown))[None, None])
        return float(features[0, int(feature)])

    return read
