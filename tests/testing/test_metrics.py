"""The metric check passes what is sound, and names what is broken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from synthbench import registry
from synthbench.errors import MetricError, UsageError
from synthbench.metrics.inference.pairs import ratio
from synthbench.metrics.metric import BaseMetric, Statistic
from synthbench.metrics.mmd import MMD2
from synthbench.scoring.settings import DEFAULT_METRICS
from synthbench.testing import check_metric


# The presets of MS-SSIM are the same class with other settings, and need larger grids.
@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    DEFAULT_METRICS,
)
def test_every_built_in_metric_meets_the_contract(name):
    metric = registry.load("metrics", name)()
    if metric.needs == "training":
        with pytest.raises(UsageError, match=f"simulates no training images; found '{name}'"):
            check_metric(metric)
    else:
        check_metric(metric)


class MeanShift(BaseMetric):
    """Distance between the sets' means: sound, and the base of what is broken below."""

    name = "mean_shift"
    label = "mean shift"
    formula = "|mean of real - mean of synth|"
    sees = "a difference between the means"
    misses = "everything else"

    def value(self, real, synth, weights, **settings):
        means = [
            w @ rows / w.sum(axis=1, keepdims=True)
            for rows, w in ((real, weights["real"]), (synth, weights["synth"]))
        ]
        return np.linalg.norm(means[0] - means[1], axis=1)


class VolumeMeans(MeanShift):
    """The same of mean intensities inside the mask."""

    name = "volume_means"
    needs = "volumes"

    def measure(self, volumes, mask, settings, progress=None):
        return np.array([[volume[mask].mean(dtype=np.float64)] for volume in volumes])


@pytest.mark.parametrize("metric", [MeanShift, VolumeMeans])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_sound_metric_passes(metric, seed):
    check_metric(metric(), seed=seed)


def with_value(change: Callable[..., Any]) -> type[BaseMetric]:
    """The sound metric, its `value` replaced by `change(sound, real, synth, weights)`."""

    class Changed(MeanShift):
        def value(self, real, synth, weights, **settings):
            return change(super().value, real, synth, weights)

    return Changed


def with_attributes(**attributes: Any) -> type[BaseMetric]:
    return type("Changed", (MeanShift,), attributes)


def with_settings(settings: Any) -> type[BaseMetric]:
    return with_attributes(freeze=lambda *arguments, **named: settings)


def with_p_value(p: Callable[[], Any]) -> type[BaseMetric]:
    return with_attributes(p_value=lambda *arguments, **named: p())


def order_dependent(sound, real, synth, weights):
    return sound(real, synth, weights) + 0.01 * real[0, 0]


def weight_ignoring(sound, real, synth, weights):
    everyone = {role: np.ones_like(w) for role, w in weights.items()}
    return sound(real, synth, everyone)


def image_changing(sound, real, synth, weights):
    synth *= 2
    return sound(real, synth, weights)


def weight_changing(sound, real, synth, weights):
    weights["real"][:] /= weights["real"].sum(axis=1, keepdims=True)
    return sound(real, synth, weights)


def batch_dependent(sound, real, synth, weights):
    values = sound(real, synth, weights)
    return values / values.max() * values[0]


def unseeded(sound, real, synth, weights):
    return sound(real, synth, weights) + np.random.default_rng().random()


def of_one_number(sound, real, synth, weights):
    return sound(real, synth, weights)[:1]


def in_single_precision(sound, real, synth, weights):
    return sound(real, synth, weights).astype(np.float32)


def never_finite(sound, real, synth, weights):
    return sound(real, synth, weights) * np.nan


def failing(sound, real, synth, weights):
    raise IndexError("row 3")


def copies_counted(sound, real, synth, weights):
    """Mean product over pairs, the diagonal left out but not the pairs of copies."""
    w = weights["real"]
    products = real @ real.T
    np.fill_diagonal(products, 0)
    pairs = ratio(((w @ products) * w).sum(axis=1), w.sum(axis=1) ** 2 - (w**2).sum(axis=1))
    return sound(real, synth, weights) + pairs


class SubjectsIgnored(MeanShift):
    def prepare(self, real, synth, *, subjects=None, **settings):
        return super().prepare(real, synth, **settings)


class AnythingTaken(MeanShift):
    def prepare(self, real, synth, *, subjects=None, **settings):
        return super().prepare(np.nan_to_num(real), np.nan_to_num(synth), subjects=subjects)


class UncheckedRows(MeanShift):
    def prepare(self, real, synth, *, subjects=None, **settings):
        if np.ndim(real) != 2:
            raise ValueError("bad input")
        return super().prepare(real, synth, subjects=subjects)


class Anonymous(MeanShift):
    """Its rows are checked under the name of another metric."""

    def prepare(self, real, synth, *, subjects=None, **settings):
        return MeanShift().prepare(real, synth, subjects=subjects)

    name = "nameless"


class WrongVariance(MMD2):
    """It gives a standard deviation in place of a variance."""

    def prepare(self, real, synth, *, subjects=None, bandwidth=None, **settings):
        statistic = super().prepare(real, synth, subjects=subjects, bandwidth=bandwidth)
        return DeviationOf(statistic)


class DeviationOf:
    def __init__(self, statistic: Any) -> None:
        self.subjects: Mapping[str, np.ndarray] = statistic.subjects
        self.value = statistic.value
        self.statistic = statistic

    def variance(self, weights):
        return np.sqrt(self.statistic.variance(weights))


class MissingRows(VolumeMeans):
    def measure(self, volumes, mask, settings, progress=None):
        return super().measure(volumes, mask, settings)[1:]


class NoPairs(VolumeMeans):
    pairs = True


class Unmeasured(MeanShift):
    needs = "volumes"


class VolumesChanged(VolumeMeans):
    def measure(self, volumes, mask, settings, progress=None):
        for volume in volumes:
            volume[~mask] = 1
        return super().measure(volumes, mask, settings)


BROKEN = {
    "no words": (with_attributes(sees=" "), "mean_shift: sees is empty"),
    "missing words": (with_attributes(formula=None), "formula must be a text; found None"),
    "name": (with_attributes(name="mean.shift"), r"name must hold no space, '\|' or '\.'"),
    "direction": (with_attributes(direction="up"), r"direction must be one of \('lower'.*'up'"),
    "interval": (with_attributes(interval="exact"), "interval must be one of .*'exact'"),
    "role": (with_attributes(role="unranked"), r"role must be one of \('ranked'.*'unranked'"),
    "drawn": (with_attributes(drawn=None), "drawn must be True or False; found None"),
    "with n": (with_attributes(label_with_n="n"), "label_with_n must be True or False; found 'n'"),
    "variety": (with_attributes(of_variety=0), "of_variety must be True or False; found 0"),
    "no p_value": (with_attributes(p_value=None), r"p_value\(\) is missing"),
    "no measure": (Unmeasured, r"needs is 'volumes', but measure\(\) or pairs is missing"),
    "no variance": (
        with_attributes(interval="studentized"),
        r"interval is 'studentized', but the statistic has no variance\(\)",
    ),
    "wrong variance": (WrongVariance, r"variance\(\) is .* and the jackknife's is"),
    "settings not JSON": (
        with_settings({"scale": np.ones(2)}),
        "must return JSON values: .*ndarray",
    ),
    "settings not finite": (with_settings({"scale": np.inf}), "must return JSON values"),
    "settings changed": (with_settings({"scales": (1, 2)}), "values that JSON does not change"),
    "settings no dict": (with_settings(3), "returns no dict: 3"),
    "formula set": (with_settings({"formula": "x"}), "must not set 'formula'"),
    "order": (with_value(order_dependent), "depends on the order of the images"),
    "weights ignored": (with_value(weight_ignoring), "images of weight zero must have no effect"),
    "copies counted": (with_value(copies_counted), "an image of weight 2 must count as two images"),
    "images changed": (with_value(image_changing), "changes an array of synth in place"),
    "weights changed": (with_value(weight_changing), "changes an array of real in place"),
    "volumes changed": (VolumesChanged, "changes an array of real in place"),
    "batch": (with_value(batch_dependent), r"value\(\) of a row .* depends on the other rows"),
    "unseeded": (with_value(unseeded), "the same images gave .*: use a seed"),
    "shape": (with_value(of_one_number), "must be one number per row; found shape"),
    "dtype": (with_value(in_single_precision), r"value\(\) must return float64; found float32"),
    "not finite": (with_value(never_finite), r"value\(\) is not finite"),
    "an exception": (with_value(failing), r"value\(\) raised IndexError: row 3"),
    "subjects": (SubjectsIgnored, r"subjects of real must be .*use subject_index\(subjects\)"),
    "NaN taken": (AnythingTaken, "NaN must raise a MetricError; found none"),
    "other error": (UncheckedRows, "must raise a MetricError; found ValueError: bad input"),
    "nameless error": (Anonymous, "the error for .* does not name the metric: mean_shift"),
    "p beyond 1": (with_p_value(lambda: 1.5), r"p_value\(\) is 1.5, not in \(0, 1\]"),
    "p of zero": (with_p_value(lambda: 0.0), r"p_value\(\) is 0.0, not in"),
    "p unseeded": (with_p_value(np.random.default_rng(0).random), "with one seed gave"),
    "biased": (with_attributes(target="zero"), "target is 'zero', but disjoint halves .* score"),
    "direction reversed": (with_attributes(direction="higher"), "by the direction 'higher' noth"),
    "rows missing": (MissingRows, r"measure\(\) of 8 volumes returns 7 rows"),
    "pairs": (NoPairs, r"pairs is True, but measure\(\) of 8 volumes has shape \(8, 1\)"),
}


@pytest.mark.parametrize(("metric", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_metric_is_named_with_what_is_broken(metric, message):
    with pytest.raises(AssertionError, match=message) as refusal:
        check_metric(metric())
    assert str(refusal.value).startswith(f"{metric.name}: ")


class CorrelationShift(BaseMetric):
    """Change of the correlation between the first two features: no default corruption has it."""

    name = "correlation_shift"
    label = "correlation shift"
    formula = "|r of real - r of synth|, of the first two features"
    sees = "a change of that correlation"
    misses = "everything else"

    def value(self, real, synth, weights, **settings):
        return np.abs(
            self._correlation(real, weights["real"]) - self._correlation(synth, weights["synth"])
        )

    def _correlation(self, rows, w):
        n = w.sum(axis=1, keepdims=True)
        a, b = (column - w @ column[:, None] / n for column in rows[:, :2].T)
        return (w * a * b).sum(axis=1) / np.sqrt((w * a**2).sum(axis=1) * (w * b**2).sum(axis=1))


def test_a_metric_of_something_else_is_given_what_it_must_see():
    """Two equal features have the correlation 1, independent ones about 0."""
    with pytest.raises(AssertionError, match=r"nothing is worse .* pass a set that it must score"):
        check_metric(CorrelationShift(), images=40)
    equal = np.random.default_rng(0).normal(size=(39, 6))
    equal[:, 1] = equal[:, 0]
    check_metric(CorrelationShift(), images=40, worse=equal)


def test_a_metric_that_needs_more_images_is_given_them():
    class Hungry(MeanShift):
        def prepare(self, real, synth, *, subjects=None, **settings) -> Statistic:
            if 2 <= len(real) < 30:
                raise MetricError(f"mean_shift: at least 30 images; found {len(real)}")
            return super().prepare(real, synth, subjects=subjects)

    with pytest.raises(AssertionError, match=r"prepare\(\) raised MetricError: .* found 16"):
        check_metric(Hungry())
    check_metric(Hungry(), images=35)


def test_too_few_images_are_refused():
    with pytest.raises(UsageError, match="images must be at least 8; found 7"):
        check_metric(MeanShift(), images=7)
