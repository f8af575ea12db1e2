"""Covariates as one label: the class that the adaptive norm of the transformer gets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from synthbench.cohorts.conditions import Condition, Conditions, Row
from synthbench.errors import RunError, UsageError
from synthbench.generators.tiles.settings import DiTTilesSettings
from synthbench.runs.folder import Run


@dataclass(frozen=True)
class Labels:
    """The labels of rows of covariates.

    A word is one of its levels, a number one of `bins` intervals with equally many training rows.
    All covariates together are one label: the number of their combination. A row that lacks one of
    them has no label.

    Attributes
    ----------
    conditions
        Conditions of the run.
    bins
        Intervals of a number.
    none
        The label of no label: the last row of the table.
    """

    conditions: Conditions
    bins: int
    none: int

    @property
    def width(self) -> int:
        """Labels per volume: 1, or 0 without conditions."""
        return int(bool(self.conditions.names))

    @property
    def count(self) -> int:
        """The number of different labels."""
        return math.prod(len(c.levels) or self.bins for c in self.conditions.conditions)

    def of(self, row: Row) -> int:
        """Return the label of one row in natural units.

        Raises
        ------
        UsageError
            A value is not a finite number, or not a level of the training split.
        """
        label, known = 0, True
        for condition in self.conditions.conditions:
            place, count = self._place(condition, condition.value(row.get(condition.name)))
            known = known and place is not None
            label = label * count + (place or 0)
        return label if known else self.none

    def _place(self, condition: Condition, value: float | str | None) -> tuple[int | None, int]:
        """Return the place of a value among the levels or intervals, and their number."""
        count = len(condition.levels) or self.bins
        if value is None:
            return None, count
        if isinstance(value, str):
            return condition.levels.index(value), count
        edges = [condition.quantile(k / self.bins) for k in range(1, self.bins)]
        return int(np.searchsorted(edges, value, side="right")), count

    def rows(self, rows: Sequence[Row] | None, n: int) -> Float32[np.ndarray, "n k"]:
        """Return the labels of n volumes, one per row; no column without conditions.

        They are whole numbers, stored as the loop's other tensors.

        Raises
        ------
        UsageError
            The number of rows is not n, or a row names another condition.
        """
        if not self.width:
            return np.zeros((n, 0), np.float32)
        if rows is None or len(rows) != n:
            raise UsageError(
                f"dit-tiles: conditions: one row per volume is needed; found "
                f"{0 if rows is None else len(rows)} rows for {n} volumes."
            )
        self.conditions.encode(rows)  # raises for names that are no conditions
        return np.array([[self.of(row)] for row in rows], np.float32)


def labels_of(settings: DiTTilesSettings, run: Run) -> Labels:
    """Return the labels of a run's conditions.

    Raises
    ------
    RunError
        The conditions of the run's record are not those of the settings.
    UsageError
        There are more labels than the network has classes.
    """
    conditions = Conditions.of_run(run.record)
    if conditions.names != settings.conditions:
        raise RunError(
            f"{run.folder}: its record holds the conditions {list(conditions.names)}, its "
            f"configuration {list(settings.conditions)}. Train it with synthbench.train, which "
            "writes both."
        )
    labels = Labels(conditions, settings.bins, settings.classes)
    if labels.count > settings.classes:
        raise UsageError(
            f"conditions: {', '.join(conditions.names)} make {labels.count} labels, and the "
            f"network has {settings.classes} classes. Name fewer conditions, or set fewer bins "
            "(bins=2) or more classes."
        )
    return labels
