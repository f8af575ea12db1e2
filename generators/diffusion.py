"""Gaussian diffusion of volumes: noise schedules, the training loss, and samplers.

A volume x_0 is noised to x_t = a_t x_0 + s_t e with e ~ N(0, I), a_t^2 = alpha-bar_t and
s_t^2 = 1 - a_t^2 (Ho et al. 2020, arXiv 2006.11239, eq. 4). Every sampler starts from
x = e ~ N(0, I) at the largest timestep and ends at the predicted clean volume.

No schedule here reaches zero signal (Lin et al. 2024, arXiv 2305.08891): a_t ends at 0.021 for
the default scaled-linear betas, at 0.00005 for the cosine schedule. Nothing is rescaled;
where much would be left, the settings are refused.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import diffusers
import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from pydantic import Field, model_validator
from torch import Tensor

from synthbench.errors import UsageError, near_miss
from synthbench.generators.generator import Settings
from synthbench.generators.samplers import LEAST_LOG_SNR_HALF, SAMPLERS

LossWeighting = Literal["uniform", "min_snr", "truncated_snr"]

if TYPE_CHECKING:
    Sampler: TypeAlias = str
else:
    Sampler = Literal[tuple(SAMPLERS)]  # pydantic refuses other names

MIN_SNR_GAMMA = 5.0
"""Hang et al. 2023 (arXiv 2303.09556): their value for all experiments."""

MOST_FINAL_SIGNAL = 0.2
"""Largest a_t at the last timestep: samples start from pure noise, so training must end near it."""

# The schedulers' words for what the network predicts.
_PREDICTION_TYPES = {"epsilon": "epsilon", "v": "v_prediction", "sample": "sample"}

# (noisy volumes [b c d h w], timesteps [b]) -> prediction [b c d h w]
Network = Callable[[Tensor, Tensor], Tensor]
# (index of the network call, timestep, state [b c d h w], predicted clean volume [b c d h w])
Watch = Callable[[int, int, Tensor, Tensor], None]


class DiffusionSettings(Settings):
    """Settings of the diffusion: the schedule, the loss, and the sampler that is the default."""

    timesteps: int = Field(default=1000, ge=2, description="T")
    schedule: Literal["scaled_linear", "linear", "cosine"] = Field(
        default="scaled_linear",
        description="betas, linear in their root or as they are, or the cosine schedule (Nichol "
        "and Dhariwal 2021), which has no use for beta_start and beta_end",
    )
    beta_start: float = Field(default=0.0005, gt=0, lt=1, description="of the linear schedules")
    beta_end: float = Field(default=0.0195, gt=0, lt=1, description="of the linear schedules")
    prediction: Literal["epsilon", "v", "sample"] = Field(
        default="epsilon",
        description="what the network predicts: the noise, the velocity (Salimans and Ho 2022), "
        "or the clean volume",
    )
    loss_weighting: LossWeighting = Field(
        default="uniform",
        description="over timesteps; by the clean volume's error, min_snr (Hang et al. 2023) "
        "weighs them by min(SNR, 5), truncated_snr (Salimans and Ho 2022, with that ceiling) by "
        "at least 1",
    )
    sampler: Sampler = Field(default="ddpm", description="default of sample")
    sampler_steps: int | None = Field(
        default=None, ge=1, description="of that sampler; an ancestral one takes all timesteps"
    )

    @model_validator(mode="after")
    def _ends_in_noise(self) -> DiffusionSettings:
        if self.schedule == "cosine":
            return self
        if self.beta_start >= self.beta_end:
            fields = type(self).model_fields
            low, high = sorted((self.beta_start, self.beta_end))
            if low == high:
                low, high = fields["beta_start"].default, fields["beta_end"].default
            raise ValueError(
                f"beta_start must lie below beta_end; found {self.beta_start:g} and "
                f"{self.beta_end:g}. Set beta_start={low:g} and beta_end={high:g}"
            )
        left = _final_signal(self)
        if left > MOST_FINAL_SIGNAL:
            raise ValueError(
                f"timesteps: after {self.timesteps} of them {left:.0%} of the volume is left "
                f"(at most {MOST_FINAL_SIGNAL:.0%}), and samples start from pure noise. "
                f"{_way_to_noise(self)}"
            )
        return self

    @model_validator(mode="after")
    def _steps_fit(self) -> DiffusionSettings:
        most = _first_timestep(self, self.sampler) + 1
        if not SAMPLERS[self.sampler].ancestral and (self.sampler_steps or 0) > most:
            raise ValueError(
                f"sampler_steps: {self.sampler} takes 1 to {most} steps here; found "
                f"{self.sampler_steps}. The nearest: {most}"
            )
        return self


# ---------------------------------------------------------------- schedules


def betas(settings: DiffusionSettings) -> Float64[Tensor, " t"]:
    """Return the variances of the noise that each timestep adds.

    scaled_linear: linear in the root (Rombach et al. 2022); linear: Ho et al. 2020; cosine:
    Nichol and Dhariwal 2021 (arXiv 2102.09672), eq. 17 with s = 0.008 and betas up to 0.999.
    """
    start, end, steps = settings.beta_start, settings.beta_end, settings.timesteps
    if settings.schedule == "linear":
        return torch.linspace(start, end, steps, dtype=torch.float64)
    if settings.schedule == "scaled_linear":
        return torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64).square()
    time = torch.arange(steps + 1, dtype=torch.float64) / steps
    left = torch.cos((time + 0.008) / 1.008 * math.pi / 2).square()
    return (1 - left[1:] / left[:-1]).clamp(max=0.999)


def alphas_cumprod(settings: DiffusionSettings) -> Float64[Tensor, " t"]:
    """Return alpha-bar, the share of the clean volume's variance left at each timestep."""
    return torch.cumprod(1 - betas(settings), dim=0)


def loss_weights(
    alpha_bar: Float64[Tensor, " n"], prediction: str, weighting: LossWeighting
) -> Float64[Tensor, " n"]:
    """Return the weights of the squared error of what is predicted, at each alpha-bar.

    uniform: 1. The others weigh the clean volume's error: min_snr by min(SNR, 5), SNR = alpha-bar
    / (1 - alpha-bar) (Hang et al. 2023, section 3.4); truncated_snr by the same, but at least 1
    (Salimans and Ho 2022, section 4, whose weight has no ceiling), so that what little signal
    noisy timesteps have counts: shape is learnt there. An error of the predicted noise is SNR
    times one of the clean volume, squared, and one of the velocity SNR + 1 times: their weights
    are divided by these.
    """
    if weighting == "uniform":
        return torch.ones_like(alpha_bar)
    snr = alpha_bar / (1 - alpha_bar)
    least = 1.0 if weighting == "truncated_snr" else 0.0
    weights = snr.clamp(min=least, max=MIN_SNR_GAMMA)
    return weights / {"sample": torch.ones_like(snr), "epsilon": snr, "v": snr + 1}[prediction]


def _final_signal(settings: DiffusionSettings) -> float:
    return math.sqrt(float(alphas_cumprod(settings)[-1]))


def _way_to_noise(settings: DiffusionSettings) -> str:
    """Name the smallest beta_end, to two digits, with which the schedule ends in noise."""
    for beta_end in [round(0.01 * i, 2) for i in range(1, 100)]:
        if beta_end > settings.beta_end:
            longer = settings.model_construct(**{**dict(settings), "beta_end": beta_end})
            if _final_signal(longer) <= MOST_FINAL_SIGNAL:
                return f"The nearest that ends in noise: beta_end={beta_end:g} (or schedule=cosine)"
    return "Set schedule=cosine, which always ends in noise"


def _known(sampler: str) -> str:
    if sampler not in SAMPLERS:
        raise UsageError(f"--sampler: '{sampler}' is unknown: {near_miss(sampler, list(SAMPLERS))}")
    return sampler


def _first_timestep(settings: DiffusionSettings, sampler: str) -> int:
    """Return the timestep that a sampler begins at: the last one, unless that is ill-conditioned.

    Where next to no signal is left, a clean volume cannot be computed from predicted noise.
    """
    spec = SAMPLERS[sampler]
    if spec.ancestral or (settings.prediction != "epsilon" and not spec.divided_by_signal):
        return settings.timesteps - 1
    alpha_bar = alphas_cumprod(settings)
    usable = int((torch.logit(alpha_bar) / 2 >= LEAST_LOG_SNR_HALF).sum())
    return max(usable, 1) - 1


# ---------------------------------------------------------------- the process


class Diffusion:
    """The diffusion process of given settings: what training minimises, and how samples are drawn.

    Parameters
    ----------
    settings
        Schedule, prediction, loss weighting and default sampler.

    Attributes
    ----------
    alphas_cumprod
        alpha-bar at each timestep, float64, on the CPU.
    """

    def __init__(self, settings: DiffusionSettings) -> None:
        self.settings = settings
        self.alphas_cumprod = alphas_cumprod(settings)
        weights = loss_weights(self.alphas_cumprod, settings.prediction, settings.loss_weighting)
        # Rows: a_t, s_t, the loss's weight. Rounded once, from float64.
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
            Maps noisy volumes and timesteps to the prediction, in any floating type: the error
            is taken in float32.
        clean
            Volumes as they are diffused.
        t
            A timestep a volume, 0 to T - 1.
        noise
            Standard normal.
        """
        predicted = network(self.add_noise(clean, t, noise), t).float()
        errors = (predicted - self._target(clean.float(), t, noise)).square()
        return errors.flatten(1).mean(dim=1) * self._at(t)[2].flatten()

    def predicted_clean(
        self,
        prediction: Float32[Tensor, "b c d h w"],
        state: Float32[Tensor, "b c d h w"],
        timestep: int,
    ) -> Float32[Tensor, "b c d h w"]:
        """Return the x_0 that a prediction at x_t stands for (Salimans and Ho 2022, table 1)."""
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
        """Return the sampler and its number of steps: the settings' own where None.

        Raises
        ------
        UsageError
            The sampler is unknown, or the steps do not fit it.
        """
        name = _known(sampler or self.settings.sampler)
        spec = SAMPLERS[name]
        most = _first_timestep(self.settings, name) + 1
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
        """Return how often a sample calls the network."""
        return SAMPLERS[sampler].calls(steps)

    def denoise(
        self,
        network: Network,
        noise: Float[Tensor, "1 c d h w"],
        sampler: str,
        steps: int,
        draws: torch.Generator,
        watch: Watch | None = None,
    ) -> Float32[Tensor, "1 c d h w"]:
        """Draw a clean volume from noise; nothing is clipped on the way.

        Parameters
        ----------
        network
            As for `losses`; it is given the state in float32.
        noise
            Standard normal.
        sampler, steps
            As `sampling` returns them; `SAMPLERS` says what each sampler is.
        draws
            A CPU generator that an ancestral sampler draws its noise from: the same on every
            device.
        watch
            Called at each call of the network, with the state that it sees.

        Raises
        ------
        UsageError
            The sampler is unknown, or the steps do not fit it.
        """
        self.sampling(sampler, steps)  # raises where they do not fit
        spec, scheduler = SAMPLERS[sampler], self._scheduler(sampler, steps)
        step: Callable[..., Any] = scheduler.step
        x = noise.float()
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

        All begin at T - 1, where the state that training saw was all but pure noise; with the
        cosine schedule, samplers whose state is x_t / a_t and networks that predict the noise
        begin a few timesteps before (see `LEAST_LOG_SNR_HALF`). Evenly spaced timesteps are
        "trailing" (Lin et al. 2024, table 2). Those evenly spaced in log(a_t / s_t), as
        DPM-Solver's, end at 0: details finer than the last noise level are lost in the step from
        it to the clean volume, and with even timesteps that level is high.
        """
        self.sampling(sampler, steps)  # raises where they do not fit
        first = _first_timestep(self.settings, sampler)
        log_snr_half = torch.logit(self.alphas_cumprod).numpy()[: first + 1] / 2
        return SAMPLERS[sampler].timesteps(log_snr_half, steps)

    def _at(self, t: Int64[Tensor, " b"]) -> tuple[Tensor, Tensor, Tensor]:
        """a_t, s_t and the loss's weight, as Float32[b 1 1 1 1] on the timesteps' device."""
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
            # They make arrays of tensors in a way that NumPy 2 deprecates.
            warnings.simplefilter("ignore", DeprecationWarning)
            scheduler = getattr(diffusers, spec.scheduler)(**arguments)
            if spec.ancestral:
                scheduler.alphas_cumprod = self.alphas_cumprod
                return scheduler
            scheduler.set_timesteps(steps)
        # Not all of the schedulers take timesteps, and their noise levels are sums in float32.
        timesteps = self.timesteps(sampler, steps)
        alpha_bar = self.alphas_cumprod[timesteps]
        sigmas = torch.cat([((1 - alpha_bar) / alpha_bar).sqrt(), torch.zeros(1).double()])
        visits = torch.from_numpy(timesteps)
        # Predictor and corrector visit each level but the first and the last.
        times = spec.calls_a_step
        scheduler.timesteps = torch.cat([visits[:1], visits[1:].repeat_interleave(times)])
        scheduler.sigmas = torch.cat(
            [sigmas[:1], sigmas[1:-1].repeat_interleave(times), sigmas[-1:]]
        )
        scheduler.set_begin_index(0)
        return scheduler
