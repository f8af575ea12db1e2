"""The settings of preparation: all numbers that a prepared volume depends on."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from synthbench.errors import UsageError, near_miss
from synthbench.volumes.grid import PAPER_GRID, Space

Extractor = Literal["builtin", "deepbet", "hd-bet", "synthstrip", "ants"]
EXTRACTORS: tuple[Extractor, ...] = (
    "builtin",
    "deepbet",
    "hd-bet",
    "synthstrip",
    "ants",
)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Denoising(_Model):
    """Non-local means at two patch sizes, combined by adaptive soft coefficient matching."""

    search_radius: int = Field(default=1, ge=1)
    """A voxel is compared with the patches of so many voxels on each side."""
    patch_radii: tuple[int, int] = (1, 2)
    """Half-widths of the patches of the fine and the coarse filter, in voxels."""


class BiasCorrection(_Model):
    """N4, once in the head and once in the brain."""

    head_spacing_mm: float = Field(default=6.0, gt=0)
    brain_spacing_mm: float = Field(default=4.0, gt=0)
    """The fields are estimated on voxels of these sizes."""
    iterations: tuple[int, ...] = (50, 50, 50)
    """The most iterations at each resolution of the field."""
    convergence: float = Field(default=1e-3, gt=0)
    control_points: int = Field(default=4, ge=4)
    """Control points of the coarsest cubic B-spline field, along each axis."""


class Registration(_Model):
    """Twelve-parameter affine by correlation, searched from many starts, coarse to fine."""

    rim_mm: float = Field(default=6.0, ge=0)
    """Width of the rim around the template's brain: it is dark, and determines the scale."""
    placement_spacing_mm: float = Field(default=10.0, gt=0)
    """Voxel size at which all shifts of each turn and size are compared."""
    search_spacing_mm: float = Field(default=8.0, gt=0)
    """Voxel size at which the best placements are optimised."""
    head_spacing_mm: float = Field(default=4.0, gt=0)
    """Voxel size at which the best poses are tried in all sizes, and the best one is refined."""
    brain_spacing_mm: float = Field(default=2.0, gt=0)
    """Voxel size of the last registration, to the extracted brain."""
    pitches_deg: tuple[float, ...] = (-50, -30, -10, 10, 30, 50)
    rolls_deg: tuple[float, ...] = (-30, -10, 10, 30)
    yaws_deg: tuple[float, ...] = (-30, -10, 10, 30)
    scales: tuple[float, ...] = (0.75, 0.85, 0.95, 1.05)
    """Turns about the axes to the right, the front and the top, and sizes that are compared."""
    places: int = Field(default=3, ge=1)
    """Number of places in the scan, 50 mm apart, that are tried: a shoulder is one, too."""
    candidates: int = Field(default=6, ge=1)
    """Number of the best placements at each place that are optimised."""
    apart_mm: float = Field(default=15.0, ge=0)
    """RMS distance below which two placements are one candidate."""
    poses: int = Field(default=3, ge=1)
    """Number of the best results that are tried in all sizes on finer voxels."""
    search_iterations: int = Field(default=20, ge=1)
    """The most steps of each optimisation of turn, size and shift."""
    iterations: int = Field(default=60, ge=1)
    """The most steps of the refinement of all 12 parameters."""
    least_correlation: float = Field(default=0.7, ge=0, lt=1)
    """A scan below it counts as failed: heads reach 0.85 to 0.9, wrong positions 0.6."""


class BrainExtraction(_Model):
    """The built-in extraction: a template prior, a threshold, morphology."""

    spacing_mm: float = Field(default=1.5, gt=0)
    """Voxel size of the working grid."""
    threshold: float = Field(default=0.5, gt=0, lt=1)
    """Tissue is brighter than this share of the way from dark to grey matter."""
    brightest_sd: float = Field(default=4.0, gt=0)
    """Fat and vessels are brighter than white matter by more standard deviations than this."""
    certain_mm: float = Field(default=4.0, gt=0)
    """Deeper in the template's brain than this, everything is brain."""
    reach_mm: float = Field(default=8.0, gt=0)
    """Farther from the template's brain than this, nothing is brain."""
    opening_mm: float = Field(default=4.5, gt=0)
    """Bridges (dura, vessels, optic nerves) narrower than twice this are cut."""
    closing_mm: float = Field(default=10.0, ge=0)
    """Sulci narrower than twice this belong to the mask."""
    margin_mm: float = Field(default=2.25, ge=0)
    """Rim of fluid kept around the tissue, so that the cortex keeps its partial volume."""
    volume_ml: tuple[float, float] = (600.0, 2600.0)
    """Brains smaller or larger than this count as failed."""


class TissueScale(_Model):
    """Intensities that the tissue means are mapped to; 0 stays 0, and 1 is the ceiling."""

    grey: float = Field(default=0.55, gt=0, lt=1)
    white: float = Field(default=0.8, gt=0, lt=1)


class Settings(_Model):
    """All settings of preparation; every sidecar has a copy of them."""

    shape: tuple[int, int, int] = PAPER_GRID.shape
    affine: tuple[float, ...] = PAPER_GRID.affine
    denoise: bool = True
    brain_extraction: Extractor = "builtin"
    tool: dict[str, str] = {}
    """Executable, version and sha256 of an external brain extraction."""
    denoising: Denoising = Denoising()
    bias: BiasCorrection = BiasCorrection()
    registration: Registration = Registration()
    extraction: BrainExtraction = BrainExtraction()
    tissues: TissueScale = TissueScale()

    @classmethod
    def chosen(
        cls,
        grid: Space = PAPER_GRID,
        *,
        brain_extraction: str = "builtin",
        denoise: bool = True,
        **others: Any,
    ) -> Settings:
        """Return the settings with these choices; `others` are fields by name.

        Raises
        ------
        UsageError
            There is no such brain extraction; the nearest name is suggested.
        """
        if brain_extraction not in EXTRACTORS:
            hint = near_miss(brain_extraction, EXTRACTORS)
            raise UsageError(f"--brain-extraction {brain_extraction}: {hint}")
        return cls.model_validate(
            {
                "shape": grid.shape,
                "affine": grid.affine,
                "brain_extraction": brain_extraction,
                "denoise": denoise,
                **others,
            }
        )

    @property
    def grid(self) -> Space:
        """The grid of the prepared volumes, in MNI152 millimetres."""
        return Space(self.shape, self.affine)

    def record(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        values: dict[str, Any] = self.model_dump(mode="json")
        return values

    @property
    def digest(self) -> str:
        """The first 12 hexadecimal digits of the sha256 of the record."""
        text = json.dumps(self.record(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]
