"""Settings of the training loop."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from synthbench.generators.loop.augmentation import AugmentationSettings


class StepSettings(AugmentationSettings):
    """Settings of training by steps.

    Attributes
    ----------
    CHANGED_ON_RESUME
        Settings that `train --resume --set` may change. They decide how training goes on from a
        state; all others decide what the state means, or which samples have been drawn.
    """

    CHANGED_ON_RESUME: ClassVar[frozenset[str]] = frozenset({
        "steps", "epochs", "learning_rate", "warmup_steps", "learning_rate_schedule",
        "final_learning_rate", "ema_decay", "clip_norm", "precision", "checkpoint_every",
        "early_stopping", "patience",
    })  # fmt: skip

    steps: int | None = Field(default=None, ge=1, description="optimizer steps; or set epochs")
    epochs: int | None = Field(default=None, ge=1, description="passes over the training set")
    batch_size: int = Field(default=1, ge=1, description="volumes per batch, in each process")
    accumulation: int = Field(
        default=1, ge=1, description="batches whose gradients are added up for one step"
    )
    learning_rate: float = Field(default=5e-5, gt=0, description="learning rate of Adam")
    warmup_steps: int = Field(default=0, ge=0, description="steps of linear warm-up")
    learning_rate_schedule: Literal["constant", "cosine", "linear"] = Field(
        default="constant", description="how the learning rate falls after the warm-up"
    )
    final_learning_rate: float = Field(
        default=0.0, ge=0, description="learning rate of the last step, where it falls"
    )
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
    early_stopping: Literal["training", "validation"] | None = Field(
        default=None,
        description="stop where this loss no longer falls, and keep the weights of its lowest "
        "value: the smoothed training loss, or the mean validation loss; null: never",
    )
    patience: int = Field(
        default=1000, ge=1, description="steps without a lower loss before early stopping"
    )

    @model_validator(mode="after")
    def _one_length(self) -> StepSettings:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("set exactly one of steps and epochs, and the other to null")
        return self

    @model_validator(mode="after")
    def _rate_falls(self) -> StepSettings:
        if self.learning_rate_schedule == "constant" and self.final_learning_rate:
            raise ValueError(
                "final_learning_rate: the learning rate is constant, so it has no other final "
                "value. Set learning_rate_schedule=cosine or linear, or leave it out"
            )
        if self.final_learning_rate > self.learning_rate:
            raise ValueError(
                f"final_learning_rate: must be at most learning_rate, {self.learning_rate:g}; "
                f"found {self.final_learning_rate:g}"
            )
        return self

    @model_validator(mode="after")
    def _loss_is_there(self) -> StepSettings:
        if self.early_stopping == "validation" and not getattr(self, "validate_every", 0):
            raise ValueError(
                "early_stopping: without validate_every there are no validation losses. Set "
                "early_stopping=training"
                + (", or validate_every" if hasattr(self, "validate_every") else "")
            )
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

    def learning_rate_at(self, step: int, total: int) -> float:
        """Return the learning rate of a step, counted from 0, of a training of `total` steps.

        It rises linearly over `warmup_steps`. From there it is constant, or falls to
        `final_learning_rate` at the last step: linearly, or by half a cosine (Loshchilov and
        Hutter 2017, arXiv 1608.03983, equation 5, without restarts).
        """
        risen = self.learning_rate * min(1.0, (step + 1) / (self.warmup_steps + 1))
        if self.learning_rate_schedule == "constant" or step < self.warmup_steps:
            return risen
        share = min(1.0, (step - self.warmup_steps) / max(1, total - 1 - self.warmup_steps))
        left = 1 - share
        if self.learning_rate_schedule == "cosine":
            left = (1 + math.cos(math.pi * share)) / 2
        return self.final_learning_rate + (self.learning_rate - self.final_learning_rate) * left


class LoopSettings(StepSettings):
    """Settings of the training loop: the steps, and how they are watched."""

    CHANGED_ON_RESUME: ClassVar[frozenset[str]] = StepSettings.CHANGED_ON_RESUME | {
        "validate_every", "preview_every", "previews", "score_every", "diversity_every",
    }  # fmt: skip

    validate_every: int = Field(
        default=10, ge=0, description="epochs between validation losses; 0: never"
    )
    preview_every: int = Field(default=0, ge=0, description="epochs between previews; 0: never")
    previews: int = Field(default=4, ge=1, description="volumes per preview, from fixed seeds")
    score_every: int = Field(default=0, ge=0, description="epochs between scores; 0: never")
    score_volumes: int = Field(default=16, ge=2, description="volumes sampled for one score")
    diversity_every: int = Field(
        default=0,
        ge=0,
        description="epochs between comparisons of the diversity of samples with that of training "
        "volumes, which find a collapse; 0: never",
    )
    diversity_volumes: int = Field(
        default=16, ge=4, description="volumes sampled for one such comparison"
    )

    @model_validator(mode="after")
    def _one_choice(self) -> LoopSettings:
        if self.early_stopping is not None and self.score_every:
            raise ValueError(
                "early_stopping: score_every chooses the run's weights too. Set one of them to "
                "null or 0"
            )
        return self
