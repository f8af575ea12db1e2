"""The embedded atlas cohort: simulated T1-weighted brains with known truth.

nilearn's wheel carries the MNI152 2009 T1 image and its grey- and white-matter maps at 1 mm. A
subject is a smooth random diffeomorphism of them, with tissue contrasts, a bias field and noise.
Age widens the ventricles and the sulci and thins the cortex; sex moves the head's size. Each
subject's age, sex, ventricle volume and brain volume are therefore known exactly, and no
download is needed.

Every volume covers the classic MNI box of 181 x 217 x 181 mm (voxel centres at x -90..90,
y -126..90, z -72..108 on a 1 mm grid); the shape sets the spacing, so 84 x 128 x 84 voxels are
2.15 x 1.70 x 2.15 mm. Heads are aligned but keep their own size.

Subject `index` of `seed` draws from `numpy.random.SeedSequence([seed, index])`, with one
stream per stage (traits, deformation, folding, bias, noise): it does not depend on how many
subjects are drawn, or in which order. All but the noise is drawn independently of the shape, so
the same subject at another shape is the same anatomy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32, Float64, UInt8
from torch import Tensor

from synthbench.errors import UsageError
from synthbench.simulation.deformation import (
    CORNER_MM,
    DEFORMATION_SHAPE,
    EXTENT_MM,
    Shape,
    box_affine,
    box_units,
    compose,
    exponential,
    grid_points,
    sample,
    spline_field,
)
from synthbench.simulation.template import (
    GROWTH_STRENGTHS,
    TISSUE,
    antialiased_maps,
    template_anatomy,
)

Sex = Literal["F", "M"]
AGE_RANGE = (20.0, 85.0)
DEFAULT_SHAPE: Shape = (84, 128, 84)
SMALLEST_SIDE = 16

# The largest float32 that takes the highest uint8 level to at most 1.
INTENSITY_STEP = float(np.nextafter(np.float32(1 / 255), np.float32(0)))
_VELOCITY_MM = {40.0: 1.9, 20.0: 1.6, 10.0: 1.1}  # lattice spacing: standard deviation
_BRAIN_CENTRE_MM = (0.0, -18.0, 8.0)
_BRAIN_THRESHOLD = 0.25  # low, so that the rim is as dark as skull-stripping leaves it


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
    """The random traits of a subject, drawn before any image; z-scores are truncated at 2.

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
        """Mean T1 intensity of each tissue; grey and white matter become more alike with age."""
        z_grey, z_white, z_fluid = self.contrast_z
        white = 0.81 - 0.03 * self.aging + 0.015 * z_white
        grey = 0.54 + 0.02 * self.aging + 0.015 * z_grey
        fluid = 0.09 + 0.015 * z_fluid
        return np.array([grey, white, fluid, fluid], dtype=np.float32)


def draw(seed: int, index: int, shape: Sequence[int] = DEFAULT_SHAPE) -> Subject:
    """Return one subject.

    Parameters
    ----------
    seed, index
        The cohort and the subject in it, both from 0.
    shape
        Voxels along x, y and z, at least 16 each; the field of view stays 181 x 217 x 181 mm.

    Returns
    -------
    Subject
        The same for the same arguments, in any order of calls.

    Raises
    ------
    UsageError
        `seed` or `index` is negative, or `shape` is not three sides of at least 16.
    """
    grid = checked_shape(shape)
    check_not_negative("seed", seed)
    check_not_negative("index", index)
    return _render(_draw_traits(seed, index), seed, index, grid)


# --- traits -------------------------------------------------------------------------------------


def _streams(seed: int, index: int) -> list[np.random.Generator]:
    """Return one generator per stage: traits, deformation, folding, bias, noise."""
    return [np.random.default_rng(s) for s in np.random.SeedSequence([seed, index]).spawn(5)]


def _draw_traits(seed: int, index: int) -> _Traits:
    rng = _streams(seed, index)[0]
    z = _truncated_normal(rng, 12)
    return _Traits(
        # Two decimals, so that participants.tsv holds the exact age.
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
    """Return a subject's sex.

    Of subjects 2k and 2k + 1 one is female and one male, in random order: any even n is balanced.
    """
    pair = np.random.SeedSequence([seed, index // 2], spawn_key=(0, 0))
    first_is_male = bool(np.random.default_rng(pair).integers(2))
    return "M" if first_is_male == (index % 2 == 0) else "F"


def _truncated_normal(rng: np.random.Generator, n: int) -> list[float]:
    """Return n standard normal numbers; those beyond 2 are drawn again."""
    draws = rng.standard_normal(n)
    while (beyond := np.abs(draws) > 2).any():
        draws[beyond] = rng.standard_normal(int(beyond.sum()))
    return [float(z) for z in draws]


# --- image --------------------------------------------------------------------------------------


def _render(traits: _Traits, seed: int, index: int, shape: Shape) -> Subject:
    """Return the subject with these traits: image, label map and measured volumes."""
    _, deformation, folding, bias, noise = _streams(seed, index)
    displacement = _backward_displacement(traits, deformation)
    points = _template_points(traits, displacement, shape)
    maps = sample(antialiased_maps(shape), points)
    tissues = _fold(maps[:4], traits.sulcal_log_odds, folding)
    brain = tissues.sum(dim=0) > _BRAIN_THRESHOLD

    intensity = torch.einsum("c,cdhw->dhw", torch.from_numpy(traits.intensities), tissues)
    intensity = (intensity + maps[4]) * _bias_field(bias, shape)
    intensity = rician(intensity, traits.noise_sd, noise)
    affine = box_affine(shape)
    per_class = tissues.sum(dim=(1, 2, 3), dtype=torch.float64).numpy()
    mm3 = per_class * float(np.linalg.det(affine))
    return Subject(
        participant_id=participant_id(index),
        age=traits.age,
        sex=traits.sex,
        ventricle_volume=float(mm3[TISSUE.ventricle]),
        brain_volume=float(mm3[TISSUE.grey] + mm3[TISSUE.white]),
        volume=_levels(intensity, brain).astype(np.float32) * np.float32(INTENSITY_STEP),
        labels=((1 + tissues.argmax(dim=0)) * brain).to(torch.uint8).numpy(),
        affine=affine,
    )


def _fold(
    tissues: Float32[Tensor, "4 d h w"], sulcal_log_odds: float, rng: np.random.Generator
) -> Float32[Tensor, "4 d h w"]:
    """Return the tissues with sulci opened and closed at random.

    A warp alone would keep every fold of the template.

    The log-odds of sulcal fluid and of white matter, against grey matter, are shifted by smooth
    random fields; the ventricles stay as they are.
    """
    shape = tissues.shape[1:]
    odds = tissues.clone()
    fluid = sulcal_log_odds + 0.9 * spline_field(rng, 9.0, shape)
    white = 0.6 * spline_field(rng, 9.0, shape)
    odds[TISSUE.sulcal] *= fluid.exp()
    odds[TISSUE.white] *= white.exp()
    return odds * (tissues.sum(dim=0) / odds.sum(dim=0).clamp(min=1e-6))


def _bias_field(rng: np.random.Generator, shape: Shape) -> Float32[Tensor, "d h w"]:
    return torch.exp(0.05 * spline_field(rng, 80.0, shape))


def rician(
    signal: Float32[Tensor, "d h w"], sd: float, rng: np.random.Generator
) -> Float32[Tensor, "d h w"]:
    """Return the magnitude of a signal with complex Gaussian noise.

    Gudbjartsson and Patz 1995, eq. 1.
    """
    real, imaginary = torch.from_numpy(
        rng.standard_normal((2, *signal.shape), dtype=np.float32) * np.float32(sd)
    )
    return torch.sqrt((signal + real) ** 2 + imaginary**2)


def _levels(intensity: Float32[Tensor, "d h w"], brain: Tensor) -> UInt8[np.ndarray, "d h w"]:
    """Return the stored levels: 0 outside the brain, 1 to 255 inside."""
    levels = torch.round(intensity * 255).clamp(1, 255)
    stored: UInt8[np.ndarray, "d h w"] = torch.where(brain, levels, 0.0).to(torch.uint8).numpy()
    return stored


# --- deformation --------------------------------------------------------------------------------
#
# Points and displacements are in box units, in the order that grid_sample reads: (z, y, x), with
# -1 and 1 at the box's faces. They mean the same on every grid.


def _backward_displacement(traits: _Traits, rng: np.random.Generator) -> Float32[Tensor, "3 d h w"]:
    """Return the displacement from subject to template, on the deformation grid.

    From template to subject, the ventricles grow first, in template space, where their place is
    known; then comes the random diffeomorphism. Backwards, the random one is undone first.
    """
    anatomy = template_anatomy()
    expected = anatomy.ventricle_volume * traits.head_volume / anatomy.head_volume
    log_ratio = math.log(traits.ventricle_target / expected)
    strength = float(np.interp(log_ratio, anatomy.log_ratios, GROWTH_STRENGTHS))
    random = exponential(-_random_velocity(rng))
    return compose(random, exponential(-strength * anatomy.ventricle_growth))


def _random_velocity(rng: np.random.Generator) -> Float32[Tensor, "3 d h w"]:
    """Return a stationary velocity: a sum of cubic B-spline fields of several scales."""
    mobility = torch.ones(DEFORMATION_SHAPE), template_anatomy().mobility
    velocity = torch.zeros((3, *DEFORMATION_SHAPE))
    for spacing_mm, sd_mm in _VELOCITY_MM.items():
        for axis in range(3):
            field = spline_field(rng, spacing_mm, DEFORMATION_SHAPE)
            velocity[axis] += sd_mm * field * mobility[spacing_mm < 40]
    return box_units(velocity)


def _template_points(
    traits: _Traits, displacement: Float32[Tensor, "3 d h w"], shape: Shape
) -> Float32[Tensor, "D H W 3"]:
    """Return the point in the template that each voxel of a subject's grid comes from."""
    to_template, centre = _inverse_pose(traits)
    points = (grid_points(shape) - centre) @ to_template.T + centre
    return points + sample(displacement, points, outside="border").movedim(0, -1)


def _inverse_pose(traits: _Traits) -> tuple[Float32[Tensor, "3 3"], Float32[Tensor, " 3"]]:
    """Return the linear map from the subject's head to the template's, and its fixed point."""
    stretch = np.array(traits.log_stretch) - np.mean(traits.log_stretch)
    scale = (traits.head_volume / template_anatomy().head_volume) ** (1 / 3) * np.exp(stretch)
    half = np.array(EXTENT_MM) / 2
    to_subject = (_rotation(traits.rotation) * scale) * half / half[:, None]
    centre = (np.array(_BRAIN_CENTRE_MM) - np.array(CORNER_MM)) / half - 1
    return (
        torch.from_numpy(np.linalg.inv(to_subject)[::-1, ::-1].astype(np.float32)),
        torch.from_numpy(centre[::-1].astype(np.float32)),
    )


def _rotation(radians: tuple[float, float, float]) -> Float64[np.ndarray, "3 3"]:
    """Return the matrix of a rotation about x, then y, then z."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(radians), np.sin(radians)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    matrix: Float64[np.ndarray, "3 3"] = about_z @ about_y @ about_x
    return matrix


def participant_id(index: int) -> str:
    """Return "sub-" and the index, padded to four digits."""
    return f"sub-{index:04d}"


# --- arguments ----------------------------------------------------------------------------------


def checked_shape(shape: Sequence[int]) -> Shape:
    """Return a shape as three ints, or raise a UsageError where a side is too small."""
    whole = all(isinstance(side, int | np.integer) for side in shape)
    if len(shape) != 3 or not whole or min(shape) < SMALLEST_SIDE:
        raise UsageError(
            f"shape must be three whole sides of at least {SMALLEST_SIDE} voxels; "
            f"found {tuple(shape)}. Give for example (40, 48, 40)."
        )
    x, y, z = shape
    return int(x), int(y), int(z)


def check_not_negative(name: str, value: int) -> None:
    """Raise a UsageError where a number is below 0; `name` is its name in the message."""
    if value < 0:
        raise UsageError(f"{name} must be 0 or more; found {value}. Give for example {name}=0.")
