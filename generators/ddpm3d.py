"""`ddpm3d`: a 3-D denoising diffusion probabilistic model of whole volumes.

Ho et al. 2020 (arXiv 2006.11239) on MONAI's `DiffusionModelUNet` and `DDPMScheduler`; sampled
by all steps (`ddpm`) or by DDIM (Song et al. 2021, arXiv 2010.02502).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from diffusers import DDIMScheduler
from jaxtyping import Float32
from monai.networks.nets import DiffusionModelUNet
from monai.networks.schedulers import DDPMScheduler
from monai.networks.utils import pixelshuffle, pixelunshuffle
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn

from synthbench.cohort import Volumes
from synthbench.errors import RunError, UsageError
from synthbench.generators import loop
from synthbench.generators.generator import Progress
from synthbench.processes import is_main
from synthbench.run import Run

# The schedulers' words, of MONAI and diffusers alike.
PREDICTION_TYPES = {"epsilon": "epsilon", "v": "v_prediction", "sample": "sample"}


class DDPM3DSettings(loop.LoopSettings):
    """Settings of `ddpm3d`: the network, the diffusion, and the sampler that is the default."""

    patch: int = Field(
        default=1, ge=1, description="blocks of patch^3 voxels become channels (1: none)"
    )
    channels: tuple[int, ...] = Field(default=(128, 128, 256), description="one a level")
    attention: tuple[bool, ...] = Field(default=(False, False, True), description="one a level")
    head_channels: tuple[int, ...] = Field(default=(128, 128, 256), description="one a level")
    res_blocks: int = Field(default=2, ge=1, description="residual blocks a level")
    norm_groups: int = Field(default=32, ge=1, description="groups of the group norm")
    timesteps: int = Field(default=1000, ge=2, description="T")
    beta_start: float = Field(default=0.0005, gt=0, lt=1, description="scaled-linear schedule")
    beta_end: float = Field(default=0.0195, gt=0, lt=1, description="scaled-linear schedule")
    prediction: Literal["epsilon", "v", "sample"] = Field(
        default="epsilon",
        description="what the network predicts: the noise, the velocity (Salimans and Ho 2022), "
        "or the clean volume",
    )
    centred: bool = Field(
        default=False, description="diffuse intensities in [-1, 1] rather than [0, 1]"
    )
    sampler: Literal["ddpm", "ddim"] = Field(default="ddpm", description="default of sample")
    sampler_steps: int | None = Field(default=None, ge=1, description="of ddim")

    @model_validator(mode="after")
    def _network_exists(self) -> DDPM3DSettings:
        lengths = {len(self.channels), len(self.attention), len(self.head_channels)}
        if len(lengths) != 1:
            raise ValueError(
                f"channels, attention and head_channels need one value a level each; "
                f"found {len(self.channels)}, {len(self.attention)}, {len(self.head_channels)}"
            )
        for width in self.channels:
            if width % self.norm_groups:
                nearest = max(1, round(width / self.norm_groups)) * self.norm_groups
                raise ValueError(
                    f"channels: {width} is not divisible by norm_groups {self.norm_groups}; "
                    f"the nearest that is: {nearest}"
                )
        for width, head, used in zip(
            self.channels, self.head_channels, (*self.attention[:-1], True), strict=True
        ):
            if used and (head < 1 or width % head):
                raise ValueError(f"head_channels: {head} does not divide the level's {width}")
        return self

    def check_grid(self, shape: tuple[int, int, int]) -> None:
        """Raise where the grid is not divisible by the network's downsampling.

        Raises
        ------
        UsageError
            It names the nearest grid that is.
        """
        factor = self.patch * 2 ** (len(self.channels) - 1)
        if any(side % factor for side in shape):
            nearest = tuple(max(1, round(side / factor)) * factor for side in shape)
            raise UsageError(
                f"space.shape: every side must be divisible by {factor} (patch {self.patch}, "
                f"{len(self.channels)} levels); found {shape}. "
                f"The nearest: --set space.shape={list(nearest)}"
            )


class PatchedUNet(nn.Module):
    """MONAI's U-Net, on blocks of patch^3 voxels as channels where `patch` is above one.

    Space to depth makes a voxel grid eight times smaller at patch 2: what lets two cores train.
    """

    def __init__(self, settings: DDPM3DSettings) -> None:
        super().__init__()
        self.patch = settings.patch
        width = settings.patch**3
        self.unet = DiffusionModelUNet(
            spatial_dims=3,
            in_channels=width,
            out_channels=width,
            channels=settings.channels,
            attention_levels=settings.attention,
            num_head_channels=settings.head_channels,
            num_res_blocks=settings.res_blocks,
            norm_num_groups=settings.norm_groups,
            use_flash_attention=True,
        )

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        """Map noisy volumes [b 1 d h w] and timesteps [b] to the prediction [b 1 d h w]."""
        if self.patch == 1:
            whole: Tensor = self.unet(x, timesteps=timesteps)
            return whole
        folded = pixelunshuffle(x, 3, self.patch)
        predicted: Tensor = pixelshuffle(self.unet(folded, timesteps=timesteps), 3, self.patch)
        return predicted


class DDPM3D:
    """The 3-D DDPM."""

    name = "ddpm3d"
    summary = "3-D DDPM of whole volumes (MONAI U-Net, Accelerate): presets tiny, small, paper"
    needs = "tiny: two CPU cores, minutes; paper: GPUs, hours"
    settings = DDPM3DSettings

    def fit(
        self,
        volumes: Volumes,
        settings: BaseModel,
        run: Run,
        *,
        resume: bool = False,
        init: Run | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Train; the averaged weights become the run's weights."""
        assert isinstance(settings, DDPM3DSettings)
        settings.check_grid(volumes.space.shape)
        model = _initial(settings)
        if init is not None and not resume:
            _load(model, init)
        noising = _noising(settings)

        def loss(network: nn.Module, batch: Tensor, draws: list[torch.Generator]) -> Tensor:
            clean = batch * 2 - 1 if settings.centred else batch
            t = torch.cat([torch.randint(settings.timesteps, (1,), generator=g) for g in draws])
            noise = torch.cat([torch.randn((1, *clean.shape[1:]), generator=g) for g in draws])
            t, noise = t.to(clean.device), noise.to(clean.device)
            predicted = network(noising.add_noise(clean, noise, t), t)
            wanted = noise if settings.prediction == "epsilon" else clean
            if settings.prediction == "v":
                wanted = noising.get_velocity(clean, noise, t)
            return nn.functional.mse_loss(predicted.float(), wanted)

        averaged = loop.train(model, loss, volumes, settings, run, resume=resume, progress=progress)
        if is_main():
            run.update(parameters=sum(p.numel() for p in model.parameters()))
            run.save_weights({name: value.numpy() for name, value in averaged.items()})

    def sampling(self, run: Run, sampler: str | None, steps: int | None) -> dict[str, str | int]:
        """Return the sampler ("ddpm": all steps, "ddim") and its number of steps.

        Raises
        ------
        UsageError
            The sampler is unknown, or the steps do not fit it.
        """
        settings = _settings(run)
        sampler = sampler or settings.sampler
        if sampler not in ("ddpm", "ddim"):
            raise UsageError(f"--sampler: '{sampler}' is unknown; known: ddpm, ddim.")
        if sampler == "ddpm":
            if steps not in (None, settings.timesteps):
                raise UsageError(
                    f"--steps: ddpm takes all {settings.timesteps} steps; found {steps}. "
                    f"For fewer: --sampler ddim --steps {steps}"
                )
            return {"sampler": sampler, "steps": settings.timesteps}
        steps = steps or settings.sampler_steps or 25
        if not 1 <= steps <= settings.timesteps:
            raise UsageError(f"--steps: 1 to {settings.timesteps} are possible; found {steps}.")
        return {"sampler": sampler, "steps": steps}

    @torch.inference_mode()
    def sample(
        self,
        run: Run,
        seeds: Sequence[int],
        *,
        sampler: str | None = None,
        steps: int | None = None,
    ) -> Iterator[Float32[np.ndarray, "d h w"]]:
        """Yield one volume a seed, drawn on its own: no batch, so no dependence on one."""
        settings = _settings(run)
        chosen = self.sampling(run, sampler, steps)
        denoise = _ddpm if chosen["sampler"] == "ddpm" else _ddim
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = _initial(settings)
        _load(model, run)
        model.to(device).eval()
        shape = (1, 1, *run.record["space"]["shape"])
        for seed in seeds:
            draws = torch.Generator().manual_seed(seed)
            noise = torch.randn(shape, generator=draws).to(device)
            x = denoise(model, settings, noise, int(chosen["steps"]), draws)
            volume = (x + 1) / 2 if settings.centred else x
            # Intensities are clipped once, here: clipping each step biases the result.
            yield volume.clamp(0, 1).float().cpu().numpy()[0, 0]


def _settings(run: Run) -> DDPM3DSettings:
    config = run.config
    return DDPM3DSettings(**{k: config[k] for k in DDPM3DSettings.model_fields})


def _initial(settings: DDPM3DSettings) -> PatchedUNet:
    """Build the network with weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return PatchedUNet(settings)


def _load(model: nn.Module, run: Run) -> None:
    weights = {name: torch.from_numpy(value) for name, value in run.load_weights().items()}
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    other = {name: tuple(value.shape) for name, value in weights.items()}
    if own != other:
        wrong = sorted(set(own.items()) ^ set(other.items()))[:3]
        raise RunError(
            f"{run.folder}: its weights do not fit this network (first differences: {wrong}). "
            "Use the settings of that run: --config RUN/config.yaml."
        )
    model.load_state_dict(weights)


def _noising(settings: DDPM3DSettings) -> DDPMScheduler:
    return DDPMScheduler(
        num_train_timesteps=settings.timesteps,
        schedule="scaled_linear_beta",
        beta_start=settings.beta_start,
        beta_end=settings.beta_end,
        prediction_type=PREDICTION_TYPES[settings.prediction],
        clip_sample=False,
    )


def _ddpm(
    model: nn.Module, settings: DDPM3DSettings, x: Tensor, steps: int, draws: torch.Generator
) -> Tensor:
    """Ancestral sampling through all timesteps (Ho et al. 2020, Algorithm 2)."""
    # The scheduler draws its noise where x is; draws made on the CPU are the same everywhere.
    scheduler = _noising(settings)
    for t in range(steps - 1, -1, -1):
        prediction = model(x, torch.tensor([t], device=x.device))
        mean, _ = scheduler.step(prediction.cpu(), t, x.cpu(), generator=draws)
        x = mean.to(x.device)
    return x


def _ddim(
    model: nn.Module, settings: DDPM3DSettings, x: Tensor, steps: int, draws: torch.Generator
) -> Tensor:
    """Deterministic sampling (Song et al. 2021, eq. 12 with eta = 0).

    Timesteps are "trailing" (Lin et al. 2024, arXiv 2305.08891): the first is T - 1, where the
    input is what training called pure noise.
    """
    scheduler = DDIMScheduler(
        num_train_timesteps=settings.timesteps,
        beta_schedule="scaled_linear",
        beta_start=settings.beta_start,
        beta_end=settings.beta_end,
        prediction_type=PREDICTION_TYPES[settings.prediction],
        timestep_spacing="trailing",
        clip_sample=False,
    )
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        prediction = model(x, t.reshape(1).to(x.device))
        x = scheduler.step(prediction, t, x, generator=draws).prev_sample
    return x
