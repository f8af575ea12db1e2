"""Latents: their mean, their scale, their draws and their files."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthbench.generators.latent.latents import (
    LatentCache,
    LatentMean,
    Latents,
    LatentSource,
    scale_factor,
)

# ---------------------------------------------------------------- latents


def latents(n=5, seed=0):
    rng = np.random.default_rng(seed)
    mean = rng.normal(1.5, 2, (n, 2, 3, 4, 3)).astype(np.float32)
    return Latents(mean, np.abs(rng.normal(1, 0.2, mean.shape)).astype(np.float32))


SHAPE = (2, 3, 4, 3)


NOTHING = np.zeros((50, 0), np.float32)


def test_the_scale_factor_is_that_of_many_draws():
    """Variance of a mixture: of the means, plus the mean of the variances."""
    own = latents(n=50)
    rng = np.random.default_rng(1)
    drawn = own.mean + own.sigma * rng.normal(size=(200, *own.mean.shape)).astype(np.float32)
    factor = scale_factor(own, LatentMean.zero(SHAPE, 0), NOTHING)
    assert factor == pytest.approx(1 / drawn.std(), rel=2e-3)


def test_a_mean_without_conditions_is_the_mean_volume():
    own = latents(n=50)
    mean = LatentMean.fitted(own, NOTHING)
    assert np.allclose(mean.coefficients[0], own.mean.mean(axis=0), atol=1e-5)


def test_a_mean_of_conditions_is_the_least_squares_fit():
    """Against numpy's own solver, voxel by voxel; the row of no condition has the mean volume."""
    own = latents(n=50)
    rng = np.random.default_rng(2)
    encoded = np.concatenate([rng.uniform(-4, 4, (50, 2)), np.zeros((50, 2))], axis=1)
    encoded = encoded.astype(np.float32)
    unconditional = np.array([0, 0, 4, 4], np.float32)
    mean = LatentMean.fitted(own, encoded, unconditional, dropout=0.1)
    design = np.concatenate([np.ones((50, 1)), encoded[:, :2]], axis=1)
    expected = np.linalg.lstsq(design, own.mean.reshape(50, -1), rcond=None)[0]
    assert np.allclose(mean.coefficients[:3].reshape(3, -1), expected, atol=1e-4)
    assert np.allclose(mean.of(unconditional), own.mean.mean(axis=0), atol=1e-4)


def test_what_the_fit_leaves_has_unit_variance():
    own = latents(n=50)
    mean = LatentMean.fitted(own, NOTHING)
    factor = scale_factor(own, mean, NOTHING)
    draws = [torch.Generator().manual_seed(s) for s in range(50 * 40)]
    drawn, *_ = LatentSource(own, mean, factor, NOTHING).batch(list(range(50)) * 40, draws)
    assert float(drawn.mean()) == pytest.approx(0, abs=0.01)
    assert float(drawn.std()) == pytest.approx(1, rel=0.01)


def test_a_draw_depends_on_its_generator_alone():
    source = LatentSource(latents(), LatentMean.zero(SHAPE, 0), 0.5, NOTHING)
    together, *_ = source.batch([0, 3], [torch.Generator().manual_seed(s) for s in (7, 8)])
    alone, *_ = source.batch([3], [torch.Generator().manual_seed(8)])
    assert torch.equal(together[1], alone[0])
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(8)).numpy()
    expected = 0.5 * (source.latents.mean[3] + source.latents.sigma[3] * noise)
    assert np.allclose(alone[0].numpy(), expected, atol=1e-6)


def test_conditions_are_dropped_all_at_once_as_often_as_asked():
    """At 0.25, of 2000 draws 500 within four standard deviations (77)."""
    encoded = np.arange(10, dtype=np.float32).reshape(5, 2)
    absent = np.array([0, 1], np.float32)
    mean = LatentMean.zero(SHAPE, 2)
    source = LatentSource(latents(), mean, 1.0, encoded, absent, dropout=0.25)
    draws = [torch.Generator().manual_seed(s) for s in range(2000)]
    rows = source.batch([1] * 2000, draws)[1]
    dropped = (rows == torch.tensor([0.0, 1.0])).all(dim=1)
    assert abs(int(dropped.sum()) - 500) < 77
    assert (rows[~dropped] == torch.tensor([2.0, 3.0])).all()


def test_the_cache_is_removed_whole(tmp_path):
    cache = LatentCache(tmp_path, "training")
    for file in (cache.mean, cache.sigma, cache.ready):
        file.write_text("", encoding="utf-8")
    cache.remove()
    assert list(tmp_path.iterdir()) == []
