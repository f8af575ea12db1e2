"""A conditional generator whose truth is known: a bright ball with a dark ball in it.

The volume of the dark ball is the condition `ventricle_volume`, in mm³, to within a voxel's
rounding; `sex` sets the size of the bright one; the seed moves the noise alone. What is missing
is 4000 mm³ and the size between both sexes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from synthbench.cohorts.conditions import Conditions, Row
from synthbench.generators.generator import Settings, one_step
from synthbench.runs.folder import Run

SHAPE, SPACING = (24, 26, 24), 4.0
BRIGHT, DARK = 0.7, 0.2
RADII: Mapping[object, float] = {"F": 36.0, "M": 42.0, None: 39.0}
UNKNOWN = 4000.0


class Ellipsoids:
    """Nothing is fitted: the run's record holds the conditions."""

    name = "ellipsoids"
    summary = "a dark ball in a bright one, for tests of conditions"
    needs = "nothing"
    settings = Settings

    def fit(self, volumes, settings, run, *, progress=None, conditions=None, **options):
        run.save_weights({"none": np.zeros(1)})

    def sampling(self, run: Run, sampler: str | None, steps: int | None) -> dict[str, str | int]:
        return one_step(self.name, sampler, steps)

    def sample(
        self,
        run: Run,
        seeds: Sequence[int],
        *,
        sampler: str | None = None,
        steps: int | None = None,
        conditions: Sequence[Row] | None = None,
    ) -> Iterator[np.ndarray]:
        for seed, row in zip(seeds, conditions or [{} for _ in seeds], strict=True):
            yield ball(seed, row)


class Dark:
    """An extractor of one feature: the volume of all dark voxels inside, in mm³."""

    name, dim, weights_sha256, space = "dark", 1, None, None
    preprocessing, layer, summary, needs = "none", "voxels", "dark volume", "nothing"

    def features(self, volumes):
        dark = (volumes > 0.1) & (volumes < 0.45)
        return dark.sum(dim=(1, 2, 3, 4)).float()[:, None] * SPACING**3


def ball(seed: int, row: Row) -> np.ndarray:
    """The volume of a seed and a row of conditions."""
    axes = [SPACING * (np.arange(n) - (n - 1) / 2) for n in SHAPE]
    radius = np.sqrt(sum(a**2 for a in np.meshgrid(*axes, indexing="ij")))
    wanted = row.get("ventricle_volume")
    millimetres = UNKNOWN if wanted is None else float(wanted)
    noise = 0.02 * np.random.default_rng(seed).standard_normal(SHAPE)
    volume = np.where(radius < RADII[row.get("sex")], BRIGHT + noise, 0.0)
    # The darkest voxels first, so that their number is the volume asked for.
    count = round(max(millimetres, 0.0) / SPACING**3)
    nearest = np.argsort(radius, axis=None, kind="stable")[:count]
    volume.ravel()[nearest] = DARK + noise.ravel()[nearest]
    return volume.astype(np.float32)


def training_rows(n: int = 40) -> list[Row]:
    """Rows with ventricle volumes of 1000 to 9000 mm³ at equal steps, and both sexes in turn."""
    volumes = np.linspace(1000, 9000, n)
    return [{"ventricle_volume": float(v), "sex": "FM"[i % 2]} for i, v in enumerate(volumes)]


def make_run(folder: Path, names: Sequence[str] = ("ventricle_volume", "sex")) -> Run:
    """A finished run that is conditioned on these covariates."""
    folder.mkdir(parents=True)
    run = Run(folder)
    run.write_config({"generator": "ellipsoids", "seed": 0})
    affine = np.diag([SPACING, SPACING, SPACING, 1.0])
    affine[:3, 3] = -SPACING * (np.array(SHAPE) - 1) / 2
    fitted = Conditions.fit(training_rows(), names)
    run.update(
        generator="ellipsoids",
        finished=True,
        cohort={"fingerprint": "ab" * 32, "n": 40, "subjects": 40, "embedded": True},
        space={"shape": SHAPE, "affine": affine.ravel().tolist()},
        conditions=fitted.as_json(),
    )
    run.save_weights({"none": np.zeros(1)})
    return run
