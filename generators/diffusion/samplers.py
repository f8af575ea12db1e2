"""Samplers of a diffusion model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float64, Int64


LEAST_LOG_SNR_HALF = -5.1
"""log(a_t / s_t) below which an error of the predicted noise is multiplied by more than 160.

Lu et al. 2022 (arXiv 2206.00927) stop at this value for the cosine schedule.
"""

# (log(a_t / s_t) of the usable timesteps, number of steps) -> distinct timesteps, the last first
Timesteps: TypeAlias = "Callable[[Float64[np.ndarray, ' t'], int], Int64[np.ndarray, ' steps']]"


def even(log_snr_half: Float64[np.ndarray, " t"], steps: int) -> Int64[np.ndarray, " steps"]:
    """Return evenly spaced timesteps, the last first: "trailing" of Lin et al. 2024."""
    import numpy as np

    spread = len(log_snr_half) * np.arange(steps, 0, -1) / steps
    return (np.round(spread) - 1).astype(np.int64)


def even_in_log_snr(
    log_snr_half: Float64[np.ndarray, " t"], steps: int
) -> Int64[np.ndarray, " steps"]:
    """Return distinct timesteps, the last first, at nearly even steps of log(a_t / s_t)."""
    import numpy as np

    first = len(log_snr_half) - 1
    levels = np.linspace(max(log_snr_half[first], LEAST_LOG_SNR_HALF), log_snr_half[0], steps)
    nearest = np.round(np.interp(-levels, -log_snr_half, np.arange(first + 1)))
    nearest[0] = first
    # Levels may lie closer together than timesteps: then neighbours get the same timestep. The
    # running maximum, from the end, moves them apart by one each.
    index = np.arange(steps)
    distinct = np.maximum.accumulate((nearest + index)[::-1])[::-1] - index
    return np.minimum(distinct, first - index).astype(np.int64)


@dataclass(frozen=True)
class SamplerSpec:
    """The definition of a sampler.

    Attributes
    ----------
    scheduler
        The class in `diffusers` that takes its steps.
    source
        The paper.
    default_steps
        Number of steps where a user names the sampler only. None: an ancestral sampler, which
        takes all timesteps and draws noise at each.
    timesteps
        Returns the timesteps that it visits.
    extra
        More arguments of the scheduler.
    calls_a_step
        Calls of the network per step; the last step has one.
    divided_by_signal
        True where the state is x_t / a_t. The sampler then never starts beyond
        `LEAST_LOG_SNR_HALF`, for any prediction: one step beyond is as large as all others
        together.
    """

    scheduler: str
    source: str
    default_steps: int | None
    timesteps: Timesteps
    extra: Mapping[str, Any] = field(default_factory=dict)
    calls_a_step: int = 1
    divided_by_signal: bool = False

    @property
    def ancestral(self) -> bool:
        """True where it takes all timesteps and draws noise at each."""
        return self.default_steps is None

    def calls(self, steps: int) -> int:
        """Return how often one sample of that many steps calls the network."""
        return self.calls_a_step * (steps - 1) + 1


SAMPLERS: dict[str, SamplerSpec] = {
    "ddpm": SamplerSpec(
        "DDPMScheduler",
        "ancestral sampling (Ho et al. 2020, Algorithm 2, the posterior's variance)",
        None, even, {"clip_sample": False},
    ),
    # DPM-Solver++ of order 1 is the same formula.
    "ddim": SamplerSpec(
        "DPMSolverMultistepScheduler", "Song et al. 2021 with eta = 0",
        25, even, {"solver_order": 1},
    ),
    "dpm++": SamplerSpec(
        "DPMSolverMultistepScheduler", "DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095)",
        25, even_in_log_snr, {"solver_order": 2},
    ),
    "unipc": SamplerSpec(
        "UniPCMultistepScheduler", "UniPC-2, B2(h) (Zhao et al. 2023, arXiv 2302.04867)",
        10, even_in_log_snr, {"solver_order": 2},
    ),
    "heun": SamplerSpec(
        "HeunDiscreteScheduler", "Karras et al. 2022 (arXiv 2206.00364), Algorithm 1",
        13, even_in_log_snr, calls_a_step=2, divided_by_signal=True,
    ),
}  # fmt: skip
"""Samplers by name, as `--sampler` takes them."""


def samplers_in_words() -> str:
    """Return the names of all samplers, for help texts.

    >>> samplers_in_words()
    'ddpm (all steps), ddim, dpm++, unipc, heun'
    """
    return ", ".join(
        f"{name} (all steps)" if spec.ancestral else name for name, spec in SAMPLERS.items()
    )
