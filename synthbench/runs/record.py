"""What `run.json` and `config.yaml` of a run hold: the fields that are read, and their kinds.

A run folder may come from a stranger. A field with a wrong value is refused by its name; fields
that are not named here are kept as they are. A stage of a run, and a run that was stopped early,
have some of the fields only.
"""

from __future__ import annotations

from math import prod
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from synthbench.runtime.memory import beyond_limit
from synthbench.volumes.image_header import MAX_VOXELS

Count = Annotated[int, Field(ge=0, le=2**53)]
Positive = Annotated[int, Field(ge=1, le=2**31)]


class _Fields(BaseModel):
    """Fields with exact kinds: the text "5" is no number."""

    model_config = ConfigDict(extra="allow", strict=True)


class CohortFields(_Fields):
    """The training cohort, or the validation cohort."""

    fingerprint: str
    n: Count
    subjects: Count = 0
    embedded: bool = False


class SourceFields(_Fields):
    """A dataset that volumes come from, with its terms; empty texts where it states none."""

    name: str
    licence: str
    terms: str
    url: str


class SpaceFields(_Fields):
    """The grid of a run: shape in voxels, and the affine to mm, row by row."""

    shape: list[Positive] = Field(min_length=3, max_length=3)
    affine: list[float] = Field(min_length=16, max_length=16)

    @field_validator("affine", mode="before")
    @classmethod
    def _row_by_row(cls, affine: Any) -> Any:
        rows = isinstance(affine, list) and all(isinstance(row, list) for row in affine)
        return [number for row in affine for number in row] if rows else affine

    @field_validator("affine")
    @classmethod
    def _finite(cls, affine: list[float]) -> list[float]:
        if not all(abs(number) < 1e6 for number in affine):
            raise ValueError("sixteen finite numbers below 1000000 are needed")
        return affine

    @field_validator("shape")
    @classmethod
    def _small(cls, shape: list[int]) -> list[int]:
        voxels = prod(shape)
        too_large = beyond_limit(4 * voxels)
        if voxels > MAX_VOXELS or too_large:
            raise ValueError(f"{voxels:.3g} voxels {too_large or 'are too many'}")
        return shape


class EnvironmentFields(_Fields):
    """The machine and the software that trained."""

    python: str = ""
    cpus: int | None = None
    gpus: list[str] = []
    packages: dict[str, str] = {}


class EnergyFields(_Fields):
    """The electricity that training took."""

    kwh: float
    methods: list[str]


class ChangeFields(_Fields):
    """A setting that was changed when a run was resumed."""

    setting: str
    before: Any
    after: Any
    step: Count


class DiversityFields(_Fields):
    """The newest check of the diversity of samples."""

    step: Count
    volumes: Count
    real_volumes: Count
    diversity: float
    similarity: float
    real_similarity: float
    twins: float
    collapsed: bool


class ConditionFields(_Fields):
    """A condition: its kind and its training range, as aggregates."""

    name: str = Field(min_length=1)
    kind: Literal["numeric", "categorical"]
    low: float | None
    high: float | None
    levels: list[str]
    missing: Count
    quantiles: list[float] = []
    frequencies: list[float] = []

    @model_validator(mode="after")
    def _complete(self) -> Self:
        ends = (self.low, self.high)
        if self.kind == "numeric" and not all(x is not None and abs(x) < 1e300 for x in ends):
            raise ValueError("low and high must be finite numbers for a numeric condition")
        if self.kind == "categorical" and not self.levels:
            raise ValueError("levels must be named for a categorical condition")
        return self


class RunFields(_Fields):
    """The fields of `run.json`."""

    WHOLE: ClassVar[tuple[str, ...]] = ("generator", "cohort", "space")
    """Those that each run has, but not each stage of one."""

    generator: str | None = None
    finished: bool = False
    trained: bool | None = None
    cohort: CohortFields | None = None
    validation: CohortFields | None = None
    sources: list[SourceFields] = []
    subgroups: dict[str, dict[str, int | str]] | None = None
    space: SpaceFields | None = None
    conditions: list[ConditionFields] | None = None
    accepted: list[str] = []
    initialised_from: str | None = None
    environment: EnvironmentFields | None = None
    steps: Count | None = None
    processes: Positive | None = None
    device: str | None = None
    training_seconds: float | None = None
    weights_step: Count | None = None
    parameters: Count | None = None
    weights_sha256: str | None = None
    gpu_hours: float | None = None
    energy: EnergyFields | None = None
    changes: list[ChangeFields] = []
    diversity: DiversityFields | None = None
    latent_shape: list[Positive] | None = None
    scale_factor: float | None = None


class ConfigFields(_Fields):
    """The fields of `config.yaml` that are the run's; the generator's own are checked by it."""

    generator: str | None = None
    preset: str | None = None
    real: str | None = None
    init: str | None = None
    validation: str | None = None
    intensity: str = "percentile"
    seed: Count | None = None
    batch_size: Positive | None = None
    accumulation: Positive | None = None
