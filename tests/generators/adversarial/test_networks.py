"""The networks: any grid, spectral norms, the mean volume, exact background."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthbench.generators.adversarial.networks import blocks, clamp_values, coordinates
from tests.generators.adversarial.examples import GRID, LATENT, lsgan, vaegan


@pytest.mark.parametrize("shape", [(8, 8, 8), GRID, (5, 16, 7)])
def test_every_grid_is_drawn_judged_and_encoded(shape):
    model = vaegan(start_at_mean=False)
    volumes = model.generator(torch.randn(2, 5), shape)
    assert volumes.shape == (2, 1, *shape)
    scores, features = model.discriminator(volumes)
    assert scores.shape == (2, np.prod(blocks(shape, 4)))
    assert features.shape == (2, 6, *blocks(shape, 4))
    mean, sigma = model.encoder(volumes)
    assert mean.shape == sigma.shape == (2, 5)
    assert (sigma > 0).all()


def test_what_lies_beyond_the_grid_is_background():
    """A grid of 9 x 11 x 10 is padded to multiples of 4, as evenly as possible."""
    model = lsgan().eval()
    volumes = torch.rand(1, 1, *GRID)
    whole = torch.nn.functional.pad(volumes, (1, 1, 0, 1, 1, 2))
    assert torch.equal(model.discriminator(volumes)[0], model.discriminator(whole)[0])


def test_the_largest_singular_value_of_each_layer_is_one():
    model = lsgan()
    with torch.no_grad():
        for conv in model.discriminator.trunk.convs:
            conv.parametrizations.weight.original.mul_(7)
            weights = [conv.weight for _ in range(300)]  # each is one step of the power iteration
            assert not torch.equal(weights[0], weights[1])
    model.eval()
    for conv in model.discriminator.trunk.convs:
        matrix = conv.weight.detach().flatten(1).numpy()
        assert np.linalg.svd(matrix, compute_uv=False)[0] == pytest.approx(1, rel=1e-3)


def test_the_first_volumes_differ_little_from_the_mean_volume():
    model = lsgan()
    mean = torch.rand(1, 1, *GRID)
    model.generator.mean.data.copy_(mean)
    volumes = model.generator(torch.randn(64, LATENT), GRID)
    assert (volumes - mean).abs().mean() < 0.1
    assert not torch.equal(volumes[0], volumes[1])


def test_values_are_clamped_and_gradients_are_not():
    x = torch.tensor([-0.5, 0.25, 1.5], requires_grad=True)
    y = clamp_values(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert y.tolist() == [0, 0.25, 1]
    assert gradient.tolist() == [1, 1, 1]


def test_coordinates_are_half_a_period_to_two_across_the_grid():
    found = coordinates((4, 3, 2), torch.zeros(1))[0]
    place = (np.arange(4) + 0.5) / 4 * np.pi
    assert np.allclose(found[0, :, 1, 1], np.sin(place))
    assert np.allclose(found[6, :, 1, 1], np.sin(4 * place))
    assert np.allclose(found[9, :, 1, 1], np.cos(place))
