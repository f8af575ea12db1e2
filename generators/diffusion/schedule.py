"""Noise schedules, and the weights of the loss that follow from them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

import torch
from jaxtyping import Float64
from pydantic import Field, model_validator
from torch import Tensor

from synthbench.generators.diffusion.samplers import LEAST_LOG_SNR_HALF, SAMPLERS
from synthbench.generators.generator import Settings

LossWeighting = Literal["uniform", "min_snr", "truncated_snr"]

if TYPE_CHECKING:
    Sampler: TypeAlias = str
else:
    Sampler = Literal[tuple(SAMPLERS)]  # pydantic refuses other names

MIN_SNR_GAMMA = 5.0
"""Hang et al. 2023 (arXiv 2303.09556): their value for all experiments."""

MOST_FINAL_SIGNAL = 0.2
"""Largest a_t at the last timestep: samples start from pure noise, so training must end near it."""


class DiffusionSettings(Settings):
    """Settings of the diffusion: the schedule, the loss, and the default sampler."""

    OF_NETWORK: ClassVar[frozenset[str]] = frozenset({
        "timesteps", "schedule", "log_noise_mean", "log_noise_sd", "beta_start", "beta_end",
        "prediction",
    })  # fmt: skip

    timesteps: int = Field(default=1000, ge=2, description="number of timesteps, T")
    schedule: Literal["scaled_linear", "linear", "cosine", "lognormal"] = Field(
        default="scaled_linear",
        description="scaled_linear: the square roots of the betas are linear; linear: the betas "
        "are; cosine (Nichol and Dhariwal 2021) and lognormal (Karras et al. 2022) do not use "
        "beta_start and beta_end",
    )
    log_noise_mean: float = Field(
        default=0.0,
        description="lognormal: mean of the logarithm of noise over signal, over the timesteps",
    )
    log_noise_sd: float = Field(default=1.2, gt=0, description="lognormal: its standard deviation")
    beta_start: float = Field(
        default=0.0005, gt=0, lt=1, description="first beta of the linear schedules"
    )
    beta_end: float = Field(
        default=0.0195, gt=0, lt=1, description="last beta of the linear schedules"
    )
    prediction: Literal["epsilon", "v", "sample"] = Field(
        default="epsilon",
        description="the network's target: epsilon, the noise; v, the velocity (Salimans and Ho "
        "2022); sample, the clean volume",
    )
    loss_weighting: LossWeighting = Field(
        default="uniform",
        description="weights of the timesteps. uniform: 1 for the error of the prediction; the "
        "others weigh the error of the clean volume: min_snr (Hang et al. 2023) by min(SNR, 5), "
        "truncated_snr (Salimans and Ho 2022) by the same, but at least 1",
    )
    sampler: Sampler = Field(default="ddpm", description="default sampler of `synthbench sample`")
    sampler_steps: int | None = Field(
        default=None,
        ge=1,
        description="steps of that sampler; an ancestral sampler takes all timesteps",
    )

    @model_validator(mode="after")
    def _ends_in_noise(self) -> DiffusionSettings:
        if self.schedule in ("cosine", "lognormal"):
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
                f"timesteps: after {self.timesteps} of them {left:.0%} of the volume is left; at "
                f"most {MOST_FINAL_SIGNAL:.0%} may be, because samples start from pure noise. "
                f"{_way_to_noise(self)}"
            )
        return self

    @model_validator(mode="after")
    def _steps_fit(self) -> DiffusionSettings:
        most = first_timestep(self, self.sampler) + 1
        if not SAMPLERS[self.sampler].ancestral and (self.sampler_steps or 0) > most:
            raise ValueError(
                f"sampler_steps: {self.sampler} takes 1 to {most} steps here; found "
                f"{self.sampler_steps}. The nearest: {most}"
            )
        return self


def betas(settings: DiffusionSettings) -> Float64[Tensor, " t"]:
    """Return the variances of the noise that each timestep adds.

    scaled_linear: linear in the root (Rombach et al. 2022); linear: Ho et al. 2020; cosine:
    Nichol and Dhariwal 2021 (arXiv 2102.09672), eq. 17 with s = 0.008 and betas up to 0.999;
    lognormal: those of `lognormal_ratios`.
    """
    start, end, steps = settings.beta_start, settings.beta_end, settings.timesteps
    if settings.schedule == "linear":
        return torch.linspace(start, end, steps, dtype=torch.float64)
    if settings.schedule == "scaled_linear":
        return torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64).square()
    if settings.schedule == "lognormal":
        alpha_bar = 1 / (1 + lognormal_ratios(settings).square())
        return 1 - alpha_bar / torch.cat([torch.ones(1).double(), alpha_bar[:-1]])
    time = torch.arange(steps + 1, dtype=torch.float64) / steps
    left = torch.cos((time + 0.008) / 1.008 * math.pi / 2).square()
    return (1 - left[1:] / left[:-1]).clamp(max=0.999)


def lognormal_ratios(settings: DiffusionSettings) -> Float64[Tensor, " t"]:
    """Return noise over signal, s_t / a_t, at each timestep: quantiles of a log-normal.

    A timestep that is drawn evenly then has the noise level of Karras et al. 2022
    (arXiv 2206.00364, table 1, "noise distribution"). For data of standard deviation 1 their
    preconditioning and weights of the loss are `prediction=v` and `loss_weighting=uniform`: their
    network gets x / sqrt(1 + sigma^2), which is x_t, and its target has the error of the velocity.
    """
    quantiles = (torch.arange(settings.timesteps, dtype=torch.float64) + 0.5) / settings.timesteps
    return torch.exp(
        settings.log_noise_mean + settings.log_noise_sd * torch.special.ndtri(quantiles)
    )


def alphas_cumprod(settings: DiffusionSettings) -> Float64[Tensor, " t"]:
    """Return alpha-bar, the share of the clean volume's variance left at each timestep."""
    return torch.cumprod(1 - betas(settings), dim=0)


def loss_weights(
    alpha_bar: Float64[Tensor, " n"], prediction: str, weighting: LossWeighting
) -> Float64[Tensor, " n"]:
    """Return the weight of the squared error of the prediction at each alpha-bar.

    uniform: 1. The other two weigh the error of the clean volume, with SNR = alpha-bar /
    (1 - alpha-bar). min_snr: min(SNR, 5) (Hang et al. 2023, section 3.4). truncated_snr: the same,
    but at least 1, so that noisy timesteps count, where shape is learnt (Salimans and Ho 2022,
    section 4, whose weight has no upper limit).

    The squared error of the predicted noise is SNR times that of the clean volume, and that of the
    velocity SNR + 1 times. So the weights for these predictions are divided by SNR and SNR + 1.
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
    """Return a hint with the smallest beta_end, to two digits, that ends the schedule in noise."""
    for beta_end in [round(0.01 * i, 2) for i in range(1, 100)]:
        if beta_end > settings.beta_end:
            longer = settings.model_construct(**{**dict(settings), "beta_end": beta_end})
            if _final_signal(longer) <= MOST_FINAL_SIGNAL:
                return f"The nearest that ends in noise: beta_end={beta_end:g} (or schedule=cosine)"
    return "Set schedule=cosine, which always ends in noise"


def first_timestep(
    settings: DiffusionSettings, sampler: str, start_noise: float | None = None
) -> int:
    """Return the timestep that a sampler begins at: the last, or the last one that is usable.

    Where almost no signal is left, the clean volume cannot be computed from predicted noise. With
    `start_noise` it is the timestep whose noise over signal is nearest to that, in logarithms.
    """
    spec = SAMPLERS[sampler]
    if start_noise is not None:
        ratios = -torch.logit(alphas_cumprod(settings)) / 2
        return int((ratios - math.log(start_noise)).abs().argmin())
    if spec.ancestral or (settings.prediction != "epsilon" and not spec.divided_by_signal):
        return settings.timesteps - 1
    alpha_bar = alphas_cumprod(settings)
    usable = int((torch.logit(alpha_bar) / 2 >= LEAST_LOG_SNR_HALF).sum())
    return max(usable, 1) - 1
