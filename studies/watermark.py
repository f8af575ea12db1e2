"""Validity study: who finds the watermark, after what, and what it does to metrics.

Usage: python studies/watermark.py found COHORT ... [--n 70] [--change NAME ...]
       python studies/watermark.py attacked COHORT [--n 70]
       python studies/watermark.py null COHORT ... [--keys 200]
       python studies/watermark.py mark COHORT --out FOLDER

`found` marks each volume with a key of its own, changes it (by default in each way of `CHANGES`),
and prints the share in which the mark is found, with the exact 95% interval (Clopper and Pearson),
and the least and the median z, for each cohort and for all. `attacked` prints the same where the
pattern is divided out by who has the key, and for means of volumes with one key.
`null` prints the share of pairs of an unmarked volume and a key in which one is found, also after
the three changes together. `mark` writes marked copies of a cohort with one key, so that
`synthbench score` can judge both; it prints the strength. The tables stand in docs/watermark.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy import ndimage, stats

from synthbench.cohorts.listing import list_cohort
from synthbench.cohorts.volume_file import read
from synthbench.runtime.files import write_atomic
from synthbench.runtime.progress import bar
from synthbench.sampling.watermark import (
    THRESHOLD,
    WatermarkKey,
    agreement,
    evidence,
    mark,
    pattern,
    statistic,
)
from synthbench.volumes.grid import Space, resample
from synthbench.volumes.nifti import nifti_bytes

Image = tuple[np.ndarray, Space]
Change = Callable[[np.ndarray, Space], Image]


def key(number: int) -> WatermarkKey:
    """Return the key of a number."""
    return WatermarkKey.parse(f"key of the study, number {number:06d}")


def blurred(voxels: float) -> Change:
    """Return a Gaussian blur of this sigma in voxels."""
    return lambda volume, space: (ndimage.gaussian_filter(volume, voxels), space)


def coarser(ratio: float) -> Change:
    """Return a resampling to voxels so many times as large; the new grid's centre is moved."""

    def change(volume: np.ndarray, space: Space) -> Image:
        middle = space.matrix[:3, :3] @ ((np.array(space.shape) - 1) / 2) + space.matrix[:3, 3]
        size = ratio * max(space.spacing)
        x, y, z = (middle + np.array([0.3, -0.2, 0.4]) * size).tolist()
        grid = space.regrid(spacing=size, centre=(x, y, z))
        return resample(volume, space, grid), grid

    return change


def eight_bits(volume: np.ndarray, space: Space) -> Image:
    """Return a volume rounded to 255 steps between 0 and its greatest value."""
    most = float(volume.max()) or 1.0
    return (np.round(volume / most * 255) / 255).astype(np.float32), space


def in_turn(*changes: Change) -> Change:
    """Return changes one after the other."""

    def change(volume: np.ndarray, space: Space) -> Image:
        for one in changes:
            volume, space = one(volume, space)
        return volume, space

    return change


def moved(mm: float, degrees: float) -> Change:
    """Return a head that moved along x and turned about z, on the same grid."""

    def change(volume: np.ndarray, space: Space) -> Image:
        angle = np.deg2rad(degrees)
        turn = np.eye(4)
        turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        turn[0, 3] = mm
        source = Space.of(space.shape, turn @ space.matrix)
        return resample(volume, source, space), space

    return change


def half_kept(volume: np.ndarray, space: Space) -> Image:
    """Return the left half of a volume; the header says where it lies."""
    half = volume.shape[0] // 2
    return volume[:half].copy(), Space.of((half, *space.shape[1:]), space.matrix)


def slab(volume: np.ndarray, space: Space) -> Image:
    """Return the middle 40 mm along z."""
    thick = round(40 / space.spacing[2])
    low = (space.shape[2] - thick) // 2
    matrix = space.matrix
    matrix[:3, 3] += matrix[:3, 2] * low
    return volume[:, :, low : low + thick].copy(), Space.of((*space.shape[:2], thick), matrix)


def noisy(sd: float) -> Change:
    """Return Gaussian noise of this sd, a share of the 99th percentile."""

    def change(volume: np.ndarray, space: Space) -> Image:
        rng = np.random.default_rng(0)
        size = sd * float(np.percentile(volume[volume > 0], 99))
        noise = rng.normal(0, size, volume.shape)
        return np.clip(volume + noise * (volume > 0), 0, None).astype(np.float32), space

    return change


def as_it_is(volume: np.ndarray, space: Space) -> Image:
    """Return the volume."""
    return volume, space


ALL_THREE = in_turn(blurred(0.5), coarser(1.5), eight_bits)
CHANGES: dict[str, Change] = {
    "none": as_it_is,
    "resampled to 1.5 times the spacing": coarser(1.5),
    "rounded to 8 bits": eight_bits,
    "light blur (sigma 0.5 voxels)": blurred(0.5),
    "all three": ALL_THREE,
    "all three, blur of 1 voxel": in_turn(blurred(1.0), coarser(1.5), eight_bits),
    "blur of 1.5 voxels": blurred(1.5),
    "blur of 2 voxels": blurred(2.0),
    "blur of 3 voxels": blurred(3.0),
    "resampled to 2 times the spacing": coarser(2.0),
    "resampled to 3 times the spacing": coarser(3.0),
    "noise of 5%": noisy(0.05),
    "median of 3 x 3 x 3 voxels": lambda v, s: (ndimage.median_filter(v, 3), s),
    "gamma of 0.7": lambda v, s: (v**0.7, s),
    "left half only": half_kept,
    "slab of 40 mm only": slab,
    "moved by 1 mm": moved(1, 0),
    "moved by 2 mm": moved(2, 0),
    "moved by 4 mm": moved(4, 0),
    "turned by 1 degree": moved(0, 1),
    "turned by 2 degrees": moved(0, 2),
    "turned by 5 degrees": moved(0, 5),
}


def volumes(cohort: Path, n: int | None = None) -> Iterator[tuple[str, np.ndarray, Space]]:
    """Yield name, voxels in [0, 1] and grid of each volume."""
    files = list_cohort(cohort, "cohort").files[:n]
    with bar(str(cohort)) as advance:
        for done, (file, _) in enumerate(files, 1):
            volume = read(file, None)
            yield file.name, np.clip(volume.data / max(1.0, volume.data.max()), 0, 1), volume.grid
            advance(done, len(files), "")


def found(cohorts: list[Path], n: int, names: list[str]) -> None:
    """Print in how many marked volumes the mark is found after each change, for all cohorts.

    Each volume has a key of its own. "another key" is looked for after the three changes.
    """
    tables: list[dict[str, list[float]]] = []
    number = 0
    for cohort in cohorts:
        scores: dict[str, list[float]] = {}
        strengths = []
        for _, volume, space in volumes(cohort, n):
            own = key(number)
            marked = mark(volume, space, own)
            strengths.append(marked.strength)
            for name in names:
                changed = CHANGES[name](marked.volume, space)
                scores.setdefault(name, []).append(statistic(*changed, own))
            other = statistic(*ALL_THREE(marked.volume, space), key(number + 100_000))
            scores.setdefault("another key", []).append(other)
            number += 1
        tables.append(scores)
        print(f"{cohort.name}: {len(strengths)} volumes; strength median "
              f"{np.median(strengths):.2%}, from {min(strengths):.2%} to "
              f"{max(strengths):.2%}")  # fmt: skip
        _print_found(scores)
    print("all:")
    _print_found({name: [z for scores in tables for z in scores[name]] for name in tables[0]})


def _print_found(scores: dict[str, list[float]]) -> None:
    """Print a table: a row per change."""
    print("\n| change | found | 95% interval | least z | median z |")
    print("|---|---:|---|---:|---:|")
    for name, values in scores.items():
        hits = sum(z > THRESHOLD for z in values)
        low, high = stats.binomtest(hits, len(values)).proportion_ci()
        print(f"| {name} | {hits} of {len(values)} | {low:.1%} to {high:.1%} | "
              f"{min(values):.1f} | {np.median(values):.1f} |")  # fmt: skip
    print()


def attacked(cohort: Path, n: int) -> None:
    """Print what is left where the pattern is divided out, and in means of marked volumes."""
    of = key(100_000)
    rest: dict[str, list[float]] = {"divided out with the key": []}
    marked, grids = [], []
    for _, volume, space in volumes(cohort, n):
        result = mark(volume, space, of)
        without = _without(result.volume, space, of, result.strength)
        rest["divided out with the key"].append(statistic(*without, of))
        marked.append(result.volume)
        grids.append(space)
    for count in (2, 5, 20):
        starts = range(0, len(marked) - count + 1, count)
        means = [np.mean(marked[i : i + count], axis=0).astype(np.float32) for i in starts]
        if means:
            rest[f"mean of {count} volumes with one key"] = [
                statistic(mean, grids[0], of) for mean in means
            ]
    _print_found(rest)


def _without(volume: np.ndarray, space: Space, of: WatermarkKey, strength: float) -> Image:
    """Return what an attacker makes who has the key: the pattern is divided out."""
    wave = pattern(of, space)
    wave = wave / np.sqrt(np.mean(wave[volume > 0.1] ** 2))
    return np.asarray(volume / (1 + strength * wave), dtype=np.float32), space


def null(cohorts: list[Path], keys: int) -> None:
    """Print in how many pairs of an unmarked volume and a key a mark is found."""
    tried = [key(number) for number in range(keys)]
    print(
        "| volumes | change | pairs | found | sd of z | greatest z | sd over keys of the mean z |"
    )
    print("|---|---|---:|---:|---:|---:|---:|")
    for cohort in cohorts:
        for name, change in (("none", as_it_is), ("all three", ALL_THREE)):
            said = [evidence(*change(volume, space)) for _, volume, space in volumes(cohort)]
            z = np.array([[agreement(*one, of) for of in tried] for one in said])
            print(f"| {cohort.name}, {len(said)} | {name} | {z.size:,} | "
                  f"{int((z > THRESHOLD).sum())} | {z.std():.3f} | {z.max():.2f} | "
                  f"{z.mean(axis=0).std():.2f} |")  # fmt: skip


def write_marked(cohort: Path, out: Path) -> None:
    """Write marked copies of a cohort, all with one key."""
    out.mkdir(parents=True, exist_ok=True)
    of, strengths = key(100_000), []
    for name, volume, space in volumes(cohort):
        result = mark(volume, space, of)
        strengths.append(result.strength)
        write_atomic(out / name, nifti_bytes(result.volume, space, "SYNTHETIC: study"))
    print(f"{len(strengths)} volumes in {out}; strength median {np.median(strengths):.2%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=("found", "attacked", "null", "mark"))
    parser.add_argument("cohorts", type=Path, nargs="+")
    parser.add_argument("--n", type=int, default=70, help="volumes per cohort, at most")
    parser.add_argument("--change", action="append", choices=list(CHANGES))
    parser.add_argument("--keys", type=int, default=200)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.part == "found":
        found(given.cohorts, given.n, given.change or list(CHANGES))
    elif given.part == "attacked":
        attacked(given.cohorts[0], given.n)
    elif given.part == "null":
        null(given.cohorts, given.keys)
    else:
        write_marked(given.cohorts[0], given.out)
