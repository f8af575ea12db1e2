from __future__ import annotations

import pytest
import torch

from synthbench.generators.networks.local import LocalDenoiser
from synthbench.generators.networks.weights import seeded


def network(convolutions=2, levels=0):
    """A network whose last layers are not zero, as they are before training."""
    model = seeded(0, lambda: LocalDenoiser(8, convolutions, 10, in_channels=2, levels=levels))
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


@pytest.mark.parametrize("levels", [1, 2])
def test_with_coarser_grids_it_sees_further_and_still_a_part(levels):
    """A convolution on level k sees one cube of 2^(k+1) voxels further.

    Level 0 is the half grid, with three of them; the coarsest level has one, the others two.
    """
    side, at = 64, 32
    volume = torch.randn(1, 2, side, side, side, requires_grad=True)
    network(3, levels)(volume, torch.tensor([3]))[0, 0, at, at, at].backward()
    assert volume.grad is not None
    seen = torch.nonzero(volume.grad.abs().sum(dim=(0, 1, 3, 4))).ravel()
    low, high = at - int(seen.min()), int(seen.max()) - at
    # And a voxel belongs to a cube of the coarsest level, whose other voxels it sees.
    most = 2 * 3 + sum(2 ** (k + 1) * (1 if k == levels else 2) for k in range(1, levels + 1))
    assert max(low, high) <= most + 2 ** (levels + 1) - 1
    assert min(low, high) > 2 * 3 + 1


def test_coarser_grids_take_odd_sides():
    """10 voxels are 5 cubes, then 3, then 2."""
    volume = torch.randn(1, 2, 10, 12, 14)
    assert network(3, 2)(volume, torch.tensor([3])).shape == (1, 1, 10, 12, 14)


def test_with_coarser_grids_large_sums_do_not_silence_it():
    """All that its layers add is far below 0, where SiLU is 0. It still sees the volume."""
    model = network(3, 2)
    for name, parameter in model.named_parameters():
        if name.endswith(("narrow.bias", "down.bias")):
            parameter.data = -1e4 - torch.arange(len(parameter)).float()
        if name.endswith(("down.weight", "up.weight")):
            parameter.data *= 1e-6
    volume = torch.randn(1, 2, 12, 12, 12, requires_grad=True)
    model(volume, torch.tensor([3])).square().sum().backward()
    assert volume.grad is not None
    assert float(volume.grad.abs().mean()) > 1e-3


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


@pytest.mark.parametrize("levels", [0, 2])
def test_with_16_bits_it_is_the_same_network_with_its_channels_last(levels):
    """Values and gradients differ by rounding. Other layouts are several times as slow."""
    volumes, t = torch.randn(2, 2, 12, 16, 20), torch.tensor([3, 7])
    model, found = network(3, levels), {}
    for bf16 in (False, True):
        layouts: list[bool] = []

        def note(conv, inputs, output, layouts=layouts):
            layouts.append(inputs[0].is_contiguous(memory_format=torch.channels_last_3d))

        convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv3d)]
        hooks = [conv.register_forward_hook(note) for conv in convolutions]
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            drawn = model(volumes, t)
        for hook in hooks:
            hook.remove()
        if bf16:
            assert len(layouts) == len(convolutions)
            assert all(layouts)
        model.zero_grad()
        drawn.float().square().mean().backward()
        found[bf16] = [drawn.detach().float(), *(p.grad.clone() for p in model.parameters())]
    for exact, rounded in zip(found[False], found[True], strict=True):
        assert float((rounded - exact).norm() / exact.norm()) < 0.05


def test_before_training_it_predicts_zero():
    model = LocalDenoiser(8, 2, timesteps=10, in_channels=1)
    assert torch.count_nonzero(model(torch.randn(1, 1, 8, 8, 8), torch.tensor([0]))) == 0
