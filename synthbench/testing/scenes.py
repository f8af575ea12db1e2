"""Simulated sets on which a metric is checked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64
from scipy.ndimage import gaussian_filter

from synthbench.metrics.metric import CrossMetric, Metric, Statistic, VolumeMetric, Weights, ones
from synthbench.testing.checks import GRID, nothing_raised

SPACING = (4.0, 4.0, 4.0)
"""Voxel sizes of the simulated volumes in mm; `GRID` then has about the extent of a head."""


@dataclass(frozen=True)
class Scene:
    """Simulated images: rows of features, or volumes.

    `worse` holds synthetic sets that are worse than `real`, by the name of their fault.
    """

    real: np.ndarray
    synth: np.ndarray
    subjects: dict[str, np.ndarray]
    worse: dict[str, np.ndarray]
    mask: Bool[np.ndarray, "d h w"] | None = None


@dataclass(frozen=True)
class Trial:
    """A metric and the input of its `prepare`: one row per image, or a square matrix of pairs."""

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

    def chosen(self, real: np.ndarray, synth: np.ndarray) -> Trial:
        """The trial of these images, which may repeat; copies belong to one subject."""
        return replace(
            self,
            real=self.real[np.ix_(real, real)] if self.pairs else self.real[real],
            synth=self.synth[np.ix_(synth, synth)] if self.pairs else self.synth[synth],
            subjects={"real": self.subjects["real"][real], "synth": self.subjects["synth"][synth]},
            cross=None if self.cross is None else self.cross[np.ix_(real, synth)],
            real_cross=None if self.real_cross is None else self.real_cross[np.ix_(real, real)],
        )

    def against_itself(self) -> Trial:
        """The real set in both roles, one image per subject."""
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
        cross: dict[str, Any] = {} if self.cross is None else {"cross": self.cross}
        statistic: Statistic = self.metric.prepare(
            self.real, self.synth, subjects=self.subjects, **cross, **self.settings
        )
        return statistic

    def statistic(self) -> Statistic:
        with nothing_raised(self.name, "prepare()"):
            return self.prepare()

    def value(self, weights: Weights | None = None) -> Float64[np.ndarray, " b"]:
        """The values under each row of weights, by default all ones."""
        statistic = self.statistic()
        chosen = ones(statistic) if weights is None else weights
        return numbers(self.name, "value()", statistic.value, chosen)


def _labels(role: str, n: int) -> np.ndarray:
    """Names of n - 1 subjects: the first one has two images."""
    return np.array([f"{role}-{max(0, i - 1):03d}" for i in range(n)])


def feature_scene(n: int, seed: int, d: int = 6) -> Scene:
    """Return n real and n - 1 synthetic rows of d normal features."""
    rng = np.random.default_rng(seed)
    real, synth = rng.normal(size=(n, d)), 0.8 * rng.normal(size=(n - 1, d)) + 0.5
    for rows in (real, synth):
        rows[1] = rows[0] + 0.1 * rng.normal(size=d)
    like_real = rng.normal(size=(n - 1, d))
    return Scene(
        real=real,
        synth=synth,
        subjects={"real": _labels("real", n), "synth": _labels("synth", n - 1)},
        worse={
            "shifted": like_real + 10,
            "spread out": like_real * 10,
            "all alike": like_real / 100,
        },
    )


def volume_scene(n: int, seed: int) -> Scene:
    """Return n real and n - 1 synthetic smooth volumes inside an ellipsoid."""
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
    return Scene(
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


def trial_of(metric: Metric, scene: Scene) -> Trial:
    """Freeze the settings as a protocol stores them, measure the volumes, and return the trial."""
    settings = _frozen(metric, scene)
    if not isinstance(metric, VolumeMetric):
        return Trial(metric, settings, scene.real, scene.synth, scene.subjects)
    assert scene.mask is not None
    real, synth = (
        _measured(metric, volumes, scene.mask, settings) for volumes in (scene.real, scene.synth)
    )
    if not isinstance(metric, CrossMetric):
        return Trial(metric, settings, real, synth, scene.subjects)
    across = []
    for others in (scene.synth, scene.real):
        with nothing_raised(metric.name, "measure_across()"):
            across.append(metric.measure_across(scene.real, others, scene.mask, settings))
        shape = (len(scene.real), len(others))
        assert across[-1].shape == shape, (
            f"{metric.name}: measure_across() of {shape[0]} and {shape[1]} volumes has shape "
            f"{across[-1].shape}"
        )
    return Trial(metric, settings, real, synth, scene.subjects, across[0], across[1])


def _frozen(metric: Metric, scene: Scene) -> dict[str, Any]:
    with nothing_raised(metric.name, "freeze()"):
        if metric.needs == "volumes":
            settings = metric.freeze(None, None, spacing=SPACING)
        else:
            settings = metric.freeze(scene.real, scene.subjects["real"])
    assert isinstance(settings, dict), f"{metric.name}: freeze() returns no dict: {settings!r}"
    assert "formula" not in settings, f"{metric.name}: freeze() must not set 'formula'"
    try:
        stored: dict[str, Any] = json.loads(json.dumps(settings, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{metric.name}: freeze() must return JSON values: {error}") from error
    assert stored == settings, (
        f"{metric.name}: freeze() must return values that JSON does not change (a tuple becomes a "
        f"list, a key a string); found {settings}"
    )
    return stored


def _measured(
    metric: VolumeMetric,
    volumes: np.ndarray,
    mask: Bool[np.ndarray, "d h w"],
    settings: Mapping[str, Any],
) -> Float64[np.ndarray, "n _"]:
    steps: list[tuple[int, int]] = []
    with nothing_raised(metric.name, "measure()"):
        rows = metric.measure(
            volumes, mask, settings, lambda done, total: steps.append((done, total))
        )
    n = len(volumes)
    assert all(0 <= done <= total for done, total in steps), (
        f"{metric.name}: measure() reports progress beyond its total: {steps}"
    )
    assert rows.ndim == 2, (
        f"{metric.name}: measure() must return a matrix; found shape {rows.shape}"
    )
    assert len(rows) == n, f"{metric.name}: measure() of {n} volumes returns {len(rows)} rows"
    if metric.pairs:
        assert rows.shape == (n, n), (
            f"{metric.name}: pairs is True, but measure() of {n} volumes has shape {rows.shape}"
        )
        assert np.array_equal(rows, rows.T), f"{metric.name}: measure() is not symmetric in pairs"
    return rows


def numbers(
    name: str,
    part: str,
    function: Callable[[Weights], Float64[np.ndarray, " b"]],
    weights: Weights,
) -> Float64[np.ndarray, " b"]:
    """Return the result of a function of weights, checked to be one finite number per row."""
    rows = len(weights["real"])
    with nothing_raised(name, part):
        numbers = function(weights)
    assert isinstance(numbers, np.ndarray), f"{name}: {part} returns no numpy array: {numbers!r}"
    assert numbers.shape == (rows,), (
        f"{name}: {part} of {rows} rows of weights must be one number per row; found shape "
        f"{numbers.shape}"
    )
    assert numbers.dtype == np.float64, f"{name}: {part} must return float64; found {numbers.dtype}"
    assert np.isfinite(numbers).all(), f"{name}: {part} is not finite: {numbers}"
    return numbers
