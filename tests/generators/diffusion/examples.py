"""Processes and networks that the tests of diffusion share."""

from __future__ import annotations

from synthbench.generators.diffusion.process import Diffusion
from synthbench.generators.diffusion.schedule import DiffusionSettings

PREDICTIONS = ["epsilon", "v", "sample"]


def diffusion(**settings):
    return Diffusion(DiffusionSettings(**settings))
