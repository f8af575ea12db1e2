"""Validity study: what faint noise in the background does to distances of features.

Usage: python studies/background.py REAL --spacing 4

Two random halves of a skull-stripped cohort, at most 35 volumes each. One of them gets Gaussian
noise in its background, clipped at zero, as a generator leaves it. Prints the distances with and
without the rule of the protocol, and how much of clean volumes the rule cuts. Then it prints how
far noise moves the mean of the features, for the extractor's input and for that of MedicalNet's own
code, which fills the background with N(0, 1) noise.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Float64

from synthbench.cohorts.cohort import MASK_LEVEL, majority_mask
from synthbench.cohorts.reading import read_cohort
from synthbench.metrics.extractors.extractor import zscore_nonzero_zeros
from synthbench.metrics.extractors.random_resnet import RandomResNet10
from synthbench.metrics.fid import fid
from synthbench.metrics.kernels import median_bandwidth
from synthbench.metrics.mmd import kid, mmd2
from synthbench.records.protocol import BackgroundRecord
from synthbench.scoring.features import extract
from synthbench.sensitivity.corruptions.of_volumes import add_background_noise
from synthbench.volumes.grid import Space
from synthbench.volumes.intensity import to_unit
from synthbench.volumes.sets import Cleaned, Drawn

LARGEST = 35
SDS = (0.0, 0.003, 0.005, 0.01, 0.02)
MOVED, MOVED_SD = 10, 0.005
"""Volumes and noise of the last table."""
MARGINS_MM = (4.0, 8.0, 12.0)

Volumes = list[Float32[np.ndarray, "d h w"]]


def noisy(volumes: Volumes, sd: float) -> Volumes:
    """Return volumes with background noise, scaled again as reading them from files would."""
    return [
        to_unit(add_background_noise(v, sd, np.random.default_rng(i)), "percentile", f"volume {i}")
        for i, v in enumerate(volumes)
    ]


def features(
    space: Space, volumes: Volumes, threshold: Float32[np.ndarray, "d h w"] | None
) -> Float64[np.ndarray, "n d"]:
    """Return features of the volumes, or of the volumes with a clean background."""
    drawn = Drawn(space, volumes)
    seen = drawn if threshold is None else Cleaned(drawn, threshold)
    return extract(RandomResNet10(), seen).astype(np.float64)


def published(volume: Float32[np.ndarray, "d h w"], seed: int) -> Float32[np.ndarray, "d h w"]:
    """Return the input of MedicalNet's own code: a z-score of voxels above zero, else noise."""
    above = volume[volume > 0].astype(np.float64)
    noise = np.random.default_rng(seed).standard_normal(volume.shape)
    return np.where(volume > 0, (volume - above.mean()) / above.std(), noise).astype(np.float32)


def moved(clean: Volumes, noisy_ones: Volumes, own_input: bool) -> float:
    """Return the shift of the features' mean, over the root mean square spread of subjects."""
    network = RandomResNet10().load()

    @torch.inference_mode()
    def rows(volumes: Volumes, seed: int) -> Float64[np.ndarray, "n d"]:
        inputs = [
            zscore_nonzero_zeros(torch.from_numpy(v)) if own_input
            else torch.from_numpy(published(v, seed + i))
            for i, v in enumerate(volumes)
        ]  # fmt: skip
        found = [network(z[None, None])[0].mean((1, 2, 3), dtype=torch.float64) for z in inputs]
        return torch.stack(found).numpy()

    x, y = rows(clean, 0), rows(noisy_ones, len(clean))
    spread = np.sqrt(((x - x.mean(axis=0)) ** 2).sum(axis=1).mean())
    return float(np.linalg.norm(y.mean(axis=0) - x.mean(axis=0)) / spread)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("real", type=Path, help="skull-stripped cohort")
    parser.add_argument("--spacing", type=float, help="voxel size in mm; default: the files' own")
    options = parser.parse_args(arguments)
    cohort = read_cohort(options.real)
    n = min(len(cohort) // 2, LARGEST)
    order = np.random.default_rng(0).permutation(len(cohort))
    space = cohort.grid
    if options.spacing:
        space = space.regrid(spacing=options.spacing)
    mask = majority_mask(cohort.subset(order[:n]).volumes(space))
    real, synth = (
        list(cohort.subset(part).volumes(space)) for part in (order[:n], order[n : 2 * n])
    )

    print(f"n = {n} and {n}, {space}; share of voxels above zero that are cut, mean and largest")
    for margin in MARGINS_MM:
        for level in (0.0, MASK_LEVEL):
            threshold = BackgroundRecord(margin_mm=margin, level=level).threshold(mask, space)
            cut = [float(((v > 0) & (v <= threshold)).sum() / (v > 0).sum()) for v in real + synth]
            print(f"margin {margin:g} mm, level {level:g}: {np.mean(cut):.3%}, {max(cut):.3%}")

    print("| sd | rule | FID | MMD² | KID |\n|---:|---|---:|---:|---:|")
    for rule in (None, BackgroundRecord()):
        threshold = None if rule is None else rule.threshold(mask, space)
        x = features(space, real, threshold)
        for sd in SDS:
            y = features(space, noisy(synth, sd) if sd else synth, threshold)
            values = fid(x, y), mmd2(x, y, median_bandwidth(x)), kid(x, y)
            words = " | ".join(f"{value:.3f}" for value in values)
            print(f"| {sd:g} | {'none' if rule is None else 'background'} | {words} |", flush=True)
    print("| input | rule | shift of the mean / spread |\n|---|---|---:|")
    few, few_noisy = synth[:MOVED], noisy(synth[:MOVED], MOVED_SD)
    threshold = BackgroundRecord().threshold(mask, space)
    for rule in ("none", "background"):
        if rule == "background":
            few, few_noisy = (list(Cleaned(Drawn(space, v), threshold)) for v in (few, few_noisy))
        for name, own in (("zeros, as here", True), ("noise, as published", False)):
            print(f"| {name} | {rule} | {moved(few, few_noisy, own):.2f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
