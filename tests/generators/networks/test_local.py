from __future__ import annotations

import pytest
import torch

from synthbench.generators.networks.local import LocalDenoiser
from synthbench.generators.networks.weights import seeded


def network(convolutions=2):
    """A network whose last layers are not zero, as they are before training."""
    model = seeded(0, lambda: LocalDenoiser(8, convolutions, timesteps=10, in_channels=2))
    draws = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=draws)
    return model


@pytest.mark.parametrize("convolutions", [1, 2])
def test_a_voxel_depends_on_those_at_most_two_convolutions_and_one_away(convolutions):
    """Each convolution sees one cube of two voxels further; the last one is the voxel's cube."""
    side, at = 16, 8
    volume = torch.randn(1, 2, side, side, side, requires_grad=True)
    network(convolutions)(volume, torch.tensor([3]))[0, 0, at, at, at].backward()
    assert volume.grad is not None
    seen = volume.grad.abs().sum(dim=(0, 1))
    for axis in range(3):
        others = [other for other in range(3) if other != axis]
        places = torch.nonzero(seen.sum(dim=others)).ravel()
        assert (int(places.min()), int(places.max())) == (
            at - 2 * convolutions, at + 2 * convolutions + 1,
        )  # fmt: skip


def test_it_knows_its_place_and_the_noise_level():
    """Of a constant volume the inner voxels would all get the same, but for their place."""
    volume = torch.ones(1, 2, 12, 12, 12)
    drawn = network()(volume, torch.tensor([3]))
    assert float(drawn[0, 0, 4:8:2, 4:8:2, 4:8:2].detach().std()) > 1e-3
    assert not torch.allclose(drawn, network()(volume, torch.tensor([7])))


def test_a_volume_does_not_depend_on_its_batch():
    volumes = torch.randn(2, 2, 8, 8, 8)
    both = network()(volumes, torch.tensor([3, 7]))
    assert torch.allclose(both[1:], network()(volumes[1:], torch.tensor([7])), atol=1e-5)


def test_before_training_it_predicts_zero():
    model = LocalDenoiser(8, 2, timesteps=10, in_channels=1)
    assert torch.count_nonzero(model(torch.randn(1, 1, 8, 8, 8), torch.tensor([0]))) == 0
