"""The ResNet-10 with random weights."""

from __future__ import annotations

import hashlib
from fractions import Fraction

import numpy as np
import pytest
import torch

from synthbench.errors import MetricError, WeightsError
from synthbench.metrics.extractors import random_resnet
from synthbench.metrics.extractors.random_resnet import RandomResNet10
from tests.conftest import make_network
from tests.metrics.extractors.resnets import heads, published_shapes


@pytest.fixture(autouse=True, scope="module")
def _the_network_is_made_anew():
    """The copy that other tests share would hide what `load` does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(random_resnet, "_verified_network", make_network)
        yield


@pytest.fixture(scope="module")
def extractor() -> RandomResNet10:
    return RandomResNet10()


def test_random_weights_are_the_pinned_ones():
    found = random_resnet.sha256_of(random_resnet.random_weights(published_shapes(10)))
    assert found == RandomResNet10().weights_sha256


def test_he_uniform_against_rational_arithmetic():
    """The nearest float32 to (2k + 1 - 2^24) / 2^24 * b for k the top 24 bits of each word, in
    exact fractions, where b is the float32 nearest to sqrt(6 / fan_in) = sqrt(6 / 54) = 1/3.
    """
    stream = hashlib.shake_256(b"label").digest(4 * 108)
    bound = Fraction(float(np.float32(1 / 3)))
    expected = []
    for i in range(0, len(stream), 4):
        k = int.from_bytes(stream[i : i + 4], "little") // 256
        # A float64 holds this 48-bit product exactly, so rounding happens once.
        expected.append(float(Fraction(2 * k + 1 - 2**24, 2**24) * bound))
    found = random_resnet.he_uniform("label", (2, 2, 3, 3, 3))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.ravel(), np.array(expected, dtype=np.float32))


def test_he_uniform_has_variance_two_over_fan_in():
    """The standard error of a uniform law's variance is sqrt(4/5 / n) of it: 0.14% of 442,368
    draws. The bounds are four of them, and four of the mean's.
    """
    drawn = random_resnet.he_uniform("variance", (128, 128, 3, 3, 3)).astype(np.float64)
    expected = 2 / (128 * 27)
    assert drawn.var() == pytest.approx(expected, rel=4 * (0.8 / drawn.size) ** 0.5)
    assert abs(drawn.mean()) < 4 * (expected / drawn.size) ** 0.5
    assert np.abs(drawn).max() <= np.float32((6 / (128 * 27)) ** 0.5)


def test_two_loads_give_the_same_features(extractor: RandomResNet10):
    volumes = heads(1)
    assert torch.equal(extractor.features(volumes), RandomResNet10().features(volumes))


def test_other_random_weights_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(random_resnet, "SEED_LABEL", "another label")
    with pytest.raises(WeightsError, match=r"must have the sha256 [0-9a-f]{64}; found"):
        RandomResNet10().load()


def test_features_do_not_depend_on_the_batch(extractor: RandomResNet10):
    volumes = heads(2)
    together = extractor.features(volumes)
    alone = torch.cat([extractor.features(volume[None]) for volume in volumes])
    assert together.shape == (2, extractor.dim)
    assert together.dtype == torch.float32
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=0)


def test_features_tell_volumes_apart(extractor: RandomResNet10):
    first, second = extractor.features(heads(2)).double()
    assert torch.linalg.norm(first - second) > 1e-3 * torch.linalg.norm(first)


def test_features_do_not_depend_on_a_constant_scale(extractor: RandomResNet10):
    """The z-score removes the scale; 0.3 is no power of two, so roundings differ."""
    volumes = heads(1)
    whole, scaled = extractor.features(volumes), extractor.features(0.3 * volumes)
    torch.testing.assert_close(scaled, whole, rtol=1e-4, atol=1e-5 * float(whole.max()))


def test_features_are_ordinary_tensors_without_gradient(extractor: RandomResNet10):
    features = extractor.features(heads(1))
    assert not features.requires_grad
    assert not features.is_inference()


def test_a_blank_volume_is_named(extractor: RandomResNet10):
    volumes = heads(2)
    volumes[1] = 0
    with pytest.raises(MetricError, match=r"random-resnet10, volume 1: .*found none"):
        extractor.features(volumes)
