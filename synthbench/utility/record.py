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
"""The packages that a study's numbers may depend on."""

Word = Literal["helped", "did not help", "hurt"]


class Estimated(Record):
    """An estimate, its interval, and its variance by source."""

    value: float
    low: float
    high: float
    se: float
    df: float | None = Field(
        description="degrees of freedom of its t distribution; None where nothing varies"
    )
    p: float | None = Field(
        default=None, description="p-value of a difference, for the null hypothesis of zero"
    )
    variance: dict[str, float] = Field(description="squared standard error by source")

    @classmethod
    def of(cls, found: Estimate, *, tested: bool = False) -> Estimated:
        """Return the record of an estimate; with the p-value of a difference where `tested`."""
        variance: dict[str, float] = {}
        for component in found.components:
            variance[component.source] = variance.get(component.source, 0.0) + component.variance
        return cls(
            value=found.value, low=found.low, high=found.high, se=found.se,
            df=found.df if found.df < float("inf") else None,
            p=found.p if tested else None, variance=variance,
        )  # fmt: skip


class Arm(Record):
    """The training volumes of a model, its test subjects, and its values."""

    name: str
    real: int = Field(description="real training volumes")
    synth: int = Field(default=0, description="synthetic training volumes")
    augmented: int = Field(default=0, description="changed copies of real volumes")
    tested: int = Field(description="test subjects")
    values: dict[str, Estimated] = Field(description="by measure")


class Difference(Record):
    """One arm minus another on the same test subjects."""

    arm: str
    against: str
    values: dict[str, Estimated] = Field(description="by measure")


class CurvePoint(Record):
    """A point of the curve: real volumes with a multiple of their number of synthetic ones."""

    ratio: float
    synth: int
    arm: dict[str, Estimated]
    difference: dict[str, Estimated] = Field(description="from real volumes alone")


@dataclass(frozen=True)
class Question:
    """The question that a verdict answers.

    Attributes
    ----------
    label, task, model
        The label, the task and the model.
    settings_hash
        The hash of the study's settings.
    """

    label: str
    task: Literal["classification", "regression", "segmentation"]
    model: str
    settings_hash: str


class Settings(Record):
    """All settings that can change a number."""

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
        """The label, the task, the model and the hash of the settings."""
        return Question(self.label, self.task, self.model, self.hash)

    @property
    def hash(self) -> str:
        """The first 12 hexadecimal digits of the sha256 of these settings as sorted JSON."""
        return settings_hash(self.model_dump(mode="json"))


class UtilityRecord(RecordFile):
    """The record of one study: do synthetic volumes help a model that is used on real people?

    Differences have the sign of the measure: for an error (MAE), a negative one is better.
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
        default=None, description="the verdict after fine-tuning on the cohort of --transfer"
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
        """Return the command that writes a record, for messages."""
        return "Write one with synthbench utility --out."

    def check(self, file: Path) -> None:
        """Raise a ScorecardError where the settings have another hash than the file says."""
        if self.settings.hash != self.settings_hash:
            raise ScorecardError(
                f"{file}: its settings hash to {self.settings.hash}, but the file says "
                f"{self.settings_hash}: it was edited. Run synthbench utility again."
            )


def verdict(measure: Measure, found: Estimate) -> Word:
    """Return whether a difference is better, worse, or may be zero."""
    better = measure.better == "higher"
    if found.low > 0:
        return "helped" if better else "hurt"
    if found.high < 0:
        return "hurt" if better else "helped"
    return "did not help"


def sentence(measure: Measure, found: Estimate, what: str = "synthetic data") -> str:
    """Return the verdict as a sentence, with the difference and its interval.

    Differences of shares (AUC, accuracy, Dice) are given in points, that is hundredths.
    """
    scale, unit, digits = written(measure, found.low, found.high)
    value, low, high = (f"{scale * x:+.{digits}f}" for x in (found.value, found.low, found.high))
    interval = f"{found.level:.0%} CI {low} to {high}"
    return f"{what} {verdict(measure, found)}: {value} {unit}, {interval}"


def written(measure: Measure, low: float, high: float) -> tuple[int, str, int]:
    """Return the factor, the unit and the decimals for writing a measure's differences.

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
    """Return the verdict for a scorecard.

    Parameters
    ----------
    measure, over
        The primary measure, and the difference in it that the verdict is on.
    arms, cohorts
        All arms and cohorts of the study.
    question
        The label, the task and the model.
    n_real, n_synth
        Numbers of training volumes.
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
