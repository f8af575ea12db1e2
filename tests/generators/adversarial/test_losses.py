"""The losses against formulas written out, and each network's gradient against its own loss."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from synthbench.generators.adversarial.seen import as_seen
from synthbench.generators.adversarial.settings import LSGANSettings, VAEGANSettings
from tests.generators.adversarial.examples import GRID, SMALL, batch, lsgan, vaegan


def gradients(loss, network):
    return torch.autograd.grad(loss, list(network.parameters()), retain_graph=True)


def all_close(a, b):
    return all(torch.allclose(x, y, atol=1e-7, rtol=1e-4) for x, y in zip(a, b, strict=True))


def test_one_step_has_the_gradients_of_two_losses_that_take_turns():
    """Mao et al. 2017, equation 9, from two forward passes with one network constant in each."""
    model = lsgan().eval()
    volumes, z, draws = batch(1)
    loss = model(volumes, z, draws).mean()
    drawn = as_seen(model.generator(z[:, 0], GRID), draws[:, 1], model.settings)
    real = as_seen(volumes, draws[:, 0], model.settings)
    deceiving = (model.discriminator(drawn)[0] - 1).square().mean() / 2
    judging = (
        (model.discriminator(real)[0] - 1).square().mean() / 2
        + model.discriminator(drawn.detach())[0].square().mean() / 2
    )  # fmt: skip
    assert torch.allclose(loss, deceiving + judging)
    generator, discriminator = model.generator, model.discriminator
    assert all_close(gradients(loss, generator), gradients(deceiving, generator))
    assert all_close(gradients(loss, discriminator), gradients(judging, discriminator))


def test_the_generator_of_vaegan_reconstructs_and_deceives():
    """Each part of the loss of encoder and generator, written out."""
    model = vaegan(kl_weight=0.1, feature_weight=0.3, voxel_weight=2.0, adversarial_weight=0.5)
    model.eval()
    volumes, z, draws = batch(2)
    loss = model(volumes, z, draws).mean()
    mean, sigma = model.encoder(volumes)
    decoded = model.generator(mean + sigma * z[:, 1], GRID)
    drawn = model.generator(z[:, 0], GRID)
    seen = [as_seen(v, draws[:, 1], model.settings) for v in (volumes, decoded, drawn)]
    features = [model.discriminator(one)[1] for one in seen[:2]]
    standard = torch.distributions.Normal(0, 1)
    nats = torch.distributions.kl_divergence(torch.distributions.Normal(mean, sigma), standard)
    own = (
        2.0 * torch.nn.functional.l1_loss(decoded, volumes)
        + 0.3 * torch.nn.functional.mse_loss(features[1], features[0])
        + 0.1 * nats.sum(dim=1).mean()
        + 0.5 * (model.discriminator(seen[2])[0] - 1).square().mean() / 2
    )
    of_synthetic = [model.discriminator(v.detach())[0].square().mean() / 2 for v in seen[1:]]
    real = model.discriminator(as_seen(volumes, draws[:, 0], model.settings))[0]
    judging = (real - 1).square().mean() / 2 + sum(of_synthetic) / 2
    assert torch.allclose(loss, own + judging)
    for network in (model.generator, model.encoder):
        assert all_close(gradients(loss, network), gradients(own, network))
    assert all_close(gradients(loss, model.discriminator), gradients(judging, model.discriminator))


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        (LSGANSettings, {"channels": (4, 6)}, "6 is not divisible by norm_groups 4"),
        (LSGANSettings, {"discriminator_channels": (0,)}, "discriminator_channels: must be at"),
        (VAEGANSettings, {"encoder_channels": (4, 0)}, "encoder_channels: must be at least 1"),
        (LSGANSettings, {"early_stopping": "training"}, "early_stopping: .* work against"),
        (LSGANSettings, {"kl_weight": 1.0}, "kl_weight"),
    ],
)
def test_impossible_settings_are_refused(kind, changes, words):
    with pytest.raises(ValidationError, match=words):
        kind(**{**SMALL, **changes})
