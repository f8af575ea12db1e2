"""A small study: cohorts of small ellipsoids, drawn once per module."""

from __future__ import annotations

import numpy as np

from synthbench.cohorts.reading import read_cohort
from synthbench.readers.build import Cohorts, Making, build
from synthbench.readers.design import Settings

SHAPE = (10, 12, 9)


def arrays(n, seed):
    """Return `n` volumes of noise in an ellipsoid."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, s) for s in SHAPE), indexing="ij")
    inside = sum(a**2 for a in axes) < 0.8
    return [np.where(inside, rng.uniform(0.2, 1, SHAPE), 0).astype(np.float32) for _ in range(n)]


def cohorts(real=20, first=6, second=6, memorizer=0):
    """Return the cohorts of a study."""

    def read(n, seed):
        return read_cohort(arrays(n, seed), assume_grid=4.0)

    return Cohorts(
        read(real, 1),
        {"alpha": read(first, 2), "beta": read(second, 3)},
        read(memorizer, 4) if memorizer else None,
    )


def study(folder, design="both", readers=3, seed=7, **settings):
    """Write a small study and return its plan."""
    chosen = Settings(design=design, readers=readers, **{"controls": 2, "practice": 1, **settings})
    return build(folder, cohorts(), Making(chosen, seed))
