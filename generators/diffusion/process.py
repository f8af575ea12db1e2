"""Gaussian diffusion of volumes: the noise, the training loss, and the steps of a sampler.

A volume x_0 is noised to x_t = a_t x_0 + s_t e with e ~ N(0, I), a_t^2 = alpha-bar_t and
s_t^2 = 1 - a_t^2 (Ho et al. 2020, arXiv 2006.11239, eq. 4). Every sampler starts from
x = e ~ N(0, I) at the largest timestep and ends at the predicted clean volume.

No schedule reaches zero signal (Lin et al. 2024, arXiv 2305.08891): a_t ends at 0.021 for the
default scaled-linear betas, at 0.00005 for the cosine schedule. Schedules are not rescaled;
settings that would leave much signal are refused.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import diffusers
import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from synthbench.errors import UsageError, near_miss
from synthbench.generators.diffusion.samplers import SAMPLERS
from synthbench.generators.diffusion.schedule import (
    DiffusionSettings,
    alphas_cumprod,
    betas,
    first_timestep,
    loss_weights,
)

# The names that diffusers uses for the network's prediction.
_PREDICTION_TYPES = {"epsilon": "epsilon", "v": "v_prediction", "sample": "sample"}

# (noisy volumes [b c d h w], timesteps [b]) -> prediction [b c d h w]
Network = Callable[[Tensor, Tensor], Tensor]
# (index of the network call, timestep, state [b c d h w], predicted clean volume [b c d h w])
Watch = Callable[[int, int, Tensor, Tensor], None]


def _known(sampler: str) -> str:
    if sampler not in SAMPLERS:
        raise UsageError(f"--sampler: '{sampler}' is unknown: {near_miss(sampler, list(SAMPLERS))}")
    return sampler


class Diffusion:
    """The diffusion process of given settings: the training loss, and how samples are drawn.

    Parameters
    ----------
    settings
        Schedule, prediction, loss weighting and default sampler.
    start_noise
        Noise over signal of the state that samples start from; None: pure noise.

    Attributes
    ----------
    alphas_cumprod
        alpha-bar at each timestep, float64, on the CPU.
    """

    def __init__(self, settings: DiffusionSettings, start_noise: float | None = None) -> None:
        self.settings, self.start_noise = settings, start_noise
        self.alphas_cumprod = alphas_cumprod(settings)
        weights = loss_weights(self.alphas_cumprod, settings.prediction, settings.loss_weighting)
        # Rows: a_t, s_t, the weight of the loss. Computed in float64, rounded once.
        self._table = torch.stack(
            [self.alphas_cumprod.sqrt(), (1 - self.alphas_cumprod).sqrt(), weights]
        ).float()
        self._tables = {self._table.device: self._table}

    def add_noise(
        self,
        clean: Float[Tensor, "b c d h w"],
        t: Int64[Tensor, " b"],
        noise: Float32[Tensor, "b c d h w"],
    ) -> Float32[Tensor, "b c d h w"]:
        """Return x_t, each volume at its own timestep."""
        signal, sigma, _ = self._at(t)
        return signal * clean.float() + sigma * noise

    def losses(
        self,
        network: Network,
        clean: Float[Tensor, "b c d h w"],
        t: Int64[Tensor, " b"],
        noise: Float32[Tensor, "b c d h w"],
    ) -> Float32[Tensor, " b"]:
        """Return the weighted mean squared error of each volume's prediction.

        Parameters
        ----------
        network
            Maps noisy volumes and timesteps to the prediction, in any floating type; the error
            is computed in float32.
        clean
            Volumes on the scale that is diffused.
        t
            One timestep per volume, 0 to T - 1.
        noise
            Standard normal.
        """
        predicted = network(self.add_noise(clean, t, noise), t).float()
        errors = (predicted - self._target(clean.float(), t, noise)).square()
        return errors.flatten(1).mean(dim=1) * self._at(t)[2].flatten()

    def levels(self, t: Int64[Tensor, " b"]) -> tuple[Tensor, Tensor]:
        """Return a_t and s_t, Float32[b 1 1 1 1], on the device of t."""
        signal, sigma, _ = self._at(t)
        return signal, sigma

    def prediction(self, clean: Tensor, state: Tensor, t: Int64[Tensor, " b"]) -> Tensor:
        """Return the prediction that means this clean volume, where the state is x_t."""
        if self.settings.prediction == "sample":
            return clean
        signal, sigma = self.levels(t)
        if self.settings.prediction == "v":
            return (signal * state - clean) / sigma
        return (state - signal * clean) / sigma

    def predicted_clean(
        self,
        prediction: Float32[Tensor, "b c d h w"],
        state: Float32[Tensor, "b c d h w"],
        timestep: int,
    ) -> Float32[Tensor, "b c d h w"]:
        """Return x_0, computed from x_t and the prediction (Salimans and Ho 2022, table 1)."""
        signal = math.sqrt(float(self.alphas_cumprod[timestep]))
        sigma = math.sqrt(1 - float(self.alphas_cumprod[timestep]))
        if self.settings.prediction == "sample":
            return prediction
        if self.settings.prediction == "v":
            return signal * state - sigma * prediction
        return (state - sigma * prediction) / signal

    def sampling(
        self, sampler: str | None = None, steps: int | None = None
    ) -> dict[str, str | int]:
        """Return the sampler and its number of steps: those of the settings where None.

        Raises
        ------
        UsageError
            The sampler is unknown, or it cannot take so many steps.
        """
        name = _known(sampler or self.settings.sampler)
        spec = SAMPLERS[name]
        most = first_timestep(self.settings, name, self.start_noise) + 1
        if spec.default_steps is None:
            if steps not in (None, most):
                raise UsageError(
                    f"--steps: {name} takes all {most} steps; found {steps}. "
                    f"For fewer: --sampler ddim --steps {steps}"
                )
            return {"sampler": name, "steps": most}
        if steps is None:
            own = self.settings.sampler_steps if name == self.settings.sampler else None
            steps = own or min(spec.default_steps, most)
        if not 1 <= steps <= most:
            nearest = min(max(steps, 1), most)
            raise UsageError(
                f"--steps: {name} takes 1 to {most} here; found {steps}. "
                f"The nearest: --sampler {name} --steps {nearest}"
            )
        return {"sampler": name, "steps": steps}

    @staticmethod
    def network_calls(sampler: str, steps: int) -> int:
        """Return how often one sample calls the network."""
        return SAMPLERS[sampler].calls(steps)

    def denoise(
        self,
        network: Network,
        noise: Float[Tensor, "1 c d h w"],
        sampler: str,
        steps: int,
        draws: torch.Generator,
        watch: Watch | None = None,
        *,
        start: Float32[Tensor, "1 c d h w"] | None = None,
    ) -> Float32[Tensor, "1 c d h w"]:
        """Return a clean volume drawn from noise; nothing is clipped.

        Parameters
        ----------
        network
            As for `losses`; the state that it gets is float32.
        noise
            Standard normal.
        sampler, steps
            As `sampling` returns them. `SAMPLERS` has the source of each sampler.
        draws
            A CPU generator for the noise of an ancestral sampler: the same on every device.
        watch
            Called at each call of the network, with the state that the network gets.
        start
            A clean volume that is noised to the first noise level; None: pure noise.

        Raises
        ------
        UsageError
            The sampler is unknown, or it cannot take so many steps.
        """
        self.sampling(sampler, steps)  # raises for impossible steps
        spec, scheduler = SAMPLERS[sampler], self._scheduler(sampler, steps)
        step: Callable[..., Any] = scheduler.step
        x = noise.float()
        if start is not None:
            first = torch.full((len(x),), int(scheduler.timesteps[0]), device=x.device)
            x = self.add_noise(start, first, x)
        if spec.ancestral:
            step = partial(scheduler.step, generator=draws)
        if spec.divided_by_signal:
            # scale_model_input brings the state back to x_t.
            x = x * (scheduler.sigmas[0] ** 2 + 1).sqrt()
        for call, timestep in enumerate(scheduler.timesteps.tolist()):
            t = int(timestep)
            state = scheduler.scale_model_input(x, timestep)
            prediction = network(state, torch.full((len(x),), t, device=x.device)).float()
            if watch is not None:
                watch(call, t, state, self.predicted_clean(prediction, state, t))
            x = step(prediction, t, x, return_dict=False)[0]
        return x

    def timesteps(self, sampler: str, steps: int) -> Int64[np.ndarray, " steps"]:
        """Return the timesteps of a sampler's steps, the noisiest first.

        They begin at T - 1, where a state in training is nearly pure noise. There is one exception:
        with the cosine schedule, samplers whose state is x_t / a_t and networks that predict the
        noise begin a few timesteps below T - 1 (`LEAST_LOG_SNR_HALF`).

        Evenly spaced timesteps are "trailing" (Lin et al. 2024, table 2). Timesteps evenly spaced
        in log(a_t / s_t), as in DPM-Solver, end at 0. That matters because the step from the last
        noise level to the clean volume loses all finer details, and with even timesteps that level
        is high.
        """
        self.sampling(sampler, steps)  # raises for impossible steps
        first = first_timestep(self.settings, sampler, self.start_noise)
        log_snr_half = torch.logit(self.alphas_cumprod).numpy()[: first + 1] / 2
        return SAMPLERS[sampler].timesteps(log_snr_half, steps)

    def _at(self, t: Int64[Tensor, " b"]) -> tuple[Tensor, Tensor, Tensor]:
        """Return a_t, s_t and the weight of the loss, Float32[b 1 1 1 1], on the device of t."""
        if t.device not in self._tables:
            self._tables[t.device] = self._table.to(t.device)
        signal, sigma, weight = self._tables[t.device][:, t].reshape(3, -1, 1, 1, 1, 1)
        return signal, sigma, weight

    def _target(self, clean: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        if self.settings.prediction == "epsilon":
            return noise
        if self.settings.prediction == "sample":
            return clean
        signal, sigma, _ = self._at(t)
        return signal * noise - sigma * clean

    def _scheduler(self, sampler: str, steps: int) -> Any:
        spec = SAMPLERS[sampler]
        arguments = {
            "num_train_timesteps": self.settings.timesteps,
            "trained_betas": betas(self.settings).numpy(),
            "prediction_type": _PREDICTION_TYPES[self.settings.prediction],
            **spec.extra,
        }
        with warnings.catch_warnings():
            # diffusers makes arrays of tensors in a way that NumPy 2 deprecates.
            warnings.simplefilter("ignore", DeprecationWarning)
            scheduler = getattr(diffusers, spec.scheduler)(**arguments)
            if spec.ancestral:
                scheduler.alphas_cumprod = self.alphas_cumprod
                scheduler.timesteps = scheduler.timesteps[-steps:]
                return scheduler
            scheduler.set_timesteps(steps)
        # Set by hand: not all schedulers take timesteps, and they sum noise levels in float32.
        timesteps = self.timesteps(sampler, steps)
        alpha_bar = self.alphas_cumprod[timesteps]
        sigmas = torch.cat([((1 - alpha_bar) / alpha_bar).sqrt(), torch.zeros(1).double()])
        visits = torch.from_numpy(timesteps)
        # A sampler with two calls per step (predictor and corrector) visits each level twice, but
        # the first and the last once.
        times = spec.calls_a_step
        scheduler.timesteps = torch.cat([visits[:1], visits[1:].repeat_interleave(times)])
        scheduler.sigmas = torch.cat(
            [sigmas[:1], sigmas[1:-1].repeat_interleave(times), sigmas[-1:]]
        )
        scheduler.set_begin_index(0)
        return scheduler
