"""Small subjects for the tests of the simulation."""

from __future__ import annotations

from dataclasses import replace

from synthbench.simulation import subject as subject_module

SHAPE = (32, 40, 32)
FINER_SHAPE = (64, 76, 64)
TINY = (24, 28, 24)


def rendered(shape: tuple[int, int, int] = SHAPE, **traits: object) -> subject_module.Subject:
    """Subject 1 of seed 3 with some traits replaced: another life of the same person."""
    changed = replace(subject_module._draw_traits(3, 1), **traits)  # type: ignore[arg-type]
    return subject_module._render(changed, 3, 1, shape)
