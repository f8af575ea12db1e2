"""The scorecard: the typed, versioned record of one scoring.

It holds aggregates only: values, intervals, floors, the protocol, hashes of whole cohorts. No
per-file hash, no path and no feature of a real volume is in it, so it can be published where
the data cannot.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field

from synthbench.errors import ScorecardError
from synthbench.files import write_atomic
from synthbench.metrics.metric import Direction, IntervalMethod, Role
from synthbench.records.base import Record, RecordFile, Upgrade
from synthbench.records.keys import JobKey
from synthbench.records.schema import SCHEMA, UPGRADES
from synthbench.space import Intensity, Space, intensity_words

if TYPE_CHECKING:
    from synthbench.cohort import Cohort


class CohortRecord(Record):
    """What a scorecard says of a cohort."""

    n: int = Field(description="volumes that were scored")
    subjects: int
    fingerprint: str = Field(description="sha256 over the sorted hashes of all its volumes")
    available: int = Field(description="volumes the cohort held; more than n where m was frozen")

    @classmethod
    def of(cls, cohort: Cohort, available: int | None = None) -> Self:
        """Describe a cohort; `available` where it was drawn from more volumes than it has."""
        n = len(cohort)
        return cls(
            n=n, subjects=len(set(cohort.subjects)), fingerprint=cohort.fingerprint,
            available=n if available is None else available,
        )  # fmt: skip


class GridRecord(Record):
    """A grid in RAS+ millimetres."""

    shape: tuple[int, int, int]
    affine: tuple[float, ...]


class ExtractorRecord(Record):
    """Which extractor, to the byte."""

    name: str
    weights_sha256: str | None
    preprocessing: str
    layer: str
    dim: int
    grid: GridRecord | None = Field(default=None, description="its own; None: the common grid")

    @property
    def label(self) -> str:
        """Name and the first eight digits of the weights' sha256."""
        return f"{self.name}@{(self.weights_sha256 or 'no-weights')[:8]}"


class SpaceRecord(Record):
    """The grid and the intensity rule that all volumes were brought to."""

    shape: tuple[int, int, int]
    affine: tuple[float, ...]
    intensity: Intensity
    scaling: str = Field(description="the intensity rule in words")
    resampling: str = "Gaussian antialiasing, linear"

    @classmethod
    def of(cls, grid: Space, intensity: Intensity) -> Self:
        """Describe a grid and an intensity rule."""
        return cls(
            shape=grid.shape, affine=grid.affine, intensity=intensity,
            scaling=intensity_words(intensity),
        )  # fmt: skip

    @property
    def grid(self) -> Space:
        """The grid."""
        return Space(self.shape, self.affine)


class MaskRecord(Record):
    """The mask, frozen from the real cohort."""

    rule: str
    voxels: int
    sha256: str


class Protocol(Record):
    """Every setting that can change a number.

    `settings` holds what each metric froze on the real cohort, under the metric's name and,
    where it works on features, the extractor's: a kernel's formula and bandwidth, the window
    and the scales of MS-SSIM.
    """

    space: SpaceRecord
    mask: MaskRecord
    extractors: tuple[ExtractorRecord, ...]
    settings: dict[str, dict[str, Any]]
    intervals: dict[str, IntervalMethod] = Field(description="method of each metric")
    level: float
    resamples: int
    floor_splits: int
    permutations: int
    seed: int
    n_real: int
    n_synth: int
    version: Literal[1] = 1

    @property
    def hash(self) -> str:
        """The first 12 hexadecimal digits of the sha256 of this protocol as sorted JSON."""
        fields = self.model_dump(mode="json")
        for extractor in fields["extractors"]:
            # Protocols of before extractors had a grid of their own keep their hash.
            if extractor["grid"] is None:
                del extractor["grid"]
        return settings_hash(fields)

    def leaves(self) -> dict[tuple[str, ...], Any]:
        """Return every setting as a JSON value, by its path; extractors stand by their names."""
        fields = self.model_dump(mode="json")
        fields["extractors"] = {extractor["name"]: extractor for extractor in fields["extractors"]}
        return dict(_leaves(fields, ()))


ABSENT = "absent"
"""What stands for a setting that one of two protocols does not have."""


def differing(first: Protocol, second: Protocol) -> dict[tuple[str, ...], tuple[Any, Any]]:
    """Return every setting in which two protocols differ, by its path: both values, or `ABSENT`."""
    one, other = first.leaves(), second.leaves()
    pairs = {
        path: (one.get(path, ABSENT), other.get(path, ABSENT))
        for path in dict.fromkeys([*one, *other])
    }
    return {path: pair for path, pair in pairs.items() if pair[0] != pair[1]}


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    else:
        yield path, value


class IntervalRecord(Record):
    """An interval, what it covers and how it was made."""

    low: float
    high: float
    level: float
    method: str
    label: str
    conditional_on_n: bool = Field(
        default=False, description="for the expected value at this n: it excludes the metric's bias"
    )


class FloorRecord(Record):
    """What real against real gives, at n real volumes a side, and synth at the same n."""

    n: int
    mean: float
    low: float = Field(description="2.5th percentile over random disjoint halves")
    high: float = Field(description="97.5th percentile")
    synth_mean: float = Field(description="mean of n real against n synth")
    source: Literal["halves", "hold-out"] = Field(
        default="halves", description="disjoint sides of the real set, or of it and the hold-out"
    )
    minimum_detectable_effect: float | None = Field(
        default=None, description="smallest excess over the mean that n could have shown, at least"
    )


class EquivalentRecord(Record):
    """The dose of a corruption at which real volumes would score the same."""

    corruption: str
    sentence: str = Field(description="as far from real as real volumes ...")
    text: str = Field(description="the dose with its interval, for a table")
    relation: str
    dose: float
    low: float | None
    high: float | None
    unit: str


class Missing(Record):
    """Why a row has no value."""

    reason: Literal["weights", "images", "not scored"] = Field(
        description="the extractor's weights are not here; the metric cannot be computed of these "
        "images; the scoring left the metric out"
    )
    text: str = Field(description="the reason in words, or the command that helps")

    def __str__(self) -> str:
        """The reason as tables print it in place of a value."""
        return self.text if self.reason == "not scored" else f"missing: {self.text}"


class Value(Record):
    """One row: a metric, by one extractor where it uses features.

    What the metric declares of itself stands in the row, so that a page shows rows of metrics that
    are not installed.
    """

    metric: str = Field(description='a metric ("ms_ssim"), or a part of one ("ms_ssim.synth")')
    label: str
    extractor: str | None = None
    direction: Direction
    role: Role = Field(default="ranked", description="what the value is used for")
    tabled: bool = Field(
        default=True, description="pages list it; a part that they do not stands at the floor's n"
    )
    label_with_n: bool = Field(
        default=False, description="tables add the number of volumes to the label"
    )
    of_variety: bool = Field(
        default=False, description="above zero the synthetic volumes are too alike"
    )
    target: str | None = Field(default=None, description="zero, or the real-vs-real floor")
    value: float | None = None
    magnitude: float | None = Field(
        default=None, description="size of the terms that the value is made of, for `drift`"
    )
    interval: IntervalRecord | None = None
    floor: FloorRecord | None = None
    p: float | None = None
    effective_rank: float | None = None
    saturated: bool | None = Field(
        default=None, description="whether the value is near the kernel's ceiling: only 'far'"
    )
    equivalents: tuple[EquivalentRecord, ...] = ()
    missing: Missing | None = None

    @property
    def key(self) -> JobKey:
        """The metric, the part and the extractor."""
        return JobKey.parse(self.metric, self.extractor)

    def label_at(self, n: int) -> str:
        """Return the label, with the number of volumes where the metric asks for it."""
        return f"{self.label} (n={n})" if self.label_with_n else self.label


class CopiesTest(Record):
    """The one-sided test for closeness to the training images, and what it found."""

    value: float = Field(description="mean log(d_holdout / d_train); above zero: nearer training")
    interval: IntervalRecord | None
    p: float
    level: float = Field(description="copying is detected where p is not above it")
    detectable_share: float | None = Field(
        description="smallest share of copies that would be found with 80% probability"
    )
    detected: bool = Field(description="the test rejects, or an image is an exact copy")
    text: str = Field(description="the finding in words")


class MemorizationRecord(Record):
    """Memorization in one space: an extractor's features, or the voxels inside the mask."""

    space: str
    n: int = Field(description="subjects a side: training and hold-out, equalised")
    exact_copies: int
    auth_pct: float = Field(description="percentage called authentic (Alaa et al.); no verdict")
    plain: CopiesTest
    flipped: CopiesTest | None = Field(description="the same, mirrored left to right")


class EstimateRecord(Record):
    """A value and its interval, None where it has none."""

    value: float
    low: float | None = None
    high: float | None = None


class ComparedRecord(Record):
    """One quantity of the synthetic volumes beside that of real ones."""

    key: str
    label: str
    synth: EstimateRecord | None = None
    real: EstimateRecord | None = Field(default=None, description="the same of real volumes")
    difference: EstimateRecord | None = Field(default=None, description="synthetic less real")


class CurvePoint(Record):
    """A group of at least five volumes along what was requested: means, and measured spread."""

    requested: float
    measured: float
    sd: float
    n: int


class ConditionRecord(Record):
    """How volumes follow one condition: requested against measured."""

    name: str
    kind: Literal["numeric", "categorical"]
    measure: str = Field(description="how it was measured, in words")
    n: int = Field(description="synthetic volumes requested within the known range")
    n_real: int | None = Field(default=None, description="real volumes behind the ceiling")
    statistics: tuple[ComparedRecord, ...] = ()
    n_extrapolated: int = 0
    extrapolated: tuple[ComparedRecord, ...] = Field(
        default=(), description="of volumes requested beyond the known range, apart"
    )
    curve: tuple[CurvePoint, ...] = ()
    real_curve: tuple[CurvePoint, ...] = ()
    missing: str | None = None


class LeakageRecord(Record):
    """What requesting one condition does to the measure of another, all others held."""

    requested: str
    measured: str
    unit: str = Field(description="of what, for which step of what was requested")
    effect: ComparedRecord


class ParityRecord(Record):
    """How a group's errors differ from those of the other volumes."""

    condition: str
    covariate: str
    group: str
    n: int
    statistics: tuple[ComparedRecord, ...]


class AdherenceRecord(Record):
    """Condition adherence: does the generator give what was requested?

    `real` in every part is the ceiling: the same measurement on real volumes with their true
    covariates.
    """

    source: str = Field(description="where the requested values come from")
    range: str = Field(description="what counts as extrapolation")
    conditions: tuple[ConditionRecord, ...]
    leakage: tuple[LeakageRecord, ...] = ()
    parity: tuple[ParityRecord, ...] = ()
    level: float
    resamples: int
    seed: int
    version: Literal[1] = 1


class EffectRecord(Record):
    """A finding in real and in synthetic volumes."""

    effect: Literal["age slope", "sex difference", "correlation"]
    region: str
    unit: str
    compared: ComparedRecord
    requested: bool = Field(
        default=False, description="whether a region of it is itself a condition"
    )
    word: Literal["replicated", "weaker", "stronger", "reversed", "cannot tell"]


class ReplicationRecord(Record):
    """Effect replication: do findings on real volumes survive in the synthetic cohort?"""

    margins: str = Field(description="within which an effect counts as replicated")
    effects: tuple[EffectRecord, ...]
    n: int
    n_real: int
    level: float
    resamples: int
    seed: int
    notes: tuple[str, ...] = ()
    version: Literal[1] = 1


class Utility(Record):
    """The verdict of a study of downstream utility (`synthbench utility`)."""

    label: str
    task: Literal["classification", "regression", "segmentation"]
    model: str
    measure: str
    difference: float = Field(description="real + synthetic less real; of an error, less is better")
    low: float
    high: float
    level: float
    p: float
    verdict: Literal["helped", "did not help", "hurt"]
    sentence: str
    arms: dict[str, float] = Field(description="the measure of each arm on the test subjects")
    n_real: int = Field(description="real volumes that were trained on")
    n_synth: int = Field(description="synthetic volumes that were trained on")
    n_test: int = Field(description="test subjects")
    cohorts: dict[str, CohortRecord] = Field(
        default_factory=dict,
        description="whole, by role: real, synth and test; transfer where that is tested on",
    )
    settings_hash: str
    version: Literal[1] = 1


class PreflightRecord(Record):
    """What a rule of `synthbench.preflight` found, without the names of files."""

    rule: str
    role: str
    severity: Literal["error", "warning"]
    volumes: int = Field(description="how many it names; 0: it is about the whole set")
    accepted: bool = Field(description="an error that --accept let pass")


class Origin(Record):
    """What the synthetic volumes' sidecars say of where they came from."""

    generator: str | None = None
    sampler: str | None = None
    steps: int | None = None
    weights_sha256: str | None = None
    training_cohort: str | None = None
    training_seconds: float | None = None
    parameters: int | None = None
    seconds_a_volume: float | None = None
    training_seeds: int | None = Field(
        default=None, description="trained networks behind the volumes, told by their weights"
    )
    training_energy_kwh: float | None = None
    licence: str | None = Field(default=None, description="under which the volumes are shared")
    intensity: str | None = Field(default=None, description="the rule of a quantitative map")


class Scorecard(RecordFile):
    """The record of one scoring."""

    what: ClassVar[str] = "a scorecard"
    upgrades: ClassVar[Mapping[int, Upgrade]] = UPGRADES

    schema_version: Literal[2] = SCHEMA
    name: str = Field(description="what a table calls the synthetic volumes")
    created: str = Field(description="UTC, ISO 8601")
    real: CohortRecord
    synth: CohortRecord
    train: CohortRecord | None = None
    holdout: CohortRecord | None = None
    benchmark: str | None = None
    protocol: Protocol
    protocol_hash: str
    values: tuple[Value, ...]
    memorization: tuple[MemorizationRecord, ...] = ()
    not_assessed: str | None = Field(default=None, description="why memorization was not assessed")
    preflight: tuple[PreflightRecord, ...] = ()
    adherence: AdherenceRecord | None = Field(
        default=None, description="where it is known what was requested of each synthetic volume"
    )
    replication: ReplicationRecord | None = None
    utility: Utility | None = None
    origin: Origin = Origin()
    notes: tuple[str, ...] = ()
    software: dict[str, str]

    def row(self, metric: str, extractor: str | None = None) -> Value | None:
        """Return the row of a metric (the first extractor's, where None is named)."""
        for value in self.values:
            if value.metric == metric and extractor in (None, value.extractor):
                return value
        return None

    @classmethod
    def remedy(cls, file: Path) -> str:
        """Name the command that writes one."""
        return "Write one with synthbench score --out."

    def check(self, file: Path) -> None:
        """Raise a ScorecardError where the protocol has not the hash that stands beside it."""
        if self.protocol.hash != self.protocol_hash:
            raise ScorecardError(
                f"{file}: its protocol hashes to {self.protocol.hash}, but the file says "
                f"{self.protocol_hash}: it was edited. Score again."
            )


_VERDICT = re.compile(rb'^ "utility": (?:null|\{$.*?^ \})(?=,?$)', re.MULTILINE | re.DOTALL)
"""The verdict on utility in a scorecard's file: an indent of one is of the outermost fields."""


def scored_bytes(file: Path) -> bytes:
    """Return what `score` wrote: the file's bytes without the verdict that may have been added.

    The bytes are those of the file, of whichever schema: a hash of them outlives an upgrade.
    """
    return _VERDICT.sub(b' "utility": null', Path(file).read_bytes(), count=1)


def add_verdict(file: Path, verdict: Utility) -> None:
    """Write a verdict on utility into a scorecard's file, and leave all else as it was scored."""
    lines = verdict.model_dump_json(indent=1).replace("\n", "\n ")
    content = f' "utility": {lines}'.encode()
    changed, found = _VERDICT.subn(lambda _: content, Path(file).read_bytes(), count=1)
    if found:
        write_atomic(Path(file), changed)
    else:  # of before scorecards had a place for it
        Scorecard.load(file).model_copy(update={"utility": verdict}).save(file)


def verdict_in(file: Path) -> Utility | None:
    """Return the verdict on utility that a scorecard holds, if it is one that holds one."""
    try:
        return Scorecard.load(file).utility
    except ScorecardError:
        return None


def settings_hash(fields: Mapping[str, Any]) -> str:
    """Return the first 12 hexadecimal digits of the sha256 of settings as sorted JSON."""
    text = json.dumps(fields, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def software(*packages: str) -> dict[str, str]:
    """Return the versions of Python, of synthbench and of what else numbers may depend on."""
    return {
        "python": platform.python_version(),
        **{p: version(p) for p in ("synthbench", *packages)},
    }
