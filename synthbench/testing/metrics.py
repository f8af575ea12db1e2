"""Checks that a metric meets its contract."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
from jaxtyping import Float64

from synthbench.errors import MetricError, UsageError
from synthbench.metrics import subjects as subjects_module
from synthbench.metrics.inference import contracts, floors, intervals
from synthbench.metrics.metric import (
    Composite,
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
    ones,
)
from synthbench.testing.checks import ROUNDING, letters, nothing_raised
from synthbench.testing.scenes import Scene, Trial, feature_scene, numbers, trial_of, volume_scene

SINGLE_PRECISION = 1e-5
"""Relative difference of the values of a metric that measures float32 volumes in another order."""

SPLITS = 200
"""Random halves of the real set that serve as held-out images."""

STANDARD_ERRORS = 5
"""The mean of an unbiased statistic over the splits may lie this far from zero by chance."""


def check_metric(
    metric: Metric, *, images: int | None = None, worse: np.ndarray | None = None, seed: int = 0
) -> None:
    """Check that a metric meets the contract of `synthbench.metrics.metric.Metric`.

    Both sets are simulated: features from normal distributions, or smooth random volumes inside an
    ellipsoid in a grid of 48 x 48 x 48 voxels of 4 mm. The first two images of a set belong to one
    subject.

    Parameters
    ----------
    metric
        An instance of the plugin, which needs features or volumes.
    images
        Number of real images, at least 8; the synthetic set has one fewer. None is 16 rows of
        features, or 8 volumes.
    worse
        A synthetic set that the metric must score worse than real images: features of 6 columns,
        or float32 volumes in [0, 1] on the grid above. None: it must score at least one of several
        sets worse, features that are shifted, spread out or all alike, or volumes that are noisy,
        blurred, dim or all alike. Pass a set for a metric that detects something else.
    seed
        Seed of the simulation.

    Raises
    ------
    AssertionError
        The metric breaks the contract; the message names the part.
    UsageError
        The metric needs training images, which are not simulated, or `images` is below 8.

    Examples
    --------
    >>> from synthbench.metrics.fid import FID
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
        scene = volume_scene(8 if images is None else images, seed)
    else:
        scene = feature_scene(16 if images is None else images, seed)
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


def _check_attributes(metric: Metric) -> None:
    name = getattr(metric, "name", type(metric).__name__)
    for field in ("name", "label", "formula", "sees", "misses"):
        text = getattr(metric, field, None)
        assert isinstance(text, str), f"{name}: {field} must be a text; found {text!r}"
        assert text.strip(), f"{name}: {field} is empty"
    # Tables and protocols write "name | extractor" and "name.part".
    assert not set(name) & set(" |."), f"{name}: name must hold no space, '|' or '.'"
    allowed = {
        "needs": Needs, "direction": Direction, "target": Target, "interval": IntervalMethod,
        "role": Role,
    }  # fmt: skip
    for field, values in allowed.items():
        found, known = getattr(metric, field, None), get_args(values)
        assert found in known, f"{name}: {field} must be one of {known}; found {found!r}"
    for field in ("drawn", "label_with_n", "of_variety"):
        found = getattr(metric, field, None)
        assert isinstance(found, bool), f"{name}: {field} must be True or False; found {found!r}"
    for method in ("freeze", "prepare", "p_value"):
        assert callable(getattr(metric, method, None)), f"{name}: {method}() is missing"


def _check_inputs_kept(metric: Metric, scene: Scene) -> Trial:
    """Return the trial of the scene, after a check that preparing and scoring changed no array."""
    images = {"real": scene.real.copy(), "synth": scene.synth.copy()}
    trial = trial_of(metric, scene)
    rows = {"real": trial.real.copy(), "synth": trial.synth.copy()}
    statistic = trial.statistic()
    weights = ones(statistic)
    with nothing_raised(metric.name, "value()"):
        statistic.value(weights)
    for before, after in (
        (images, {"real": scene.real, "synth": scene.synth}),
        (rows, {"real": trial.real, "synth": trial.synth}),
        ({role: np.ones_like(w) for role, w in weights.items()}, weights),
    ):
        for role, array in after.items():
            assert np.array_equal(array, before[role]), (
                f"{metric.name}: it changes an array of {role} in place: copy the array"
            )
    return trial


def _check_statistic(trial: Trial) -> None:
    name, statistic = trial.name, trial.statistic()
    assert isinstance(statistic, Statistic), (
        f"{name}: the result of prepare() has no value() or no subjects"
    )
    needed = {
        "studentized": (Studentized, "variance()"),
        "score": (contracts.Bounded, "bounds"),
        "asinh": (contracts.SquaredDistance, "null_variance()"),
    }
    contract, method = needed.get(trial.metric.interval, (Statistic, "value()"))
    assert isinstance(statistic, contract), (
        f"{name}: interval is '{trial.metric.interval}', but the statistic has no {method}"
    )
    roles = set(statistic.subjects)
    assert roles == {"real", "synth"}, (
        f"{name}: subjects must have the roles real and synth; found {sorted(roles)}"
    )
    for role, labels in trial.subjects.items():
        index = np.asarray(statistic.subjects[role])
        expected = subjects_module.subject_index({role: labels}, **{role: len(labels)})[role]
        assert np.array_equal(index, expected), (
            f"{name}: subjects of {role} must be {expected}; found {index}: use "
            "subject_index(subjects)"
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


def _check_same_twice(trial: Trial) -> None:
    first, second = trial.value(), trial.value()
    assert np.array_equal(first, second), (
        f"{trial.name}: the same images gave {first[0]!r}, then {second[0]!r}: use a seed from "
        "the settings"
    )


def _check_rows_apart(trial: Trial, seed: int) -> None:
    """Check that the value of a row of weights does not depend on the other rows."""
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
        together = numbers(trial.name, part, function, weights)
        rows = [{role: w[i : i + 1] for role, w in weights.items()} for i in range(len(together))]
        alone = [numbers(trial.name, part, function, row)[0] for row in rows]
        _assert_equal(
            together,
            np.array(alone),
            ROUNDING,
            f"{trial.name}: {part} of a row of weights depends on the other rows",
        )


def _check_order(trial: Trial, scene: Scene, seed: int) -> None:
    """Check that images in another order give the same value, from freezing to preparing."""
    rng = np.random.default_rng(seed)
    real, synth = rng.permutation(len(scene.real)), rng.permutation(len(scene.synth))
    subjects = {"real": scene.subjects["real"][real], "synth": scene.subjects["synth"][synth]}
    shuffled = replace(scene, real=scene.real[real], synth=scene.synth[synth], subjects=subjects)
    _assert_equal(
        trial_of(trial.metric, shuffled).value(),
        trial.value(),
        SINGLE_PRECISION if trial.metric.needs == "volumes" else 100 * ROUNDING,
        f"{trial.name}: the value depends on the order of the images",
    )


def _check_weights_as_rows(trial: Trial, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = {"real": len(trial.real), "synth": len(trial.synth)}
    # Both rows leave out the fourth image, the second row also one of the two images of a subject.
    left_out = {role: np.ones((2, n)) for role, n in sizes.items()}
    for w in left_out.values():
        w[:, 3] = 0
        w[1, 1] = 0
    counts = {role: rng.integers(1, 4, size=(2, n)).astype(float) for role, n in sizes.items()}
    for weights, fault in (
        (left_out, "images of weight zero must have no effect"),
        (counts, "an image of weight 2 must count as two images of one subject"),
    ):
        found = trial.value(weights)
        expected = [
            trial.chosen(
                np.repeat(np.arange(sizes["real"]), w.astype(int)),
                np.repeat(np.arange(sizes["synth"]), v.astype(int)),
            ).value()[0]
            for w, v in zip(weights["real"], weights["synth"], strict=True)
        ]
        _assert_equal(found, np.array(expected), 100 * ROUNDING, f"{trial.name}: {fault}")


def _check_intervals(trial: Trial, seed: int) -> None:
    statistic, name = trial.statistic(), trial.name
    methods: list[IntervalMethod] = ["jackknife", "percentile"]
    if isinstance(statistic, Studentized):
        methods.append("studentized")
    if isinstance(statistic, contracts.SquaredDistance):
        methods.append("asinh")
    if isinstance(statistic, contracts.Bounded) and np.isfinite(statistic.bounds[0]):
        methods.append("score")
    for method in methods:
        with nothing_raised(name, f"the {method} interval"):
            found = intervals.interval(statistic, method, resamples=99, seed=seed)
        assert np.isfinite([found.low, found.high]).all(), f"{name}: {method}: {found}"
    if isinstance(statistic, Studentized):
        variance = numbers(name, "variance()", statistic.variance, ones(statistic))[0]
        by_jackknife = intervals.jackknife_se(statistic) ** 2
        assert by_jackknife / 3 <= variance <= 3 * by_jackknife, (
            f"{name}: variance() is {variance:.3g} and the jackknife's is {by_jackknife:.3g}: "
            "variance() must estimate the sampling variance of value()"
        )


def _check_p_value(trial: Trial) -> None:
    def p(permutations: int = 19) -> float | None:
        with nothing_raised(trial.name, "p_value()"):
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


def _check_refusals(trial: Trial) -> None:
    """Check that input without a score raises a MetricError that names the metric."""

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
    for fault, broken in bad.items():
        message = _refusal(broken, fault)
        assert letters(trial.name) in letters(message), (
            f"{trial.name}: the error for {fault} does not name the metric: {message}"
        )


def _refusal(trial: Trial, fault: str) -> str:
    try:
        statistic = trial.prepare()
        statistic.value(ones(statistic))
    except MetricError as error:
        return str(error)
    except Exception as error:
        raise AssertionError(
            f"{trial.name}: {fault} must raise a MetricError; found {type(error).__name__}: {error}"
        ) from error
    raise AssertionError(f"{trial.name}: {fault} must raise a MetricError; found none")


def _held_out(trial: Trial, seed: int) -> contracts.Spread:
    """The statistic between random disjoint halves of the real set."""
    statistic = trial.against_itself().statistic()
    with nothing_raised(trial.name, "the real-vs-real floor"):
        return floors.floor(statistic, splits=SPLITS, seed=seed)


def _check_target(metric: Metric, held_out: contracts.Spread) -> None:
    """Check that an unbiased statistic is zero on average over disjoint halves of one set."""
    if metric.target != "zero":
        return
    # The middle 95% of a normal distribution are 3.92 standard deviations wide.
    sd = (held_out.high - held_out.low) / 3.92
    chance = STANDARD_ERRORS * sd / np.sqrt(held_out.repeats) + ROUNDING
    assert abs(held_out.mean) <= chance, (
        f"{metric.name}: target is 'zero', but disjoint halves of one set score "
        f"{held_out.mean:.3g} on average, and chance explains at most {chance:.2g}: fix the bias, "
        "or use the target 'floor'"
    )


def _check_direction(metric: Metric, held_out: contracts.Spread, scene: Scene) -> None:
    """Check that some corruption scores worse than 97.5% of held-out real images."""
    found = {}
    for corruption, synth in scene.worse.items():
        labels = np.array([f"synth-{i:03d}" for i in range(len(synth))])
        subjects = {"real": scene.subjects["real"], "synth": labels}
        found[corruption] = float(
            trial_of(metric, replace(scene, synth=synth, subjects=subjects)).value()[0]
        )
        if _worse(metric.direction, found[corruption], held_out):
            return
    raise AssertionError(
        f"{metric.name}: by the direction '{metric.direction}' nothing is worse than disjoint "
        f"halves of the real set, which score {held_out.low:.3g} to {held_out.high:.3g}; found "
        f"{', '.join(f'{corruption} {value:.3g}' for corruption, value in found.items())}. "
        "Fix the direction, or pass a set that it must score worse, worse=SET"
    )


def _worse(direction: Direction, value: float, held_out: contracts.Spread) -> bool:
    if direction == "lower":
        return value > held_out.high
    if direction == "higher":
        return value < held_out.low
    return abs(value) > max(abs(held_out.low), abs(held_out.high))


def _assert_equal(
    found: Float64[np.ndarray, " b"],
    expected: Float64[np.ndarray, " b"],
    tolerance: float,
    fault: str,
) -> None:
    difference = np.abs(found - expected).max()
    assert difference <= tolerance * np.abs(expected).max(), (
        f"{fault}: found {found}, expected {expected}"
    )
