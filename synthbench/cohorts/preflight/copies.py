"""The coarse copies of a set, one at a time: together they may not fit into memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Float32, Float64

from synthbench.cohorts.inspection import Inspection
from synthbench.cohorts.preflight.alignment import Turn


class Copies:
    """The coarse copies of volumes in float32, each read when it is asked for.

    Parameters
    ----------
    inspections
        The measurements of the volumes.
    turns
        The turn of each volume; None: as they are.
    """

    def __init__(
        self, inspections: Sequence[Inspection], turns: Sequence[Turn] | None = None
    ) -> None:
        self.inspections, self.turns = inspections, turns

    def __len__(self) -> int:
        return len(self.inspections)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> np.ndarray:
        """Return one copy."""
        copy = self.inspections[index].coarse.astype(np.float32)
        return copy if self.turns is None else self.turns[index](copy)


def mean_of(volumes: Iterable[np.ndarray]) -> Float32[np.ndarray, "a b c"]:
    """Return the mean of volumes, which are summed in float64, one after the other.

    >>> mean_of([np.zeros((1, 1, 1)), np.ones((1, 1, 1))]).item()
    0.5
    """
    total: Float64[np.ndarray, "a b c"] | None = None
    n = 0
    for n, volume in enumerate(volumes, 1):  # noqa: B007 - the number is used below
        if total is None:
            total = np.zeros(volume.shape)
        total += volume
    if total is None:
        raise ValueError("there are no volumes")
    return (total / n).astype(np.float32)
