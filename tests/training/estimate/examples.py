"""Small networks and stages that the tests of estimates share."""

from __future__ import annotations

import torch
from torch import nn

from synthbench.generators.ddpm3d import DDPM3DSettings

CPU = torch.device("cpu")


SHAPE = (16, 16, 24)


SMALL = {
    "channels": (16, 32),
    "attention": (False, True),
    "head_channels": (16, 16),
    "res_blocks": 1,
    "norm_groups": 4,
    "steps": 7,
}


def settings(**changes):
    return DDPM3DSettings(**{**SMALL, **changes})


class SquaredError:
    """An objective that hands the network the noise and wants the volume."""

    timesteps = 10

    def losses(self, network, clean, t, noise, *conditioning):
        return (network(noise, t) - clean).square().flatten(1).mean(dim=1)


class TwoConvolutions(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv3d(1, 8, 3, padding=1, bias=False)
        self.second = nn.Conv3d(8, 1, 1, bias=False)

    def forward(self, x, timesteps):
        return self.second(self.first(x).sigmoid())
