"""Sums over pairs of large sets in sections, which can be kept, continued and divided among jobs.

The tiles of a matrix over pairs are divided into `SECTIONS` sections. Each section has a sum of its
own, and these are added in order. So the result is the same to the bit whether one process computes
all sections, goes on where it was stopped, or several jobs compute some sections each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from typing import Protocol, TypeVar

import numpy as np

from synthbench.errors import SynthbenchError
from synthbench.metrics.inference.tiles import TILE_NUMBERS, digest

SECTIONS = 16
"""How many sections a pass over all pairs has."""

Sums = Mapping[str, np.ndarray]
"""What a section gives, by name."""

Task = TypeVar("Task")


class Keeper(Protocol):
    """Where the sums of sections are kept."""

    def has(self, key: str, section: int) -> bool:
        """Return whether the sums of a section are kept."""
        ...

    def find(self, key: str, section: int) -> Sums:
        """Return the sums of a section that are kept."""
        ...

    def computes(self, section: int) -> bool:
        """Return whether this process computes a section that is not kept."""
        ...

    def keep(self, key: str, section: int, sums: Sums) -> None:
        """Keep the sums of a section."""
        ...


class Unfinished(SynthbenchError):
    """Sections of a pass are not kept, and this process does not compute them."""


_keeper: ContextVar[Keeper | None] = ContextVar("keeper", default=None)


@contextmanager
def kept_by(keeper: Keeper | None) -> Iterator[None]:
    """Context manager: passes over pairs keep the sums of their sections there."""
    token = _keeper.set(keeper)
    try:
        yield
    finally:
        _keeper.reset(token)


def in_sections(
    what: str,
    depends_on: Callable[[], Sequence[np.ndarray | str | float | bytes | None]],
    tasks: Sequence[Task],
    compute: Callable[[Sequence[Task]], Sums],
) -> Iterator[Sums]:
    """Yield the sums of each section of a pass, in order.

    Parameters
    ----------
    what
        Names the pass: part of its key.
    depends_on
        Returns all that the sums depend on; called where they are kept only.
    tasks
        The tiles, or ranges of rows.
    compute
        Returns the sums of some of them.

    Raises
    ------
    Unfinished
        Sections are missing that other jobs compute.
    """
    bounds = np.linspace(0, len(tasks), min(SECTIONS, len(tasks)) + 1).astype(int)
    sections = [tasks[start:stop] for start, stop in pairwise(bounds)]
    keeper = _keeper.get()
    if keeper is None:
        yield from map(compute, sections)
        return
    # Another version may divide the pairs in another way.
    divided = (SECTIONS, TILE_NUMBERS, len(tasks))
    key = f"{what}-{digest(what, *divided, *depends_on()).hex()}"
    missing = []
    for number, section in enumerate(sections):
        if keeper.has(key, number):
            continue
        if keeper.computes(number):
            keeper.keep(key, number, compute(section))
        else:
            missing.append(f"{number + 1}/{len(sections)}")
    if missing:
        raise Unfinished(
            f"{len(missing)} of {len(sections)} sections of a pass over pairs ({what}) are "
            f"missing: {', '.join(missing)}. Repeat the commands of the jobs that compute them: "
            "synthbench score --pairs DIR --shard I/N"
        )
    for number in range(len(sections)):
        yield keeper.find(key, number)
