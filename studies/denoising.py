"""Study: how much better than the Wiener filter a run of `ddpm3d` denoises, by noise level.

Usage: python studies/denoising.py runs/mine --unseen reference.tsv --n 6

The run has `residual=true` (preset `tiny`): its network corrects what a Wiener filter predicts.
Prints the network's mean squared error over that of the filter alone, for volumes of the run's
training cohort and for unseen ones, with equal noise. 1: the network has learned nothing. Unseen
volumes far above training volumes: it has learned these by heart (Kadkhodaie et al., ICLR 2024).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from synthbench.cohorts.reading import read_cohort
from synthbench.errors import UsageError
from synthbench.generators.ddpm3d import VolumeDiffusion, trained
from synthbench.runs.folder import Run


class NoCorrection(nn.Module):
    """A network whose correction is 0."""

    def forward(self, state: Tensor, t: Tensor) -> Tensor:
        """Return zeros in place of a prediction."""
        return torch.zeros_like(state[:, :1])


@torch.inference_mode()
def errors(
    objective: VolumeDiffusion, network: nn.Module, volumes: Tensor, timestep: int
) -> np.ndarray:
    """Return the error of each volume at a timestep; the noise depends on its place alone."""
    found = []
    for place, volume in enumerate(volumes):
        draws = torch.Generator().manual_seed(place)
        clean = volume[None, None]
        noise = torch.randn(clean.shape, generator=draws)
        found.append(float(objective.losses(network, clean, torch.tensor([timestep]), noise)))
    return np.array(found)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--unseen", type=Path, required=True)
    parser.add_argument("--n", type=int, default=6, help="volumes of each cohort")
    parser.add_argument("--noise", type=float, nargs="+", default=[0.15, 0.4, 1.0, 2.5])
    options = parser.parse_args()
    run = Run.open(options.run)
    config = run.config
    if config["generator"] != "ddpm3d" or not config.get("residual"):
        raise UsageError(f"{options.run}: a run of ddpm3d with residual=true is needed.")
    network, objective, _ = trained(run)
    cohorts = {"training": Path(run.config["real"]), "unseen": options.unseen}
    volumes = {}
    for name, path in cohorts.items():
        held = read_cohort(path).volumes(run.space, run.config["intensity"])
        count = min(options.n, len(held))
        volumes[name] = torch.from_numpy(np.stack([held[i] for i in range(count)]))
    alpha_bar = objective.diffusion.alphas_cumprod.numpy()
    levels = np.sqrt((1 - alpha_bar) / alpha_bar)
    print(
        "| noise over signal | "
        + " | ".join(f"{n}, n = {len(v)}" for n, v in volumes.items())
        + " |"
    )
    print("| ---: " * (1 + len(volumes)) + "|")
    for noise in options.noise:
        t = int(np.abs(levels - noise).argmin())
        ratios = [
            errors(objective, network, v, t).mean() / errors(objective, NoCorrection(), v, t).mean()
            for v in volumes.values()
        ]
        print(f"| {levels[t]:.3g} | " + " | ".join(f"{ratio:.3f}" for ratio in ratios) + " |")


if __name__ == "__main__":
    main()
