"""Classifier-free guidance: its formula, and the residual of latents."""

from __future__ import annotations

import pytest
import torch

from synthbench.generators.diffusion.guidance import guided
from synthbench.generators.diffusion.process import Diffusion
from synthbench.generators.diffusion.schedule import DiffusionSettings


def test_guidance_is_its_formula():
    """A network that returns its condition: u + 3 (c - u) of u = 1 and c = 5 is 13."""
    conditioned, unconditional = torch.tensor([[5.0]]), torch.tensor([[1.0]])
    diffusion, none = Diffusion(DiffusionSettings()), torch.zeros(1, 1, 2, 2, 2)

    def network(x, t, row):
        return row.reshape(1, 1, 1, 1, 1).expand_as(x)

    x, t = torch.zeros(1, 1, 2, 2, 2), torch.zeros(1)
    for guidance, expected in ((3.0, 13.0), (1.0, 5.0), (0.0, 1.0)):
        predict = guided(network, conditioned, unconditional, guidance, none, diffusion)
        assert float(predict(x, t).mean()) == expected


@pytest.mark.parametrize("prediction", ["sample", "epsilon", "v"])
def test_guidance_without_any_follows_the_unconditional_prediction_of_a_residual(prediction):
    """A perfect network of two constant clean latents, less their own means, guided by 0.

    A conditioned latent expects m + d, an unconditional one m. At guidance 0 the state, which is of
    latents less m + d, must be taken to the clean latent that the unconditional prediction stands
    for: its own residual, brought to the same place by taking d from it.
    """
    diffusion = Diffusion(DiffusionSettings(prediction=prediction))
    difference, residual = torch.full((1, 1, 2, 2, 2), 0.7), torch.full((1, 1, 2, 2, 2), 0.2)
    t = torch.tensor([400])
    signal = float(diffusion.alphas_cumprod[400].sqrt())
    sigma = float((1 - diffusion.alphas_cumprod[400]).sqrt())

    def network(x, at, conditioned):
        """The prediction whose clean latent is the same residual, whatever the condition."""
        noise = (x - signal * residual) / sigma
        velocity = signal * noise - sigma * residual
        return {"sample": residual, "epsilon": noise, "v": velocity}[prediction]

    state = torch.randn((1, 1, 2, 2, 2), generator=torch.Generator().manual_seed(0))
    conditioned, unconditional = torch.ones(1, 1), torch.zeros(1, 1)
    predicted = guided(network, conditioned, unconditional, 0.0, difference, diffusion)(state, t)
    clean = diffusion.predicted_clean(predicted, state, 400)
    assert torch.allclose(clean, residual - difference, atol=1e-4)
