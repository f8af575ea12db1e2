"""`ddpm3d`: a 3-D denoising diffusion probabilistic model of whole volumes.

The method is Ho et al. 2020 (arXiv 2006.11239), the network MONAI's `DiffusionModelUNet`. Samples
take all timesteps, or fewer with a sampler of `synthbench.generators.diffusion.samplers`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64
from pydantic import BaseModel, Field
from torch import Tensor, nn

from synthbench.cohorts.cohort import Volumes
from synthbench.generators.contracts import Monitor
from synthbench.generators.diffusion.process import Diffusion, Watch
from synthbench.generators.diffusion.schedule import DiffusionSettings
from synthbench.generators.generator import Frame, Progress, Stage
from synthbench.generators.loop import settings as settings_module
from synthbench.generators.loop import sources, train
from synthbench.generators.networks.unet import NetworkSettings, PatchedUNet
from synthbench.generators.networks.weights import load, seeded
from synthbench.runs.folder import Run
from synthbench.runtime.processes import is_main, processes


class DDPM3DSettings(settings_module.LoopSettings, NetworkSettings, DiffusionSettings):
    """Settings of `ddpm3d`: the training, the network, and the diffusion."""

    centred: bool = Field(
        default=False, description="diffuse intensities in [-1, 1] rather than [0, 1]"
    )


@dataclass(frozen=True)
class VolumeDiffusion:
    """The diffusion of volumes with intensities in [0, 1].

    Attributes
    ----------
    diffusion
        The process.
    centred
        True where it runs on intensities in [-1, 1], False for [0, 1].
    """

    diffusion: Diffusion
    centred: bool

    @property
    def timesteps(self) -> int:
        """The number of timesteps, T."""
        return self.diffusion.settings.timesteps

    def losses(
        self,
        network: nn.Module,
        clean: Float32[Tensor, "b 1 d h w"],
        t: Int64[Tensor, " b"],
        noise: Float32[Tensor, "b 1 d h w"],
        *conditioning: Tensor,
    ) -> Float32[Tensor, " b"]:
        """Return the loss of each volume; `conditioning` is empty."""
        return self.diffusion.losses(network, clean * 2 - 1 if self.centred else clean, t, noise)

    def to_unit(self, state: Tensor) -> Float32[np.ndarray, "d h w"]:
        """Return a state on the volumes' intensity scale, not clipped."""
        volume = (state + 1) / 2 if self.centred else state
        array: Float32[np.ndarray, "d h w"] = volume.float().cpu().numpy()[0, 0]
        return array

    @torch.inference_mode()
    def draw(
        self,
        network: nn.Module,
        shape: Sequence[int],
        seed: int,
        sampler: str,
        steps: int,
        watch: Watch | None = None,
    ) -> Float32[np.ndarray, "d h w"]:
        """Return the volume of a seed, in [0, 1]."""
        device = next(network.parameters()).device
        draws = torch.Generator().manual_seed(seed)
        # Drawn on the CPU, so that a seed gives the same noise on every device.
        noise = torch.randn((1, 1, *shape), generator=draws).to(device)
        drawn = self.diffusion.denoise(network, noise, sampler, steps, draws, watch)
        # Clipped only here, at the end: clipping at each step biases the result.
        clipped: Float32[np.ndarray, "d h w"] = self.to_unit(drawn).clip(0, 1)
        return clipped


class DDPM3D:
    """The 3-D DDPM."""

    name = "ddpm3d"
    summary = "3-D DDPM of whole volumes (MONAI U-Net, Accelerate): presets tiny, small, paper"
    needs = "tiny: two CPU cores, minutes; paper: GPUs, hours"
    settings = DDPM3DSettings

    def stages(self, settings: BaseModel) -> list[Stage]:
        """Return the network to train."""
        assert isinstance(settings, DDPM3DSettings)
        return [Stage(lambda: _initial(settings), _objective(settings), settings)]

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
        assert isinstance(settings, DDPM3DSettings)
        settings.check_grid(volumes.space.shape)
        model, objective = _initial(settings), _objective(settings)
        if init is not None and not resume:
            load(model, init.load_weights(), str(init.folder))
        chosen = objective.diffusion.sampling()
        shape = volumes.space.shape

        def draw(network: nn.Module, seed: int) -> Float32[np.ndarray, "d h w"]:
            sampler, steps = str(chosen["sampler"]), int(chosen["steps"])
            return objective.draw(network, shape, seed, sampler, steps)

        held_out = monitor.validation if monitor else None
        task = sources.Task(
            model, objective, sources.TrainingVolumes(volumes, settings, run), settings, draw,
            held_out=None if held_out is None else sources.HeldOutVolumes(held_out),
        )  # fmt: skip
        averaged = train.train(task, run, resume=resume, monitor=monitor, progress=progress)
        if is_main():
            run.update(parameters=sum(p.numel() for p in model.parameters()))
            run.save_weights({name: value.numpy() for name, value in averaged.items()})

    def sampling(self, run: Run, sampler: str | None, steps: int | None) -> dict[str, str | int]:
        """Return the sampler and its number of steps.

        Raises
        ------
        UsageError
            The sampler is unknown, or it cannot take so many steps.
        """
        return Diffusion(_settings(run)).sampling(sampler, steps)

    def sample(
        self,
        run: Run,
        seeds: Sequence[int],
        *,
        sampler: str | None = None,
        steps: int | None = None,
    ) -> Iterator[Float32[np.ndarray, "d h w"]]:
        """Yield one volume per seed. Each is drawn alone, so no volume depends on a batch."""
        model, objective, shape = _trained(run)
        chosen = objective.diffusion.sampling(sampler, steps)
        for seed in seeds:
            yield objective.draw(model, shape, seed, str(chosen["sampler"]), int(chosen["steps"]))

    def trajectory(
        self, run: Run, seed: int, *, sampler: str | None, steps: int | None, frames: int
    ) -> Iterator[Frame]:
        """Yield the states at about `frames` calls of the network, the last call included."""
        model, objective, shape = _trained(run)
        chosen = objective.diffusion.sampling(sampler, steps)
        name, count = str(chosen["sampler"]), int(chosen["steps"])
        calls = objective.diffusion.network_calls(name, count)
        kept = set(np.linspace(0, calls - 1, min(frames, calls)).round().astype(int).tolist())
        shown: list[Frame] = []

        def watch(call: int, timestep: int, state: Tensor, clean: Tensor) -> None:
            if call in kept:
                predicted = objective.to_unit(clean).clip(0, 1)
                shown.append(Frame(call, timestep, objective.to_unit(state), predicted))

        objective.draw(model, shape, seed, name, count, watch)
        yield from shown


def _settings(run: Run) -> DDPM3DSettings:
    # A run of an earlier version lacks newer settings. Their defaults are what that version did.
    config = run.config
    return DDPM3DSettings(**{k: config[k] for k in DDPM3DSettings.model_fields if k in config})


def _objective(settings: DDPM3DSettings) -> VolumeDiffusion:
    return VolumeDiffusion(Diffusion(settings), settings.centred)


def _initial(settings: DDPM3DSettings) -> PatchedUNet:
    """Return the network with initial weights that depend on the seed alone."""
    return seeded(settings.seed, lambda: PatchedUNet(settings))


def _trained(run: Run) -> tuple[PatchedUNet, VolumeDiffusion, tuple[int, ...]]:
    """Return a run's network on this process's device, its objective, and the run's grid."""
    settings = _settings(run)
    model = _initial(settings)
    load(model, run.load_weights(), str(run.folder))
    device = processes().device if torch.cuda.is_available() else torch.device("cpu")
    model.to(device).eval()
    return model, _objective(settings), tuple(run.record["space"]["shape"])
