"""Networks, volumes and distances that the tests of networks share."""

from __future__ import annotations

import torch


def volumes(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def distance(found, wanted):
    """The norm of the difference over the norm."""
    difference = found.detach().double() - wanted.detach()
    return float(difference.norm() / wanted.detach().norm())
