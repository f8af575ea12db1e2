"""Benchmarks: a protocol frozen on one real cohort, in a YAML file that is enough to repeat it."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import yaml
from jaxtyping import Bool
from pydantic import Field, ValidationError

from synthbench.cohorts.cohort import Cohort
from synthbench.errors import MetricError, ScorecardError, UsageError, near_miss
from synthbench.metrics import subjects
from synthbench.metrics.inference import floors as floors_module
from synthbench.metrics.metric import Composite, Part, Statistic
from synthbench.records.base import Record, RecordFile, Upgrade
from synthbench.records.keys import JobKey
from synthbench.records.protocol import ExtractorRecord, MaskRecord, Protocol, differing
from synthbench.records.reasons import SMALL_GRID
from synthbench.records.values import FloorRecord, Value
from synthbench.runtime.documents import parse_yaml, read_yaml
from synthbench.runtime.files import write_atomic
from synthbench.runtime.memory import beyond_limit
from synthbench.runtime.names import is_folder_name
from synthbench.scoring.settings import Context, ScoringSettings
from synthbench.scoring.statistics import (
    SAMPLED_IMAGES,
    Job,
    Sample,
    against_itself,
    measure,
    sampled,
    shift_of,
)

FILE = "benchmark.yaml"


class FrozenFloor(Record):
    """The real-vs-real floor of one row, at n subjects per side of the real cohort."""

    metric: str
    extractor: str | None
    n: int
    mean: float
    low: float
    high: float
    minimum_detectable_effect: float | None
    scans: int | None = Field(
        default=None, description="scans of a subject in a split; None: all of them"
    )


def _upgrade_1_to_2(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a benchmark's fields of schema 1 as those of schema 2."""
    for floor in fields.get("floors") or ():
        floor["minimum_detectable_effect"] = floor.pop("detectable")
    return fields


class Benchmark(RecordFile):
    """A protocol frozen on one real cohort.

    Attributes
    ----------
    name
        The name of the leaderboard's folder.
    primary
        The key of the row that entries are ordered by: "kid | qiu2022", or "kid" for the first
        extractor.
    real_fingerprint, real_subjects
        Fingerprint and number of subjects of the real cohort.
    protocol
        Every setting that can change a number.
    stored_mask
        The mask itself, which is an aggregate of the real cohort: another processor may round a
        voxel to the other side of the threshold. Packed bits, deflated, base64.
    floors
        Of the real cohort: every entry is compared with the same ones.
    software
        The versions that it was frozen with.
    literature
        True where the board's second page lists what papers report under other protocols. Write it
        into the file by hand: it changes no number.

    Mask, floors and software are empty in older benchmarks, which did not store them.
    """

    what: ClassVar[str] = "a benchmark"
    upgrades: ClassVar[Mapping[int, Upgrade]] = {1: _upgrade_1_to_2}
    unstated: ClassVar[int | None] = 1

    schema_version: Literal[2] = 2
    name: str
    primary: str
    real_fingerprint: str
    real_subjects: int
    protocol: Protocol
    stored_mask: str | None = None
    floors: tuple[FrozenFloor, ...] = ()
    software: dict[str, str] = Field(default_factory=dict)
    literature: bool = False

    @property
    def primary_key(self) -> JobKey:
        """The row that entries are ordered by; without an extractor, it is the first one's."""
        return JobKey.parse(self.primary)

    def place(self, metric: str, extractor: str | None) -> tuple[bool, bool]:
        """Return what rows are sorted by: the primary one first, then the others of its metric."""
        primary = self.primary_key
        other = metric != primary.metric
        return other or primary.extractor not in (None, extractor), other

    @classmethod
    def opened(cls, benchmark: Path | Benchmark) -> Benchmark:
        """Return a benchmark, after reading it where its file or folder is named."""
        return benchmark if isinstance(benchmark, Benchmark) else cls.load(Path(benchmark))

    @classmethod
    def remedy(cls, file: Path) -> str:
        """Return the sentence that names the command that makes one."""
        return "Make a benchmark with synthbench benchmark init."

    @classmethod
    def decode(cls, text: str) -> Any:
        """Return the content of a YAML file.

        Raises
        ------
        ValueError
            The text is not YAML.
        """
        return parse_yaml(text)

    @classmethod
    def load(cls, file: Path) -> Self:
        """Return the benchmark of a `benchmark.yaml`, or of the folder that holds it.

        Raises
        ------
        ScorecardError
            The file does not exist, or cannot be read.
        """
        return super().load(file / FILE if file.is_dir() else file)

    def save(self, folder: Path) -> Path:
        """Write `benchmark.yaml` into a folder, and return the file; none is overwritten.

        Raises
        ------
        ScorecardError
            The file exists already.
        """
        file = folder / FILE
        if file.exists():
            raise ScorecardError(
                f"{file}: already there. A benchmark is frozen once: choose another name."
            )
        folder.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, width=100)
        write_atomic(file, text.encode())
        return file

    @property
    def settings(self) -> ScoringSettings:
        """The settings that every entry is scored with."""
        return ScoringSettings.of(self.protocol)

    @property
    def mask(self) -> Bool[np.ndarray, "d h w"] | None:
        """The mask as it was frozen; None where it was not stored.

        Raises
        ------
        ScorecardError
            The stored text is no mask on the benchmark's grid.
        """
        if self.stored_mask is None:
            return None
        try:
            return unpacked_mask(self.stored_mask, self.protocol.space.shape)
        except (ValueError, binascii.Error, zlib.error) as error:
            raise ScorecardError(
                f"benchmark {self.name}: stored_mask is no mask on the grid "
                f"{self.protocol.space.grid}: {error}. Copy {FILE} again from where the benchmark "
                "was published."
            ) from error

    def with_frozen_floors(self, values: Iterable[Value]) -> list[Value]:
        """Return rows with the benchmark's floors, where it has them at the row's n.

        `synth_mean`, the entry's own value at that n, stays. Older floors of a cohort with
        several scans per subject are at another number of images, and are left out.
        """
        several = self.real_subjects < self.protocol.n_real
        frozen = {
            (floor.metric, floor.extractor, floor.n): floor
            for floor in self.floors
            if floor.scans == 1 or not several
        }
        rows = []
        for row in values:
            floor = row.floor and frozen.get((row.metric, row.extractor, row.floor.n))
            update = {"floor": _replaced(row, floor)} if floor else {}
            rows.append(row.model_copy(update=update))
        return rows

    def check_real(self, real: Cohort) -> None:
        """Raise where the real cohort is not the one that the benchmark was frozen on."""
        if real.fingerprint != self.real_fingerprint:
            raise ScorecardError(
                f"benchmark {self.name} was frozen on another real cohort: its fingerprint is "
                f"{self.real_fingerprint[:12]}... (n = {self.protocol.n_real}), this one's is "
                f"{real.fingerprint[:12]}... (n = {len(real)}). Score against that cohort."
            )

    def check_scaling(self, rule: str) -> None:
        """Raise where this version's intensity rule is not the frozen one."""
        if rule != self.protocol.space.scaling:
            raise ScorecardError(
                f"benchmark {self.name} was frozen with intensities "
                f"'{self.protocol.space.scaling}'; this version of synthbench has '{rule}'. "
                "Use the version that froze it, or freeze a new benchmark."
            )

    def check_mask(self, mask: MaskRecord) -> None:
        """Raise where the mask is not the frozen one."""
        if mask != self.protocol.mask:
            stored = (
                f"{FILE} was edited. Copy it again from where the benchmark was published."
                if self.stored_mask is not None
                else "a library resamples differently. Compare the versions in the scorecards."
            )
            raise ScorecardError(
                f"benchmark {self.name}: the mask differs from the frozen one ({mask.voxels} "
                f"voxels instead of {self.protocol.mask.voxels}): {stored}"
            )

    def check_extractors(self, records: Sequence[ExtractorRecord]) -> None:
        """Raise where an extractor's weights, layer or preprocessing are not the frozen ones."""
        for frozen, found in zip(self.protocol.extractors, records, strict=True):
            if frozen != found:
                differs = [
                    f"{field} {getattr(found, field)} instead of {getattr(frozen, field)}"
                    for field in ExtractorRecord.model_fields
                    if getattr(frozen, field) != getattr(found, field)
                ]
                raise ScorecardError(
                    f"benchmark {self.name}: the extractor {frozen.name} has {', '.join(differs)}."
                )


def settings_and_benchmark(
    choice: ScoringSettings | Benchmark,
) -> tuple[ScoringSettings, Benchmark | None]:
    """Return the settings of a scoring, and the benchmark that froze them; None without one."""
    return (choice.settings, choice) if isinstance(choice, Benchmark) else (choice, None)


class BenchmarkSettings(ScoringSettings):
    """The settings that a benchmark is frozen with: those of a scoring, m and the primary metric.

    `model_fields_set` holds the settings that a file names; the others have their defaults.

    Attributes
    ----------
    m
        The number of synthetic volumes that an entry is scored with; None: not chosen.
    primary
        The row that entries are ordered by: "kid", or "kid | qiu2022" where the extractor is told.
    protocol
        The protocol that the settings were taken from, where a file holds one.
    """

    m: int | None = None
    primary: str = "mmd2"
    protocol: Protocol | None = None

    def completed(self, settings: Mapping[str, Any]) -> Self:
        """Return these settings, with the given value of each one that was not chosen here."""
        others = {k: v for k, v in settings.items() if k not in self.model_fields_set}
        return self.model_copy(update=others)

    @classmethod
    def load(cls, file: Path) -> Self:
        """Return the settings of a benchmark's file or folder, a scorecard, or a YAML file.

        Raises
        ------
        ScorecardError
            The file cannot be read, or names an unknown setting.
        """
        path = file / FILE if file.is_dir() else file
        found = read_yaml(
            path,
            error=ScorecardError,
            fix=f"--protocol needs a {FILE}, a scorecard, or YAML of settings.",
        )
        try:
            if isinstance(found, dict) and "protocol" in found:
                protocol = Protocol.model_validate(found["protocol"])
                chosen = {"primary": found["primary"]} if found.get("primary") else {}
                return cls.model_validate({
                    **dict(ScoringSettings.of(protocol)), "m": protocol.n_synth,
                    "protocol": protocol, **chosen,
                })  # fmt: skip
            if isinstance(found, dict):
                # A setting that a file leaves empty is not chosen.
                return cls.model_validate({k: v for k, v in found.items() if v is not None})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            known = [field for field in cls.model_fields if field != "protocol"]
            raise ScorecardError(
                f"--protocol {path}: {where}: {first['msg']}; {near_miss(where, known)}"
            ) from error
        raise ScorecardError(
            f"--protocol {path}: settings are needed, such as 'metrics: [mmd2, fid]'; "
            f"found {type(found).__name__}."
        )


def check_new(name: str, folder: Path) -> None:
    """Check that a new benchmark can be called `name` where `folder` keeps benchmarks.

    Raises
    ------
    UsageError
        The name is not that of one folder, or there is a benchmark of that name.
    """
    if not is_folder_name(name):
        raise UsageError(
            f"{name!r}: a benchmark's name is that of one folder: at most 64 letters, digits and "
            "._+-, the first a letter or digit and the last no dot. --folder says where it lies."
        )
    file = folder / name / FILE
    if file.exists():
        raise UsageError(f"{file}: already there. Name another benchmark.")


def protocol_differences(found: Protocol, frozen: Protocol) -> list[str]:
    """Return one line per setting in which a protocol differs from a frozen one.

    A line has both values, as in "settings.mmd2 | qiu2022.bandwidth: 1.4 instead of 1.3".
    """
    return [
        f"{'.'.join(path)}: {_short(own)} instead of {_short(other)}"
        for path, (other, own) in differing(frozen, found).items()
    ]


def packed_mask(mask: Bool[np.ndarray, "d h w"]) -> str:
    """Return a mask as text: packed bits (C order, high bit first), deflated, base64."""
    return base64.b64encode(zlib.compress(np.packbits(mask).tobytes(), 9)).decode()


def unpacked_mask(text: str, shape: tuple[int, int, int]) -> Bool[np.ndarray, "d h w"]:
    """Return the mask that `packed_mask` wrote.

    Raises
    ------
    ValueError, binascii.Error, zlib.error
        The text is no mask of this shape.
    """
    voxels = prod(shape)
    too_large = beyond_limit(2 * voxels)
    if min(shape) < 1 or too_large:
        raise ValueError(f"a grid of {' x '.join(map(str, shape))} voxels {too_large or 'is none'}")
    needed = -(-voxels // 8)
    # It stops one byte after what the grid has: a stream of zeros may hold gigabytes.
    stream = zlib.decompressobj()
    packed = stream.decompress(base64.b64decode(text, validate=True), needed + 1)
    if len(packed) != needed or not stream.eof or stream.unused_data:
        found = f"more than {needed}" if len(packed) > needed else len(packed)
        raise ValueError(f"{found} bytes for {voxels} voxels")
    bits = np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=voxels)
    return bits.astype(bool).reshape(shape)


def real_floors(
    todo: Sequence[Job],
    real: Sample,
    mask: Bool[np.ndarray, "d h w"],
    protocol: Protocol,
    context: Context,
) -> list[FrozenFloor]:
    """Return the real-vs-real floors of all metrics and parts, at the n of an entry's floors.

    This n is half of the real subjects, or n_synth where that is less. A metric that cannot be
    computed on these volumes has no floor here; its rows say why when an entry is scored.

    Raises
    ------
    UsageError
        The grid is too small for a metric, so that no entry could have it. Metrics for papers are
        not asked for, and only have no floor.
    """
    floors = []
    for job in todo:
        settings = dict(protocol.settings[job.key])
        del settings["formula"]
        chosen = sampled(job, real, protocol)
        n_synth = min(protocol.n_synth, settings.pop(SAMPLED_IMAGES, protocol.n_synth))
        side = min(subjects.n_subjects(chosen.subjects) // 2, n_synth)
        try:
            measure(job, chosen, mask, settings, context.progress, context.cache)
            statistic = against_itself(job, chosen, settings)
            parts = _paired_parts(statistic)
            whole = Part(job.metric.label, statistic)
            for key, part in {None: whole, **parts}.items():
                shift = shift_of(job, chosen, settings, key)
                floors.append(_floor(job, key, part, shift, protocol, side))
        except MetricError as error:
            if error.code == SMALL_GRID and job.metric.role != "for_papers":
                raise UsageError(
                    f"{error} No entry could have {job.metric.label}: a benchmark cannot freeze "
                    "it. To leave it out, name the other metrics (--metric)."
                ) from error
            continue
    return floors


def _paired_parts(statistic: Statistic) -> dict[str | None, Part]:
    """Return the parts that compare two sets: only these have a floor."""
    parts = statistic.parts() if isinstance(statistic, Composite) else {}
    return {
        key: part
        for key, part in parts.items()
        if set(part.statistic.subjects) == {"real", "synth"}
    }


def _floor(
    job: Job,
    key: str | None,
    part: Part,
    shift: Callable[[float], Statistic] | None,
    protocol: Protocol,
    side: int,
) -> FrozenFloor:
    spread = floors_module.floor(
        part.statistic, n=side, splits=protocol.floor_splits, seed=protocol.seed,
        direction=part.direction or job.metric.direction, shifted=shift,
        n_synth=protocol.n_synth,
    )  # fmt: skip
    return FrozenFloor(
        metric=JobKey(job.metric.name, key).row, extractor=job.extractor, n=side,
        mean=spread.mean, low=spread.low, high=spread.high,
        minimum_detectable_effect=spread.minimum_detectable_effect, scans=1,
    )  # fmt: skip


def _replaced(row: Value, frozen: FrozenFloor) -> FloorRecord:
    """Return a row's floor with the numbers of the frozen one.

    The minimum detectable effect stays: it is of the same real cohort, and an older benchmark may
    have frozen one of another definition.
    """
    assert row.floor is not None
    update = frozen.model_dump(include={"mean", "low", "high"})
    return row.floor.model_copy(update=update)


def _short(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
