"""Effect replication: the words, on effects whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from synthbench.metrics.conditional import effects

N = 400
INDEX = np.arange(N)


def slope(size: float, seed: int, noise: float = 1.0):
    """An age slope of `size` a decade, at equal sex."""
    rng = np.random.default_rng(seed)
    age = rng.uniform(20, 80, N)
    sex = rng.random(N) < 0.5
    region = size * age / 10 + sex + noise * rng.normal(size=N)
    return effects.age_slope(region, age, sex)


def correlated(r: float, seed: int, n: int = N):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, n))
    return effects.region_correlation(x, r * x + np.sqrt(1 - r**2) * y)


@pytest.mark.parametrize(
    ("real", "synth", "word"),
    [
        # Standard errors are about 0.03, so these are far apart or near enough.
        pytest.param(1.0, 1.0, "replicated", id="alike"),
        pytest.param(1.0, 1.4, "replicated", id="within the margin"),
        pytest.param(-1.0, -1.0, "replicated", id="both negative"),
        pytest.param(1.0, 0.2, "weaker", id="weaker"),
        pytest.param(-1.0, 0.0, "weaker", id="gone"),
        pytest.param(1.0, 3.0, "stronger", id="stronger"),
        pytest.param(-1.0, -3.0, "stronger", id="stronger, negative"),
        pytest.param(1.0, -1.0, "reversed", id="reversed"),
        pytest.param(0.0, 1.0, "stronger", id="only in the synthetic set"),
        pytest.param(0.0, 0.0, "cannot tell", id="nothing to replicate"),
    ],
)
def test_a_slope_has_its_word(real, synth, word):
    found = effects.compare(slope(real, 1), slope(synth, 2), INDEX, INDEX, resamples=200)
    assert found.word == word
    assert found.real is not None
    assert found.real.value == pytest.approx(real, abs=0.1)


def test_noise_makes_no_replication():
    """Slopes with standard errors of their own size: no difference shows, and no likeness."""
    found = effects.compare(
        slope(1, 1, noise=30), slope(1, 2, noise=30), INDEX, INDEX, resamples=200
    )
    assert found.word == "cannot tell"


@pytest.mark.parametrize(
    ("real", "synth", "word"),
    [(0.6, 0.6, "replicated"), (0.0, 0.0, "replicated"), (0.8, 0.3, "weaker"),
     (0.6, -0.6, "reversed"), (0.0, 0.7, "stronger")],
)  # fmt: skip
def test_a_correlation_has_its_word(real, synth, word):
    found = effects.compare(correlated(real, 1), correlated(synth, 2), INDEX, INDEX, resamples=200)
    assert found.word == word


def test_a_constant_region_cannot_be_told():
    age = np.linspace(20, 80, 20)
    flat = effects.region_correlation(np.ones(20), age)
    found = effects.compare(flat, correlated(0.5, 1, 20), np.arange(20), np.arange(20))
    assert found.word == "cannot tell"
    assert found.difference is None


def test_the_sex_difference_is_at_equal_age():
    """Men 30 years older, a region that only age moves: d is near 0 at equal age, large without."""
    rng = np.random.default_rng(0)
    sex = np.arange(N) % 2 == 0
    age = 40 + 30 * sex + rng.normal(size=N) * 8
    region = age + rng.normal(size=N)
    ones = np.ones((1, N))
    at_equal_age = effects.sex_difference(region, sex, age).function(ones)[0][0]
    plain = effects.sex_difference(region, sex, None).function(ones)[0][0]
    assert abs(at_equal_age) < 0.5
    assert plain > 3
