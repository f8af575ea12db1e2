"""Settings of latent diffusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator, model_validator

from synthbench.errors import UsageError
from synthbench.generators.diffusion.schedule import DiffusionSettings
from synthbench.generators.latent.autoencoder import AutoencoderSettings, nearest_side
from synthbench.generators.loop import settings as settings_module
from synthbench.generators.networks.unet import NetworkSettings

STAGE_1 = "autoencoder"
"""Folder of stage 1 inside a run folder."""


class LDM3DSettings(settings_module.LoopSettings, NetworkSettings, DiffusionSettings):
    """Settings of `ldm3d`: settings of stage 2, and in `autoencoder` the settings of stage 1."""

    RENAMED: ClassVar[Mapping[str, str]] = {"learned_null": "null_embedding"}
    OF_NETWORK: ClassVar[frozenset[str]] = frozenset({
        "residual", "conditions", "null_embedding", "condition_gain", "condition_dropout",
        "guidance", "resblock_updown", "coordinates",
    })  # fmt: skip

    autoencoder: AutoencoderSettings = Field(
        default=AutoencoderSettings(epochs=50), description="stage 1"
    )
    autoencoder_run: str | None = Field(
        default=None,
        description="finished ldm3d run whose autoencoder is used; stage 1 is then not trained",
    )
    perceptual: str | None = Field(
        default=None,
        description="extractor of the perceptual distance in stage 1; null: no such term",
    )
    residual: bool = Field(
        default=False,
        description="diffuse the residual of a least-squares fit of the latents on the conditions, "
        "voxel by voxel; for aligned volumes. The network then need not learn what all volumes "
        "have in common, nor the mean effect of a condition",
    )
    conditions: tuple[str, ...] = Field(
        default=(),
        description="covariates of participants.tsv to condition on",
        examples=[["age", "sex"]],
    )
    null_embedding: bool = Field(
        default=True, description="allow missing conditions; guidance needs that"
    )
    condition_gain: float = Field(
        default=4.0,
        gt=0,
        description="half the width of the range of encoded values, with a null embedding; the "
        "larger, the sooner the network uses the conditions",
    )
    condition_dropout: float = Field(
        default=0.1, ge=0, lt=1, description="share of training samples without any condition"
    )
    guidance: float = Field(
        default=1.0,
        ge=0,
        description="default of `synthbench sample`; 1: as requested, above 1: exaggerated",
    )
    resblock_updown: bool = Field(
        default=False, description="change the grid inside residual blocks, not by convolutions"
    )
    upcast_attention: bool = Field(default=False, description="attention in float32 under bf16")
    coordinates: bool = Field(
        default=False,
        description="give the network the place of each voxel; for aligned volumes. It then "
        "learns sooner the shape, and what a condition changes where",
    )

    @model_validator(mode="before")
    @classmethod
    def _stages_share(cls, values: Any) -> Any:
        """Give stage 1 the run's seed and precision, where it has none of its own."""
        if not isinstance(values, Mapping) or not isinstance(values.get("autoencoder"), Mapping):
            return values
        shared = {name: values[name] for name in ("seed", "precision") if name in values}
        return {**values, "autoencoder": {**shared, **values["autoencoder"]}}

    @field_validator("autoencoder_run")
    @classmethod
    def _from_anywhere(cls, folder: str | None) -> str | None:
        """Make the path absolute: a run may be resumed from another folder."""
        return None if folder is None else str(Path(folder).resolve())

    @model_validator(mode="after")
    def _can_be_conditioned(self) -> LDM3DSettings:
        if self.autoencoder.precision != self.precision:
            raise ValueError(
                f"autoencoder.precision: both stages need the same precision; found "
                f"{self.autoencoder.precision} and {self.precision}. Leave it out, or set both"
            )
        if self.conditions and not any(self.attention):
            nearest = [*self.attention[:-1], True]
            raise ValueError(
                "attention: conditions reach the network through attention, so one level at least "
                f"needs it; found {list(self.attention)}. The nearest: {nearest}"
            )
        if not self.null_embedding and (self.guidance != 1 or self.condition_dropout):
            raise ValueError(
                "null_embedding: guidance and condition_dropout need it. Set guidance=1 and "
                "condition_dropout=0, or null_embedding=true"
            )
        return self

    @property
    def factor(self) -> int:
        """The number that every side of the grid must be divisible by, for both stages together."""
        return self.autoencoder.factor * super().factor

    def latent_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return channels and sides (c, d, h, w) of the latents of volumes of that shape."""
        sides = (side // self.autoencoder.factor for side in shape)
        return self.autoencoder.latent_channels, *sides

    def nearest_grid(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return the grid nearest to that shape that both networks can take."""
        smallest = self.autoencoder.smallest_side
        d, h, w = (nearest_side(side, self.factor, smallest) for side in shape)
        return d, h, w

    def check_grid(self, shape: tuple[int, int, int]) -> None:
        """Raise where the grid is not divisible by the downsampling of both networks.

        Raises
        ------
        UsageError
            It names the nearest grid that is.
        """
        nearest = self.nearest_grid(shape)
        if nearest != tuple(shape):
            raise UsageError(
                f"space.shape: every side must be divisible by {self.factor} "
                f"({self.autoencoder.factor} of the autoencoder x "
                f"{self.factor // self.autoencoder.factor} of the U-Net), and at least "
                f"{self.autoencoder.smallest_side}, for the discriminator; found {tuple(shape)}. "
                f"The nearest: --set space.shape={list(nearest)}"
            )
