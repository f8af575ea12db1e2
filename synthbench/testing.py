"""Checks that hold a plugin to its contract, for its own tests as for synthbench's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from synthbench.cohort import Volumes
from synthbench.errors import UsageError
from synthbench.generators.generator import Generator
from synthbench.run import Run


def check_generator(
    generator: Generator, volumes: Volumes, folder: Path, settings: Mapping[str, Any] | None = None
) -> None:
    """Hold a generator to the contract of `synthbench.generators.generator.Generator`.

    Parameters
    ----------
    generator
        The plugin.
    volumes
        A few training volumes, on a grid that it can train on.
    folder
        An empty folder for its run.
    settings
        Values of its settings; None: its defaults.

    Raises
    ------
    AssertionError
        The generator breaks the contract; the message says which part of it.
    """
    name = getattr(generator, "name", "?")
    assert isinstance(generator, Generator), f"{name}: an attribute or a method is missing"
    for field in ("name", "summary", "needs"):
        assert getattr(generator, field).strip(), f"{name}: {field} is empty"
    run = Run(folder)
    chosen = generator.settings(**(settings or {}))
    run.write_config({"generator": name, **chosen.model_dump(mode="json")})
    run.update(
        generator=name,
        space={"shape": volumes.space.shape, "affine": volumes.space.affine},
    )
    steps: list[tuple[int, int]] = []
    generator.fit(volumes, chosen, run, progress=lambda done, total, _: steps.append((done, total)))
    assert run.weights_file.is_file(), f"{name}: fit wrote no weights"
    assert steps, f"{name}: fit reported no progress"
    assert all(1 <= done <= total for done, total in steps), f"{name}: progress beyond its total"

    seeds = [5, 6, 7]
    together = list(generator.sample(run, seeds))
    assert len(together) == len(seeds), f"{name}: {len(together)} volumes for {len(seeds)} seeds"
    for volume in together:
        assert volume.dtype == np.float32, f"{name}: volumes are {volume.dtype}, not float32"
        assert volume.shape == volumes.space.shape, f"{name}: a volume of shape {volume.shape}"
        assert np.isfinite(volume).all(), f"{name}: a volume is not finite"
        assert volume.min() >= 0, f"{name}: a volume has values below 0"
        assert volume.max() <= 1, f"{name}: a volume has values above 1"
    assert not np.array_equal(together[0], together[1]), f"{name}: two seeds gave one volume"
    for seed, volume in reversed(list(zip(seeds, together, strict=True))):
        alone = next(iter(generator.sample(run, [seed])))
        assert np.array_equal(alone, volume), (
            f"{name}: the volume of seed {seed} depends on the other seeds of the call"
        )
    assert isinstance(generator.sampling(run, None, None), dict), f"{name}: sampling is no dict"
    try:
        generator.sampling(run, "no-such-sampler", None)
    except UsageError:
        return
    raise AssertionError(f"{name}: an unknown sampler raised no UsageError")
