"""Settings of the training loop."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator

from synthbench.generators.loop.augmentation import AugmentationSettings


class StepSettings(AugmentationSettings):
    """Settings of training by steps."""

    steps: int | None = Field(default=None, ge=1, description="optimizer steps; or set epochs")
    epochs: int | None = Field(default=None, ge=1, description="passes over the training set")
    batch_size: int = Field(default=1, ge=1, description="volumes per batch, in each process")
    accumulation: int = Field(
        default=1, ge=1, description="batches whose gradients are added up for one step"
    )
    learning_rate: float = Field(default=5e-5, gt=0, description="learning rate of Adam")
    warmup_steps: int = Field(default=0, ge=0, description="steps of linear warm-up")
    ema_decay: float = Field(default=0.999, ge=0, lt=1, description="decay of the averaged weights")
    clip_norm: float = Field(default=1.0, gt=0, description="largest gradient norm")
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="precision of the network"
    )
    freeze: tuple[str, ...] = Field(
        default=(),
        description="parts of the network that are not trained: beginnings of parameter names",
        examples=[["unet.conv_in", "unet.down_blocks"]],
    )
    checkpoint_every: int = Field(default=500, ge=1, description="steps between checkpoints")

    @model_validator(mode="after")
    def _one_length(self) -> StepSettings:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("set exactly one of steps and epochs, and the other to null")
        return self

    def volumes_a_step(self, processes: int) -> int:
        """Return the volumes per optimizer step, all processes together."""
        return self.batch_size * self.accumulation * processes

    def total_steps(self, n: int, processes: int) -> int:
        """Return the number of optimizer steps on `n` volumes."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return math.ceil(self.epochs * n / self.volumes_a_step(processes))


class LoopSettings(StepSettings):
    """Settings of the training loop: the steps, and how they are watched."""

    validate_every: int = Field(
        default=10, ge=0, description="epochs between validation losses; 0: never"
    )
    preview_every: int = Field(default=0, ge=0, description="epochs between previews; 0: never")
    previews: int = Field(default=4, ge=1, description="volumes per preview, from fixed seeds")
    score_every: int = Field(default=0, ge=0, description="epochs between scores; 0: never")
    score_volumes: int = Field(default=16, ge=2, description="volumes sampled for one score")
