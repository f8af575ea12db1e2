"""How the volumes of one set lie to each other and to MNI152, from what was measured of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float32, Float64

from synthbench.cohorts.cohort import Entry
from synthbench.cohorts.inspection import Inspection, Placement
from synthbench.cohorts.preflight import alignment
from synthbench.errors import CohortError
from synthbench.volumes.grid import Space

MIN_COMPARED = 8
"""Volumes from which a set is its own yardstick: a median and a spread of fewer say little."""

MIN_TURN_GAIN = 0.02
"""Gain in correlation from which a turned volume fits better; real brains lie below -0.04."""

MIN_TURN_AGREEMENT = 0.8
"""Correlation that a turned volume must reach; registered real brains reach 0.96."""

FLIP_DEVIATIONS = 5.0
"""Robust deviations below the others' asymmetry from which a volume is mirrored left-right."""

LEAST_ASYMMETRY_SPREAD = 0.05
"""A standard deviation of scores that is assumed at least: a few volumes may agree by chance."""


@dataclass(frozen=True)
class Power:
    """What can be told of left and right in a cohort.

    Attributes
    ----------
    median, deviation
        Of the volumes' asymmetry scores
        (`synthbench.cohorts.preflight.alignment.asymmetry_scores`); a mirrored volume lies as far
        below zero as its like lies above.
    """

    median: float
    deviation: float

    @property
    def separation(self) -> float:
        """Standard deviations between volumes as they are and mirrored ones."""
        return 2 * self.median / max(self.deviation, LEAST_ASYMMETRY_SPREAD)

    @property
    def sees_flips(self) -> bool:
        """Whether a mirrored volume is found with a probability of 95% or more (normal scores)."""
        return self.separation >= FLIP_DEVIATIONS + 1.645


class Survey:
    """Measurements of a set, and how its volumes lie to each other; computed when asked for.

    Attributes
    ----------
    entries, names, inspections
        Of the volumes, in the order that they were given in.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = tuple(entries)
        self.names = [entry.name for entry in entries]
        self.inspections = [inspection_of(entry) for entry in entries]

    @property
    def subjects(self) -> int:
        """How many persons the volumes are of."""
        return len({entry.subject for entry in self.entries})

    @cached_property
    def placements(self) -> list[Placement]:
        return [inspection.placement for inspection in self.inspections]

    @property
    def coarse_grid(self) -> Space:
        return self.inspections[0].coarse_grid

    @property
    def comparable(self) -> bool:
        """Whether there are enough volumes, on one grid of enough cells, to compare them."""
        if len(self.names) < MIN_COMPARED or min(self.coarse_grid.shape) < 4:
            return False
        grid = self.inspections[0].grid
        return all(inspection.grid.same_grid(grid) for inspection in self.inspections)

    @cached_property
    def stack(self) -> Float32[np.ndarray, "n a b c"]:
        return np.stack([i.coarse for i in self.inspections]).astype(np.float32)

    @cached_property
    def turns(self) -> list[alignment.Turn]:
        """For each volume, the turn with which it fits the others."""
        return alignment.best_turns(self.stack, MIN_TURN_GAIN, MIN_TURN_AGREEMENT)

    @cached_property
    def upright(self) -> Float32[np.ndarray, "n a b c"]:
        """The volumes with those turns made."""
        return np.stack([turn(v) for turn, v in zip(self.turns, self.stack, strict=True)])

    @cached_property
    def asymmetry(self) -> Float64[np.ndarray, " n"]:
        return alignment.asymmetry_scores(self.upright)

    @cached_property
    def power(self) -> Power:
        return Power(*alignment.spread(self.asymmetry))

    @cached_property
    def displaced(self) -> Float64[np.ndarray, "n 3"]:
        return alignment.displacements(self.upright, self.coarse_grid.spacing)

    @cached_property
    def mean(self) -> Float32[np.ndarray, "a b c"]:
        mean: Float32[np.ndarray, "a b c"] = self.stack.mean(axis=0)
        return mean

    def most(self, property_of: Callable[[Placement], bool | None]) -> bool | None:
        """What most of the volumes are that can be told; None where most cannot."""
        known = [value for p in self.placements if (value := property_of(p)) is not None]
        if 2 * len(known) < len(self.names):
            return None
        return 2 * sum(known) >= len(known)


def inspection_of(entry: Entry) -> Inspection:
    """Return what was measured of a volume.

    Raises
    ------
    CohortError
        Nothing was: the entry was not made by `read_cohort`.
    """
    if entry.inspection is None:
        raise CohortError(
            f"{entry.name}: nothing was measured of it. Read the cohort with read_cohort."
        )
    return entry.inspection
