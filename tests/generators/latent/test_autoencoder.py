"""Stage 1 of latent diffusion: the same network as MONAI's, losses by their formulas, gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.losses import PatchAdversarialLoss
from monai.networks.nets import AutoencoderKL
from torch import nn

from synthbench.generators.latent import autoencoder
from synthbench.generators.latent.autoencoder import (
    Autoencoder,
    AutoencoderSettings,
    Stage1,
    divergence,
    nearest_side,
)

SMALL = AutoencoderSettings(
    channels=(8, 12), res_blocks=1, latent_channels=3, norm_groups=4, steps=1,
    discriminator_channels=4, discriminator_layers=1, adversarial_weight=0.5,
)  # fmt: skip


def volumes(n=2, side=8, seed=0):
    return torch.rand((n, 1, side, side, side), generator=torch.Generator().manual_seed(seed))


def test_it_computes_what_monais_autoencoder_computes():
    torch.manual_seed(0)
    ours = Autoencoder(SMALL)
    theirs = AutoencoderKL(
        spatial_dims=3, in_channels=1, out_channels=1, channels=(8, 12), num_res_blocks=1,
        latent_channels=3, norm_num_groups=4, attention_levels=(False, False),
        with_encoder_nonlocal_attn=False, with_decoder_nonlocal_attn=False,
    )  # fmt: skip
    theirs.load_state_dict(ours.net.state_dict())
    x = volumes()
    mean, sigma = ours.encode(x)
    expected_mean, expected_sigma = theirs.encode(x)
    assert torch.allclose(mean, expected_mean, atol=1e-5)
    assert torch.allclose(sigma, expected_sigma, atol=1e-5)
    assert torch.allclose(ours.decode(mean), theirs.decode(expected_mean), atol=1e-5)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_gradients_are_those_of_monais_autoencoder(checkpointed):
    torch.manual_seed(0)
    ours = Autoencoder(SMALL.model_copy(update={"gradient_checkpointing": checkpointed}))
    for network in (ours.net, ours):
        ours.zero_grad()
        mean, _ = network.encode(volumes())
        network.decode(mean).square().sum().backward()
        found = {n: p.grad.clone() for n, p in ours.named_parameters() if p.grad is not None}
        if network is ours.net:
            expected = found
    assert found.keys() == expected.keys()
    assert all(torch.allclose(found[n], expected[n], rtol=1e-3, atol=1e-4) for n in found)


def nearest_sides(settings, shape):
    return tuple(nearest_side(s, settings.factor, settings.smallest_side) for s in shape)


def test_blocks_of_voxels_become_channels_and_come_back():
    settings = SMALL.model_copy(update={"patch": 2})
    mean, _ = Autoencoder(settings).encode(volumes())
    assert mean.shape == (2, 3, 2, 2, 2)
    assert settings.factor == 4
    # A discriminator of one layer halves a side, then twice takes one off: 6 are needed.
    assert nearest_sides(settings, (9, 11, 4)) == (8, 12, 8)
    without = settings.model_copy(update={"adversarial_weight": 0.0})
    assert nearest_sides(without, (9, 11, 4)) == (8, 12, 4)
    assert Autoencoder(settings).decode(mean).shape == (2, 1, 8, 8, 8)


def test_the_divergence_is_that_of_torchs_distributions():
    draws = torch.Generator().manual_seed(0)
    mean, sigma = torch.randn((2, 3, 2, 2, 2), generator=draws), torch.rand(2, 3, 2, 2, 2) + 0.1
    normal = torch.distributions.Normal(mean, sigma)
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0, 1))
    assert torch.allclose(divergence(mean, sigma), expected.flatten(1).sum(1), rtol=1e-4)


def test_losses_are_their_formulas():
    """|made - x| + w_kl KL + w_p distance + w_a (deceiving + (fake + real) / 2), term by term."""
    torch.manual_seed(0)
    model = Stage1(SMALL, lambda target, made: (made - target).square().flatten(1).sum(1))
    model.eval()
    x, noise = volumes(), torch.randn(2, 3, 4, 4, 4)
    loss = model(x, noise)
    mean, sigma = model.autoencoder.encode(x)
    made = model.autoencoder.decode(mean + sigma * noise)
    adversarial = PatchAdversarialLoss(criterion="least_squares")
    judge = model.discriminator
    assert judge is not None
    fake, real = (judge(v)[-1] for v in (made, x))
    judging = (adversarial(fake, False, True) + adversarial(real, True, True)) / 2
    expected = (
        (made - x).abs().flatten(1).mean(1)
        + SMALL.kl_weight * divergence(mean, sigma)
        + SMALL.perceptual_weight * (made - x).square().flatten(1).sum(1)
        + 0.5 * (adversarial(fake, True, False) + judging)
    )
    assert torch.allclose(loss, expected, rtol=1e-4)


def test_one_backward_pass_gives_the_gradients_of_two_optimizers():
    """The autoencoder's are of its loss under a fixed discriminator, and the other way round."""
    torch.manual_seed(0)
    model = Stage1(SMALL)
    x, noise = volumes(), torch.randn(2, 3, 4, 4, 4)
    model(x, noise).mean().backward()
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    judge = model.discriminator
    assert judge is not None
    adversarial = PatchAdversarialLoss(criterion="least_squares")
    for own, gradients in (("autoencoder", True), ("discriminator", False)):
        model.zero_grad(set_to_none=True)
        mean, sigma = model.autoencoder.encode(x)
        made = model.autoencoder.decode(mean + sigma * noise)
        if gradients:
            loss = (made - x).abs().mean() + SMALL.kl_weight * divergence(mean, sigma).mean()
            loss = loss + 0.5 * adversarial(judge(made)[-1], True, False)
        else:
            fake, real = judge(made.detach())[-1], judge(x)[-1]
            loss = 0.25 * (adversarial(fake, False, True) + adversarial(real, True, True))
        loss.backward()
        for name, p in model.named_parameters():
            if name.startswith(own):
                assert p.grad is not None
                assert torch.allclose(found[name], p.grad, rtol=1e-3, atol=1e-5), name


def test_the_discriminator_joins_in_after_its_steps_and_the_count_is_kept():
    settings = SMALL.model_copy(update={"adversarial_after": 2})
    model = Stage1(settings)
    x, noise = volumes(), torch.randn(2, 3, 4, 4, 4)
    moved = []
    for _ in range(3):
        model.zero_grad()
        model(x, noise).mean().backward()
        judge = model.discriminator
        assert judge is not None
        moved.append(any(p.grad is not None and bool(p.grad.any()) for p in judge.parameters()))
    assert moved == [False, False, True]
    again = Stage1(settings)
    again.load_state_dict(model.state_dict())
    assert int(again.batches) == 3


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_smallest_side_is_the_smallest_that_the_discriminator_takes(layers):
    settings = SMALL.model_copy(update={"discriminator_layers": layers})
    judge = Stage1(settings).discriminator
    assert judge is not None
    side = settings.smallest_side
    assert judge(torch.rand(1, 1, side, side, side))[-1].numel() == 1
    with pytest.raises((ValueError, RuntimeError)):
        judge(torch.rand(1, 1, *[side - 2**layers] * 3))


def test_no_weight_no_discriminator():
    assert Stage1(SMALL.model_copy(update={"adversarial_weight": 0.0})).discriminator is None


def test_channels_that_groups_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="the nearest that is: 12"):
        AutoencoderSettings(channels=(8, 13), norm_groups=4, steps=1)


class Shift(nn.Module):
    """An autoencoder that adds a constant: its error is known."""

    def __init__(self):
        super().__init__()
        self.by = nn.Parameter(torch.tensor(0.1))

    def encode(self, x):
        return x, torch.ones_like(x)

    def decode(self, z):
        return z + self.by


def test_the_ceiling_of_a_constant_error():
    """An error of 0.1 everywhere: mean 0.1, and 10 log10(1 / 0.01) = 20 dB."""
    halves: Any = [np.full((4, 4, 4), 0.5, np.float32)] * 3
    shift: Any = Shift()
    reached = autoencoder.ceiling(shift, halves, "validation")
    assert (reached.of, reached.volumes) == ("validation", 3)
    assert reached.mae == pytest.approx(0.1, abs=1e-4)
    assert reached.psnr == pytest.approx(20.0, abs=0.01)
