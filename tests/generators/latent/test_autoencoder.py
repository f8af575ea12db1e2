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
from synthbench.generators.latent.latents import (
    LatentCache,
    LatentMean,
    Latents,
    LatentSource,
    scale_factor,
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
        file.write_text("")
    cache.remove()
    assert list(tmp_path.iterdir()) == []
