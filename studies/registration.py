"""How often the search for a head's pose fails, on heads that were moved, cut, scaled and shaded.

Usage: python studies/registration.py RAW [--repetitions N] [--seed S] [--family NAME ...]

RAW is a cohort of whole heads. Each head's pose is taken from its whole preparation (the affine of
the extracted brain). Then the head, after its bias correction, is put into poses, fields of view
and voxels that the search has not seen. There the search's affine is compared with the known one.

A search counts as failed where its correlation stays below the settings' limit (the scan is then
refused), and as wrong where it passes but lies more than 10 mm (RMS over the brain) from the truth.
Prints one row of a markdown table per family, with both counts, the median and the largest distance
of those that were found, and processor seconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from synthbench.cohorts.datasets.find import find_scans
from synthbench.cohorts.preparation import Image, Settings, prepare_scan, read_image
from synthbench.cohorts.preparation.bias import bias_field
from synthbench.cohorts.preparation.registration import search
from synthbench.cohorts.preparation.template import template_t1
from synthbench.errors import CohortError
from synthbench.volumes.grid import Space

WRONG_MM = 10.0
FIELD_MM = 300.0
TURN_DEG = 30.0


@dataclass(frozen=True)
class Case:
    """A head in a pose, and the matrix from MNI152 to it."""

    head: Image
    truth: np.ndarray


def rotation(degrees: np.ndarray) -> np.ndarray:
    """Return the turn about x, then y, then z."""
    pose = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        one, other = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[one, one] = turn[other, other] = np.cos(angle)
        turn[one, other], turn[other, one] = -np.sin(angle), np.sin(angle)
        pose = turn @ pose
    return pose


def moved(case: Case, linear: np.ndarray, shift_mm: np.ndarray, spacing: np.ndarray) -> Case:
    """Return the head, turned and stretched about the brain's middle and shifted, scanned anew.

    The field of view is 300 mm wide, its middle the brain's middle before the shift.
    """
    middle = (case.truth @ [0, -18, 8, 1])[:3]
    to_new = np.eye(4)
    to_new[:3, :3] = linear
    to_new[:3, 3] = middle + shift_mm - linear @ middle
    shape = np.ceil(FIELD_MM / spacing).astype(int)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = middle - spacing * (shape - 1) / 2
    space = Space.of(tuple(shape), affine)
    volume = case.head.on(space, np.linalg.inv(to_new))
    return Case(Image(volume, space), to_new @ case.truth)


def below(case: Case, z_mm: float) -> np.ndarray:
    """Return the mask of voxels below a height of MNI152."""
    to_mni = np.linalg.inv(case.truth) @ case.head.space.matrix
    axes = np.indices(case.head.space.shape, dtype=np.float32)
    height = sum(to_mni[2, axis] * axes[axis] for axis in range(3)) + to_mni[2, 3]
    return np.asarray(height < z_mm)


def cut(case: Case, z_mm: float) -> Case:
    """Return the head without the slices that lie wholly below a height of MNI152."""
    keep = np.flatnonzero(~below(case, z_mm).all(axis=(0, 1)))
    matrix = case.head.space.matrix.copy()
    matrix[:3, 3] += matrix[:3, :3] @ [0, 0, keep.min()]
    volume = np.ascontiguousarray(case.head.volume[:, :, keep.min() :])
    return Case(Image(volume, Space.of(volume.shape, matrix)), case.truth)


def with_body(case: Case, length_mm: float = 120.0) -> Case:
    """Return the head with a longer neck that widens to shoulders: its lowest slice repeated."""
    volume, matrix = case.head.volume, case.head.space.matrix.copy()
    slices = round(length_mm / case.head.space.spacing[2])
    wide = np.pad(volume, ((40, 40), (20, 20), (slices, 0)), mode="constant")
    wide[:, :, :slices] = np.pad(volume[:, :, :1], ((40, 40), (20, 20), (0, 0)))
    for down in range(slices):
        reach = int(25 * min(1.0, 2 * down / slices))
        if reach:
            level = slices - 1 - down
            wide[:, :, level] = ndimage.grey_dilation(wide[:, :, level], size=(2 * reach + 1, 9))
    matrix[:3, 3] -= matrix[:3, :3] @ [40, 20, slices]
    return Case(Image(wide, Space.of(wide.shape, matrix)), case.truth)


def corrected(scan: Image) -> Image:
    """Return the scan after the bias correction that comes before the search."""
    settings = Settings().bias
    return Image(scan.volume / bias_field(scan, scan.head(), settings.head_spacing_mm, settings),
                 scan.space)  # fmt: skip


def shaded(case: Case, rng: np.random.Generator) -> Case:
    """Return the head under a smooth field between about 0.4 and 1.6, and noise of 3%.

    Its bias is then corrected anew, as preparation does with each scan before the search.
    """
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in case.head.volume.shape], indexing="ij")
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    along = sum(d * a for d, a in zip(direction, axes, strict=True))
    volume = case.head.volume * np.clip(1 + 1.2 * along, 0.4, 1.6)
    sd = 0.03 * float(np.percentile(case.head.volume, 99))
    real, imaginary = rng.normal(0, sd, (2, *volume.shape))
    noisy = np.sqrt((volume + real) ** 2 + imaginary**2).astype(np.float32)
    return Case(corrected(Image(noisy, case.head.space)), case.truth)


EVEN = np.full(3, 2.0)
Family = Callable[[Case, np.random.Generator, int], Case]


def _turn(rng: np.random.Generator) -> np.ndarray:
    return rotation(rng.uniform(-TURN_DEG, TURN_DEG, 3))


def _scale(rng: np.random.Generator) -> np.ndarray:
    return np.diag(rng.uniform(0.85, 1.15) * rng.uniform(0.95, 1.05, 3))


def corners(case: Case, rng: np.random.Generator, index: int) -> Case:
    """30 degrees about all three axes at once, the signs in turn."""
    signs = np.array([1 if index >> axis & 1 else -1 for axis in range(3)])
    return moved(case, rotation(TURN_DEG * signs), np.zeros(3), EVEN)


def everything(case: Case, rng: np.random.Generator, index: int) -> Case:
    """Turned, shifted, scaled, shaded, with slices of 3 mm, and a neck that is cut or longer."""
    start = with_body(case) if index % 2 else case
    spacing = EVEN.copy()
    spacing[index % 3] = 3.0
    there = moved(start, _turn(rng) @ _scale(rng), rng.uniform(-30, 30, 3), spacing)
    return shaded(there if index % 2 else cut(there, -75.0), rng)


def slices(case: Case, rng: np.random.Generator, index: int) -> Case:
    """Slices of 3 to 5 mm along each axis in turn, on a head turned by up to 15 degrees."""
    spacing = EVEN.copy()
    spacing[index % 3] = 3.0 + 2.0 * (index % 2)
    return moved(case, rotation(rng.uniform(-15, 15, 3)), rng.uniform(-10, 10, 3), spacing)


FAMILIES: dict[str, Family] = {
    "as scanned": lambda case, rng, index: case,
    "turned by 30 degrees about all axes": corners,
    "turned by up to 30 degrees about all axes": lambda case, rng, index: moved(
        case, _turn(rng), np.zeros(3), EVEN
    ),
    "the same, shifted by up to 40 mm": lambda case, rng, index: moved(
        case, _turn(rng), rng.uniform(-40, 40, 3), EVEN
    ),
    "scaled by 0.85 to 1.15": lambda case, rng, index: moved(case, _scale(rng), np.zeros(3), EVEN),
    "neck cut below the brain": lambda case, rng, index: cut(
        moved(case, rotation(rng.uniform(-15, 15, 3)), np.zeros(3), EVEN), -75.0
    ),
    "longer neck, shoulders": lambda case, rng, index: moved(
        with_body(case), rotation(rng.uniform(-15, 15, 3)), np.array([0, 0, 40.0]), EVEN
    ),
    "bias field and noise": lambda case, rng, index: shaded(
        moved(case, rotation(rng.uniform(-15, 15, 3)), np.zeros(3), EVEN), rng
    ),
    "slices of 3 to 5 mm": slices,
    "all at once": everything,
}


def distance_mm(one: np.ndarray, other: np.ndarray) -> float:
    """Return the RMS distance over the template's brain between two affines."""
    template = template_t1()
    voxels = np.argwhere(template.volume[::4, ::4, ::4] > 0) * 4
    points = template.space.matrix @ np.column_stack([voxels, np.ones(len(voxels))]).T
    return float(np.sqrt((((one - other) @ points)[:3] ** 2).sum(axis=0).mean()))


def heads(raw: Path, settings: Settings) -> Iterator[Case]:
    """Yield each head after its bias correction, and its pose."""
    for found in find_scans(raw).scans:
        scan = read_image(found.path, found.axes)
        pose = prepare_scan(scan, settings.model_copy(update={"denoise": False})).affine.matrix
        yield Case(corrected(scan), pose)


def row(name: str, cases: list[Case], repetitions: int, seed: int, settings: Settings) -> list[str]:
    """Return the cells of one family."""
    found, failed, seconds, tried = [], 0, [], 0
    make = FAMILIES[name]
    for number, case in enumerate(cases):
        rng = np.random.default_rng([seed, list(FAMILIES).index(name), number])
        for index in range(1 if name == "as scanned" else repetitions):
            made = make(case, rng, index + number)
            tried += 1
            began = time.process_time()
            try:
                found.append(distance_mm(search(made.head, settings.registration).matrix,
                                         made.truth))  # fmt: skip
            except CohortError:
                failed += 1
            seconds.append(time.process_time() - began)
    wrong = sum(distance > WRONG_MM for distance in found)
    right = [distance for distance in found if distance <= WRONG_MM] or [np.nan]
    return [name, str(tried), str(failed), str(wrong), f"{np.median(right):.1f}",
            f"{max(right):.1f}", f"{np.median(seconds):.1f}"]  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("raw", type=Path)
    parser.add_argument("--repetitions", type=int, default=8, help="of each family, per head")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--family", action="append", choices=list(FAMILIES))
    options = parser.parse_args()
    settings = Settings()
    cases = list(heads(options.raw, settings))
    print("| heads | n | failed | wrong | median mm | largest mm | CPU s |")
    print("|---|---|---|---|---|---|---|")
    for name in options.family or FAMILIES:
        cells = row(name, cases, options.repetitions, options.seed, settings)
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
