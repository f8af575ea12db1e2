"""Speed of ddpm3d's local network in 16 and in 32 bits on this CPU, in turn.

Usage: python studies/bf16_step.py [--network WIDTH,CONVOLUTIONS,LEVELS ...]
           [--sides 80 96 80] [--steps 3] [--threads 1]

A step is a forward and a backward pass of one volume. The processor seconds of the fastest of
`--steps` are printed, and how far prediction and gradients lie apart (norm of the difference over
the norm). CPUs with units for 16-bit matrix products gain (AMX: Intel's servers since 2023); others
may lose.
"""

from __future__ import annotations

import argparse
import platform
import time

import torch
from torch import Tensor, nn

from synthbench.generators.ddpm3d import INPUTS
from synthbench.generators.networks.local import LocalDenoiser
from synthbench.generators.networks.weights import seeded


def network(text: str) -> LocalDenoiser:
    """Return an untrained network in which no layer is zero, from "width,convolutions,levels"."""
    width, convolutions, levels = map(int, text.split(","))
    model = seeded(0, lambda: LocalDenoiser(width, convolutions, 1000, INPUTS, levels))
    draws = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02, generator=draws)
    return model


def step(model: nn.Module, volumes: Tensor, *, bf16: bool) -> tuple[float, Tensor]:
    """Take a step; return its processor seconds, and prediction and gradients as one vector."""
    model.zero_grad()
    began = time.process_time()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        drawn = model(volumes, torch.tensor([500]))
    (drawn.float() - volumes[:, :1]).square().mean().backward()
    taken = time.process_time() - began
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return taken, torch.cat([drawn.detach().float().flatten(), *gradients])


def main() -> None:
    """Print a table with one row per network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", nargs="+", default=["48,3,0", "96,5,2"])
    parser.add_argument("--sides", nargs=3, type=int, default=[80, 96, 80])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    where = f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    print(f"{' x '.join(map(str, options.sides))} voxels, {options.threads} threads of {where}\n")
    print("| width, convolutions, levels | fp32: s | bf16: s | times as fast | difference |")
    print("| --- | ---: | ---: | ---: | ---: |")
    volumes = torch.randn((1, INPUTS, *options.sides), generator=torch.Generator().manual_seed(0))
    for text in options.network:
        model = network(text)
        # The first of each is not counted.
        turns = [
            [step(model, volumes, bf16=bf16) for bf16 in (False, True)]
            for _ in range(options.steps + 1)
        ]
        slow, fast = (min(turn[which][0] for turn in turns[1:]) for which in (0, 1))
        exact, rounded = (found for _, found in turns[-1])
        apart = float((rounded - exact).norm() / exact.norm())
        print(f"| {text} | {slow:.3g} | {fast:.3g} | {slow / fast:.1f} | {apart:.1%} |", flush=True)


if __name__ == "__main__":
    main()
