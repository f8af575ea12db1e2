"""
A generator of your own
=======================

A generator fits on a cohort and draws each volume from a seed. It needs no base class. This one
hands out the mean of the training volumes with a random brightness.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import synthbench
from synthbench.generators.generator import Settings, one_step, refuse_init
from synthbench.simulation.cohort import atlas_cohort
from synthbench.testing import check_generator


class BrightnessSettings(Settings):
    """What can be set: seed, space, and the spread of the brightness."""

    spread: float = 0.1


class MeanBrain:
    """The mean brain, brighter or darker."""

    name = "mean-brain"
    summary = "the mean of the training volumes with a random brightness"
    needs = "nothing; fits in seconds"
    settings = BrightnessSettings

    def fit(self, volumes, settings, run, *, resume=False, init=None, progress=None) -> None:
        refuse_init(self.name, init)
        total = np.zeros(run.space.shape)
        for done, volume in enumerate(volumes, 1):
            total += volume
            if progress:
                progress(done, len(volumes), "")
        run.save_weights({"mean": total / len(volumes), "spread": np.array([settings.spread])})

    def sampling(self, run, sampler, steps) -> dict[str, Any]:
        return one_step(self.name, sampler, steps)

    def sample(
        self, run, seeds: Sequence[int], *, sampler=None, steps=None
    ) -> Iterator[np.ndarray]:
        self.sampling(run, sampler, steps)
        weights = run.load_weights()
        mean, (spread,) = weights.array("mean", *run.space.shape), weights.array("spread", 1)
        for seed in seeds:
            factor = 1 + spread * np.random.default_rng(seed).normal()
            yield np.clip(mean * factor, 0, 1).astype(np.float32)


# %%
# The check trains it on some volumes and tries what `train`, `sample` and `score` rely on: each
# volume depends on its seed alone, values lie in [0, 1], a second process draws the same, and more.
# It raises where something is wrong.
work = Path(tempfile.mkdtemp())
atlas_cohort(4, work / "training", shape=(24, 28, 24))
volumes = synthbench.read_cohort(work / "training").volumes()
(work / "run").mkdir()
check_generator(MeanBrain(), volumes, work / "run")

# %%
# An entry point makes it known to `synthbench train mean-brain` (docs/plugins.md):
#
# .. code-block:: toml
#
#     [project.entry-points."synthbench.generators"]
#     mean-brain = "my_package:MeanBrain"
