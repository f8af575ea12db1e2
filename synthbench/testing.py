"""Checks that hold a plugin to its contract, for its own tests as for synthbench's."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from jaxtyping import Bool, Float32, Float64
from pydantic import BaseModel, ValidationError
from scipy.ndimage import gaussian_filter

from synthbench.cohort import Volumes
from synthbench.conditions import Conditions, Row
from synthbench.errors import MetricError, UsageError
from synthbench.generators.contracts import Monitor
from synthbench.generators.generator import (
    Conditional,
    Generator,
    GridRule,
    Guided,
    HasTrajectory,
    TrainedBySteps,
    TrainedWithPerceptual,
    conditions_named,
    takes,
)
from synthbench.metrics import inference
from synthbench.metrics.extractors.extractor import Extractor
from synthbench.metrics.metric import (
    Composite,
    CrossMetric,
    Direction,
    IntervalMethod,
    Metric,
    Needs,
    Part,
    Role,
    Statistic,
    Studentized,
    Target,
    VolumeMetric,
    Weights,
    ones,
)
from synthbench.run import Run
from synthbench.space import Space, resample

if TYPE_CHECKING:
    from torch import Tensor

GRID = (48, 48, 48)
"""Shape of the simulated volumes."""

SPACING = (4.0, 4.0, 4.0)
"""Their voxel sizes in mm: with `GRID` about the extent of a head."""

ROUNDING = 1e-12
"""Relative difference that one sum in another order may make."""

SINGLE_PRECISION = 1e-5
"""The same where a metric measures float32 volumes."""

SPLITS = 200
"""Random halves of the real set that stand for held-out images."""

STANDARD_ERRORS = 5
"""The mean of an unbiased statistic over the splits may lie this far from zero by chance."""

BLUR_MM = 8.0
"""Standard deviation of the Gaussian that an extractor must see."""

MOVED = 1e-4
"""How far that blur moves the features at least, relative to their norm."""

TRAJECTORY = 3
"""Frames of a trajectory that is checked."""

ENDS_AT = 1e-4
"""How far, in intensity, the last frame of a trajectory may lie from the sample."""


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

    Notes
    -----
    Each capability that the generator has (docs/generators.md) is checked too. A conditional
    generator is given made-up numbers, evenly spaced, for the conditions that its settings name,
    or for one condition where they name none.
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
    seeds = [5, 6, 7]
    requested = dict(zip(seeds, [rows[0], rows[-1], rows[0]], strict=True)) if rows else {}
    _check_samples(generator, run, requested, seeds, volumes.space.shape)
    _check_sampling(generator, run)
    if isinstance(generator, HasTrajectory):
        _check_trajectory(generator, run, requested, seeds[0])


def check_metric(
    metric: Metric, *, images: int | None = None, worse: np.ndarray | None = None, seed: int = 0
) -> None:
    """Hold a metric to the contract of `synthbench.metrics.metric.Metric`.

    Both sets are simulated: features drawn from normal distributions, or smooth random volumes
    inside an ellipsoid of a 48 x 48 x 48 grid of 4-mm voxels. The first two images of a set
    are of one subject.

    Parameters
    ----------
    metric
        An instance of the plugin, which needs features or volumes.
    images
        Real images, at least 8; the synthetic set has one fewer. None is 16 rows of features,
        or 8 volumes.
    worse
        A synthetic set that the metric must tell from real images: features of 6 columns, or
        float32 volumes in [0, 1] on the grid above. None asks that it tells one of several:
        images that are shifted, spread out or all alike, volumes that are noisy, blurred, dim
        or all alike. Give one to a metric that is made to see something else.
    seed
        Seed of the simulation.

    Raises
    ------
    AssertionError
        The metric breaks the contract; the message says which part of it.
    UsageError
        The metric needs training images, which are not simulated, or `images` is below 8.

    Examples
    --------
    >>> from synthbench.metrics.frechet import FID
    >>> check_metric(FID())
    """
    _check_attributes(metric)
    if metric.needs == "training":
        raise UsageError(
            f"check_metric simulates no training images; found '{metric.name}', which needs them. "
            "Test it on sets of its own."
        )
    if images is not None and images < 8:
        raise UsageError(f"images must be at least 8; found {images}. Leave it out.")
    if metric.needs == "volumes":
        assert isinstance(metric, VolumeMetric), (
            f"{metric.name}: needs is 'volumes', but measure() or pairs is missing"
        )
        scene = _volume_scene(8 if images is None else images, seed)
    else:
        scene = _feature_scene(16 if images is None else images, seed)
    if worse is not None:
        scene = replace(scene, worse={"worse": worse})
    trial = _check_inputs_kept(metric, scene)
    _check_statistic(trial)
    _check_same_twice(trial)
    _check_rows_apart(trial, seed)
    _check_order(trial, scene, seed)
    _check_weights_as_rows(trial, seed)
    _check_intervals(trial, seed)
    _check_p_value(trial)
    _check_refusals(trial)
    held_out = _held_out(trial, seed)
    _check_target(metric, held_out)
    _check_direction(metric, held_out, scene)


def check_extractor(
    factory: Callable[[], Extractor],
    *,
    volumes: Float32[np.ndarray, "n d h w"] | None = None,
    seed: int = 0,
) -> None:
    """Hold an extractor to the contract of `synthbench.metrics.extractors.extractor.Extractor`.

    Its features must be the same, bit by bit, from call to call, from instance to instance, and
    whatever else is in the batch: a distance is compared with distances that were computed in
    other batches. Kernels depend on the batch size, so that usually takes volumes one at a time.

    Parameters
    ----------
    factory
        Makes an extractor, as its entry in the registry does: a class, or a `functools.partial`.
        It is called twice. Weights must be there already.
    volumes
        Two volumes or more that differ, in [0, 1] with a background of zero, on the extractor's
        grid. None simulates heads in MNI152: on the extractor's grid, or, where it takes any, on
        48 x 48 x 48 voxels of 4 mm.
    seed
        Seed of the simulation.

    Raises
    ------
    AssertionError
        The extractor breaks the contract; the message says which part of it.
    UsageError
        Fewer than two volumes are given.

    Examples
    --------
    >>> from synthbench.metrics.extractors.voxels import Voxels
    >>> check_extractor(Voxels)
    """
    import torch

    extractor, another = _built_without_torch(factory), _built_without_torch(factory)
    _check_extractor_attributes(extractor)
    space = extractor.space or _SIMULATED
    if volumes is None:
        volumes = np.stack([resample(head, _SIMULATED, space) for head in _heads(2, seed)])
    if volumes.ndim != 4 or len(volumes) < 2:
        raise UsageError(
            "volumes must be of shape (n, d, h, w), n at least 2; found "
            f"{volumes.shape}. Give two that differ, or leave them out."
        )
    given = torch.from_numpy(np.ascontiguousarray(volumes[:2, None], dtype=np.float32))
    sigma = [BLUR_MM / mm for mm in space.spacing]
    blurred = torch.from_numpy(gaussian_filter(volumes[0], sigma).clip(0, 1))[None, None].float()

    alone = _check_features(extractor, given[:1])
    _assert_same(extractor, extractor.features(given[:1]), alone, "from call to call")
    together = _check_features(extractor, torch.cat([given, blurred]))
    _assert_same(extractor, together[:1], alone, "with the rest of the batch")
    reversed_rows = _check_features(another, given.flip(0)).flip(0)
    _assert_same(extractor, reversed_rows, together[:2], "with the order, or between instances")
    assert extractor.weights_sha256 == another.weights_sha256, (
        f"{extractor.name}: two instances have the weights {extractor.weights_sha256} and "
        f"{another.weights_sha256}: hash them in a fixed order"
    )
    _check_weights_sha256(extractor)
    _check_sees(extractor, together)
    _check_volumes_refused(extractor, given)


# ---------------------------------------------------------------- generators


def _check_claims(generator: Generator) -> None:
    """Check that methods and settings claim the same capabilities."""
    from synthbench.generators.loop import LoopSettings, StepSettings

    name, kind = generator.name, generator.settings
    plugin: Any = generator
    together = {"conditions": ("fit", "sample"), "guidance": ("sampling", "sample")}
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
            "synthbench.generators.loop.LoopSettings"
        )
        assert takes(plugin.fit, "monitor"), (
            f"{name}: it has stages(), so fit() must take `monitor`"
        )
    else:
        assert not issubclass(kind, StepSettings), (
            f"{name}: its settings are of a training by steps, but stages() is missing"
        )
    rules = [callable(getattr(kind, rule, None)) for rule in ("check_grid", "nearest_grid")]
    assert rules[0] == rules[1], (
        f"{name}: its settings need both check_grid() and nearest_grid(), or neither"
    )


def _chosen_settings(generator: Generator, given: Mapping[str, Any]) -> BaseModel:
    """Return the settings; those of a conditional generator name at least one condition."""
    chosen = generator.settings(**given)
    if not isinstance(generator, Conditional) or conditions_named(chosen):
        return chosen
    try:
        return generator.settings(**{**given, "conditions": ("made_up",)})
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
    assert again == nearest, f"{name}: nearest_grid() of {nearest}, a grid that can be, is {again}"


def _made_up_rows(names: Sequence[str], n: int) -> list[Row]:
    """Return a row per volume: numbers from 20 to 80 of each condition; none without names."""
    if not names:
        return []
    if n < 2:
        raise UsageError(f"check_generator: conditions need at least 2 volumes; found {n}.")
    return [dict.fromkeys(names, float(value)) for value in np.linspace(20, 80, n)]


class _Watched(Sequence[Row]):
    """Rows that know whether anyone looked at one of them."""

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
    given: dict[str, Any] = {}
    watched, numbers = _Watched(rows), list[int]()
    if rows:
        given["conditions"] = watched
    if isinstance(plugin, TrainedBySteps):
        stages = list(plugin.stages(chosen))
        assert stages, f"{name}: stages() names no network"
        given["monitor"] = Monitor(
            validation=volumes, conditions=rows or None, log=lambda step, _: numbers.append(step)
        )
    steps: list[tuple[int, int]] = []
    generator.fit(
        volumes, chosen, run,
        progress=lambda done, total, _: steps.append((done, total)), **given,
    )  # fmt: skip
    assert run.weights_file.is_file(), f"{name}: fit wrote no weights"
    assert steps, f"{name}: fit reported no progress"
    assert all(1 <= done <= total for done, total in steps), f"{name}: progress beyond its total"
    if rows:
        assert watched.read, f"{name}: fit was given conditions and did not read them"
    if "monitor" in given:
        assert numbers, f"{name}: fit was given a monitor and called its log for no step"


def _draw(
    generator: Generator, run: Run, seeds: Sequence[int], rows: Mapping[int, Row]
) -> list[Float32[np.ndarray, "d h w"]]:
    given: dict[str, Any] = {"conditions": [rows[seed] for seed in seeds]} if rows else {}
    return list(generator.sample(run, seeds, **given))


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
    # The first and the last seed have one row of conditions, where there are any.
    assert not np.array_equal(together[0], together[2]), f"{name}: two seeds gave one volume"
    for seed, volume in reversed(list(zip(seeds, together, strict=True))):
        alone = _draw(generator, run, [seed], rows)[0]
        assert np.array_equal(alone, volume), (
            f"{name}: the volume of seed {seed} depends on the other seeds of the call"
        )
    if rows:
        first, other = rows[seeds[0]], rows[seeds[1]]
        changed = _draw(generator, run, [seeds[0]], {seeds[0]: other})[0]
        assert not np.array_equal(changed, together[0]), (
            f"{name}: seed {seeds[0]} gave one volume for the conditions {dict(first)} and "
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
    try:
        generator.sampling(run, "no-such-sampler", None)
    except UsageError:
        return
    raise AssertionError(f"{name}: an unknown sampler raised no UsageError")


def _check_trajectory(
    generator: HasTrajectory, run: Run, rows: Mapping[int, Row], seed: int
) -> None:
    plugin: Any = generator
    # One that takes no conditions follows the volume that the seed alone gives.
    asked = rows if takes(plugin.trajectory, "conditions") else {}
    given = {"conditions": asked[seed]} if asked else {}
    frames = list(
        plugin.trajectory(run, seed, sampler=None, steps=None, frames=TRAJECTORY, **given)
    )
    assert frames, f"{plugin.name}: trajectory() yields no frame"
    calls = [frame.step for frame in frames]
    assert calls == sorted(set(calls)), f"{plugin.name}: trajectory() yields the calls {calls}"
    volume = _draw(plugin, run, [seed], asked)[0]
    assert np.allclose(frames[-1].clean, volume, rtol=0, atol=ENDS_AT), (
        f"{plugin.name}: the last frame of trajectory() is not the volume of its seed"
    )


# ---------------------------------------------------------------- metrics


@dataclass(frozen=True)
class _Scene:
    """Simulated images: rows of features, or volumes.

    `worse` holds synthetic sets that are worse than `real`, by what is wrong with them.
    """

    real: np.ndarray
    synth: np.ndarray
    subjects: dict[str, np.ndarray]
    worse: dict[str, np.ndarray]
    mask: Bool[np.ndarray, "d h w"] | None = None


@dataclass(frozen=True)
class _Trial:
    """A metric and what its `prepare` takes: a row an image, or a square matrix of pairs."""

    metric: Metric
    settings: dict[str, Any]
    real: Float64[np.ndarray, "n _"]
    synth: Float64[np.ndarray, "m _"]
    subjects: dict[str, np.ndarray]
    cross: Float64[np.ndarray, "n m"] | None = None
    real_cross: Float64[np.ndarray, "n n"] | None = None

    @property
    def name(self) -> str:
        return self.metric.name

    @property
    def pairs(self) -> bool:
        return isinstance(self.metric, VolumeMetric) and self.metric.pairs

    def chosen(self, real: np.ndarray, synth: np.ndarray) -> _Trial:
        """The trial of these images, which may repeat; copies are of one subject."""
        return replace(
            self,
            real=self.real[np.ix_(real, real)] if self.pairs else self.real[real],
            synth=self.synth[np.ix_(synth, synth)] if self.pairs else self.synth[synth],
            subjects={"real": self.subjects["real"][real], "synth": self.subjects["synth"][synth]},
            cross=None if self.cross is None else self.cross[np.ix_(real, synth)],
            real_cross=None if self.real_cross is None else self.real_cross[np.ix_(real, real)],
        )

    def against_itself(self) -> _Trial:
        """The real set in both roles, one image a subject."""
        first = np.unique(self.subjects["real"], return_index=True)[1]
        alone = self.chosen(np.sort(first), np.arange(len(self.synth)))
        labels = alone.subjects["real"]
        return replace(
            alone,
            synth=alone.real,
            subjects={"real": labels, "synth": labels},
            cross=alone.real_cross,
        )

    def prepare(self) -> Statistic:
        given: dict[str, Any] = {} if self.cross is None else {"cross": self.cross}
        statistic: Statistic = self.metric.prepare(
            self.real, self.synth, subjects=self.subjects, **given, **self.settings
        )
        return statistic

    def statistic(self) -> Statistic:
        with _nothing_raised(self.name, "prepare()"):
            return self.prepare()

    def value(self, weights: Weights | None = None) -> Float64[np.ndarray, " b"]:
        """The values under each row of weights, by default all ones."""
        statistic = self.statistic()
        chosen = ones(statistic) if weights is None else weights
        return _numbers(self.name, "value()", statistic.value, chosen)


# Simulated images


def _labels(role: str, n: int) -> np.ndarray:
    """Names of n - 1 subjects: the first one has two images."""
    return np.array([f"{role}-{max(0, i - 1):03d}" for i in range(n)])


def _feature_scene(n: int, seed: int, d: int = 6) -> _Scene:
    rng = np.random.default_rng(seed)
    real, synth = rng.normal(size=(n, d)), 0.8 * rng.normal(size=(n - 1, d)) + 0.5
    for rows in (real, synth):
        rows[1] = rows[0] + 0.1 * rng.normal(size=d)
    like_real = rng.normal(size=(n - 1, d))
    return _Scene(
        real=real,
        synth=synth,
        subjects={"real": _labels("real", n), "synth": _labels("synth", n - 1)},
        worse={
            "shifted": like_real + 10,
            "spread out": like_real * 10,
            "all alike": like_real / 100,
        },
    )


def _volume_scene(n: int, seed: int) -> _Scene:
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*[np.linspace(-1, 1, side) for side in GRID], indexing="ij")
    semi_axes = np.array([0.8, 0.9, 0.7])[:, None, None, None]
    mask = ((np.array(axes) / semi_axes) ** 2).sum(axis=0) < 1

    def field(sigma: float) -> Float64[np.ndarray, "d h w"]:
        noise = gaussian_filter(rng.normal(size=GRID), sigma)
        normalised: Float64[np.ndarray, "d h w"] = noise / noise.std()
        return normalised

    anatomy = field(4.0)

    def volume(sigma: float, own: float) -> Float32[np.ndarray, "d h w"]:
        tissue = 0.5 + 0.1 * anatomy + own * field(sigma) + 0.03 * rng.normal()
        return np.where(mask, tissue.clip(0, 1), 0).astype(np.float32)

    def volumes(count: int, sigma: float, own: float) -> Float32[np.ndarray, "n d h w"]:
        drawn = [volume(sigma, own) for _ in range(count)]
        drawn[1] = np.where(mask, (drawn[0] + 0.01 * field(2.0)).clip(0, 1), 0).astype(np.float32)
        return np.stack(drawn)

    real, synth = volumes(n, 2.0, 0.08), volumes(n - 1, 2.5, 0.06)
    like_real = volumes(n - 1, 2.0, 0.08)
    noise = rng.normal(size=like_real.shape).astype(np.float32)
    return _Scene(
        real=real,
        synth=synth,
        subjects={"real": _labels("real", n), "synth": _labels("synth", n - 1)},
        worse={
            "noisy": np.where(mask, (like_real + 0.2 * noise).clip(0, 1), np.float32(0)),
            "blurred": np.stack([gaussian_filter(one, 3.0) for one in like_real]),
            "dim": like_real * np.float32(0.3),
            "all alike": np.where(mask, (like_real[:1] + 0.001 * noise).clip(0, 1), np.float32(0)),
        },
        mask=mask,
    )


def _trial(metric: Metric, scene: _Scene) -> _Trial:
    """Freeze the settings, as a protocol stores them, and measure the volumes."""
    settings = _frozen(metric, scene)
    if not isinstance(metric, VolumeMetric):
        return _Trial(metric, settings, scene.real, scene.synth, scene.subjects)
    assert scene.mask is not None
    real, synth = (
        _measured(metric, volumes, scene.mask, settings) for volumes in (scene.real, scene.synth)
    )
    if not isinstance(metric, CrossMetric):
        return _Trial(metric, settings, real, synth, scene.subjects)
    across = []
    for others in (scene.synth, scene.real):
        with _nothing_raised(metric.name, "measure_across()"):
            across.append(metric.measure_across(scene.real, others, scene.mask, settings))
        shape = (len(scene.real), len(others))
        assert across[-1].shape == shape, (
            f"{metric.name}: measure_across() of {shape[0]} and {shape[1]} volumes has shape "
            f"{across[-1].shape}"
        )
    return _Trial(metric, settings, real, synth, scene.subjects, across[0], across[1])


def _frozen(metric: Metric, scene: _Scene) -> dict[str, Any]:
    with _nothing_raised(metric.name, "freeze()"):
        if metric.needs == "volumes":
            settings = metric.freeze(None, None, spacing=SPACING)
        else:
            settings = metric.freeze(scene.real, scene.subjects["real"])
    assert isinstance(settings, dict), f"{metric.name}: freeze() gives no dict: {settings!r}"
    assert "formula" not in settings, f"{metric.name}: freeze() must not set 'formula'"
    try:
        stored: dict[str, Any] = json.loads(json.dumps(settings, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise AssertionError(
            f"{metric.name}: freeze() gives what JSON cannot hold: {error}"
        ) from error
    assert stored == settings, (
        f"{metric.name}: freeze() gives what JSON changes (a tuple to a list, a key to a string): "
        f"{settings}"
    )
    return stored


def _measured(
    metric: VolumeMetric,
    volumes: np.ndarray,
    mask: Bool[np.ndarray, "d h w"],
    settings: Mapping[str, Any],
) -> Float64[np.ndarray, "n _"]:
    steps: list[tuple[int, int]] = []
    with _nothing_raised(metric.name, "measure()"):
        rows = metric.measure(
            volumes, mask, settings, lambda done, total: steps.append((done, total))
        )
    n = len(volumes)
    assert all(0 <= done <= total for done, total in steps), (
        f"{metric.name}: measure() reports progress beyond its total: {steps}"
    )
    assert rows.ndim == 2, f"{metric.name}: measure() gives no matrix but shape {rows.shape}"
    assert len(rows) == n, f"{metric.name}: measure() of {n} volumes gives {len(rows)} rows"
    if metric.pairs:
        assert rows.shape == (n, n), (
            f"{metric.name}: pairs is True, but measure() of {n} volumes has shape {rows.shape}"
        )
        assert np.array_equal(rows, rows.T), f"{metric.name}: measure() is not symmetric in pairs"
    return rows


# The checks


def _check_attributes(metric: Metric) -> None:
    name = getattr(metric, "name", type(metric).__name__)
    for field in ("name", "label", "formula", "sees", "misses"):
        words = getattr(metric, field, None)
        assert isinstance(words, str), f"{name}: {field} must be words; found {words!r}"
        assert words.strip(), f"{name}: {field} is empty"
    # Tables and protocols write "name | extractor" and "name.part".
    assert not set(name) & set(" |."), f"{name}: name must hold no space, '|' or '.'"
    allowed = {
        "needs": Needs, "direction": Direction, "target": Target, "interval": IntervalMethod,
        "role": Role,
    }  # fmt: skip
    for field, values in allowed.items():
        found, known = getattr(metric, field, None), get_args(values)
        assert found in known, f"{name}: {field} must be one of {known}; found {found!r}"
    for field in ("on_request", "drawn", "label_with_n", "of_variety"):
        found = getattr(metric, field, None)
        assert isinstance(found, bool), f"{name}: {field} must be True or False; found {found!r}"
    for method in ("freeze", "prepare", "p_value"):
        assert callable(getattr(metric, method, None)), f"{name}: {method}() is missing"


def _check_inputs_kept(metric: Metric, scene: _Scene) -> _Trial:
    """Return the trial of the scene, after a look at what preparing and scoring it left behind."""
    images = {"real": scene.real.copy(), "synth": scene.synth.copy()}
    trial = _trial(metric, scene)
    rows = {"real": trial.real.copy(), "synth": trial.synth.copy()}
    statistic = trial.statistic()
    weights = ones(statistic)
    with _nothing_raised(metric.name, "value()"):
        statistic.value(weights)
    for before, after in (
        (images, {"real": scene.real, "synth": scene.synth}),
        (rows, {"real": trial.real, "synth": trial.synth}),
        ({role: np.ones_like(w) for role, w in weights.items()}, weights),
    ):
        for role, array in after.items():
            assert np.array_equal(array, before[role]), (
                f"{metric.name}: an array of {role} that it was given is changed in place: copy it"
            )
    return trial


def _check_statistic(trial: _Trial) -> None:
    name, statistic = trial.name, trial.statistic()
    assert isinstance(statistic, Statistic), f"{name}: prepare() gives no value() or no subjects"
    if trial.metric.interval == "studentized":
        assert isinstance(statistic, Studentized), (
            f"{name}: interval is 'studentized', but the statistic has no variance()"
        )
    roles = set(statistic.subjects)
    assert roles == {"real", "synth"}, f"{name}: subjects are of the roles {sorted(roles)}"
    for role, labels in trial.subjects.items():
        index = np.asarray(statistic.subjects[role])
        expected = inference.subject_index({role: labels}, **{role: len(labels)})[role]
        assert np.array_equal(index, expected), (
            f"{name}: subjects of {role} are {index}, not {expected}: use subject_index(subjects)"
        )
    trial.value()
    if isinstance(statistic, Composite):
        for key, part in statistic.parts().items():
            assert key.strip(), f"{name}: a part has no key"
            assert isinstance(part, Part), (
                f"{name}: the part '{key}' must be a Part; found {type(part).__name__}"
            )
            assert part.label.strip(), f"{name}: the part '{key}' has no label"
            values = part.statistic.value(ones(part.statistic))
            assert np.isfinite(values).all(), f"{name}: '{key}' is not finite"


def _check_same_twice(trial: _Trial) -> None:
    first, second = trial.value(), trial.value()
    assert np.array_equal(first, second), (
        f"{trial.name}: the same images gave {first[0]!r}, then {second[0]!r}: take a seed from "
        "the settings"
    )


def _check_rows_apart(trial: _Trial, seed: int) -> None:
    """A row's value must not depend on the rows beside it."""
    rng = np.random.default_rng(seed)
    weights = {
        role: np.vstack([np.ones(n), rng.integers(1, 4, size=(3, n)), rng.random((2, n)) + 0.5])
        for role, n in (("real", len(trial.real)), ("synth", len(trial.synth)))
    }
    statistic = trial.statistic()
    functions = {"value()": statistic.value}
    if isinstance(statistic, Studentized):
        functions["variance()"] = statistic.variance
    for part, function in functions.items():
        together = _numbers(trial.name, part, function, weights)
        rows = [{role: w[i : i + 1] for role, w in weights.items()} for i in range(len(together))]
        alone = [_numbers(trial.name, part, function, row)[0] for row in rows]
        _assert_equal(
            together,
            np.array(alone),
            ROUNDING,
            f"{trial.name}: {part} of a row of weights depends on the other rows",
        )


def _check_order(trial: _Trial, scene: _Scene, seed: int) -> None:
    """Freezing, measuring and preparing the images in another order gives the same value."""
    rng = np.random.default_rng(seed)
    real, synth = rng.permutation(len(scene.real)), rng.permutation(len(scene.synth))
    subjects = {"real": scene.subjects["real"][real], "synth": scene.subjects["synth"][synth]}
    shuffled = replace(scene, real=scene.real[real], synth=scene.synth[synth], subjects=subjects)
    _assert_equal(
        _trial(trial.metric, shuffled).value(),
        trial.value(),
        SINGLE_PRECISION if trial.metric.needs == "volumes" else 100 * ROUNDING,
        f"{trial.name}: the value depends on the order of the images",
    )


def _check_weights_as_rows(trial: _Trial, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = {"real": len(trial.real), "synth": len(trial.synth)}
    # The fourth image and, in the second row, one of the two images of a subject.
    left_out = {role: np.ones((2, n)) for role, n in sizes.items()}
    for w in left_out.values():
        w[:, 3] = 0
        w[1, 1] = 0
    counts = {role: rng.integers(1, 4, size=(2, n)).astype(float) for role, n in sizes.items()}
    for weights, words in (
        (left_out, "images of weight zero are not as if they were not there"),
        (counts, "an image of weight 2 is not as if it were there twice, its pair left out"),
    ):
        found = trial.value(weights)
        expected = [
            trial.chosen(
                np.repeat(np.arange(sizes["real"]), w.astype(int)),
                np.repeat(np.arange(sizes["synth"]), v.astype(int)),
            ).value()[0]
            for w, v in zip(weights["real"], weights["synth"], strict=True)
        ]
        _assert_equal(found, np.array(expected), 100 * ROUNDING, f"{trial.name}: {words}")


def _check_intervals(trial: _Trial, seed: int) -> None:
    statistic, name = trial.statistic(), trial.name
    methods: list[IntervalMethod] = ["jackknife", "percentile"]
    if isinstance(statistic, Studentized):
        methods.append("studentized")
    for method in methods:
        with _nothing_raised(name, f"the {method} interval"):
            found = inference.interval(statistic, method, resamples=99, seed=seed)
        assert np.isfinite([found.low, found.high]).all(), f"{name}: {method}: {found}"
    if isinstance(statistic, Studentized):
        variance = _numbers(name, "variance()", statistic.variance, ones(statistic))[0]
        by_jackknife = inference.jackknife_se(statistic) ** 2
        assert by_jackknife / 3 <= variance <= 3 * by_jackknife, (
            f"{name}: variance() is {variance:.3g} where the jackknife gives {by_jackknife:.3g}: "
            "it must estimate the sampling variance of value()"
        )


def _check_p_value(trial: _Trial) -> None:
    def p(permutations: int = 19) -> float | None:
        with _nothing_raised(trial.name, "p_value()"):
            return trial.metric.p_value(
                trial.real,
                trial.synth,
                permutations=permutations,
                seed=3,
                subjects=trial.subjects,
                **trial.settings,
            )

    found = p()
    assert found is None or 0 < found <= 1, f"{trial.name}: p_value() is {found}, not in (0, 1]"
    again = p()
    assert again == found, f"{trial.name}: p_value() with one seed gave {found}, then {again}"


def _check_refusals(trial: _Trial) -> None:
    """What cannot be scored raises a MetricError that names the metric."""

    def without_numbers(rows: np.ndarray) -> np.ndarray:
        return np.full_like(rows, np.nan)

    bad = {
        "real rows in one dimension": replace(trial, real=trial.real[:, 0]),
        "synthetic rows in one dimension": replace(trial, synth=trial.synth[:, 0]),
        "a single real image": trial.chosen(np.arange(1), np.arange(len(trial.synth))),
        "a single synthetic image": trial.chosen(np.arange(len(trial.real)), np.arange(1)),
        "NaN": replace(
            trial,
            real=without_numbers(trial.real),
            synth=without_numbers(trial.synth),
            cross=None if trial.cross is None else without_numbers(trial.cross),
        ),
    }
    if not trial.pairs:
        bad["sets of different widths"] = replace(trial, synth=trial.synth[:, :-1])
    for words, broken in bad.items():
        message = _refusal(broken, words)
        assert _letters(trial.name) in _letters(message), (
            f"{trial.name}: the error for {words} does not name the metric: {message}"
        )


def _refusal(trial: _Trial, words: str) -> str:
    try:
        statistic = trial.prepare()
        statistic.value(ones(statistic))
    except MetricError as error:
        return str(error)
    except Exception as error:
        raise AssertionError(
            f"{trial.name}: {words} must raise a MetricError; found {type(error).__name__}: {error}"
        ) from error
    raise AssertionError(f"{trial.name}: {words} must raise a MetricError; found none")


def _held_out(trial: _Trial, seed: int) -> inference.Spread:
    """The statistic between random disjoint halves of the real set."""
    statistic = trial.against_itself().statistic()
    with _nothing_raised(trial.name, "the real-vs-real floor"):
        return inference.floor(statistic, splits=SPLITS, seed=seed)


def _check_target(metric: Metric, held_out: inference.Spread) -> None:
    """An unbiased statistic is zero on average over random disjoint halves of one set."""
    if metric.target != "zero":
        return
    # The middle 95% of a normal distribution are 3.92 standard deviations wide.
    sd = (held_out.high - held_out.low) / 3.92
    chance = STANDARD_ERRORS * sd / np.sqrt(held_out.repeats) + ROUNDING
    assert abs(held_out.mean) <= chance, (
        f"{metric.name}: target is 'zero', but disjoint halves of one set score "
        f"{held_out.mean:.3g} on average, where chance is {chance:.2g} at most: mend the bias, or "
        "use the target 'floor'"
    )


def _check_direction(metric: Metric, held_out: inference.Spread, scene: _Scene) -> None:
    """By its direction, some corruption scores worse than 97.5% of held-out real images."""
    found = {}
    for words, synth in scene.worse.items():
        labels = np.array([f"synth-{i:03d}" for i in range(len(synth))])
        subjects = {"real": scene.subjects["real"], "synth": labels}
        found[words] = float(
            _trial(metric, replace(scene, synth=synth, subjects=subjects)).value()[0]
        )
        if _worse(metric.direction, found[words], held_out):
            return
    raise AssertionError(
        f"{metric.name}: by the direction '{metric.direction}' nothing is worse than disjoint "
        f"halves of the real set, which score {held_out.low:.3g} to {held_out.high:.3g}; found "
        f"{', '.join(f'{words} {value:.3g}' for words, value in found.items())}. "
        "Mend the direction, or give a set that it must see as worse="
    )


def _worse(direction: Direction, value: float, held_out: inference.Spread) -> bool:
    if direction == "lower":
        return value > held_out.high
    if direction == "higher":
        return value < held_out.low
    return abs(value) > max(abs(held_out.low), abs(held_out.high))


@contextmanager
def _nothing_raised(name: str, part: str) -> Iterator[None]:
    """Turn an error of the plugin into one that names the part of the contract."""
    try:
        yield
    except Exception as error:
        raise AssertionError(f"{name}: {part} raised {type(error).__name__}: {error}") from error


def _numbers(
    name: str,
    part: str,
    function: Callable[[Weights], Float64[np.ndarray, " b"]],
    weights: Weights,
) -> Float64[np.ndarray, " b"]:
    """Call a function of weights, and check that it gives a finite number for each row."""
    rows = len(weights["real"])
    with _nothing_raised(name, part):
        numbers = function(weights)
    assert isinstance(numbers, np.ndarray), f"{name}: {part} gives no numpy array: {numbers!r}"
    assert numbers.shape == (rows,), (
        f"{name}: {part} of {rows} rows of weights must be one number a row; found shape "
        f"{numbers.shape}"
    )
    assert numbers.dtype == np.float64, f"{name}: {part} gives {numbers.dtype}, not float64"
    assert np.isfinite(numbers).all(), f"{name}: {part} is not finite: {numbers}"
    return numbers


def _assert_equal(
    found: Float64[np.ndarray, " b"],
    expected: Float64[np.ndarray, " b"],
    tolerance: float,
    words: str,
) -> None:
    difference = np.abs(found - expected).max()
    assert difference <= tolerance * np.abs(expected).max(), (
        f"{words}: {found} where {expected} is expected"
    )


def _letters(words: str) -> str:
    """The letters and digits alone: "MS-SSIM" names ms_ssim."""
    return "".join(c for c in words.lower() if c.isalnum())


# The checks of an extractor


_SIMULATED = Space.of(
    GRID,
    np.array([[4, 0, 0, -94], [0, 4, 0, -112], [0, 0, 4, -76], [0, 0, 0, 1]]),
)


def _heads(count: int, seed: int) -> list[Float32[np.ndarray, "d h w"]]:
    """Ellipsoids in the place of the MNI152 brain: dark ventricles, bright white, grey rind."""
    rng = np.random.default_rng(seed)
    voxels = np.indices(GRID).reshape(3, -1)
    mm = _SIMULATED.matrix[:3, :3] @ voxels + _SIMULATED.matrix[:3, 3:]
    from_centre = mm - np.array([[0.0], [-18.0], [5.0]])
    heads = []
    for _ in range(count):
        semi_axes = np.array([[68.0], [86.0], [74.0]]) * rng.uniform(0.93, 1.0)
        radius = np.linalg.norm(from_centre / semi_axes, axis=0).reshape(GRID)
        tissue = np.select([radius < rng.uniform(0.15, 0.25), radius < 0.7], [0.15, 0.8], 0.5)
        texture = gaussian_filter(rng.normal(size=GRID), 1.5)
        lively = tissue + 0.05 * texture / texture.std()
        heads.append(np.where(radius < 1, lively.clip(0.05, 1), 0).astype(np.float32))
    return heads


def _built_without_torch(factory: Callable[[], Extractor]) -> Extractor:
    """Build an extractor while torch cannot be imported: lists of extractors are made so."""
    torch = sys.modules.get("torch")
    # None is how the import system is told that there is no such module.
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        return factory()
    except ImportError as error:
        raise AssertionError(
            f"constructing an extractor must not import torch; found {error}: import it in the "
            "methods that need it, and read weights at the first call of features()"
        ) from error
    finally:
        if torch is None:
            del sys.modules["torch"]
        else:
            sys.modules["torch"] = torch


def _check_extractor_attributes(extractor: Extractor) -> None:
    name = getattr(extractor, "name", type(extractor).__name__)
    for field in ("name", "preprocessing", "layer", "summary", "needs"):
        words = getattr(extractor, field, None)
        assert isinstance(words, str), f"{name}: {field} must be words; found {words!r}"
        assert words.strip(), f"{name}: {field} is empty"
    # Tables and protocols write "metric | extractor"; a path would be of one machine only.
    assert not set(name) & set(" |/\\"), f"{name}: name must hold no space, '|' or path"
    dim = getattr(extractor, "dim", None)
    assert isinstance(dim, int), f"{name}: dim must be a number of features; found {dim!r}"
    assert dim > 0, f"{name}: dim must be a number of features; found {dim!r}"
    space = getattr(extractor, "space", "missing")
    assert space is None or isinstance(space, Space), (
        f"{name}: space must be a synthbench.space.Space, or None for any grid; found {space!r}"
    )
    _check_weights_sha256(extractor)
    assert isinstance(extractor, Extractor), f"{name}: features() is missing"


def _check_weights_sha256(extractor: Extractor) -> None:
    found = getattr(extractor, "weights_sha256", "missing")
    assert found is None or re.fullmatch("[0-9a-f]{64}", str(found)), (
        f"{extractor.name}: weights_sha256 must be 64 lower-case hexadecimal digits, or None for "
        f"a formula; found {found!r}"
    )


def _check_features(
    extractor: Extractor, volumes: Float32[Tensor, "b 1 d h w"]
) -> Float32[Tensor, "b dim"]:
    """Call `features`, and look at what it returns and at what it left behind."""
    import torch

    name, before = extractor.name, volumes.clone()
    with _nothing_raised(name, "features()"):
        rows = extractor.features(volumes)
    assert torch.equal(volumes, before), (
        f"{name}: features() changes the volumes that it was given in place: copy them"
    )
    assert torch.is_tensor(rows), f"{name}: features() gives no tensor: {type(rows).__name__}"
    expected = (len(volumes), extractor.dim)
    assert tuple(rows.shape) == expected, (
        f"{name}: features() of {len(volumes)} volumes must have shape {expected}, a row a volume "
        f"and dim columns; found {tuple(rows.shape)}"
    )
    assert rows.dtype == torch.float32, f"{name}: features() gives {rows.dtype}, not float32"
    assert not rows.requires_grad, f"{name}: features() keeps the graph: use torch.no_grad()"
    assert bool(rows.isfinite().all()), f"{name}: features() is not finite"
    return rows


def _assert_same(extractor: Extractor, found: Tensor, expected: Tensor, words: str) -> None:
    difference = float((found - expected).abs().max())
    assert difference == 0, (
        f"{extractor.name}: the features of a volume differ {words}, by up to {difference:.3g}: "
        "take volumes one at a time, in eval mode and without random numbers"
    )


def _check_sees(extractor: Extractor, rows: Float32[Tensor, "3 dim"]) -> None:
    """Another head, and the first one blurred, have features of their own."""
    first, other, blurred = rows.double()
    for words, row in (("another head", other), (f"a blur of {BLUR_MM:g} mm", blurred)):
        moved = float((row - first).norm() / first.norm())
        assert moved > MOVED, (
            f"{extractor.name}: {words} moves the features by {moved:.2g} of their norm: they say "
            "nothing of the volume"
        )


def _check_volumes_refused(extractor: Extractor, volumes: Float32[Tensor, "2 1 d h w"]) -> None:
    """What is no volume in [0, 1] raises a MetricError that names the extractor."""

    def with_voxel(value: float) -> Tensor:
        changed = volumes.clone()
        changed[1, 0, 0, 0, 0] = value
        return changed

    bad = {
        "volumes without a channel axis": volumes[:, 0],
        "volumes of two channels": volumes.expand(-1, 2, -1, -1, -1),
        "no volume": volumes[:0],
        "volumes in float64": volumes.double(),
        "an intensity above 1": with_voxel(1.5),
        "a negative intensity": with_voxel(-0.5),
        "NaN": with_voxel(float("nan")),
    }
    for words, broken in bad.items():
        message = _volume_refusal(extractor, broken, words)
        assert extractor.name in message, (
            f"{extractor.name}: the error for {words} does not name the extractor: {message}"
        )


def _volume_refusal(extractor: Extractor, volumes: Tensor, words: str) -> str:
    found = "none"
    try:
        extractor.features(volumes)
    except MetricError as error:
        return str(error)
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    raise AssertionError(
        f"{extractor.name}: {words} must raise a MetricError; found {found}. "
        "Call check_volumes() first."
    )
