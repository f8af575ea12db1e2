"""The time of MS-SSIM, compared with MONAI's `compute_ms_ssim` in the same run.

Usage: python studies/msssim.py [--full] [--device cuda] [--repeats 5]

Prints a markdown table: milliseconds per pair at 84 x 128 x 84 with three scales, MONAI and
synthbench in turn, and the largest difference between their values. `--full` also gives the time
for scoring 86 synthetic against 86 real volumes: all pairs within both sets and between them.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import TypeVar

import numpy as np
import torch
from monai.metrics.regression import compute_ms_ssim
from torch import Tensor
from torch.nn.functional import interpolate

from synthbench.metrics.similarity.msssim_pairs import pair_matrix
from synthbench.metrics.similarity.settings import PRESETS

SHAPE = (84, 128, 84)
SETTINGS = PRESETS["default"]
SET_SIZE = 86
TIMED = 24
"""Volumes of the timed set (276 pairs): the time contains the work done once per volume."""

Result = TypeVar("Result")


def smooth_volumes(n: int, device: torch.device, seed: int) -> Tensor:
    """Return random volumes with structures of at least four voxels, in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    volumes = []
    for _ in range(n):
        coarse = torch.rand(1, 1, *(side // 4 for side in SHAPE), generator=generator)
        volumes.append(interpolate(coarse, size=SHAPE, mode="trilinear")[0, 0])
    return torch.stack(volumes).to(device)


def ellipsoid(device: torch.device) -> Tensor:
    """Return a mask of 40% of the voxels, like a brain in a cropped grid."""
    axes = [torch.linspace(-1, 1, side) for side in SHAPE]
    d, h, w = torch.meshgrid(*axes, indexing="ij")
    return (d**2 + h**2 + w**2 < 0.915**2).to(device)


def monai_value(x: Tensor, y: Tensor) -> float:
    """Return MONAI's MS-SSIM of two volumes with the same settings."""
    value = compute_ms_ssim(
        x[None, None],
        y[None, None],
        spatial_dims=3,
        data_range=SETTINGS.data_range,
        kernel_size=SETTINGS.window,
        kernel_sigma=SETTINGS.sigma,
        k1=SETTINGS.k1,
        k2=SETTINGS.k2,
        weights=SETTINGS.weights,
    )
    return float(value)


def timed(device: torch.device, call: Callable[[], Result]) -> tuple[float, Result]:
    """Return the seconds of a call, until the device has finished, and its result."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    result = call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start, result


def compare(device: torch.device, repeats: int) -> None:
    """Print the table of times per pair."""
    volumes = smooth_volumes(TIMED, device, seed=0)
    masks = {"full frame": None, "inside a mask": ellipsoid(device)}
    pairs = TIMED * (TIMED - 1) // 2
    times: dict[str, list[float]] = {name: [] for name in ("MONAI", *masks)}
    difference = 0.0
    monai_value(volumes[0], volumes[1])
    for repeat in range(repeats):
        x, y = volumes[repeat % TIMED], volumes[(repeat + 1) % TIMED]
        took, expected = timed(device, partial(monai_value, x, y))
        times["MONAI"].append(1e3 * took)
        for name, mask in masks.items():
            took, found = timed(device, partial(pair_matrix, volumes, mask=mask, settings=SETTINGS))
            times[name].append(1e3 * took / pairs)
            if mask is None:
                value = found[repeat % TIMED, (repeat + 1) % TIMED]
                difference = max(difference, abs(value - expected))
    monai = median(times["MONAI"])
    print("| | ms per pair (median) | fastest | MONAI's median over it | largest difference |")
    print("|---|---:|---:|---:|---:|")
    for name, each in times.items():
        label = "MONAI `compute_ms_ssim`" if name == "MONAI" else f"synthbench, {name}"
        shown = f"{difference:.1e}" if name == "full frame" else ""
        print(
            f"| {label} | {median(each):.2f} | {min(each):.2f} | {monai / median(each):.0f} "
            f"| {shown} |"
        )


def score_sets(device: torch.device) -> None:
    """Print the time of all pairs within two sets and between them, inside a mask."""
    real = smooth_volumes(SET_SIZE, device, seed=1)
    synth = smooth_volumes(SET_SIZE, device, seed=2)
    mask = ellipsoid(device)
    sides: dict[str, tuple[Tensor, Tensor | None]] = {
        "real": (real, None),
        "synth": (synth, None),
        "real x synth": (real, synth),
    }
    print("\n| inside a mask | pairs | seconds | ms per pair |\n|---|---:|---:|---:|")
    total_pairs, total = 0, 0.0
    for name, (first, second) in sides.items():
        pairs = SET_SIZE * (SET_SIZE - 1) // 2 if second is None else SET_SIZE**2
        took, found = timed(
            device, partial(pair_matrix, first, second, mask=mask, settings=SETTINGS)
        )
        assert np.isfinite(found).all()
        print(f"| {name} | {pairs} | {took:.1f} | {1e3 * took / pairs:.2f} |")
        total_pairs, total = total_pairs + pairs, total + took
    print(f"| all | {total_pairs} | {total:.1f} | {1e3 * total / total_pairs:.2f} |")


def main() -> None:
    """Print the tables that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="time all pairs of 86 and 86 volumes")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    print(
        f"{'x'.join(map(str, SHAPE))}, {SETTINGS.scales} scales, {SETTINGS.window}-voxel window; "
        f"torch {torch.__version__}, {where}, {torch.get_num_threads()} CPU threads\n"
    )
    with torch.no_grad():
        compare(device, chosen.repeats)
        if chosen.full:
            score_sets(device)


if __name__ == "__main__":
    main()
