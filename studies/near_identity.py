"""Which copies of a volume preflight finds, and false alarms on two scans of one person.

    python studies/near_identity.py REAL [--n 40] [--spacing 4] [--grids]

Each of n volumes of a real cohort is changed as a copy may be (saved again, rescaled, with noise,
moved, mirrored), or as a second scan of the person would be: a new position within the error of
registration, another bias field, a little other contrast, new noise inside the brain. All volumes
and the changed ones are compared as two sets are. With `--grids`, the changed volumes are also on
other grids. Prints the tables of docs/preflight.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from synthbench.cohorts.cohort import read_volume
from synthbench.cohorts.inspection import Inspection, inspect
from synthbench.cohorts.preflight.near_identity import (
    MIN_CORRELATION,
    MIN_CORRELATION_ACROSS_GRIDS,
    common_differences,
    differences,
)
from synthbench.cohorts.reading import read_cohort
from synthbench.volumes.grid import Space, resample

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def scale(v: np.ndarray) -> float:
    return float(np.percentile(v[v > 0], 99.9))


def noisy(sd: float, inside: bool) -> Change:
    def change(v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        noise = rng.normal(0, sd * scale(v), v.shape)
        return np.clip(v + (noise * (v > 0) if inside else noise), 0, None)

    return change


def moved(voxels: float) -> Change:
    def change(v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        step = rng.normal(size=3)
        return ndimage.shift(v, voxels * step / np.linalg.norm(step), order=1)

    return change


def gamma(power: float) -> Change:
    return lambda v, rng: v.max() * (v / v.max()) ** power


def second_scan(millimetres: float, noise: float, bias: float) -> Change:
    """Return a second scan: a rigid move (rms at the brain's edge and of its centre), and more."""

    def change(v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        turn = Rotation.from_rotvec(rng.normal(0, millimetres / 60, 3)).as_matrix()
        centre = (np.array(v.shape) - 1) / 2
        step = rng.normal(0, millimetres / 2 / np.sqrt(3), 3)
        v = ndimage.affine_transform(v, turn, centre - turn @ centre + step, order=1)
        field = ndimage.gaussian_filter(rng.standard_normal(v.shape), 25)
        v = v * (1 + bias * field / field.std())
        return gamma(float(np.exp(rng.normal(0, 0.05))))(noisy(noise, True)(v, rng), rng)

    return change


def together(*changes: Change) -> Change:
    def change(v: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        for one in changes:
            v = one(v, rng)
        return v

    return change


COPIES: dict[str, Change] = {
    "divided by 255, as float": lambda v, rng: v / 255,
    "0.3 x + 7": lambda v, rng: 0.3 * v + 7,
    "to 8 bits": lambda v, rng: np.round(v * 255 / v.max()),
    "noise, sd 0.01, everywhere": noisy(0.01, False),
    "noise, sd 0.02, everywhere": noisy(0.02, False),
    "noise, sd 0.02, in the brain": noisy(0.02, True),
    "moved by 0.05 voxel": moved(0.05),
    "moved by 0.1 voxel": moved(0.1),
    "moved by 0.25 voxel": moved(0.25),
    "mirrored": lambda v, rng: v[::-1].copy(),
    "mirrored, noise 0.01, / 255": together(lambda v, rng: v[::-1] / 255, noisy(0.01, True)),
    "gamma 0.8": gamma(0.8),
    "gamma 1.5": gamma(1.5),
    "blurred, sigma 0.5 voxel": lambda v, rng: ndimage.gaussian_filter(v, 0.5),
    "clipped at the 97th percentile": lambda v, rng: np.minimum(v, np.percentile(v[v > 0], 97)),
}
SECOND_SCANS: dict[str, Change] = {
    f"{mm} mm, noise {noise}, bias {bias}": second_scan(mm, noise, bias)
    for mm, noise, bias in (
        (0.1, 0.02, 0.02),
        (0.2, 0.02, 0.03),
        (0.3, 0.03, 0.05),
        (1, 0.03, 0.05),
    )
}


def regridded(grid: Space) -> dict[str, Space]:
    """Return other grids for the same brains."""

    def offset(shape: tuple[int, ...], voxels: float) -> Space:
        matrix = grid.matrix.copy()
        matrix[:3, 3] += voxels * matrix[:3, :3].sum(axis=1)
        return Space.of(shape, matrix)

    return {
        "moved by half a voxel": offset(grid.shape, 0.5),
        "cropped by 3 voxels": offset(tuple(side - 6 for side in grid.shape), 3),
        **{f"{mm:g} mm": grid.regrid(spacing=mm) for mm in (1.5, 2.5, 3, 4)},
    }


def across_grids(
    originals: list[Inspection], volumes: list[np.ndarray], grid: Space, n: int
) -> None:
    """Print the correlations of copies on other grids, and of different persons."""
    change = COPIES["mirrored, noise 0.01, / 255"]
    print("| grid of the copies | found | least | median | greatest | two persons, greatest |")
    for name, other in regridded(grid).items():
        rng = np.random.default_rng(0)
        copies = [
            measured(resample(np.float32(change(v, rng)), grid, other), other) for v in volumes[:n]
        ]
        plain, mirrored = common_differences([*originals, *copies])
        k = len(originals)
        values = np.maximum(plain[:k] @ plain[k:].T, plain[:k] @ mirrored[k:].T)
        values = np.maximum(values, mirrored[:k] @ plain[k:].T)
        own = values[np.arange(n), np.arange(n)].copy()
        values[np.arange(n), np.arange(n)] = -1
        found = row(name, own, MIN_CORRELATION_ACROSS_GRIDS)
        print(f"{found} {values.max():.4f} |", flush=True)


def measured(v: np.ndarray, grid: Space) -> Inspection:
    return inspect(np.ascontiguousarray(v, np.float32), grid, grid, dtype="float32")


def row(name: str, correlations: np.ndarray, least: float = MIN_CORRELATION) -> str:
    found = int((correlations > least).sum())
    low, middle, high = correlations.min(), np.median(correlations), correlations.max()
    return f"| {name} | {found} of {len(correlations)} | {low:.4f} | {middle:.4f} | {high:.4f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("real", type=Path)
    parser.add_argument("--n", type=int, default=40, help="volumes that are changed")
    parser.add_argument("--spacing", type=float, help="voxel size to resample to first, in mm")
    parser.add_argument("--grids", action="store_true", help="copies on other grids")
    chosen = parser.parse_args()
    cohort = read_cohort(chosen.real)
    grid = cohort.grid if chosen.spacing is None else cohort.grid.regrid(spacing=chosen.spacing)
    volumes = [resample(read_volume(e), cohort.grid, grid) for e in cohort.entries]
    originals = [measured(v, grid) for v in volumes]
    if chosen.grids:
        across_grids(originals, volumes, grid, chosen.n)
        return
    coarse = [inspection.coarse for inspection in originals]
    plain, mirrored = differences(np.stack(coarse).astype(np.float32))
    pairs = np.maximum(plain @ plain.T, plain @ mirrored.T)[np.triu_indices(len(plain), 1)]
    print(f"{len(volumes)} volumes, {grid}; threshold {MIN_CORRELATION}")
    print(row("two persons", pairs))
    for kinds in (COPIES, SECOND_SCANS):
        for name, change in kinds.items():
            rng = np.random.default_rng(0)
            changed = [measured(change(v, rng), grid).coarse for v in volumes[: chosen.n]]
            plain, mirrored = differences(np.stack([*coarse, *changed]).astype(np.float32))
            own, k = slice(0, len(changed)), len(coarse)
            best = np.maximum(
                (plain[own] * plain[k:]).sum(axis=1), (plain[own] * mirrored[k:]).sum(axis=1)
            )
            print(row(name, best), flush=True)


if __name__ == "__main__":
    main()
