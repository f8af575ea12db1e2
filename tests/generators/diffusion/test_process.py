"""The diffusion process against MONAI's, and samplers against solutions in closed form.

Where the data are normal, N(m, s^2) in each voxel, the best network is known: with x_t = a x_0 +
sigma e, E[x_0 | x_t] = m + a s^2 / (a^2 s^2 + sigma^2) (x_t - a m). The probability-flow ODE then
keeps (x_t - a m) / sqrt(a^2 s^2 + sigma^2) constant, which gives its solution at every t.
"""

from __future__ import annotations

import math

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from monai.networks.schedulers import DDPMScheduler

from synthbench.errors import UsageError
from synthbench.generators.diffusion.samplers import SAMPLERS
from synthbench.generators.diffusion.schedule import betas
from tests.generators.diffusion.examples import PREDICTIONS, diffusion

MEAN, SD = 0.4, 0.2


SHAPE = (1, 1, 16, 16, 16)


SCHEDULES = ["scaled_linear", "linear", "cosine"]


EVEN_IN_LOG_SNR = ["dpm++", "unipc", "heun"]


def best_network(process):
    """The network with the least loss on N(MEAN, SD^2), in the words of its prediction type."""

    def network(x, t):
        alpha_bar = process.alphas_cumprod[t].reshape(-1, 1, 1, 1, 1)
        a, sigma, x = alpha_bar.sqrt(), (1 - alpha_bar).sqrt(), x.double()
        clean = MEAN + a * SD**2 / (alpha_bar * SD**2 + 1 - alpha_bar) * (x - a * MEAN)
        noise = (x - a * clean) / sigma
        words = {"sample": clean, "epsilon": noise, "v": a * noise - sigma * clean}
        return words[process.settings.prediction].float()

    return network


def start(seed=0):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def drawn(process, sampler, steps, seed=0, watch=None):
    draws = torch.Generator().manual_seed(1000 + seed)
    return process.denoise(best_network(process), start(seed), sampler, steps, draws, watch)


def flow_solution(process, sampler, steps):
    """The ODE from the first timestep to the last, and the best guess of x_0 from there."""
    alpha_bar = process.alphas_cumprod[process.timesteps(sampler, steps)]
    first, last = float(alpha_bar[0]), float(alpha_bar[-1])
    constant = (start().double() - math.sqrt(first) * MEAN) / math.sqrt(first * SD**2 + 1 - first)
    return MEAN + math.sqrt(last) * SD**2 / math.sqrt(last * SD**2 + 1 - last) * constant


# ---------------------------------------------------------------- training


@pytest.mark.parametrize(
    ("schedule", "monai", "arguments"),
    [
        ("scaled_linear", "scaled_linear_beta", {"beta_start": 0.0005, "beta_end": 0.0195}),
        ("linear", "linear_beta", {"beta_start": 0.0005, "beta_end": 0.0195}),
        ("cosine", "cosine", {}),
    ],
)
def test_noise_and_targets_are_those_of_monai(schedule, monai, arguments):
    """With a network that answers zero, a loss is the mean square of its target."""
    theirs = DDPMScheduler(1000, schedule=monai, **arguments)
    t = torch.tensor([0, 1, 500, 999])
    clean = torch.rand((4, 1, 4, 5, 6), generator=torch.Generator().manual_seed(0))
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    noisy = diffusion(schedule=schedule).add_noise(clean, t, noise)
    assert torch.allclose(noisy, theirs.add_noise(clean, noise, t), atol=1e-4)
    targets = {"epsilon": noise, "v": theirs.get_velocity(clean, noise, t), "sample": clean}
    for prediction, target in targets.items():
        process = diffusion(schedule=schedule, prediction=prediction)
        losses = process.losses(lambda x, t: torch.zeros_like(x), clean, t, noise)
        assert torch.allclose(losses, target.square().mean((1, 2, 3, 4)), atol=1e-4)


def test_losses_are_float32_under_autocast():
    """The network answers in bfloat16; the error is still that of its answer in float32."""
    clean = torch.rand((2, 1, 4, 4, 4), generator=torch.Generator().manual_seed(0))
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([3, 900])
    weight = torch.eye(4)
    answers = []

    def network(x, t):
        answers.append(x @ weight)
        return answers[-1]

    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = diffusion().losses(network, clean, t, noise)
    assert answers[0].dtype == torch.bfloat16
    assert losses.dtype == torch.float32
    expected = (answers[0].double() - noise.double()).square().mean((1, 2, 3, 4))
    assert torch.allclose(losses.double(), expected, rtol=1e-5)


# ---------------------------------------------------------------- samplers


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("sampler", EVEN_IN_LOG_SNR)
def test_solvers_reach_the_solution_of_the_flow(schedule, sampler):
    """An error of order h^2: with 100 steps of log(a / sigma) over a range of 10 or less, h <= 0.1.

    Voxels lie up to 4 standard deviations from the mean, so h^2 is 0.01 * 4 * SD = 0.008 there.
    """
    process = diffusion(schedule=schedule)
    found = drawn(process, sampler, 100)
    assert found.dtype == torch.float32
    solution = flow_solution(process, sampler, 100)
    assert float((found - solution).abs().max()) < 0.008
    assert float(found.mean()) == pytest.approx(float(solution.mean()), abs=0.001)
    assert float(found.std()) == pytest.approx(float(solution.std()), rel=0.005)


@pytest.mark.parametrize("sampler", EVEN_IN_LOG_SNR)
def test_solvers_are_of_second_order(sampler):
    """Halving the step divides the error by 4 (by 2 were the order 1); 3 allows for rounding
    of the levels to timesteps, of which T = 10,000 leaves little.
    """
    process = diffusion(timesteps=10_000, beta_start=0.00005, beta_end=0.00195)
    errors = [
        float((drawn(process, sampler, n) - flow_solution(process, sampler, n)).abs().max())
        for n in (16, 32)
    ]
    assert errors[0] / errors[1] > 3


def test_ten_steps_keep_the_detail_that_even_timesteps_lose():
    """The spread of voxels: within 5% for dpm++; for ddim less than the last level lets through.

    From trailing timestep t = 99, ddim ends at the best guess of x_0: of white detail with
    variance s^2 no more than s^2 / (s^2 + sigma^2 / a^2) of the variance is left.
    """
    process = diffusion()
    exact = float(flow_solution(process, "dpm++", 10).std())
    assert float(drawn(process, "dpm++", 10).std()) == pytest.approx(exact, rel=0.05)
    alpha_bar = float(process.alphas_cumprod[99])
    left = SD**2 / (SD**2 + (1 - alpha_bar) / alpha_bar)
    assert float(drawn(process, "ddim", 10).std()) < SD * math.sqrt(left)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [25, 30])
def test_ddim_is_the_papers_recursion(schedule, steps):
    """Song et al. 2021, eq. 12 with eta = 0, in float64; 30 does not divide 1000."""
    process = diffusion(schedule=schedule, prediction="sample")
    network = best_network(process)
    x = start().double()
    timesteps = np.round(1000 * np.arange(steps, 0, -1) / steps).astype(int) - 1
    levels = [*process.alphas_cumprod[timesteps].tolist(), 1.0]
    for t, now, then in zip(timesteps, levels[:-1], levels[1:], strict=True):
        clean = network(x, torch.tensor([t])).double()
        noise = (x - math.sqrt(now) * clean) / math.sqrt(1 - now)
        x = math.sqrt(then) * clean + math.sqrt(1 - then) * noise
    assert torch.allclose(drawn(process, "ddim", steps).double(), x, atol=1e-5)


def test_ddim_is_that_of_diffusers():
    process = diffusion(prediction="v")
    theirs = DDIMScheduler(
        1000, beta_start=0.0005, beta_end=0.0195, beta_schedule="scaled_linear",
        prediction_type="v_prediction", timestep_spacing="trailing", clip_sample=False,
    )  # fmt: skip
    theirs.set_timesteps(20)
    network, x = best_network(process), start()
    for t in theirs.timesteps:
        x = theirs.step(network(x, t.reshape(1)), t, x).prev_sample
    assert torch.allclose(drawn(process, "ddim", 20), x, atol=1e-4)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_ddpm_is_that_of_monai(prediction):
    """The same generator in the same state: the same noise, and so the same volume."""
    process = diffusion(timesteps=50, beta_end=0.3, prediction=prediction)
    words = {"v": "v_prediction"}.get(prediction, prediction)
    theirs = DDPMScheduler(
        50, schedule="scaled_linear_beta", beta_start=0.0005, beta_end=0.3,
        prediction_type=words, clip_sample=False,
    )  # fmt: skip
    network, x = best_network(process), start()
    draws = torch.Generator().manual_seed(1000)
    for t in reversed(range(50)):
        x, _ = theirs.step(network(x, torch.tensor([t])), t, x, generator=draws)
    assert torch.allclose(drawn(process, "ddpm", 50), x, atol=1e-4)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ddpm_draws_from_the_distribution(schedule):
    """Mean and variance follow from Ho et al.'s eq. 6 and 7, which are linear where the network
    is; they must be those of the data but for the last level's noise (1 to 5% of SD^2).

    Of n = 4096 voxels, the mean is off by SD / sqrt(n), the standard deviation by
    SD / sqrt(2 n); both are held to four of these.
    """
    process = diffusion(schedule=schedule, prediction="sample")
    alpha_bar = process.alphas_cumprod.numpy()
    mean, variance = 0.0, 1.0
    for t in reversed(range(1000)):
        now, before = alpha_bar[t], alpha_bar[t - 1] if t else 1.0
        beta = 1 - now / before
        slope = math.sqrt(now) * SD**2 / (now * SD**2 + 1 - now)
        of_clean = math.sqrt(before) * beta / (1 - now)
        of_state = math.sqrt(1 - beta) * (1 - before) / (1 - now)
        guess = MEAN + slope * (mean - math.sqrt(now) * MEAN)
        mean = of_clean * guess + of_state * mean
        variance = (of_clean * slope + of_state) ** 2 * variance + beta * (1 - before) / (1 - now)
    assert mean == pytest.approx(MEAN, abs=0.01)
    assert math.sqrt(variance) == pytest.approx(SD, rel=0.05)
    found = drawn(process, "ddpm", 1000)
    n = found.numel()
    assert float(found.mean()) == pytest.approx(mean, abs=4 * SD / math.sqrt(n))
    assert float(found.std()) == pytest.approx(math.sqrt(variance), abs=4 * SD / math.sqrt(2 * n))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("sampler", ["ddpm", "ddim", *EVEN_IN_LOG_SNR])
def test_every_prediction_type_gives_the_same_volume(schedule, sampler):
    """Where they begin at the same timestep, which all do but those for predicted noise with the
    cosine schedule. A rounding error of 6e-8 is multiplied by at most 1 / a (164) there, and
    undone by later steps: 1e-4 leaves room.
    """
    steps = 60 if sampler == "ddpm" else 12
    common = {"schedule": schedule, "timesteps": 60, "beta_end": 0.3}
    of_noise, *others = (diffusion(prediction=p, **common) for p in PREDICTIONS)
    one, other = (drawn(process, sampler, steps) for process in others)
    assert torch.allclose(one, other, atol=1e-4)
    if np.array_equal(*(p.timesteps(sampler, steps) for p in (of_noise, others[0]))):
        assert torch.allclose(drawn(of_noise, sampler, steps), one, atol=1e-4)
    else:
        assert schedule == "cosine"


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", *EVEN_IN_LOG_SNR])
def test_a_sample_depends_on_its_noise_and_draws_alone(sampler):
    process = diffusion(timesteps=20, schedule="cosine", prediction="v")
    steps = 20 if sampler == "ddpm" else 8
    state = torch.get_rng_state()
    one, again, other = (drawn(process, sampler, steps, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(("sampler", "steps", "calls"), [("dpm++", 6, 6), ("heun", 6, 11)])
def test_watch_sees_every_call_of_the_network(sampler, steps, calls):
    """States are on the scale of training, x_t, whatever scale the solver works on: noise first,
    of standard deviation 1. The last clean volume is the sample.
    """
    process = diffusion(prediction="v")
    seen = []
    end = drawn(process, sampler, steps, watch=lambda *frame: seen.append(frame))
    assert [step for step, *_ in seen] == list(range(calls))
    assert process.network_calls(sampler, steps) == calls
    assert (seen[0][1], seen[-1][1]) == (999, 0)
    assert torch.allclose(seen[0][2], start(), atol=1e-5)
    for _, t, state, clean in seen:
        a, spread = math.sqrt(process.alphas_cumprod[t]), float(state.std())
        assert spread < math.sqrt(1 + SD**2)
        exact = MEAN + a * SD**2 / (a**2 * SD**2 + 1 - a**2) * (state.double() - a * MEAN)
        assert torch.allclose(clean.double(), exact, atol=1e-4)
    assert torch.allclose(seen[-1][3], end, atol=1e-5)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("prediction", ["epsilon", "v"])
@pytest.mark.parametrize("sampler", ["ddim", *EVEN_IN_LOG_SNR])
def test_timesteps_are_distinct_and_begin_in_noise(schedule, prediction, sampler):
    """At the first one a is at most 0.03, at most 0.7% of the cosine schedule's volume."""
    process = diffusion(schedule=schedule, prediction=prediction)
    for steps in (1, 2, 3, 7, 30, 333, 990):
        timesteps = process.timesteps(sampler, steps)
        assert len(timesteps) == steps
        assert np.all(np.diff(timesteps) < 0)
        assert timesteps[-1] >= 0
        begins = math.sqrt(process.alphas_cumprod[timesteps[0]])
        assert begins < (0.007 if schedule == "cosine" else 0.03)
        assert timesteps[0] == 999 or schedule == "cosine"


def test_sampling_is_the_settings_own_unless_said():
    process = diffusion(sampler="dpm++", sampler_steps=40)
    assert process.sampling() == {"sampler": "dpm++", "steps": 40}
    assert process.sampling(steps=7) == {"sampler": "dpm++", "steps": 7}
    assert process.sampling("unipc") == {"sampler": "unipc", "steps": 10}
    assert process.sampling("ddpm") == {"sampler": "ddpm", "steps": 1000}
    assert diffusion(timesteps=8, schedule="cosine").sampling("ddim")["steps"] == 8


@pytest.mark.parametrize(
    ("sampler", "steps", "words"),
    [
        ("dmp++", None, r"'dmp\+\+' is unknown: did you mean 'dpm\+\+'"),
        ("ddpm", 25, "--sampler ddim --steps 25"),
        ("unipc", 1001, "--sampler unipc --steps 1000"),
        ("ddim", 0, "--sampler ddim --steps 1"),
    ],
)
def test_a_sampling_that_cannot_be_is_refused_with_what_can(sampler, steps, words):
    with pytest.raises(UsageError, match=words):
        diffusion().sampling(sampler, steps)


# ---------------------------------------------------------------- the table of samplers


def by_hand(process, sampler, steps, network, noise, draws):
    """Each sampler's scheduler as the papers' names say it, built without the table."""
    common = {
        "num_train_timesteps": process.settings.timesteps,
        "trained_betas": betas(process.settings).numpy(),
        "prediction_type": "epsilon",
    }
    if sampler == "ddpm":
        scheduler = diffusers.DDPMScheduler(**common, clip_sample=False)
        scheduler.alphas_cumprod = process.alphas_cumprod
        x = noise
        for t in scheduler.timesteps.tolist():
            x = scheduler.step(network(x, torch.tensor([t])), t, x, generator=draws).prev_sample
        return x
    scheduler = {
        "ddim": lambda: diffusers.DPMSolverMultistepScheduler(**common, solver_order=1),
        "dpm++": lambda: diffusers.DPMSolverMultistepScheduler(**common, solver_order=2),
        "unipc": lambda: diffusers.UniPCMultistepScheduler(**common, solver_order=2),
        "heun": lambda: diffusers.HeunDiscreteScheduler(**common),
    }[sampler]()
    scheduler.set_timesteps(steps)
    visits = process.timesteps(sampler, steps)
    alpha_bar = process.alphas_cumprod[visits]
    levels = torch.cat([((1 - alpha_bar) / alpha_bar).sqrt(), torch.zeros(1).double()])
    times = torch.from_numpy(visits)
    if sampler == "heun":
        times = torch.cat([times[:1], times[1:].repeat_interleave(2)])
        levels = torch.cat([levels[:1], levels[1:-1].repeat_interleave(2), levels[-1:]])
    scheduler.timesteps, scheduler.sigmas = times, levels
    scheduler.set_begin_index(0)
    x = noise * (levels[0] ** 2 + 1).sqrt() if sampler == "heun" else noise
    for t in times.tolist():
        state = scheduler.scale_model_input(x, t)
        x = scheduler.step(network(state, torch.tensor([t])), t, x).prev_sample
    return x


@pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers.*")
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_row_of_the_table_draws_what_its_scheduler_does_to_the_bit(sampler):
    process = diffusion(timesteps=30, beta_end=0.5)
    steps = process.sampling(sampler, None if sampler == "ddpm" else 7)["steps"]
    noise = torch.randn(1, 1, 4, 6, 5, generator=torch.Generator().manual_seed(1))

    def network(x, t):
        return 0.5 * torch.sin(3 * x) + 0.01 * t.float()

    first, second = (torch.Generator().manual_seed(2) for _ in range(2))
    expected = by_hand(process, sampler, steps, network, noise, first)
    assert torch.equal(process.denoise(network, noise, sampler, steps, second), expected)
