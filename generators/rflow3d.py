"""`rflow3d`: rectified flow from noise to volumes, in voxels or in Haar bands.

Liu et al. 2023 (arXiv 2209.03003): the state x_s = (1 - s) x_0 + s e goes from the volume x_0 to
noise e along a straight line, and a network learns the velocity x_0 - e. Samples follow it back
from s = 1 to 0 in a few Euler steps, those of MONAI's `RFlowScheduler`. Noise levels of training
are logit-normal (Esser et al. 2024, arXiv 2403.03206).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float32, Int64
from monai.networks.schedulers import RFlowScheduler
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn

from synthbench.cohorts.cohort import Volumes
from synthbench.errors import UsageError
from synthbench.generators.contracts import Monitor
from synthbench.generators.generator import Frame, Progress, Stage
from synthbench.generators.loop import settings as settings_module
from synthbench.generators.loop import sources, train
from synthbench.generators.networks.haar import haar, inverse_haar
from synthbench.generators.networks.precision import in_precision, precision_fields
from synthbench.generators.networks.unet import NetworkSettings, PatchedUNet
from synthbench.generators.networks.weights import load, seeded
from synthbench.runs.folder import Run
from synthbench.runtime.processes import is_main, processes

SAMPLER = "euler"
"""The one sampler: Euler steps of equal length along the flow."""

LOW_BAND = 3.0
"""What the band of sums is divided by, so that it has the range of voxels (WDM, arXiv 2402.19043).

A mean from -1 to 1 gives sums of up to 8^1/2 = 2.8.
"""

LEAST_NOISE = 0.05
"""Smallest s in the weight of the loss where the network predicts the volume (JiT's value)."""

# (index of the network call, timestep, state, predicted clean volume), both in voxels
Watch = Callable[[int, int, Tensor, Tensor], None]


class RFlow3DSettings(settings_module.LoopSettings, NetworkSettings):
    """Settings of `rflow3d`: the training, the network, and the flow."""

    OF_NETWORK: ClassVar[frozenset[str]] = frozenset({
        "bands", "timesteps", "prediction", "coordinates",
    })  # fmt: skip

    bands: Literal["voxels", "haar"] = Field(
        default="voxels", description="what flows: voxels, or the eight Haar bands of the volume"
    )
    timesteps: int = Field(default=1000, ge=2, description="noise levels of training")
    time_sampling: Literal["logit_normal", "uniform"] = Field(
        default="logit_normal", description="distribution of the noise level s in training"
    )
    time_mean: float = Field(default=0.0, description="mean of logit(s), where it is logit_normal")
    time_deviation: float = Field(
        default=1.0, gt=0, description="standard deviation of logit(s), where it is logit_normal"
    )
    prediction: Literal["velocity", "sample"] = Field(
        default="velocity",
        description="the network's target: the velocity, or the clean volume (Li and He 2025), "
        "from which the velocity is computed",
    )
    coordinates: bool = Field(
        default=False, description="tell the network the place of each voxel, in three channels"
    )
    sampler_steps: int = Field(default=10, ge=1, description="Euler steps of a sample")

    @property
    def factor(self) -> int:
        """The number that every side of the grid must be divisible by."""
        return super().factor * (2 if self.bands == "haar" else 1)

    @model_validator(mode="after")
    def _steps_fit(self) -> RFlow3DSettings:
        if self.sampler_steps > self.timesteps:
            raise ValueError(
                f"sampler_steps: {SAMPLER} takes 1 to {self.timesteps} steps here; found "
                f"{self.sampler_steps}. The nearest: {self.timesteps}"
            )
        return self


@dataclass(frozen=True)
class RectifiedFlow:
    """The flow of volumes with intensities in [0, 1].

    Attributes
    ----------
    settings
        Its settings.
    """

    settings: RFlow3DSettings

    @property
    def timesteps(self) -> int:
        """The number of noise levels of training."""
        return self.settings.timesteps

    def noise_levels(self, t: Int64[Tensor, " b"]) -> Float32[Tensor, " b"]:
        """Return s in (0, 1) for timesteps from 0 to T - 1: the quantiles (t + 1/2) / T."""
        share = (t.double() + 0.5) / self.timesteps
        if self.settings.time_sampling == "uniform":
            return share.float()
        normal = torch.special.ndtri(share)
        return torch.sigmoid(
            self.settings.time_mean + self.settings.time_deviation * normal
        ).float()

    def losses(
        self,
        network: nn.Module,
        clean: Float32[Tensor, "b 1 d h w"],
        t: Int64[Tensor, " b"],
        noise: Float32[Tensor, "b 1 d h w"],
        *conditioning: Tensor,
    ) -> Float32[Tensor, " b"]:
        """Return the mean squared error of each volume's velocity; `conditioning` is empty.

        Where the network predicts the volume, the error of the velocity is the volume's divided
        by s, and s is at least `LEAST_NOISE` there.
        """
        # The transform is orthonormal: noise in voxels is noise in bands.
        clean, noise = self.folded(clean), self.changed(noise)
        s = self.noise_levels(t).to(clean.device)
        noisy = self._scheduler().add_noise(clean, noise, s * self.timesteps)
        predicted = network(noisy, s * self.timesteps).float()
        target = clean if self.settings.prediction == "sample" else clean - noise
        errors: Tensor = (predicted - target).square().flatten(1).mean(dim=1)
        if self.settings.prediction == "velocity":
            return errors
        return errors / s.clamp(min=LEAST_NOISE).square()

    def changed(self, state: Tensor) -> Tensor:
        """Return voxels in the bands that flow."""
        return haar(state) if self.settings.bands == "haar" else state

    def folded(self, volume: Float32[Tensor, "b 1 d h w"]) -> Float32[Tensor, "b c d2 h2 w2"]:
        """Return a volume in [0, 1] as the clean state of the flow."""
        bands = self.changed(2 * volume.float() - 1)
        if self.settings.bands == "haar":
            bands = torch.cat([bands[:, :1] / LOW_BAND, bands[:, 1:]], dim=1)
        return bands

    def unfolded(self, state: Float32[Tensor, "b c d2 h2 w2"]) -> Float32[Tensor, "b 1 d h w"]:
        """Return a state of the flow as a volume, not clipped."""
        if self.settings.bands == "haar":
            state = inverse_haar(torch.cat([state[:, :1] * LOW_BAND, state[:, 1:]], dim=1))
        return (state + 1) / 2

    @torch.inference_mode()
    def draw(
        self,
        network: nn.Module,
        shape: Sequence[int],
        seed: int,
        steps: int,
        watch: Watch | None = None,
    ) -> Float32[np.ndarray, "d h w"]:
        """Return the volume of a seed, in [0, 1]."""
        device = next(network.parameters()).device
        # Drawn on the CPU, so that a seed gives the same noise on every device.
        noise = torch.randn((1, 1, *shape), generator=torch.Generator().manual_seed(seed))
        state = self.changed(noise.to(device))
        scheduler = self._scheduler()
        scheduler.set_timesteps(steps)
        visits = [*scheduler.timesteps.tolist(), 0]
        for call, (at, after) in enumerate(pairwise(visits)):
            time = torch.full((1,), float(at), device=device)
            predicted = network(state, time).float()
            if self.settings.prediction == "sample":
                predicted = (predicted - state) * (self.timesteps / at)
            before = state
            state, clean = scheduler.step(predicted, at, state, after)
            if watch is not None:
                watch(call, at - 1, self.unfolded(before), self.unfolded(clean))
        # Clipped only here, at the end: clipping at each step biases the result.
        return as_array(self.unfolded(state)).clip(0, 1)

    def _scheduler(self) -> RFlowScheduler:
        return RFlowScheduler(num_train_timesteps=self.timesteps)


def as_array(volume: Float32[Tensor, "1 1 d h w"]) -> Float32[np.ndarray, "d h w"]:
    """Return the one volume of a batch as an array."""
    array: Float32[np.ndarray, "d h w"] = volume.float().cpu().numpy()[0, 0]
    return array


class RFlow3D:
    """Rectified flow of volumes."""

    name = "rflow3d"
    summary = "rectified flow in voxels or Haar bands, ten steps per sample"
    needs = "tiny and haar: two CPU cores, minutes; small: a GPU"
    paper = "Liu et al. 2023, arXiv 2209.03003"
    licence = "as the training data"
    settings = RFlow3DSettings

    def stages(self, settings: BaseModel) -> list[Stage]:
        """Return the network to train."""
        assert isinstance(settings, RFlow3DSettings)
        return [Stage(lambda: _initial(settings), RectifiedFlow(settings), settings)]

    def fit(
        self,
        volumes: Volumes,
        settings: BaseModel,
        run: Run,
        *,
        resume: bool = False,
        init: Run | None = None,
        progress: Progress | None = None,
        monitor: Monitor | None = None,
    ) -> None:
        """Train; the averaged weights become the run's weights."""
        assert isinstance(settings, RFlow3DSettings)
        settings.check_grid(volumes.space.shape)
        model, flow, shape = _initial(settings), RectifiedFlow(settings), volumes.space.shape
        if init is not None and not resume:
            load(model, init.load_weights(), str(init.folder))

        def draw(network: nn.Module, seed: int) -> Float32[np.ndarray, "d h w"]:
            return flow.draw(network, shape, seed, settings.sampler_steps)

        held_out = monitor.validation if monitor else None
        task = sources.Task(
            model, flow, sources.TrainingVolumes(volumes, settings, run), settings, draw,
            held_out=None if held_out is None else sources.HeldOutVolumes(held_out),
        )  # fmt: skip
        averaged = train.train(task, run, resume=resume, monitor=monitor, progress=progress)
        if is_main():
            run.update(parameters=sum(p.numel() for p in model.parameters()))
            run.save_weights({name: value.numpy() for name, value in averaged.items()})

    def sampling(
        self, run: Run, sampler: str | None, steps: int | None, *, precision: str = "fp32"
    ) -> dict[str, str | int]:
        """Return the sampler, its number of steps and, where it is not fp32, the precision.

        Raises
        ------
        UsageError
            The sampler is another one, it cannot take so many steps, or the precision is unknown.
        """
        settings = _settings(run)
        if sampler not in (None, SAMPLER):
            raise UsageError(
                f"{self.name} has one sampler, {SAMPLER}; found {sampler}: leave out --sampler."
            )
        if steps is not None and not 1 <= steps <= settings.timesteps:
            raise UsageError(
                f"--steps: {self.name} takes 1 to {settings.timesteps} here; found {steps}."
            )
        count = settings.sampler_steps if steps is None else steps
        return {"sampler": SAMPLER, "steps": count, **precision_fields(precision)}

    def sample(
        self,
        run: Run,
        seeds: Sequence[int],
        *,
        sampler: str | None = None,
        steps: int | None = None,
        precision: str = "fp32",
    ) -> Iterator[Float32[np.ndarray, "d h w"]]:
        """Yield one volume per seed. Each is drawn alone, so no volume depends on a batch."""
        count = int(self.sampling(run, sampler, steps)["steps"])
        model, flow, shape = _trained(run, precision)
        for seed in seeds:
            yield flow.draw(model, shape, seed, count)

    def trajectory(
        self,
        run: Run,
        seed: int,
        *,
        sampler: str | None,
        steps: int | None,
        frames: int,
        precision: str = "fp32",
    ) -> Iterator[Frame]:
        """Yield the states at about `frames` calls of the network, the last call included."""
        count = int(self.sampling(run, sampler, steps)["steps"])
        model, flow, shape = _trained(run, precision)
        kept = set(np.linspace(0, count - 1, min(frames, count)).round().astype(int).tolist())
        shown: list[Frame] = []

        def watch(call: int, timestep: int, state: Tensor, clean: Tensor) -> None:
            if call in kept:
                shown.append(Frame(call, timestep, as_array(state), as_array(clean).clip(0, 1)))

        flow.draw(model, shape, seed, count, watch)
        yield from shown


def _settings(run: Run) -> RFlow3DSettings:
    return run.settings(RFlow3DSettings)


def _initial(settings: RFlow3DSettings) -> PatchedUNet:
    """Return the network with initial weights that depend on the seed alone."""
    channels = 8 if settings.bands == "haar" else 1
    return seeded(
        settings.seed,
        lambda: PatchedUNet(settings, channels, channels, coordinates=settings.coordinates),
    )


def _trained(run: Run, precision: str) -> tuple[nn.Module, RectifiedFlow, tuple[int, ...]]:
    """Return a run's network on this process's device, its flow, and the run's grid."""
    settings = _settings(run)
    model = _initial(settings)
    load(model, run.load_weights(), str(run.folder))
    device = processes().device if torch.cuda.is_available() else torch.device("cpu")
    model.to(device).eval()
    shape = tuple(run.record["space"]["shape"])
    return in_precision(model, precision), RectifiedFlow(settings), shape
