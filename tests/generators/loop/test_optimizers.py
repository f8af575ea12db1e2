"""Groups of one Adam against as many optimizers of PyTorch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from synthbench.generators.loop.sources import OptimizerGroup
from synthbench.generators.loop.train import parameter_groups

GROUPS = (OptimizerGroup("0.", 1.0, (0.0, 0.9)), OptimizerGroup("1.", 4.0, (0.5, 0.99)))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def test_groups_step_as_two_optimizers_do():
    with torch.random.fork_rng():
        together, apart = network(), network()
        inputs = torch.randn(5, 8, 3)
    groups = parameter_groups(together, GROUPS)
    adam = torch.optim.Adam(groups, lr=0.01, foreach=True)
    for group in adam.param_groups:
        group["lr"] = 0.01 * group["rate"]
    two = [
        torch.optim.Adam(part.parameters(), lr=0.01 * group.rate, betas=group.betas)
        for part, group in zip(apart, GROUPS, strict=True)
    ]
    for x in inputs:
        for model, optimizers in ((together, [adam]), (apart, two)):
            model.zero_grad()
            model(x).square().mean().backward()
            for optimizer in optimizers:
                optimizer.step()
    for a, b in zip(together.parameters(), apart.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=0)


def test_frozen_parameters_are_in_no_group():
    model = network()
    model[1].requires_grad_(False)
    (group,) = parameter_groups(model, GROUPS)
    assert group["params"] == list(model[0].parameters())


@pytest.mark.parametrize("starts", [("0.",), ("0.", "")])
def test_a_parameter_without_exactly_one_group_is_an_error(starts):
    with pytest.raises(ValueError, match=r"belongs to [02] groups"):
        parameter_groups(network(), [OptimizerGroup(start) for start in starts])
