"""The diffusion U-Net: MONAI's network, computed in less time and memory.

Weights, their names and their initial values are those of MONAI's `DiffusionModelUNet`, and so are
the results, to rounding. `PatchedUNet` lists how the computation differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from monai.networks.nets import DiffusionModelUNet
from monai.networks.nets.diffusion_model_unet import (
    DiffusionUNetResnetBlock,
    get_timestep_embedding,
)
from monai.networks.utils import pixelshuffle, pixelunshuffle
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from synthbench.errors import UsageError
from synthbench.generators.generator import Settings
from synthbench.generators.networks.convolution import convolve, upsample_and_convolve


class NetworkSettings(Settings):
    """Settings of the U-Net."""

    OF_NETWORK: ClassVar[frozenset[str]] = frozenset({
        "patch", "channels", "attention", "head_channels", "res_blocks", "norm_groups",
    })  # fmt: skip

    patch: int = Field(
        default=1, ge=1, description="side of the blocks of voxels that become channels; 1: none"
    )
    channels: tuple[int, ...] = Field(
        default=(128, 128, 256), min_length=1, description="one number per level"
    )
    attention: tuple[bool, ...] = Field(
        default=(False, False, True), description="one value per level"
    )
    head_channels: tuple[int, ...] = Field(
        default=(128, 128, 256), description="one number per level"
    )
    res_blocks: int = Field(default=2, ge=1, description="residual blocks per level")
    norm_groups: int = Field(default=32, ge=1, description="groups of the group norm")
    gradient_checkpointing: bool = Field(
        default=False,
        description="compute blocks again in the backward pass: less memory, a third more time",
    )

    @model_validator(mode="after")
    def _network_exists(self) -> NetworkSettings:
        levels = len(self.channels)
        for name in ("attention", "head_channels"):
            values = getattr(self, name)
            if len(values) != levels:
                fitting = (*values, *values[-1:] * levels)[:levels]
                raise ValueError(
                    f"{name}: one value per level; channels has {levels}, found {len(values)}: "
                    f"{list(values)}" + (f"; the nearest: {list(fitting)}" if fitting else "")
                )
        for width in self.channels:
            if width < 1 or width % self.norm_groups:
                nearest = max(1, round(width / self.norm_groups)) * self.norm_groups
                raise ValueError(
                    f"channels: {width} is not divisible by norm_groups {self.norm_groups}; "
                    f"the nearest that is: {nearest}"
                )
        # The middle of the U-Net has attention even where its last level has none.
        attending = (*self.attention[:-1], True)
        for width, head, used in zip(self.channels, self.head_channels, attending, strict=True):
            if used and (head < 1 or width % head):
                divisors = [n for n in range(1, width + 1) if width % n == 0]
                nearest = min(divisors, key=lambda n: abs(n - head))
                raise ValueError(
                    f"head_channels: {head} does not divide the level's {width}; "
                    f"the nearest that does: {nearest}"
                )
        return self

    @property
    def factor(self) -> int:
        """The number that every side of the grid must be divisible by."""
        return self.patch << (len(self.channels) - 1)

    def nearest_grid(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return the grid nearest to that shape that the network can take."""
        d, h, w = (max(1, round(side / self.factor)) * self.factor for side in shape)
        return d, h, w

    def check_grid(self, shape: tuple[int, int, int]) -> None:
        """Raise where the grid is not divisible by the network's downsampling.

        Raises
        ------
        UsageError
            It names the nearest grid that is.
        """
        nearest = self.nearest_grid(shape)
        if nearest != tuple(shape):
            raise UsageError(
                f"space.shape: every side must be divisible by {self.factor} (patch {self.patch}, "
                f"{len(self.channels)} levels); found {shape}. "
                f"The nearest: --set space.shape={list(nearest)}"
            )


class PatchedUNet(nn.Module):
    """MONAI's 3-D diffusion U-Net, on blocks of patch^3 voxels as channels.

    At patch 2 the grid has eight times fewer voxels, so that two cores can train the network. It
    differs from MONAI's own forward pass, with the same weights, in this:

    - group norm and SiLU are one step that stores only its input (`_NormSiLU`), in the precision of
      the convolution after it;
    - attention never stores its matrix of weights (`scaled_dot_product_attention`);
    - channels are last in memory on CUDA under 16-bit autocast;
    - on a CPU, convolutions are those of `synthbench.generators.networks.convolution`;
    - with `gradient_checkpointing`, each residual block is computed again in the backward pass
      (Chen et al. 2016, arXiv 1604.06174).

    Parameters
    ----------
    settings
        Settings of the network.
    in_channels, out_channels
        Channels of the input and of the output.
    condition_width
        Columns of a volume's encoded conditions; 0: none. The network gets them twice, as in
        Pinaya et al. 2022 (arXiv 2209.07162): as constant channels beside the volume, and as the
        context of cross-attention.
    resblock_updown
        True: the grid is changed inside residual blocks, not by convolutions.
    upcast_attention
        True: attention is in float32 under 16-bit autocast.
    coordinates
        True: three more channels hold the place of each voxel, from -1 to 1 along each side.
        Convolutions alone do not know where in the head they are.
    """

    def __init__(
        self,
        settings: NetworkSettings,
        in_channels: int = 1,
        out_channels: int = 1,
        *,
        condition_width: int = 0,
        resblock_updown: bool = False,
        upcast_attention: bool = False,
        coordinates: bool = False,
    ) -> None:
        super().__init__()
        self.coordinates = coordinates
        self.patch = settings.patch
        self.gradient_checkpointing = settings.gradient_checkpointing
        width = settings.patch**3
        self.unet = DiffusionModelUNet(
            spatial_dims=3,
            in_channels=in_channels * width + condition_width + (3 if coordinates else 0),
            out_channels=out_channels * width,
            channels=settings.channels,
            attention_levels=settings.attention,
            num_head_channels=settings.head_channels,
            num_res_blocks=settings.res_blocks,
            norm_num_groups=settings.norm_groups,
            resblock_updown=resblock_updown,
            upcast_attention=upcast_attention,
            with_conditioning=condition_width > 0,
            cross_attention_dim=condition_width or None,
            use_flash_attention=True,
        )

    def forward(
        self,
        x: Float[Tensor, "b i d h w"],
        timesteps: Int[Tensor, " b"],
        conditioning: Float[Tensor, "b k"] | None = None,
    ) -> Float[Tensor, "b o d h w"]:
        """Return the prediction for noisy volumes, their timesteps and encoded conditions."""
        if self.patch == 1:
            return self._predict(x, timesteps, conditioning)
        folded = pixelunshuffle(x, 3, self.patch)
        unfolded: Tensor = pixelshuffle(
            self._predict(folded, timesteps, conditioning), 3, self.patch
        )
        return unfolded

    def _predict(self, x: Tensor, timesteps: Tensor, conditioning: Tensor | None) -> Tensor:
        unet = self.unet
        context = None if conditioning is None else conditioning[:, None]
        if conditioning is not None:
            constant = conditioning.to(x)[:, :, None, None, None].expand(-1, -1, *x.shape[2:])
            x = torch.cat([x, constant], dim=1)
        if self.coordinates:
            x = torch.cat([x, places_like(x)], dim=1)
        embedded = get_timestep_embedding(timesteps, unet.block_out_channels[0])
        # Every residual block begins with the SiLU of the embedding, so it is computed once here.
        embedding = functional.silu(unet.time_embed(embedded.to(x.dtype)))
        h = convolve(unet.conv_in.conv, x.contiguous(memory_format=_memory_format(x)))
        skips = [h]
        for level in unet.down_blocks:
            for residual, attention in _blocks(level):
                h = self._run(_block, residual, attention, h, None, embedding, context)
                skips.append(h)
            if isinstance(level.downsampler, DiffusionUNetResnetBlock):
                h = self._run(_block, level.downsampler, None, h, None, embedding, None)
                skips.append(h)
            elif level.downsampler is not None:
                h = level.downsampler(h)
                skips.append(h)
        middle = unet.middle_block
        h = self._run(_block, middle.resnet_1, middle.attention, h, None, embedding, context)
        h = self._run(_block, middle.resnet_2, None, h, None, embedding, None)
        for level in unet.up_blocks:
            for residual, attention in _blocks(level):
                h = self._run(_block, residual, attention, h, skips.pop(), embedding, context)
            if isinstance(level.upsampler, DiffusionUNetResnetBlock):
                h = self._run(_block, level.upsampler, None, h, None, embedding, None)
            elif level.upsampler is not None:
                h = upsample_and_convolve(level.upsampler.postconv.conv, h)
        norm, _, last = unet.out
        return convolve(last.conv, norm_silu(norm, h))

    def _run(self, block: Callable[..., Tensor], *inputs: Any) -> Tensor:
        if not (self.gradient_checkpointing and torch.is_grad_enabled()):
            return block(*inputs)
        # Nothing in a block is random, so no random state has to be kept.
        again: Tensor = checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
        return again


def places_like(x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b 3 d h w"]:
    """Return the position of each voxel's centre along each side of a grid, in [-1, 1]."""
    sides = [(2 * torch.arange(n, device=x.device) + 1) / n - 1 for n in x.shape[2:]]
    places = torch.stack(torch.meshgrid(*sides, indexing="ij")).to(x.dtype)
    return places.expand(len(x), -1, -1, -1, -1)


def _memory_format(x: Tensor) -> torch.memory_format:
    """Return channels last where tensor cores compute the convolutions: they are faster so."""
    if x.device.type != "cpu" and torch.is_autocast_enabled(x.device.type):
        return torch.channels_last_3d
    return torch.contiguous_format


def _blocks(level: Any) -> Iterator[tuple[nn.Module, nn.Module | None]]:
    """Return the residual blocks of a level, each with the attention after it, or None."""
    return zip_longest(level.resnets, getattr(level, "attentions", ()))


def _block(
    residual: Any,
    attention: nn.Module | None,
    x: Float[Tensor, "b i d h w"],
    skipped: Float[Tensor, "b j d h w"] | None,
    embedding: Float[Tensor, "b e"],
    context: Float[Tensor, "b 1 k"] | None,
) -> Float[Tensor, "b o d2 h2 w2"]:
    """Return the output of a residual block (MONAI's `DiffusionUNetResnetBlock`) and attention."""
    if skipped is not None:
        x = torch.cat([x, skipped], dim=1)
    h = norm_silu(residual.norm1, x)
    resize = residual.downsample or residual.upsample
    if resize is not None:
        x, h = resize(x), resize(h)
    h = convolve(residual.conv1.conv, h)
    h = h + residual.time_emb_proj(embedding)[:, :, None, None, None]
    h = convolve(residual.conv2.conv, norm_silu(residual.norm2, h))
    shortcut = residual.skip_connection
    out = h + (x if isinstance(shortcut, nn.Identity) else convolve(shortcut.conv, x))
    if attention is None:
        return out
    # Attention returns channels last in memory, for any layout of its input.
    attended: Tensor = attention(out) if context is None else attention(out, context=context)
    return attended.contiguous(memory_format=_memory_format(out))


def norm_silu(norm: nn.GroupNorm, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c d h w"]:
    """Return SiLU of the group norm of x, in one step that stores only x for the backward pass."""
    apply: Callable[..., Tensor] = _NormSiLU.apply
    return apply(x, norm.weight, norm.bias, norm.num_groups, norm.eps)


class _NormSiLU(torch.autograd.Function):
    """Group norm and SiLU in float32; no map in between is kept after the forward pass.

    The result has the precision that autocast gives the convolution after it, else the input's.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float
    ) -> Tensor:
        normed, mean, deviation = _normed(x, weight, bias, groups, eps)
        ctx.save_for_backward(x, weight, bias, mean, deviation)
        ctx.groups, ctx.eps = groups, eps
        device = x.device.type
        autocast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocast else x.dtype
        return functional.silu(normed, inplace=True).to(dtype, memory_format=_memory_format(x))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, deviation = ctx.saved_tensors
        normed = _normed(x, weight, bias, ctx.groups, ctx.eps)[0]
        # Written into the memory of `normed`: the backward pass needs the most memory here.
        gradient = torch.ops.aten.silu_backward.grad_input(
            _widened(gradient), normed, grad_input=normed
        )
        gradients = torch.ops.aten.native_group_norm_backward(
            gradient,
            _widened(x),
            mean,
            deviation,
            weight,
            *_sizes(x),
            ctx.groups,
            list(ctx.needs_input_grad[:3]),
        )
        for_x = gradients[0]
        if for_x is not None:
            for_x = for_x.to(x.dtype)
        return for_x, gradients[1], gradients[2], None, None


def _normed(
    x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the group norm of `x` in float32, and each group's mean and 1 / deviation."""
    return torch.native_group_norm(_widened(x), weight, bias, *_sizes(x), groups, eps)


def _widened(x: Tensor) -> Tensor:
    # PyTorch's group norm needs channels first.
    return x.to(torch.promote_types(x.dtype, torch.float32), memory_format=torch.contiguous_format)


def _sizes(x: Tensor) -> tuple[int, int, int]:
    return x.shape[0], x.shape[1], x.shape[2:].numel()
