"""The stages of a generator: the networks that it trains, their size, and checks of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from synthbench import registry
from synthbench.errors import UsageError
from synthbench.generators.generator import Stage, TrainedBySteps
from synthbench.generators.loop import freezing
from synthbench.generators.loop.settings import StepSettings
from synthbench.runs.configuration import resolve


def check_freeze(stages: Sequence[Stage]) -> None:
    """Raise where `freeze` of a stage is wrong.

    Raises
    ------
    UsageError
        `freeze` names a part that the network does not have, or leaves nothing to train.
    """
    for stage in stages:
        settings = step_settings(stage)
        if settings.freeze:
            with torch.device("meta"):
                freezing.freeze(stage.build(), settings.freeze, setting=f"{stage.prefix}freeze")


def step_settings(stage: Stage) -> StepSettings:
    """Return the settings of a stage.

    Raises
    ------
    UsageError
        They are not a `StepSettings`, as the contract of `TrainedBySteps` needs.
    """
    if not isinstance(stage.settings, StepSettings):
        raise UsageError(
            "stages(): the settings of each stage must be StepSettings "
            f"(synthbench.generators.loop.settings); found {type(stage.settings).__name__}."
        )
    return stage.settings


def parameters(generator: str, preset: str) -> int:
    """Return how many parameters the networks of a preset have; 0 without training by steps.

    The networks are built without memory for their weights.
    """
    plugin = registry.load("generators", generator)()
    if not isinstance(plugin, TrainedBySteps):
        return 0
    _, settings = resolve(generator, preset=preset)
    with torch.device("meta"):
        networks = [stage.build() for stage in plugin.stages(settings)]
    return sum(weight.numel() for network in networks for weight in network.parameters())
