"""Checks that a generator meets its contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from pydantic import BaseModel, ValidationError

from synthbench.cohorts.cohort import Volumes
from synthbench.cohorts.conditions import Conditions, Row
from synthbench.errors import UsageError
from synthbench.generators.contracts import Monitor
from synthbench.generators.generator import (
    Conditional,
    Generator,
    GridRule,
    Guided,
    HasTrajectory,
    SampledInPrecision,
    TrainedBySteps,
    TrainedWithPerceptual,
    conditions_named,
    has_random_fit,
    takes,
)
from synthbench.runs.folder import Run

TRAJECTORY = 3
"""Number of frames in the check of a trajectory."""

ENDS_AT = 1e-4
"""Largest difference in intensity between the last frame of a trajectory and the sample."""


def check_generator(
    generator: Generator, volumes: Volumes, folder: Path, settings: Mapping[str, Any] | None = None
) -> None:
    """Check that a generator meets the contract of `synthbench.generators.generator.Generator`.

    Parameters
    ----------
    generator
        The plugin.
    volumes
        A few training volumes, on a grid that the generator can train on.
    folder
        An empty folder for its run.
    settings
        Values of its settings; None: its defaults.

    Raises
    ------
    AssertionError
        The generator breaks the contract; the message names the part.

    Notes
    -----
    The capabilities of the generator (docs/generators.md) are checked too. A conditional generator
    gets evenly spaced numbers for the conditions that its settings name, or for one condition
    where they name none.
    """
    name = getattr(generator, "name", "?")
    assert isinstance(generator, Generator), f"{name}: an attribute or a method is missing"
    for field in ("name", "summary", "needs"):
        assert getattr(generator, field).strip(), f"{name}: {field} is empty"
    _check_claims(generator)
    run = Run(folder)
    chosen = _chosen_settings(generator, settings or {})
    if isinstance(chosen, GridRule):
        _check_grid_rule(name, chosen, volumes.space.shape)
    rows = _made_up_rows(conditions_named(chosen), len(volumes))
    run.write_config({"generator": name, **chosen.model_dump(mode="json")})
    run.update(
        generator=name,
        space={"shape": volumes.space.shape, "affine": volumes.space.affine},
        conditions=Conditions.fit(rows, conditions_named(chosen)).as_json() if rows else None,
    )
    _check_fit(generator, volumes, chosen, run, rows)
    if not has_random_fit(generator):
        _check_fit_of_another_seed(generator, volumes, chosen, run, rows)
    seeds = [5, 6, 7]
    requested = dict(zip(seeds, [rows[0], rows[-1], rows[0]], strict=True)) if rows else {}
    _check_samples(generator, run, requested, seeds, volumes.space.shape)
    _check_sampling(generator, run)
    if isinstance(generator, HasTrajectory):
        _check_trajectory(generator, run, requested, seeds[0])


def _check_claims(generator: Generator) -> None:
    """Check that methods and settings have the same capabilities."""
    from synthbench.generators.loop.settings import LoopSettings, StepSettings

    name, kind = generator.name, generator.settings
    plugin: Any = generator
    drawing = ("sampling", "sample")
    together = {"conditions": ("fit", "sample"), "guidance": drawing, "precision": drawing}
    for keyword, methods in together.items():
        there = [method for method in methods if takes(getattr(plugin, method), keyword)]
        assert len(there) in (0, 2), (
            f"{name}: {there[0]}() takes `{keyword}`, so {' and '.join(methods)} must both take it"
        )
    capable = {
        "conditions": isinstance(plugin, Conditional),
        "perceptual": isinstance(plugin, TrainedWithPerceptual),
    }
    for field, takes_it in capable.items():
        assert takes_it == (field in kind.model_fields), (
            f"{name}: fit() takes `{field}`, but its settings have no field of that name"
            if takes_it
            else f"{name}: its settings have a field `{field}`, but fit() does not take it"
        )
    if isinstance(plugin, TrainedBySteps):
        assert issubclass(kind, LoopSettings), (
            f"{name}: it has stages(), so its settings must be a "
            "synthbench.generators.loop.settings.LoopSettings"
        )
        assert takes(plugin.fit, "monitor"), (
            f"{name}: it has stages(), so fit() must take `monitor`"
        )
    else:
        assert not issubclass(kind, StepSettings), (
            f"{name}: its settings are for training by steps, but stages() is missing"
        )
    rules = [callable(getattr(kind, rule, None)) for rule in ("check_grid", "nearest_grid")]
    assert rules[0] == rules[1], (
        f"{name}: its settings need both check_grid() and nearest_grid(), or neither"
    )


def _chosen_settings(generator: Generator, values: Mapping[str, Any]) -> BaseModel:
    """Return the settings; those of a conditional generator name at least one condition."""
    chosen = generator.settings(**values)
    if not isinstance(generator, Conditional) or conditions_named(chosen):
        return chosen
    try:
        return generator.settings(**{**values, "conditions": ("made_up",)})
    except ValidationError as error:
        raise AssertionError(
            f"{generator.name}: these settings take no conditions; give some that do: {error}"
        ) from error


def _check_grid_rule(name: str, rule: GridRule, shape: tuple[int, int, int]) -> None:
    rule.check_grid(shape)
    d, h, w = shape
    nearest = rule.nearest_grid((d + 1, h + 1, w + 1))
    try:
        rule.check_grid(nearest)
    except UsageError as error:
        raise AssertionError(
            f"{name}: nearest_grid() gives {nearest}, which check_grid() refuses: {error}"
        ) from error
    again = rule.nearest_grid(nearest)
    assert again == nearest, (
        f"{name}: nearest_grid() of {nearest}, which check_grid() accepts, is {again}"
    )


def _made_up_rows(names: Sequence[str], n: int) -> list[Row]:
    """Return one row per volume with numbers from 20 to 80 for each name; [] without names."""
    if not names:
        return []
    if n < 2:
        raise UsageError(f"check_generator: conditions need at least 2 volumes; found {n}.")
    return [dict.fromkeys(names, float(value)) for value in np.linspace(20, 80, n)]


class _Watched(Sequence[Row]):
    """Rows that record if one of them was read."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows, self.read = rows, False

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        self.read = True
        return self.rows[index]


def _check_fit(
    generator: Generator, volumes: Volumes, chosen: BaseModel, run: Run, rows: list[Row]
) -> None:
    name, plugin = generator.name, generator
    keywords: dict[str, Any] = {}
    watched, numbers = _Watched(rows), list[int]()
    if rows:
        keywords["conditions"] = watched
    if isinstance(plugin, TrainedBySteps):
        stages = list(plugin.stages(chosen))
        assert stages, f"{name}: stages() names no network"
        keywords["monitor"] = Monitor(
            validation=volumes, conditions=rows or None, log=lambda step, _: numbers.append(step)
        )
    steps: list[tuple[int, int]] = []
    generator.fit(
        volumes, chosen, run,
        progress=lambda done, total, _: steps.append((done, total)), **keywords,
    )  # fmt: skip
    assert run.weights_file.is_file(), f"{name}: fit wrote no weights"
    assert steps, f"{name}: fit reported no progress"
    assert all(1 <= done <= total for done, total in steps), f"{name}: progress beyond its total"
    if rows:
        assert watched.read, f"{name}: fit was given conditions and did not read them"
    if "monitor" in keywords:
        assert numbers, f"{name}: fit was given a monitor and called its log for no step"


def _check_fit_of_another_seed(
    generator: Generator, volumes: Volumes, chosen: BaseModel, run: Run, rows: list[Row]
) -> None:
    """Check the claim `random_fit = False`."""
    other = chosen.model_copy(update={"seed": getattr(chosen, "seed", 0) + 1})
    again = Run(run.folder / "other-seed")
    again.folder.mkdir()
    again.write_config({"generator": generator.name, **other.model_dump(mode="json")})
    again.update(**run.record)
    _check_fit(generator, volumes, other, again, rows)
    assert again.weights_sha256 == run.weights_sha256, (
        f"{generator.name}: random_fit is False, but another seed gave other weights"
    )


def _draw(
    generator: Generator,
    run: Run,
    seeds: Sequence[int],
    rows: Mapping[int, Row],
    **keywords: Any,
) -> list[Float32[np.ndarray, "d h w"]]:
    if rows:
        keywords["conditions"] = [rows[seed] for seed in seeds]
    return list(generator.sample(run, seeds, **keywords))


def _check_samples(
    generator: Generator,
    run: Run,
    rows: Mapping[int, Row],
    seeds: Sequence[int],
    shape: tuple[int, ...],
) -> None:
    name, together = generator.name, _draw(generator, run, seeds, rows)
    assert len(together) == len(seeds), f"{name}: {len(together)} volumes for {len(seeds)} seeds"
    for volume in together:
        assert volume.dtype == np.float32, f"{name}: volumes are {volume.dtype}, not float32"
        assert volume.shape == shape, f"{name}: a volume of shape {volume.shape}"
        assert np.isfinite(volume).all(), f"{name}: a volume is not finite"
        assert volume.min() >= 0, f"{name}: a volume has values below 0"
        assert volume.max() <= 1, f"{name}: a volume has values above 1"
    # The first and the last seed have the same conditions, where there are any.
    assert not np.array_equal(together[0], together[2]), f"{name}: two seeds gave one volume"
    for seed, volume in reversed(list(zip(seeds, together, strict=True))):
        alone = _draw(generator, run, [seed], rows)[0]
        assert np.array_equal(alone, volume), (
            f"{name}: the volume of seed {seed} depends on the other seeds of the call"
        )
    if isinstance(generator, SampledInPrecision):
        rounded = _draw(generator, run, seeds[:1], rows, precision="bf16")[0]
        assert rounded.dtype == np.float32, f"{name}: bf16 volumes are {rounded.dtype}, not float32"
        own, another = (float(np.linalg.norm(v - together[0])) for v in (rounded, together[2]))
        assert own < another, (
            f"{name}: in bf16, seed {seeds[0]} gave a volume that is further from its own in fp32 "
            f"than another seed's ({own:.3g}, {another:.3g})"
        )
    if rows:
        first, other = rows[seeds[0]], rows[seeds[1]]
        changed = _draw(generator, run, [seeds[0]], {seeds[0]: other})[0]
        assert not np.array_equal(changed, together[0]), (
            f"{name}: seed {seeds[0]} gave the same volume for the conditions {dict(first)} and "
            f"{dict(other)}: sample does not use them"
        )
        free = list(generator.sample(run, seeds[:1]))
        assert len(free) == 1, f"{name}: sample without conditions gave {len(free)} volumes for 1"


def _check_sampling(generator: Generator, run: Run) -> None:
    name = generator.name
    assert isinstance(generator.sampling(run, None, None), dict), f"{name}: sampling is no dict"
    if isinstance(generator, Guided):
        recorded = generator.sampling(run, None, None, guidance=1.0)
        assert recorded.get("guidance") == 1.0, (
            f"{name}: sampling was asked for a guidance of 1 and does not return it"
        )
    if isinstance(generator, SampledInPrecision):
        told = generator.sampling(run, None, None, precision="bf16")
        assert told.get("precision") == "bf16", (
            f"{name}: sampling was asked for a precision of bf16 and does not return it"
        )
    try:
        generator.sampling(run, "no-such-sampler", None)
    except UsageError:
        return
    raise AssertionError(f"{name}: an unknown sampler raised no UsageError")


def _check_trajectory(
    generator: HasTrajectory, run: Run, rows: Mapping[int, Row], seed: int
) -> None:
    plugin: Any = generator
    # A trajectory() without conditions must end at the volume of the seed without conditions.
    requested = rows if takes(plugin.trajectory, "conditions") else {}
    keywords = {"conditions": requested[seed]} if requested else {}
    frames = list(
        plugin.trajectory(run, seed, sampler=None, steps=None, frames=TRAJECTORY, **keywords)
    )
    assert frames, f"{plugin.name}: trajectory() yields no frame"
    calls = [frame.step for frame in frames]
    assert calls == sorted(set(calls)), f"{plugin.name}: trajectory() yields the calls {calls}"
    volume = _draw(plugin, run, [seed], requested)[0]
    assert np.allclose(frames[-1].clean, volume, rtol=0, atol=ENDS_AT), (
        f"{plugin.name}: the last frame of trajectory() is not the volume of its seed"
    )
