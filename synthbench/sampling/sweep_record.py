"""The record of a sweep: axes, points, measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from synthbench.cohorts.conditions import MISSING, Condition, Row
from synthbench.volumes.grid import Space

if TYPE_CHECKING:
    from synthbench.render.terminal import Table


Read = Callable[[Float32[np.ndarray, "d h w"], Space], float]


@dataclass(frozen=True)
class Axis:
    """The values that a condition takes along one direction of a sweep.

    Attributes
    ----------
    condition
        The varied condition.
    values
        Its values, in natural units.
    """

    condition: Condition
    values: tuple[float | str, ...]

    @property
    def name(self) -> str:
        """The condition's name."""
        return self.condition.name

    def scaled(self, value: float | str) -> float | None:
        """Return a value on the scale from 0 to 1 over the training range; None for a level."""
        return self.condition.scaled(value) if isinstance(value, float) else None

    def beyond(self, value: float | str) -> bool:
        """Return True where a value lies outside the training range."""
        scaled = self.scaled(value)
        return scaled is not None and not 0 <= scaled <= 1


@dataclass(frozen=True)
class Measure:
    """One number that is measured of each volume.

    Attributes
    ----------
    name
        `EXTRACTOR:FEATURE`.
    unit
        Unit of the number; empty for a feature without a unit.
    of
        The condition that the number should equal, because both are the same quantity in the same
        unit; None: no condition.
    read
        Returns the number for a volume in [0, 1].
    """

    name: str
    unit: str
    of: str | None
    read: Read

    @property
    def label(self) -> str:
        """The name and the unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


@dataclass(frozen=True)
class Point:
    """One volume of a sweep.

    Attributes
    ----------
    file, seed, row
        Its file, its seed and its conditions.
    extrapolated
        Names of the conditions whose value lies outside the training range.
    measured
        The measurement; None where there is none.
    """

    file: Path
    seed: int
    row: Row
    extrapolated: tuple[str, ...]
    measured: float | None = None


@dataclass(frozen=True)
class Sweep:
    """The volumes of a sweep, and their measurements.

    Attributes
    ----------
    generator
        Name of the generator.
    axes
        The varied conditions: one axis, or two.
    fixed
        Values of the other conditions.
    seeds
        The noise seeds.
    measure
        The measure, or None.
    points
        The volumes, ordered by seed, then by the second axis, then by the first.
    written
        Files of the pictures and the table.
    """

    generator: str
    axes: tuple[Axis, ...]
    fixed: Row
    seeds: tuple[int, ...]
    measure: Measure | None
    points: tuple[Point, ...]
    written: tuple[Path, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the sweep as JSON values."""
        return {
            "generator": self.generator,
            "vary": {axis.name: list(axis.values) for axis in self.axes},
            "scaled": {axis.name: [axis.scaled(v) for v in axis.values] for axis in self.axes},
            "fix": dict(self.fixed),
            "seeds": list(self.seeds),
            "measure": None if self.measure is None else self.measure.name,
            "unit": None if self.measure is None else self.measure.unit or None,
            "points": [
                {
                    "file": str(point.file),
                    "seed": point.seed,
                    "conditions": dict(point.row),
                    "extrapolated": list(point.extrapolated),
                    "measured": point.measured,
                }
                for point in self.points
            ],
            "written": [str(file) for file in self.written],
        }

    def table(self) -> Table:
        """Return the points as a table for a terminal; extrapolated points are marked."""
        from synthbench.render.terminal import Table

        titles = ["seed"]
        for axis in self.axes:
            numeric = axis.condition.kind == "numeric"
            titles += [axis.name, "scaled"] if numeric else [axis.name]
        titles += [self.measure.label] if self.measure else []
        table = Table(*titles, "")
        for point in self.points:
            cells = [str(point.seed)]
            for axis in self.axes:
                value = varied(point, axis)
                scaled = axis.scaled(value)
                cells += [short(value)] + ([] if scaled is None else [f"{scaled:.3g}"])
            cells += [short(point.measured)] if self.measure else []
            table.add_row(*cells, "extrapolated" if point.extrapolated else "")
        return table


def varied(point: Point, axis: Axis) -> float | str:
    """Return the value of a point along an axis."""
    value = point.row[axis.name]
    assert value is not None
    return value


def short(value: float | str | None) -> str:
    """Return a value as a label: four digits with commas at thousands, or the level.

    >>> short(17784.3), short(61.0), short("F"), short(None)
    ('17,780', '61', 'F', 'n/a')
    """
    if value is None:
        return MISSING
    if isinstance(value, str):
        return value
    rounded = float(f"{value:.4g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 1000 else f"{rounded:g}"
