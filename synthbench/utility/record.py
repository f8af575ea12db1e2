"""The typed record of a study of downstream utility: aggregates, settings and hashes only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from synthbench.errors import ScorecardError
from synthbench.metrics.inference.downstream import Estimate, Measure
from synthbench.records.base import Record, RecordFile
from synthbench.records.cohort import CohortRecord
from synthbench.records.protocol import ExtractorRecord, SpaceRecord, settings_hash
from synthbench.records.utility import Utility

REAL, SYNTHETIC, BOTH = "real", "synthetic", "real + synthetic"
AUGMENTED = "real + augmentation"
TRTS = "real, tested on synthetic"
PACKAGES = ("torch", "monai", "numpy", "scipy", "nibabel")
"""What a study's numbers may depend on."""

Word = Literal["helped", "did not help", "hurt"]


class Estimated(Record):
    """An estimate, its interval, and what its variance is made of."""

    value: float
    low: float
    high: float
    se: float
    df: float | None = Field(description="of its t distribution; None where nothing varies")
    p: float | None = Field(default=None, description="of a difference: that it is zero")
    variance: dict[str, float] = Field(description="squared standard error by source")

    @classmethod
    def of(cls, found: Estimate, *, tested: bool = False) -> Estimated:
        """Keep an estimate; `tested` keeps the p-value of a difference too."""
        variance: dict[str, float] = {}
        for component in found.components:
            variance[component.source] = variance.get(component.source, 0.0) + component.variance
        return cls(
            value=found.value, low=found.low, high=found.high, se=found.se,
            df=found.df if found.df < float("inf") else None,
            p=found.p if tested else None, variance=variance,
        )  # fmt: skip


class Arm(Record):
    """What a model was trained on, what it was tested on, and how it did."""

    name: str
    real: int = Field(description="real volumes it was trained on")
    synth: int = Field(default=0, description="synthetic volumes")
    augmented: int = Field(default=0, description="changed copies of real volumes")
    tested: int = Field(description="subjects that it was tested on")
    values: dict[str, Estimated] = Field(description="by measure")


class Difference(Record):
    """One arm less another on the same test subjects."""

    arm: str
    against: str
    values: dict[str, Estimated] = Field(description="by measure")


class CurvePoint(Record):
    """Real volumes with a multiple of as many synthetic ones."""

    ratio: float
    synth: int
    arm: dict[str, Estimated]
    difference: dict[str, Estimated] = Field(description="from real volumes alone")


@dataclass(frozen=True)
class Question:
    """What a verdict is on.

    Attributes
    ----------
    label, task, model
        What was learned, and by which model.
    settings_hash
        That of the study's settings.
    """

    label: str
    task: Literal["classification", "regression", "segmentation"]
    model: str
    settings_hash: str


class Settings(Record):
    """Every setting that can change a number."""

    label: str
    task: Literal["classification", "regression", "segmentation"]
    levels: tuple[str, ...] = Field(description="the classes, the positive one last")
    model: str
    details: dict[str, Any] = Field(description="the model's own settings")
    extractor: ExtractorRecord | None
    space: SpaceRecord
    ratios: tuple[float, ...]
    splits: int | None
    level: float
    seed: int

    @property
    def question(self) -> Question:
        """What was learned, and by which model."""
        return Question(self.label, self.task, self.model, self.hash)

    @property
    def hash(self) -> str:
        """The first 12 hexadecimal digits of the sha256 of these settings as sorted JSON."""
        return settings_hash(self.model_dump(mode="json"))


class UtilityRecord(RecordFile):
    """The record of one study: do synthetic volumes help where they would be used?

    Differences are signed as they were measured; of an error (MAE) a negative one is better.
    """

    what: ClassVar[str] = "a utility record"

    schema_version: Literal[1] = 1
    name: str
    created: str
    settings: Settings
    settings_hash: str
    cohorts: dict[str, CohortRecord]
    measures: tuple[str, ...] = Field(description="the primary one first")
    arms: tuple[Arm, ...]
    differences: tuple[Difference, ...]
    curve: tuple[CurvePoint, ...] = ()
    summary: Utility = Field(description="the verdict: real + synthetic against real")
    transfer: Utility | None = Field(
        default=None, description="likewise after fine-tuning on the cohort of --transfer"
    )
    transfer_arms: tuple[Arm, ...] = ()
    notes: tuple[str, ...] = ()
    software: dict[str, str]

    def arm(self, name: str) -> Arm | None:
        """Return an arm by name."""
        return next((arm for arm in self.arms if arm.name == name), None)

    def difference(self, arm: str, against: str = REAL) -> Difference | None:
        """Return a difference by the names of its arms."""
        return next((d for d in self.differences if (d.arm, d.against) == (arm, against)), None)

    @classmethod
    def remedy(cls, file: Path) -> str:
        """Name the command that writes one."""
        return "Write one with synthbench utility --out."

    def check(self, file: Path) -> None:
        """Raise a ScorecardError where the settings have not the hash that stands beside them."""
        if self.settings.hash != self.settings_hash:
            raise ScorecardError(
                f"{file}: its settings hash to {self.settings.hash}, but the file says "
                f"{self.settings_hash}: it was edited. Run synthbench utility again."
            )


def verdict(measure: Measure, found: Estimate) -> Word:
    """Say whether a difference is better, worse, or not told from none."""
    better = measure.better == "higher"
    if found.low > 0:
        return "helped" if better else "hurt"
    if found.high < 0:
        return "hurt" if better else "helped"
    return "did not help"


def sentence(measure: Measure, found: Estimate, what: str = "synthetic data") -> str:
    """Say the verdict plainly, with the difference and its interval.

    Shares (AUC, accuracy, Dice) are told in points of a hundredth.
    """
    scale, unit, digits = written(measure, found.low, found.high)
    value, low, high = (f"{scale * x:+.{digits}f}" for x in (found.value, found.low, found.high))
    interval = f"{found.level:.0%} CI {low} to {high}"
    return f"{what} {verdict(measure, found)}: {value} {unit}, {interval}"


def written(measure: Measure, low: float, high: float) -> tuple[int, str, int]:
    """Return the factor, the unit and the decimals in which differences of a measure are told.

    One decimal for points; otherwise enough for two digits of the interval's width.
    """
    if measure.bounds == (0.0, 1.0):
        return 100, f"points {measure.label}", 1
    unit = measure.label if measure.better == "higher" else f"{measure.label} (lower is better)"
    width, digits = high - low, 1
    if width > 0:
        digits = 0
        while width < 10 and digits < 6:
            width, digits = width * 10, digits + 1
    return 1, unit, digits


def summarised(
    measure: Measure,
    over: Estimate,
    arms: Sequence[Arm],
    cohorts: Mapping[str, CohortRecord],
    question: Question,
    *,
    n_real: int,
    n_synth: int,
    what: str = "synthetic data",
) -> Utility:
    """Return the verdict that a scorecard may hold.

    Parameters
    ----------
    measure, over
        The primary measure, and the difference in it that the verdict is on.
    arms, cohorts
        All of the study's.
    question
        What was learned, and by which model.
    n_real, n_synth
        Volumes that were trained on.
    what
        The subject of the sentence.
    """
    return Utility(
        label=question.label, task=question.task, model=question.model, measure=measure.name,
        difference=over.value,
        low=over.low, high=over.high, level=over.level, p=over.p, verdict=verdict(measure, over),
        sentence=sentence(measure, over, what),
        arms={arm.name: arm.values[measure.name].value for arm in arms},
        n_real=n_real, n_synth=n_synth, n_test=arms[0].tested, cohorts=dict(cohorts),
        settings_hash=question.settings_hash,
    )  # fmt: skip
