"""The embedded atlas cohort: simulated T1-weighted brains whose truth is known.

nilearn's wheel carries the MNI152 2009 T1 image and its grey- and white-matter maps at 1 mm. A
subject is a smooth random diffeomorphism of them, with tissue contrasts, a bias field and noise.
Age widens the ventricles and the sulci and thins the cortex; sex moves the head's size. Each
subject's age, sex, ventricle volume and brain volume are therefore known exactly, and no
download is needed.

Every volume covers the classic MNI box of 181 x 217 x 181 mm (voxel centres at x -90..90,
y -126..90, z -72..108 on a 1 mm grid); the shape sets the spacing, so 84 x 128 x 84 voxels are
2.15 x 1.70 x 2.15 mm. Heads are aligned but keep their own size.

Subject `index` of `seed` draws from `numpy.random.SeedSequence([seed, index])`, spawned into one
stream a stage (traits, deformation, folding, bias, noise): it does not depend on how many
subjects are drawn, or in which order. All but the noise is drawn independently of the shape, so
the same subject at another shape is the same anatomy.
"""

from __future__ import annotations

import gzip
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import nibabel as nib
import numpy as np
import torch
from jaxtyping import Float32, Float64, UInt8
from scipy import ndimage
from torch import Tensor

from synthbench import __version__
from synthbench.errors import CohortError, UsageError
from synthbench.space import Space
from synthbench.volumes import mni152
from synthbench.volumes.mni152 import TemplateMap

Shape = tuple[int, int, int]
Sex = Literal["F", "M"]

EXTENT_MM = (181.0, 217.0, 181.0)
CORNER_MM = (-90.5, -126.5, -72.5)
AGE_RANGE = (20.0, 85.0)
DEFAULT_SHAPE: Shape = (84, 128, 84)
SMALLEST_SIDE = 16

# The largest float32 that takes the highest uint8 level to at most 1.
INTENSITY_STEP = float(np.nextafter(np.float32(1 / 255), np.float32(0)))

# Velocities are smooth at 10 mm and above, so 5 mm is enough to integrate them on.
_DEFORMATION_SHAPE: Shape = (36, 44, 36)
_SQUARINGS = 5
_GROWTH_STRENGTHS = np.linspace(-3.0, 5.0, 17)
_VELOCITY_MM = {40.0: 1.9, 20.0: 1.6, 10.0: 1.1}  # lattice spacing: standard deviation
_BRAIN_CENTRE_MM = (0.0, -18.0, 8.0)
_BRAIN_THRESHOLD = 0.25  # low, so that the rim is as dark as skull-stripping leaves it


class _Tissue(NamedTuple):
    """The order of the tissue classes along a map's first axis."""

    grey: int = 0
    white: int = 1
    sulcal: int = 2
    ventricle: int = 3


_TISSUE = _Tissue()

LABELS = {1: "grey matter", 2: "white matter", 3: "sulcal fluid", 4: "lateral ventricles"}
"""The values of a label map, in the order of the tissue classes."""


@dataclass(frozen=True)
class Subject:
    """One simulated subject.

    Attributes
    ----------
    participant_id
        "sub-" and the index, padded to four digits.
    age, sex
        Years, in [20, 85); "F" or "M".
    ventricle_volume, brain_volume
        Lateral ventricles, and grey plus white matter, in mm3: sums of the subject's own tissue
        maps, before contrast, bias field and noise.
    volume
        T1-weighted intensities in [0, 1], RAS+; exactly 0 outside the brain, positive inside.
    labels
        The tissue that fills most of each voxel, of `LABELS`; 0 outside the brain.
    affine
        Voxel indices to millimetres in MNI152 space.
    """

    participant_id: str
    age: float
    sex: Sex
    ventricle_volume: float
    brain_volume: float
    volume: Float32[np.ndarray, "d h w"]
    labels: UInt8[np.ndarray, "d h w"]
    affine: Float64[np.ndarray, "4 4"]


@dataclass(frozen=True)
class _Traits:
    """What is drawn of a subject before any image; the z-scores are truncated at 2.

    A z-score is the subject's place among people of the same age and sex, so the same traits
    with another age are the same person, older or younger.
    """

    age: float
    sex: Sex
    head_z: float
    ventricle_z: float
    sulcal_z: float
    log_stretch: tuple[float, float, float]
    rotation: tuple[float, float, float]
    contrast_z: tuple[float, float, float]
    noise_sd: float

    @property
    def aging(self) -> float:
        """Years past the youngest age, as a fraction of the age range."""
        return (self.age - AGE_RANGE[0]) / (AGE_RANGE[1] - AGE_RANGE[0])

    @property
    def head_volume(self) -> float:
        """Intracranial volume in mm3."""
        mean = 1.40e6 if self.sex == "F" else 1.54e6
        return mean * math.exp(0.06 * self.head_z)

    @property
    def ventricle_target(self) -> float:
        """Volume in mm3 that the lateral ventricles are stretched towards."""
        median = 9.0e3 * math.exp(1.2 * self.aging**1.3)
        return median * math.exp(0.32 * self.ventricle_z) * self.head_volume / 1.47e6

    @property
    def sulcal_log_odds(self) -> float:
        """Log-odds of fluid against tissue in the sulci, over the template's."""
        return -0.5 + 1.5 * self.aging + 0.25 * self.sulcal_z

    @property
    def intensities(self) -> Float32[np.ndarray, " 4"]:
        """Mean T1 intensity of each tissue; grey and white matter draw nearer with age."""
        z_grey, z_white, z_fluid = self.contrast_z
        white = 0.81 - 0.03 * self.aging + 0.015 * z_white
        grey = 0.54 + 0.02 * self.aging + 0.015 * z_grey
        fluid = 0.09 + 0.015 * z_fluid
        return np.array([grey, white, fluid, fluid], dtype=np.float32)


@dataclass(frozen=True)
class _Template:
    """The MNI152 template at 1 mm in the classic box.

    `tissues` holds the probability of each class (they sum to 1 in the brain, 0 outside) and
    `detail` what of the T1 image is not explained by them: deep nuclei, myelination.
    """

    tissues: Float32[np.ndarray, "4 181 217 181"]
    detail: Float32[np.ndarray, "181 217 181"]


@dataclass(frozen=True)
class _Anatomy:
    """What the deformation needs of the template, on the deformation grid.

    Volumes are in mm3. `ventricle_growth` is a velocity that widens the ventricles, and
    `log_ratios` the logarithm of what it multiplies their volume by, at each of
    `_GROWTH_STRENGTHS`. `mobility` is the share of the finer random velocities that acts at each
    place.
    """

    head_volume: float
    ventricle_volume: float
    ventricle_growth: Float32[Tensor, "3 d h w"]
    log_ratios: Float64[np.ndarray, " k"]
    mobility: Float32[Tensor, "d h w"]


def draw(seed: int, index: int, shape: Sequence[int] = DEFAULT_SHAPE) -> Subject:
    """Draw one subject.

    Parameters
    ----------
    seed, index
        The cohort and the subject in it, both from 0.
    shape
        Voxels along x, y and z, at least 16 each; the field of view stays 181 x 217 x 181 mm.

    Returns
    -------
    Subject
        The same for the same arguments, whatever else was drawn before.

    Raises
    ------
    UsageError
        `seed` or `index` is negative, or `shape` is not three sides of at least 16.
    """
    grid = _checked_shape(shape)
    _check_not_negative("seed", seed)
    _check_not_negative("index", index)
    return _render(_draw_traits(seed, index), seed, index, grid)


def atlas_cohort(
    n: int,
    out: Path,
    seed: int = 0,
    shape: Sequence[int] = DEFAULT_SHAPE,
    *,
    labels: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Write subjects 0 to n - 1 of a seed as a BIDS derivative folder.

    The same arguments write the same bytes. Volumes are uint8 with a slope, so they load as
    [0, 1]. `participants.tsv` comes last: a folder that has one is complete. An interrupted or
    smaller cohort of the same seed and shape may be written over.

    Parameters
    ----------
    n
        Number of subjects, at least 1.
    out
        Folder, made if absent.
    seed, shape
        As for `draw`.
    labels
        Write each subject's tissues too, as a label map (`LABELS`, BIDS suffix `dseg`).
    progress
        Called with the number of subjects written so far, after each.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    UsageError
        `n`, `seed` or `shape` is not usable, or `out` holds files of something else.
    """
    if n < 1:
        raise UsageError(f"n must be at least 1 subject; found {n}. Give n=1 or more.")
    _check_not_negative("seed", seed)
    grid = _checked_shape(shape)
    out = Path(out)
    description = _json_bytes(_dataset_description(seed, grid))
    _check_folder(out, n, description)
    if labels:
        _write(out / "dseg.tsv", _label_table())
    (out / "participants.tsv").unlink(missing_ok=True)
    _write(out / "dataset_description.json", description)
    _write(out / "participants.json", _json_bytes(_PARTICIPANTS_COLUMNS))
    rows = ["participant_id\tage\tsex\tventricle_volume\tbrain_volume"]
    for index in range(n):
        subject = draw(seed, index, grid)
        _write(out / _volume_path(index), _nifti_bytes(subject))
        if labels:
            _write(out / _label_path(index), _label_bytes(subject))
        rows.append(
            f"{subject.participant_id}\t{subject.age:.2f}\t{subject.sex}"
            f"\t{subject.ventricle_volume:.1f}\t{subject.brain_volume:.1f}"
        )
        if progress is not None:
            progress(index + 1)
    _write(out / "participants.tsv", ("\n".join(rows) + "\n").encode())
    return out


def box_affine(shape: Sequence[int]) -> Float64[np.ndarray, "4 4"]:
    """Affine of a grid of this shape that fills the classic MNI box.

    >>> box_affine((181, 217, 181))[:3, 3]
    array([ -90., -126.,  -72.])
    """
    spacing = np.array(EXTENT_MM) / np.array(shape)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = np.array(CORNER_MM) + spacing / 2
    return affine


# --- traits -------------------------------------------------------------------------------------


def _streams(seed: int, index: int) -> list[np.random.Generator]:
    """One generator a stage: traits, deformation, folding, bias, noise."""
    return [np.random.default_rng(s) for s in np.random.SeedSequence([seed, index]).spawn(5)]


def _draw_traits(seed: int, index: int) -> _Traits:
    rng = _streams(seed, index)[0]
    z = _truncated_normal(rng, 12)
    return _Traits(
        # Two decimals, so that participants.tsv holds the very age.
        age=math.floor(100 * rng.uniform(*AGE_RANGE)) / 100,
        sex=_draw_sex(seed, index),
        head_z=z[0],
        ventricle_z=z[1],
        sulcal_z=z[2],
        log_stretch=(0.02 * z[3], 0.02 * z[4], 0.02 * z[5]),
        rotation=(0.025 * z[6], 0.015 * z[7], 0.015 * z[8]),
        contrast_z=(z[9], z[10], z[11]),
        noise_sd=rng.uniform(0.012, 0.025),
    )


def _draw_sex(seed: int, index: int) -> Sex:
    """Subjects 2k and 2k + 1 are of either sex, in random order, so any even n is balanced."""
    pair = np.random.SeedSequence([seed, index // 2], spawn_key=(0, 0))
    first_is_male = bool(np.random.default_rng(pair).integers(2))
    return "M" if first_is_male == (index % 2 == 0) else "F"


def _truncated_normal(rng: np.random.Generator, n: int) -> list[float]:
    """Standard normal draws, drawn again beyond 2."""
    draws = rng.standard_normal(n)
    while (beyond := np.abs(draws) > 2).any():
        draws[beyond] = rng.standard_normal(int(beyond.sum()))
    return [float(z) for z in draws]


# --- image --------------------------------------------------------------------------------------


def _render(traits: _Traits, seed: int, index: int, shape: Shape) -> Subject:
    """The image and the measured volumes of a subject with these traits."""
    _, deformation, folding, bias, noise = _streams(seed, index)
    displacement = _backward_displacement(traits, deformation)
    points = _template_points(traits, displacement, shape)
    maps = _sample(_antialiased_maps(shape), points)
    tissues = _fold(maps[:4], traits.sulcal_log_odds, folding)
    brain = tissues.sum(dim=0) > _BRAIN_THRESHOLD

    intensity = torch.einsum("c,cdhw->dhw", torch.from_numpy(traits.intensities), tissues)
    intensity = (intensity + maps[4]) * _bias_field(bias, shape)
    intensity = _rician(intensity, traits.noise_sd, noise)
    affine = box_affine(shape)
    per_class = tissues.sum(dim=(1, 2, 3), dtype=torch.float64).numpy()
    mm3 = per_class * float(np.linalg.det(affine))
    return Subject(
        participant_id=_participant_id(index),
        age=traits.age,
        sex=traits.sex,
        ventricle_volume=float(mm3[_TISSUE.ventricle]),
        brain_volume=float(mm3[_TISSUE.grey] + mm3[_TISSUE.white]),
        volume=_levels(intensity, brain).astype(np.float32) * np.float32(INTENSITY_STEP),
        labels=((1 + tissues.argmax(dim=0)) * brain).to(torch.uint8).numpy(),
        affine=affine,
    )


def _fold(
    tissues: Float32[Tensor, "4 d h w"], sulcal_log_odds: float, rng: np.random.Generator
) -> Float32[Tensor, "4 d h w"]:
    """Open and close sulci at random: a warp alone keeps every fold of the template.

    The log-odds of sulcal fluid and of white matter, against grey matter, are shifted by smooth
    random fields; the ventricles keep theirs.
    """
    shape = tissues.shape[1:]
    odds = tissues.clone()
    fluid = sulcal_log_odds + 0.9 * _spline_field(rng, 9.0, shape)
    white = 0.6 * _spline_field(rng, 9.0, shape)
    odds[_TISSUE.sulcal] *= fluid.exp()
    odds[_TISSUE.white] *= white.exp()
    return odds * (tissues.sum(dim=0) / odds.sum(dim=0).clamp(min=1e-6))


def _bias_field(rng: np.random.Generator, shape: Shape) -> Float32[Tensor, "d h w"]:
    return torch.exp(0.05 * _spline_field(rng, 80.0, shape))


def _rician(
    signal: Float32[Tensor, "d h w"], sd: float, rng: np.random.Generator
) -> Float32[Tensor, "d h w"]:
    """Magnitude of the signal with complex Gaussian noise (Gudbjartsson and Patz 1995, eq. 1)."""
    real, imaginary = torch.from_numpy(
        rng.standard_normal((2, *signal.shape), dtype=np.float32) * np.float32(sd)
    )
    return torch.sqrt((signal + real) ** 2 + imaginary**2)


def _levels(intensity: Float32[Tensor, "d h w"], brain: Tensor) -> UInt8[np.ndarray, "d h w"]:
    """The stored levels: 0 outside the brain, 1 to 255 inside."""
    levels = torch.round(intensity * 255).clamp(1, 255)
    stored: UInt8[np.ndarray, "d h w"] = torch.where(brain, levels, 0.0).to(torch.uint8).numpy()
    return stored


# --- deformation --------------------------------------------------------------------------------
#
# Points and displacements are in box units, in the order that grid_sample reads: (z, y, x), with
# -1 and 1 at the box's faces. They mean the same on every grid.


def _backward_displacement(traits: _Traits, rng: np.random.Generator) -> Float32[Tensor, "3 d h w"]:
    """Displacement from subject to template, on the deformation grid.

    The ventricles grow in template space, where their place is known; the random diffeomorphism
    follows. Backwards, the random one is undone first.
    """
    anatomy = _anatomy()
    expected = anatomy.ventricle_volume * traits.head_volume / anatomy.head_volume
    log_ratio = math.log(traits.ventricle_target / expected)
    strength = float(np.interp(log_ratio, anatomy.log_ratios, _GROWTH_STRENGTHS))
    random = _exponential(-_random_velocity(rng))
    return _compose(random, _exponential(-strength * anatomy.ventricle_growth))


def _random_velocity(rng: np.random.Generator) -> Float32[Tensor, "3 d h w"]:
    """Stationary velocity: a cubic B-spline field for each scale and direction."""
    mobility = torch.ones(_DEFORMATION_SHAPE), _anatomy().mobility
    velocity = torch.zeros((3, *_DEFORMATION_SHAPE))
    for spacing_mm, sd_mm in _VELOCITY_MM.items():
        for axis in range(3):
            field = _spline_field(rng, spacing_mm, _DEFORMATION_SHAPE)
            velocity[axis] += sd_mm * field * mobility[spacing_mm < 40]
    return _box_units(velocity)


def _box_units(vectors_mm: Float32[Tensor, "3 d h w"]) -> Float32[Tensor, "3 d h w"]:
    """Vectors of (x, y, z) millimetres, in box units."""
    scale = torch.tensor([2 / extent for extent in EXTENT_MM])
    return (vectors_mm * scale[:, None, None, None]).flip(0)


def _exponential(velocity: Float32[Tensor, "3 d h w"]) -> Float32[Tensor, "3 d h w"]:
    """Displacement of the flow at time 1, by scaling and squaring (Arsigny et al. 2006)."""
    displacement = velocity / float(2**_SQUARINGS)
    for _ in range(_SQUARINGS):
        displacement = _compose(displacement, displacement)
    return displacement


def _compose(
    first: Float32[Tensor, "3 d h w"], then: Float32[Tensor, "3 d h w"]
) -> Float32[Tensor, "3 d h w"]:
    """Displacement of going by `first` and, from there, by `then`."""
    points = _grid_points(_DEFORMATION_SHAPE) + first.movedim(0, -1)
    return first + _sample(then, points, outside="border")


def _template_points(
    traits: _Traits, displacement: Float32[Tensor, "3 d h w"], shape: Shape
) -> Float32[Tensor, "D H W 3"]:
    """Where in the template each voxel of a subject's grid comes from."""
    to_template, centre = _inverse_pose(traits)
    points = (_grid_points(shape) - centre) @ to_template.T + centre
    return points + _sample(displacement, points, outside="border").movedim(0, -1)


def _inverse_pose(traits: _Traits) -> tuple[Float32[Tensor, "3 3"], Float32[Tensor, " 3"]]:
    """Linear map from the subject's head to the template's, and its fixed point, in box units."""
    stretch = np.array(traits.log_stretch) - np.mean(traits.log_stretch)
    scale = (traits.head_volume / _anatomy().head_volume) ** (1 / 3) * np.exp(stretch)
    half = np.array(EXTENT_MM) / 2
    to_subject = (_rotation(traits.rotation) * scale) * half / half[:, None]
    centre = (np.array(_BRAIN_CENTRE_MM) - np.array(CORNER_MM)) / half - 1
    return (
        torch.from_numpy(np.linalg.inv(to_subject)[::-1, ::-1].astype(np.float32)),
        torch.from_numpy(centre[::-1].astype(np.float32)),
    )


def _rotation(radians: tuple[float, float, float]) -> Float64[np.ndarray, "3 3"]:
    """Rotation about x, then y, then z."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(radians), np.sin(radians)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    matrix: Float64[np.ndarray, "3 3"] = about_z @ about_y @ about_x
    return matrix


@lru_cache(maxsize=1)
def _anatomy() -> _Anatomy:
    """What the deformation needs of the template."""
    template = _template()
    maps = _sample(_antialiased_maps(_DEFORMATION_SHAPE), _grid_points(_DEFORMATION_SHAPE))
    tissues = maps[:4].double().numpy()
    spacing = np.array(EXTENT_MM) / np.array(_DEFORMATION_SHAPE)
    velocity = _ventricle_velocity(
        ventricle=tissues[_TISSUE.ventricle], white=tissues[_TISSUE.white], spacing=spacing
    )
    growth = _box_units(torch.from_numpy(velocity.astype(np.float32)))
    return _Anatomy(
        head_volume=float(template.tissues.sum(dtype=np.float64)),
        ventricle_volume=float(template.tissues[_TISSUE.ventricle].sum(dtype=np.float64)),
        ventricle_growth=growth,
        log_ratios=_log_ratios(growth, maps[_TISSUE.ventricle]),
        mobility=torch.from_numpy(_mobility(tissues.sum(axis=0), spacing).astype(np.float32)),
    )


def _log_ratios(
    growth: Float32[Tensor, "3 d h w"], ventricle: Float32[Tensor, "d h w"]
) -> Float64[np.ndarray, " k"]:
    """Logarithm of the change in the ventricles' volume, for each strength of their growth."""
    volumes = []
    for strength in _GROWTH_STRENGTHS:
        displacement = _exponential(-strength * growth)
        points = _grid_points(_DEFORMATION_SHAPE) + displacement.movedim(0, -1)
        volumes.append(float(_sample(ventricle[None], points).sum(dtype=torch.float64)))
    return np.log(np.array(volumes) / float(ventricle.sum(dtype=torch.float64)))


def _mobility(
    brain: Float64[np.ndarray, "d h w"], spacing: Float64[np.ndarray, " 3"]
) -> Float64[np.ndarray, "d h w"]:
    """Share of the finer random velocities that acts.

    Less at the hull, which the skull keeps smooth, and at the midline, which the falx holds.
    """
    hull = ndimage.binary_closing(np.pad(brain > 0.5, 6), iterations=4)[6:-6, 6:-6, 6:-6]
    depth = ndimage.distance_transform_edt(hull, sampling=spacing)
    share = ndimage.gaussian_filter(0.25 + 0.75 * np.clip(depth / 16, 0, 1), 5 / spacing)
    x = box_affine(brain.shape)[0, 3] + spacing[0] * np.arange(brain.shape[0])
    midline = 1 - 0.6 * np.exp(-((x / 14) ** 2))
    return np.asarray(share * midline[:, None, None], dtype=np.float64)


def _ventricle_velocity(
    ventricle: Float64[np.ndarray, "d h w"],
    white: Float64[np.ndarray, "d h w"],
    spacing: Float64[np.ndarray, " 3"],
) -> Float64[np.ndarray, "3 d h w"]:
    """Velocity in mm that widens the ventricles.

    Its divergence, the rate of log-volume, is 1 in the ventricles and negative in the white
    matter around them, which makes room.
    """
    source = np.sqrt(ventricle / ventricle.max())
    around = white * ndimage.gaussian_filter(ventricle, 14 / spacing)
    return _gradient_field(source - around * (source.sum() / around.sum()), spacing)


def _gradient_field(
    divergence: Float64[np.ndarray, "d h w"], spacing: Float64[np.ndarray, " 3"]
) -> Float64[np.ndarray, "3 d h w"]:
    """The curl-free field of this divergence (mean 0), periodic over the box: v = grad phi.

    With Poisson's equation, laplace(phi) = divergence, solved by FFT.
    """
    frequencies = [
        2 * np.pi * np.fft.fftfreq(n, mm) for n, mm in zip(divergence.shape, spacing, strict=True)
    ]
    k = np.stack(np.meshgrid(*frequencies, indexing="ij"))
    squared = (k**2).sum(axis=0)
    squared[0, 0, 0] = 1.0
    spectrum = np.fft.fftn(divergence) * (-1j * k / squared)
    return np.asarray(np.fft.ifftn(spectrum, axes=(1, 2, 3)).real, dtype=np.float64)


# --- fields and grids ---------------------------------------------------------------------------


def _spline_field(
    rng: np.random.Generator, spacing_mm: float, shape: Sequence[int]
) -> Float32[Tensor, "d h w"]:
    """Cubic B-spline of standard normal coefficients, scaled to unit variance.

    The lattice covers the box, so a field does not depend on the grid that it is read on.
    """
    counts = [math.ceil(extent / spacing_mm) + 3 for extent in EXTENT_MM]
    field = rng.standard_normal(counts)
    for axis, (side, extent) in enumerate(zip(shape, EXTENT_MM, strict=True)):
        basis = _spline_basis(side, extent / spacing_mm, counts[axis])
        # Each pass takes the first axis and appends the new one; einsum, unlike BLAS, adds in
        # one order whatever the number of threads.
        field = np.einsum("sk,kab->abs", basis, field)
    # A cubic B-spline's square integrates to 151/315.
    return torch.from_numpy((field / (151 / 315) ** 1.5).astype(np.float32))


def _spline_basis(side: int, cells: float, count: int) -> Float64[np.ndarray, "side count"]:
    """Value of each of `count` cubic B-splines at each of `side` voxel centres."""
    position = (np.arange(side) + 0.5) * cells / side
    distance = np.abs(position[:, None] - (np.arange(count)[None] - 1))
    inner = 2 / 3 - distance**2 * (1 - distance / 2)
    outer = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, inner, outer)


@lru_cache(maxsize=4)
def _grid_points(shape: Shape) -> Float32[Tensor, "d h w 3"]:
    """Voxel centres of the box's grid of this shape, in box units."""
    axes = [(2 * torch.arange(n, dtype=torch.float32) + 1) / n - 1 for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], dim=-1)


def _sample(
    maps: Float32[Tensor, "c d h w"],
    points: Float32[Tensor, "D H W 3"],
    outside: Literal["zeros", "border"] = "zeros",
) -> Float32[Tensor, "c D H W"]:
    """Trilinear values, at points in box units, of maps that fill the box."""
    # Without corner alignment, -1 and 1 are the box's faces, whatever the maps' shape.
    return torch.nn.functional.grid_sample(
        maps[None], points[None], padding_mode=outside, align_corners=False
    )[0]


# --- template -----------------------------------------------------------------------------------


@lru_cache(maxsize=2)
def _antialiased_maps(shape: Shape) -> Float32[Tensor, "5 181 217 181"]:
    """The template's tissues and detail at 1 mm, blurred for sampling on a grid of this shape.

    The Gaussian's sigma is sqrt(ratio^2 - 1) / 2.355 mm for voxels of `ratio` mm (Cardoso et al.
    2015, MICCAI); finer grids are not blurred.
    """
    template = _template()
    maps = np.concatenate([template.tissues, template.detail[None]])
    ratio = np.array(EXTENT_MM) / np.array(shape)
    sigma = np.sqrt(np.clip(ratio**2 - 1, 0, None)) / 2.355
    blurred = [ndimage.gaussian_filter(m, sigma, mode="constant", truncate=3.0) for m in maps]
    return torch.from_numpy(np.stack(blurred))


@lru_cache(maxsize=1)
def _template() -> _Template:
    in_box = _in_box("T1", mni152.t1())
    t1 = in_box.values
    grey = _in_box("grey matter", mni152.grey_matter()).values
    white = _in_box("white matter", mni152.white_matter()).values
    brain = t1 > 0
    grey, white = grey * brain, white * brain
    excess = np.maximum(grey + white, 1)
    grey, white = grey / excess, white / excess
    fluid = np.maximum(brain - grey - white, 0)
    # With their edge, which is brighter than they are.
    ventricles = ndimage.binary_dilation(mni152.lateral_ventricles(in_box), iterations=2)
    tissues = np.stack([grey, white, fluid * ~ventricles, fluid * ventricles]).astype(np.float32)
    return _Template(tissues=_sharpened(tissues), detail=_unexplained(t1, tissues))


def _in_box(name: str, image: TemplateMap) -> TemplateMap:
    """The part of a 1 mm MNI152 image that lies in the classic box."""
    shape = (181, 217, 181)
    matrix = image.space.matrix
    offset = box_affine(shape)[:3, 3] - matrix[:3, 3]
    first = np.round(offset).astype(int)
    inside = (first >= 0).all() and (first + shape <= image.values.shape).all()
    if not (np.allclose(matrix[:3, :3], np.eye(3)) and np.allclose(first, offset) and inside):
        raise CohortError(
            f"nilearn's MNI152 {name} map must cover the classic MNI box at 1 mm; found the shape "
            f"{image.values.shape} and the affine {matrix.tolist()}. Install nilearn 0.14.1."
        )
    box = tuple(slice(f, f + side) for f, side in zip(first, shape, strict=True))
    return TemplateMap(image.values[box], Space.of(shape, box_affine(shape)))


def _sharpened(tissues: Float32[np.ndarray, "c d h w"]) -> Float32[np.ndarray, "c d h w"]:
    """Raise probabilities towards one class, as in a person: the template averages many."""
    powers = tissues**1.5
    total = powers.sum(axis=0)
    return powers / np.where(total > 0, total, 1)


def _unexplained(
    t1: Float32[np.ndarray, "d h w"], tissues: Float32[np.ndarray, "c d h w"]
) -> Float32[np.ndarray, "d h w"]:
    """T1 less its least-squares fit on the tissue probabilities, 0 outside the brain."""
    brain = t1 > 0
    design = tissues[:, brain].astype(np.float64)
    means = np.linalg.solve(design @ design.T, design @ t1[brain].astype(np.float64))
    detail = np.zeros_like(t1)
    detail[brain] = t1[brain] - means @ design
    return detail


# --- files --------------------------------------------------------------------------------------

_PARTICIPANTS_COLUMNS: dict[str, object] = {
    "age": {"Description": "Age of the simulated subject", "Units": "year"},
    "sex": {"Description": "Sex of the simulated subject", "Levels": {"F": "female", "M": "male"}},
    "ventricle_volume": {"Description": "Lateral ventricles, true", "Units": "mm^3"},
    "brain_volume": {"Description": "Grey and white matter, true", "Units": "mm^3"},
}


def _dataset_description(seed: int, shape: Shape) -> dict[str, object]:
    return {
        "Name": "synthbench atlas cohort (simulated, no person's data)",
        "BIDSVersion": "1.9.0",
        "DatasetType": "derivative",
        "GeneratedBy": [
            {
                "Name": "synthbench atlas",
                "Version": __version__,
                "Description": (
                    "Simulated T1-weighted brains: random diffeomorphisms of the ICBM MNI152 "
                    "2009 template and tissue maps that nilearn distributes, with simulated "
                    "contrast, bias field and noise."
                ),
                "Parameters": {"seed": seed, "shape": list(shape)},
            }
        ],
    }


def _participant_id(index: int) -> str:
    return f"sub-{index:04d}"


def _volume_path(index: int) -> Path:
    name = _participant_id(index)
    return Path(name, "anat", f"{name}_space-MNI152_desc-brain_T1w.nii.gz")


def _label_path(index: int) -> Path:
    volume = _volume_path(index)
    return volume.with_name(volume.name.replace("_T1w.", "_dseg."))


def _label_table() -> bytes:
    rows = [f"{index}\t{name}" for index, name in LABELS.items()]
    return ("\n".join(["index\tname", *rows]) + "\n").encode()


def _nifti_bytes(subject: Subject) -> bytes:
    levels = np.round(subject.volume / np.float32(INTENSITY_STEP)).astype(np.uint8)
    return _image_bytes(levels, subject.affine, INTENSITY_STEP)


def _label_bytes(subject: Subject) -> bytes:
    return _image_bytes(subject.labels, subject.affine, 1.0)


def _image_bytes(
    stored: UInt8[np.ndarray, "d h w"], affine: Float64[np.ndarray, "4 4"], slope: float
) -> bytes:
    """Gzipped NIfTI with no time stamp, so that equal subjects are equal bytes."""
    image: Any = nib.Nifti1Image(stored, affine)
    image.header["descrip"] = b"simulated by synthbench from the MNI152 template"
    image.header.set_slope_inter(slope, 0)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, code="mni")
    image.set_sform(affine, code="mni")
    return gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)


def _json_bytes(content: dict[str, object]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _write(path: Path, content: bytes) -> None:
    """Write whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


# --- arguments ----------------------------------------------------------------------------------


def _checked_shape(shape: Sequence[int]) -> Shape:
    whole = all(isinstance(side, int | np.integer) for side in shape)
    if len(shape) != 3 or not whole or min(shape) < SMALLEST_SIDE:
        raise UsageError(
            f"shape must be three whole sides of at least {SMALLEST_SIDE} voxels; "
            f"found {tuple(shape)}. Give for example (40, 48, 40)."
        )
    x, y, z = shape
    return int(x), int(y), int(z)


def _check_not_negative(name: str, value: int) -> None:
    if value < 0:
        raise UsageError(f"{name} must be 0 or more; found {value}. Give for example {name}=0.")


def _check_folder(out: Path, n: int, description: bytes) -> None:
    """Refuse a folder that holds anything but this cohort, or the start of it."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"out must be a folder; found the file {out}. Give another path.")
    ours = {_volume_path(index) for index in range(n)}
    ours |= {_label_path(index) for index in range(n)} | {Path("dseg.tsv")}
    ours |= {Path(f"participants.{ext}") for ext in ("json", "tsv")}
    found = {path.relative_to(out) for path in out.rglob("*") if not path.is_dir()}
    described = out / "dataset_description.json"
    if described.exists() and described.read_bytes() == description:
        ours.add(described.relative_to(out))
    if others := sorted(found - ours):
        raise UsageError(
            f"out must be empty, or hold this very cohort; found {len(others)} other files in "
            f"{out} (first: {others[0]}). Give another folder, or delete this one."
        )
