from __future__ import annotations

import numpy as np
import pytest

from synthbench.errors import MetricError
from synthbench.metrics.inference.floors import floor
from synthbench.metrics.inference.intervals import interval
from synthbench.metrics.inference.resampling import estimate
from synthbench.metrics.measures.constraints import (
    Constraints,
    constraint_violations,
    expected_share,
    limits,
)
from synthbench.metrics.metric import Composite, Metric
from synthbench.records.reasons import reason_of
from synthbench.testing import check_metric


def by_sorting(x, y):
    """The share by Python's sort, one measure at a time."""
    r = max(1, int(0.005 * (len(x) + 1) + 1e-9))
    bad = set()
    for column in range(x.shape[1]):
        ordered = sorted(x[:, column])
        low, high = ordered[r - 1], ordered[-r]
        bad |= {i for i, value in enumerate(y[:, column]) if not low <= value <= high}
    return len(bad) / len(y)


def sets(n=40, m=30, d=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), 1.2 * rng.normal(size=(m, d))


def test_it_is_a_sound_metric():
    """With 16 images half of the real ones violate a limit of the others: it takes more."""
    assert isinstance(Constraints(), Metric)
    check_metric(Constraints(), images=120)


@pytest.mark.parametrize("n", [5, 40, 398, 399, 650])
def test_the_share_is_that_of_sorted_values(n):
    x, y = sets(n, 60, 3)
    assert constraint_violations(x, y) == pytest.approx(by_sorting(x, y), abs=1e-12)


def test_counts_are_repeated_images():
    x, y = sets()
    rng = np.random.default_rng(1)
    w = rng.multinomial(40, np.full(40, 1 / 40), size=4)
    v = rng.multinomial(30, np.full(30, 1 / 30), size=4)
    found = Constraints().prepare(x, y).value({"real": w.astype(float), "synth": v.astype(float)})
    expected = [
        by_sorting(np.repeat(x, a, axis=0), np.repeat(y, b, axis=0))
        for a, b in zip(w, v, strict=True)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize(("n", "share"), [(70, 2 / 71), (35, 2 / 36), (399, 4 / 400), (1, 1.0)])
def test_the_expected_share_of_real_images_is_that_of_order_statistics(n, share):
    assert expected_share(n) == pytest.approx(share)


@pytest.mark.parametrize("draw", ["normal", "exponential"])
def test_real_images_violate_one_measure_as_often_as_expected_in_any_distribution(draw):
    """The mean over 600 draws of 20 against 20 images is within four of its standard errors."""
    rng = np.random.default_rng(2)
    values = getattr(rng, draw)(size=(2, 600, 20, 1))
    shares = [constraint_violations(x, y) for x, y in zip(*values, strict=True)]
    error = np.std(shares) / np.sqrt(len(shares))
    assert abs(np.mean(shares) - expected_share(20)) < 4 * error


def test_the_floor_states_the_share_of_real_images():
    """At 100 images the halves have 50: each measure is violated with probability 2 / 51."""
    x, _ = sets(100, d=4)
    statistic = Constraints().prepare(x, x)
    assert isinstance(statistic, Composite)
    part = statistic.parts()["per_measure"].statistic
    found = floor(part, splits=200, seed=0)
    assert found.mean == pytest.approx(expected_share(50), rel=0.15)


def test_it_responds_to_larger_ventricles_and_not_to_a_smaller_spread():
    """A column is the ventricles' volume, log-normal as in people; each dose enlarges it."""
    rng = np.random.default_rng(3)
    real, synth = (
        np.column_stack([np.exp(rng.normal(3, 0.4, size=70)), rng.normal(size=(70, 5))])
        for _ in range(2)
    )
    shares = []
    for factor in (1.0, 1.5, 2.0, 4.0, 10.0):
        larger = synth.copy()
        larger[:, 0] *= factor
        shares.append(constraint_violations(real, larger))
    assert shares == sorted(shares)
    assert shares[0] < 0.3
    assert shares[-1] > 0.9
    middle = real.mean(axis=0) + 0.2 * (synth - real.mean(axis=0))
    assert constraint_violations(real, middle) == 0


def test_limits_of_a_single_image_are_that_image():
    low, high = limits(np.array([[1.0], [5.0], [9.0]]), np.array([[0.0, 0.5, 0.0]]))
    assert low.item() == high.item() == 5.0


def test_the_interval_lies_in_its_bounds():
    x, y = sets()
    statistic = Constraints().prepare(x, y)
    found = interval(statistic, Constraints.interval, seed=0)
    assert 0 <= found.low < estimate(statistic) < found.high <= 1


def test_features_of_a_network_are_refused():
    x = np.random.default_rng(4).normal(size=(9, 512))
    with pytest.raises(MetricError, match=r"at most 256; found 512 features.*anatomy-limits") as e:
        Constraints().prepare(x, x)
    assert reason_of(e.value) == {
        "code": "too many features", "numbers": {"needed": 256, "found": 512},
    }  # fmt: skip
