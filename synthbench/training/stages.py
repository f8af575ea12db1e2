"""Checks of the stages of a generator: the networks that it trains."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from synthbench.errors import UsageError
from synthbench.generators.generator import Stage
from synthbench.generators.loop import freezing
from synthbench.generators.loop.settings import StepSettings


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
