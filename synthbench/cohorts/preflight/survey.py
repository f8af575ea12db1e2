"""Comparison of the volumes of one set with each other and with MNI152."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float32, Float64

from synthbench.cohorts.cohort import Entry
from synthbench.cohorts.inspection import Inspection, Placement
from synthbench.cohorts.preflight import alignment
from synthbench.cohorts.preflight.copies import Copies, mean_of
from synthbench.errors import CohortError
from synthbench.volumes.grid import Space

MIN_COMPARED = 8
"""The fewest volumes that are compared with each other: the median of fewer says little."""

MIN_TURN_GAIN = 0.02
"""The least gain in correlation of a turned volume that fits better; real brains lose 0.04."""

MIN_TURN_AGREEMENT = 0.8
"""The least correlation of a turned volume; registered real brains reach 0.96."""

FLIP_DEVIATIONS = 5.0
"""Robust deviations by which a mirrored volume's asymmetry is at least below the median."""

LEAST_ASYMMETRY_SPREAD = 0.05
"""The least standard deviation of scores: a few volumes may agree by chance."""


@dataclass(frozen=True)
class Power:
    """The power to distinguish left from right in a cohort.

    Attributes
    ----------
    median, deviation
        Median and robust deviation of the volumes' asymmetry scores
        (`synthbench.cohorts.preflight.alignment.asymmetry_scores`). A mirrored volume has the same
        score with the opposite sign.
    """

    median: float
    deviation: float

    @property
    def separation(self) -> float:
        """Distance between volumes as they are and mirrored ones, in standard deviations."""
        return 2 * self.median / max(self.deviation, LEAST_ASYMMETRY_SPREAD)

    @property
    def sees_flips(self) -> bool:
        """True where a mirrored volume is found with at least 95% probability (normal scores)."""
        return self.separation >= FLIP_DEVIATIONS + 1.645


class Survey:
    """Measurements of a set and of its volumes' positions; computed when they are needed.

    Attributes
    ----------
    entries, names, inspections
        The volumes, their names and their measurements, in the given order.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = tuple(entries)
        self.names = [entry.name for entry in entries]
        self.inspections = [inspection_of(entry) for entry in entries]

    @property
    def subjects(self) -> int:
        """The number of persons."""
        return len({entry.subject for entry in self.entries})

    @cached_property
    def placements(self) -> list[Placement]:
        """The place of each volume relative to MNI152."""
        return [inspection.placement for inspection in self.inspections]

    @property
    def coarse_grid(self) -> Space:
        """The grid of the coarse copies."""
        return self.inspections[0].coarse_grid

    @property
    def comparable(self) -> bool:
        """True where there are enough volumes, on one grid with enough cells, to compare them."""
        return len(self.names) >= MIN_COMPARED and self.on_one_grid

    @cached_property
    def on_one_grid(self) -> bool:
        """True where all volumes share one grid with enough cells."""
        if min(self.coarse_grid.shape) < 4:
            return False
        grid = self.inspections[0].grid
        return all(inspection.grid.same_grid(grid) for inspection in self.inspections)

    @property
    def copies(self) -> Copies:
        """The coarse copies, each read when it is used."""
        return Copies(self.inspections)

    @cached_property
    def turns(self) -> list[alignment.Turn]:
        """The turn of each volume after which it fits the others."""
        return alignment.best_turns(self.copies, MIN_TURN_GAIN, MIN_TURN_AGREEMENT)

    @property
    def upright(self) -> Copies:
        """The coarse copies after these turns."""
        return Copies(self.inspections, self.turns)

    @cached_property
    def asymmetry(self) -> Float64[np.ndarray, " n"]:
        """The left-right asymmetry score of each volume, in [-1, 1]."""
        return alignment.asymmetry_scores(self.upright)

    @cached_property
    def power(self) -> Power:
        """How well a mirrored volume can be found."""
        return Power(*alignment.spread(self.asymmetry))

    @cached_property
    def displaced(self) -> Float64[np.ndarray, "n 3"]:
        """The displacement of each volume from the mean of the others, in mm."""
        return alignment.displacements(self.upright, self.coarse_grid.spacing)

    @cached_property
    def mean(self) -> Float32[np.ndarray, "a b c"]:
        """The mean of the coarse copies."""
        return mean_of(self.copies)

    @cached_property
    def occupied(self) -> Float32[np.ndarray, "a b c"]:
        """The mean over volumes of the share of each cell's voxels that are foreground."""
        return mean_of(inspection.occupied for inspection in self.inspections)

    def most(self, property_of: Callable[[Placement], bool | None]) -> bool | None:
        """Return the property of most volumes; None where it is not known for most."""
        known = [value for p in self.placements if (value := property_of(p)) is not None]
        if 2 * len(known) < len(self.names):
            return None
        return 2 * sum(known) >= len(known)


def inspection_of(entry: Entry) -> Inspection:
    """Return the measurements of a volume.

    Raises
    ------
    CohortError
        It has none: the entry was not made by `read_cohort`.
    """
    if entry.inspection is None:
        raise CohortError(
            f"{entry.name}: it has no measurements. Read the cohort with read_cohort."
        )
    return entry.inspection
