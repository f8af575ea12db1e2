"""Speed of training the 3-D DDPM: a plain MONAI loop and synthbench's step, in turn.

Usage: python studies/train_step.py [--preset tiny-unet|small|paper] [--batch N] [--steps 10]
           [--threads 2] [--device cuda] [--set key=value ...]

The plain loop is that of MONAI's 3-D DDPM tutorial: its U-Net, inferer and scheduler, with Adam, in
float32. The network is the preset's, with the same blocks of voxels as channels. On CUDA it is
timed twice, with TF32 off and on. synthbench's step is the complete one: the preset's precision and
objective, clipping, Adam, averaged weights. Each step has one batch.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from monai.inferers import DiffusionInferer
from monai.networks.nets import DiffusionModelUNet
from monai.networks.schedulers import DDPMScheduler
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import Tensor, nn
from torch.nn import functional

from synthbench.generators.contracts import Monitor
from synthbench.generators.ddpm3d import DDPM3D, DDPM3DSettings
from synthbench.generators.generator import Shape
from synthbench.generators.loop import sources, train
from synthbench.runs import configuration
from synthbench.runs.folder import Run
from synthbench.training.estimate.estimate import estimate
from synthbench.training.estimate.timing import MadeUp

GIB = 2**30
PLAIN, OURS = "plain", "ours"


@dataclass(frozen=True)
class Contender:
    """A kind of step: its name, its precision, and True where float32 products use TF32."""

    name: str
    precision: str
    step: Callable[[], object]
    tf32: bool = False


class Folded(nn.Module):
    """A network that sees blocks of patch^3 voxels as channels."""

    def __init__(self, network: nn.Module, patch: int) -> None:
        super().__init__()
        self.network, self.patch = network, patch

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor | None = None) -> Tensor:
        folded = pixelunshuffle(x, 3, self.patch)
        predicted = self.network(x=folded, timesteps=timesteps, context=context)
        return pixelshuffle(predicted, 3, self.patch)


def plain_network(settings: DDPM3DSettings) -> nn.Module:
    """Return MONAI's U-Net, built as in the tutorial."""
    width = settings.patch**3
    network = DiffusionModelUNet(
        spatial_dims=3,
        in_channels=width,
        out_channels=width,
        channels=settings.channels,
        attention_levels=settings.attention,
        num_head_channels=settings.head_channels,
        num_res_blocks=settings.res_blocks,
        norm_num_groups=settings.norm_groups,
    )
    return Folded(network, settings.patch) if settings.patch > 1 else network


def plain_step(
    model: nn.Module, settings: DDPM3DSettings, shape: Shape, device: torch.device
) -> Callable[[], object]:
    """Return the body of the tutorial's loop."""
    scheduler = DDPMScheduler(
        num_train_timesteps=1000, schedule="scaled_linear_beta", beta_start=0.0005, beta_end=0.0195
    )
    inferer = DiffusionInferer(scheduler)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-5)
    images = torch.rand(settings.batch_size, 1, *shape, device=device)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        noise = torch.randn_like(images)
        timesteps = torch.randint(0, 1000, (len(images),), device=device).long()
        noise_pred = inferer(inputs=images, diffusion_model=model, noise=noise, timesteps=timesteps)
        loss = functional.mse_loss(noise_pred.float(), noise.float())
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


# ---------------------------------------------------------------- measurements


def seconds_in_turn(
    contenders: list[Contender], steps: int, device: torch.device
) -> dict[str, list[float]]:
    """Return the seconds of each contender's steps, in turn, after one that is not counted."""
    taken: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for number in range(steps + 1):
        for contender in contenders:
            began = _now(device, contender)
            contender.step()
            if number:
                taken[contender.name].append(_now(device, contender) - began)
    return taken


def _now(device: torch.device, contender: Contender) -> float:
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = contender.tf32
        torch.backends.cudnn.allow_tf32 = contender.tf32
        torch.cuda.synchronize(device)
    return time.perf_counter()


def our_step(settings: DDPM3DSettings, shape: Shape) -> Callable[[], object]:
    """Return a function that takes a step of the training loop, on made-up volumes."""
    (stage,) = DDPM3D().stages(settings)
    endless = settings.model_copy(update={"steps": 10**6, "epochs": None})
    source = MadeUp(1, stage.samples(shape))
    task = sources.Task(stage.build(), stage.objective, source, endless)
    taken = train.Training(task, Run(Path(mkdtemp())), Monitor(), resume=False)
    return partial(taken.step, taken.batches())


def matrix_product_rate(contender: Contender, device: torch.device) -> float:
    """Return the best operations per second of a large matrix product in this precision."""
    side = 8192 if device.type == "cuda" else 2048
    dtype = torch.bfloat16 if contender.precision == "bf16" else torch.float32
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    taken = []
    for _ in range(6):
        began = _now(device, contender)
        a @ b
        taken.append(_now(device, contender) - began)
    return 2 * side**3 / min(taken)


def agreement(settings: DDPM3DSettings, shape: Shape) -> tuple[float, float]:
    """Return relative differences of prediction and gradient, ours to plain, with equal weights."""
    ours: Any = DDPM3D().stages(settings)[0].build()
    # MONAI sets some first weights to zero, which would hide most of the network.
    for value in ours.parameters():
        if not value.any():
            nn.init.normal_(value, std=0.02)
    plain = plain_network(settings)
    inner = plain.network if isinstance(plain, Folded) else plain
    inner.load_state_dict(ours.unet.state_dict())
    x = torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([500])
    results = []
    for network in (ours, plain):
        prediction = network(x, timesteps=t)
        loss = functional.mse_loss(prediction, torch.zeros_like(prediction))
        gradient = torch.autograd.grad(loss, list(network.parameters()))
        results.append((prediction.detach(), torch.cat([part.flatten() for part in gradient])))
    pairs = zip(*results, strict=True)
    first, second = (float((a - b).norm() / b.norm()) for a, b in pairs)
    return first, second


def peak_memory(arguments: list[str], which: str, device: torch.device, step: Any) -> float:
    """Return the peak memory of two steps in GiB, without the memory before the network."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        step()
        return torch.cuda.max_memory_allocated(device) / GIB
    # The peak of a process never falls, so each loop has its own process.
    command = [sys.executable, __file__, *arguments, "--memory-of", which]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, encoding="utf-8", errors="replace"
    )
    return float(json.loads(done.stdout)) / GIB


def print_growth(which: str, settings: DDPM3DSettings, shape: Shape) -> None:
    """Print the growth of this process in two steps, in bytes."""
    device = torch.device("cpu")
    torch.randn(64, 64) @ torch.randn(64, 64)
    before = highest_mark()
    if which == PLAIN:
        step: Callable[[], object] = plain_step(plain_network(settings), settings, shape, device)
    else:
        step = our_step(settings, shape)
    step()
    step()
    print(highest_mark() - before)


def highest_mark() -> int:
    """Return the peak memory of this process in bytes (Linux)."""
    # getrusage would also count the parent's memory, before this program was started.
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


# ---------------------------------------------------------------- the table


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="tiny-unet")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--memory-of", choices=[PLAIN, OURS], help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    overrides = ["accumulation=1", *options.overrides]
    if options.batch:
        overrides.append(f"batch_size={options.batch}")
    run, settings = configuration.resolve("ddpm3d", preset=options.preset, overrides=overrides)
    assert isinstance(settings, DDPM3DSettings)
    assert run.space.shape is not None
    shape = run.space.shape
    if options.memory_of:
        print_growth(options.memory_of, settings, shape)
        return

    (stage,) = DDPM3D().stages(settings)
    expected = estimate(stage, shape, volumes=1, device=device, measure=False)
    plain = plain_step(plain_network(settings).to(device), settings, shape, device)
    ours = our_step(settings, shape)
    contenders = [Contender("plain MONAI loop, fp32", "fp32", plain)]
    if device.type == "cuda":
        contenders.append(Contender("plain MONAI loop, TF32", "fp32", plain, tf32=True))
    contenders.append(Contender(f"synthbench, {settings.precision}", settings.precision, ours))
    taken = seconds_in_turn(contenders, options.steps, device)
    first = statistics.median(taken[contenders[0].name])

    where = f"{torch.get_num_threads()} threads of {platform.processor() or platform.machine()}"
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    size = " x ".join(map(str, shape))
    print(
        f"preset {options.preset}, {size}, batch {settings.batch_size}, "
        f"{expected.parameters / 1e6:.1f} M parameters, {expected.flops_a_step / 1e9:.3g} GFLOP "
        f"per step; {where}, torch {torch.__version__}, n = {options.steps} steps each\n"
    )
    print(
        "| | s per step (median) | fastest | samples/s | times as fast | TFLOP/s "
        "| of a matrix product's | peak memory, GiB |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for contender in contenders:
        times = taken[contender.name]
        median = statistics.median(times)
        rate = expected.flops_a_step / median
        share = rate / matrix_product_rate(contender, device)
        which = PLAIN if contender.step is plain else OURS
        memory = peak_memory(sys.argv[1:], which, device, contender.step)
        print(
            f"| {contender.name} | {median:.3g} | {min(times):.3g} "
            f"| {settings.batch_size / median:.3g} | {first / median:.2f} | {rate / 1e12:.3g} "
            f"| {share:.0%} | {memory:.3g} |"
        )
    if device.type == "cpu" and settings.precision == "fp32":
        prediction, gradient = agreement(settings, shape)
        print(
            f"\nThe same weights: predictions differ by {prediction:.1g}, gradients by "
            f"{gradient:.1g} (norm of the difference over the norm)."
        )


if __name__ == "__main__":
    main()
