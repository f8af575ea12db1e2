"""Settings of `dit-tiles`."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from synthbench.errors import UsageError
from synthbench.generators.diffusion.schedule import DiffusionSettings
from synthbench.generators.generator import Settings
from synthbench.generators.loop import settings as settings_module
from synthbench.generators.tiles.tiling import AXES, Order, SliceAxis, Tiling, tiling_of


class TilingSettings(Settings):
    """Settings of the composites."""

    slice_axis: SliceAxis = Field(default="axial", description="the slices that are tiled")
    tile_grid: tuple[PositiveInt, PositiveInt] | None = Field(
        default=None,
        description="rows and columns of slices; null: those of the smallest square",
        examples=[[8, 6]],
    )
    tile_order: Order = Field(
        default="rows",
        description="rows: slices run from left to right, row by row; columns: downwards, column "
        "by column; snake: as rows, with every second row from right to left",
    )
    tile_margin: int = Field(default=0, ge=0, description="empty pixels around each slice")
    tile_multiple: int = Field(
        default=1,
        ge=1,
        description="the sides of a slice's cell are rounded up to a multiple of it: with the side "
        "of a token, no token shows two slices",
    )


class TransformerSettings(Settings):
    """Settings of the network, diffusers' `DiTTransformer2DModel`."""

    OF_NETWORK: ClassVar[frozenset[str]] = frozenset({
        "heads", "head_width", "layers", "patch", "sample_size", "classes", "learned_sigma",
    })  # fmt: skip

    heads: int = Field(default=16, ge=1, description="attention heads")
    head_width: int = Field(default=72, ge=1, description="channels of each head")
    layers: int = Field(default=28, ge=1, description="transformer blocks")
    patch: int = Field(default=2, ge=1, description="side of a token, in pixels or in latents")
    sample_size: int = Field(
        default=32,
        ge=1,
        description="side of the images that the positions of tokens are made for; a larger or "
        "smaller composite gets positions between the same ends",
    )
    classes: int = Field(
        default=1000,
        ge=1,
        description="rows of the table of labels; one more row is for no label",
    )
    learned_sigma: bool = Field(
        default=False,
        description="twice the output channels, as published weights have; the second half, which "
        "is a variance, is neither trained nor used",
    )

    @property
    def width(self) -> int:
        """Channels of a token."""
        return self.heads * self.head_width

    @model_validator(mode="after")
    def _has_positions(self) -> TransformerSettings:
        if self.width % 4:
            raise ValueError(
                f"head_width: heads x head_width must be divisible by 4; found {self.heads} x "
                f"{self.head_width}. The nearest: head_width={-(-self.head_width // 4) * 4}"
            )
        if self.sample_size < self.patch:
            raise ValueError(
                f"sample_size: must be at least patch, {self.patch}; found {self.sample_size}"
            )
        return self


class TileAutoencoderSettings(BaseModel):
    """Settings of the 2-D autoencoder, diffusers' `AutoencoderKL`. It is never trained here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: tuple[int, ...] = Field(
        default=(128, 256, 512, 512), min_length=1, description="one number per level"
    )
    res_blocks: int = Field(default=2, ge=1, description="residual blocks per level")
    latent_channels: int = Field(default=4, ge=1, description="channels of the latents")
    norm_groups: int = Field(default=32, ge=1, description="groups of the group norm")
    scale: float = Field(
        default=0.18215, gt=0, description="latents are multiplied by it before they are diffused"
    )

    @property
    def factor(self) -> int:
        """The number of pixels that a latent spans along an axis."""
        return 1 << (len(self.channels) - 1)


class DiTTilesSettings(
    settings_module.LoopSettings, DiffusionSettings, TilingSettings, TransformerSettings
):
    """Settings of `dit-tiles`: the training, the diffusion, the composites and the network."""

    null_embedding: ClassVar[bool] = True  # the row of labels that are hidden
    OF_NETWORK: ClassVar[frozenset[str]] = frozenset({"autoencoder"})

    schedule: Literal["scaled_linear", "linear", "cosine"] = Field(
        default="linear",
        description="scaled_linear: the square roots of the betas are linear; linear: the betas "
        "are; cosine (Nichol and Dhariwal 2021) does not use beta_start and beta_end",
    )
    beta_start: float = Field(
        default=0.0001, gt=0, lt=1, description="first beta of the linear schedules"
    )
    beta_end: float = Field(
        default=0.02, gt=0, lt=1, description="last beta of the linear schedules"
    )
    autoencoder: TileAutoencoderSettings | None = Field(
        default=None,
        description="the published 2-D autoencoder whose latents are diffused; null: pixels are",
    )
    conditions: tuple[str, ...] = Field(
        default=(),
        description="covariates of participants.tsv to condition on; together they are one label",
        examples=[["sex"]],
    )
    bins: int = Field(
        default=4, ge=2, description="a number becomes one of so many intervals of training values"
    )
    condition_dropout: float = Field(
        default=0.1, ge=0, lt=1, description="share of training samples without a label"
    )
    guidance: float = Field(
        default=1.0,
        ge=0,
        description="default of `synthbench sample`; 1: as requested, above 1: exaggerated",
    )

    @model_validator(mode="after")
    def _latents_are_stored(self) -> DiTTilesSettings:
        if self.autoencoder is not None and (self.flip or self.affine):
            raise ValueError(
                "flip, affine: latents of the training volumes are computed once, so the volumes "
                "are not augmented. Set flip=false and affine=0, or autoencoder=null"
            )
        return self

    @property
    def channels(self) -> int:
        """Channels of what is diffused."""
        return 1 if self.autoencoder is None else self.autoencoder.latent_channels

    @property
    def factor(self) -> int:
        """Pixels of the composite that one of its diffused elements spans along an axis."""
        return 1 if self.autoencoder is None else self.autoencoder.factor

    def tiling(self, shape: tuple[int, int, int]) -> Tiling:
        """Return the tiling of volumes of a grid.

        Raises
        ------
        UsageError
            `tile_grid` has too few cells for the slices.
        """
        return tiling_of(
            shape, AXES[self.slice_axis], grid=self.tile_grid, order=self.tile_order,
            margin=self.tile_margin, multiple=self.tile_multiple, unit=self.patch * self.factor,
        )  # fmt: skip

    def sample_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int, int]:
        """Return the shape (c, 1, side, side) of what is diffused, for volumes of a grid."""
        side = self.tiling(shape).side // self.factor
        return self.channels, 1, side, side

    def nearest_grid(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return the shape with at most as many slices as `tile_grid` has cells."""
        sides = list(shape)
        if self.tile_grid is not None:
            axis, cells = AXES[self.slice_axis], self.tile_grid[0] * self.tile_grid[1]
            sides[axis] = min(sides[axis], cells)
        d, h, w = sides
        return d, h, w

    def check_grid(self, shape: tuple[int, int, int]) -> None:
        """Raise where `tile_grid` has too few cells for the slices.

        Raises
        ------
        UsageError
            It names the nearest grid whose slices fit.
        """
        nearest = self.nearest_grid(shape)
        if nearest != tuple(shape):
            raise UsageError(
                f"space.shape: tile_grid={list(self.tile_grid or ())} cannot hold the "
                f"{shape[AXES[self.slice_axis]]} {self.slice_axis} slices of {tuple(shape)}. The "
                f"nearest: --set space.shape={list(nearest)}, or --set tile_grid=null"
            )
