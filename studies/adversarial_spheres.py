"""Do adversarial generators learn how a simple object varies? Spheres with a known distribution.

    python studies/adversarial_spheres.py OUT --steps 200

40 spheres of 24 x 24 x 24 voxels have a random radius, a random hole and a random squeeze. Each
generator is trained on them with small networks. Prints the table of docs/gan3d.md: the diversity
that the training records, and mean and standard deviation of the spheres' sizes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np

from synthbench import registry
from synthbench.cohorts.preflight.check import RULES
from synthbench.training.training import train

N, SIDE, DRAWN = 40, 24, 32
NETWORKS = ["channels=[16,24,32]", "discriminator_channels=[16,24,32]", "latent=16"]
ENCODER = ["encoder_channels=[16,24,32]"]
VARIANTS = {
    "lsgan3d": ("lsgan3d", []),
    "vaegan3d, adversarial_weight 0.01": ("vaegan3d", [*ENCODER, "adversarial_weight=0.01"]),
    "vaegan3d, adversarial_weight 0.3": ("vaegan3d", [*ENCODER, "adversarial_weight=0.3"]),
}


def sphere(rng: np.random.Generator) -> np.ndarray:
    """Return a squeezed sphere with a darker hole, in [0, 1]."""
    radius, hole, squeeze = rng.uniform([6, 1.5, 0.85], [9, 4, 1.15])
    x, y, z = np.indices((SIDE,) * 3) - (SIDE - 1) / 2
    outer = np.sqrt(x**2 + (squeeze * y) ** 2 + z**2)
    inner = np.sqrt(x**2 + 0.4 * y**2 + z**2)
    shape = np.clip(radius - outer, 0, 1) * (0.7 - 0.5 * np.clip(hole - inner, 0, 1))
    result: np.ndarray = shape.astype(np.float32)
    return result


def sizes(volumes: list[np.ndarray]) -> str:
    found = [float((volume > 0.35).sum()) for volume in volumes]
    return f"{np.mean(found):.0f} ± {np.std(found, ddof=1):.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()
    real, rng = args.out / "real", np.random.default_rng(0)
    real.mkdir(parents=True)
    affine = np.diag([4.0, 4, 4, 1])
    affine[:3, 3] = -46
    spheres = [sphere(rng) for _ in range(N)]
    for i, volume in enumerate(spheres):
        nib.save(nib.Nifti1Image(volume, affine), real / f"sub-{i:03d}.nii.gz")
    print("| generator | diversity | twins | voxels |\n|---|---|---|---|")
    print(f"| training spheres | 1 | | {sizes(spheres)} |", flush=True)
    for name, (generator, settings) in VARIANTS.items():
        run = train(
            generator, out=args.out / name.replace(" ", "_"), real=real, preset="tiny",
            overrides=[
                "space.shape=null", "intensity=unit", f"steps={args.steps}", *NETWORKS, *settings,
            ],
            accept=tuple(RULES),
        )  # fmt: skip
        drawn = list(registry.load("generators", generator)().sample(run, range(DRAWN)))
        found = run.record["diversity"]
        print(
            f"| {name} | {found['diversity']:.2f} | {found['twins']:.2f} | {sizes(drawn)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
