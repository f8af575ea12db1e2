"""Benchmarks: a protocol frozen on one real cohort, in a YAML file that is enough to re-run it."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import yaml
from jaxtyping import Bool
from pydantic import Field, ValidationError

from synthbench.cohorts.cohort import Cohort
from synthbench.errors import MetricError, ScorecardError, near_miss
from synthbench.metrics import subjects
from synthbench.metrics.inference import floors as floors_module
from synthbench.metrics.metric import Composite, Statistic
from synthbench.records.base import Record, RecordFile, Upgrade
from synthbench.records.keys import JobKey
from synthbench.records.protocol import ExtractorRecord, MaskRecord, Protocol, differing
from synthbench.records.values import FloorRecord, Value
from synthbench.runtime.callbacks import Progress
from synthbench.runtime.files import write_atomic
from synthbench.scoring.settings import ScoringSettings
from synthbench.scoring.statistics import Job, Sample, against_itself, measure

FILE = "benchmark.yaml"


class FrozenFloor(Record):
    """What real against real gives, at n real subjects per side: of the real cohort alone."""

    metric: str
    extractor: str | None
    n: int
    mean: float
    low: float
    high: float
    minimum_detectable_effect: float | None


def _upgrade_1_to_2(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a benchmark's fields of schema 1, which no file states, as those of schema 2."""
    for floor in fields.get("floors") or ():
        floor["minimum_detectable_effect"] = floor.pop("detectable")
    return fields


class Benchmark(RecordFile):
    """A protocol frozen on one real cohort.

    Attributes
    ----------
    name
        As the leaderboard's folder.
    primary
        The metric that entries are ordered by.
    real_fingerprint, real_subjects
        Of the real cohort.
    protocol
        Every setting that can change a number.
    stored_mask
        The mask itself, an aggregate of the real cohort: another processor may round a voxel
        to the other side of its threshold. Packed bits, deflated, base64; see `mask`.
    floors
        Of the real cohort: every entry stands against the same ones.
    software
        The versions that it was frozen with.

    The last three are empty in benchmarks of before they were stored.
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

    @classmethod
    def opened(cls, benchmark: Path | Benchmark) -> Benchmark:
        """Return a benchmark, read where it is named by its folder (see `load`)."""
        return benchmark if isinstance(benchmark, Benchmark) else cls.load(Path(benchmark))

    @classmethod
    def remedy(cls, file: Path) -> str:
        """Name the command that makes one."""
        return "Make a benchmark with synthbench benchmark init."

    @classmethod
    def decode(cls, text: str) -> Any:
        """Return what a YAML file holds."""
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(str(error)) from error

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read `benchmark.yaml`, named by itself or by its benchmark's folder.

        Raises
        ------
        ScorecardError
            It is not there, or not readable.
        """
        return super().load(file / FILE if file.is_dir() else file)

    def save(self, folder: Path) -> Path:
        """Write `benchmark.yaml` into a folder, and return it; one that is there stays as it is.

        Raises
        ------
        ScorecardError
            It exists already.
        """
        file = folder / FILE
        if file.exists():
            raise ScorecardError(
                f"{file}: already there. A benchmark is frozen once: name another one."
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
            What is stored is no mask of the benchmark's grid.
        """
        if self.stored_mask is None:
            return None
        try:
            return unpacked_mask(self.stored_mask, self.protocol.space.shape)
        except (ValueError, binascii.Error, zlib.error) as error:
            raise ScorecardError(
                f"benchmark {self.name}: stored_mask is no mask of {self.protocol.space.grid}: "
                f"{error}. Take {FILE} from where the benchmark was published."
            ) from error

    def with_frozen_floors(self, values: Iterable[Value]) -> list[Value]:
        """Return rows with the benchmark's floors, where it has them at the row's n.

        What an entry shows at that n stays its own.
        """
        frozen = {(floor.metric, floor.extractor, floor.n): floor for floor in self.floors}
        rows = []
        for row in values:
            floor = row.floor and frozen.get((row.metric, row.extractor, row.floor.n))
            rows.append(row if not floor else row.model_copy(update={"floor": _of(row, floor)}))
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
                f"{FILE} was edited. Take it from where the benchmark was published."
                if self.stored_mask is not None
                else "a library resamples differently. Compare the versions in the scorecards."
            )
            raise ScorecardError(
                f"benchmark {self.name}: the mask differs from the frozen one ({mask.voxels} "
                f"voxels, then {self.protocol.mask.voxels}): {stored}"
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
    """Return what volumes are scored with, and the benchmark that froze it, if one did."""
    return (choice.settings, choice) if isinstance(choice, Benchmark) else (choice, None)


class BenchmarkSettings(ScoringSettings):
    """What a benchmark is frozen with: the settings of a scoring, and what an entry needs.

    `model_fields_set` holds what a file names; the others have their defaults.

    Attributes
    ----------
    m
        How many synthetic volumes an entry is scored with; None: not chosen.
    primary
        The metric that entries are ordered by.
    protocol
        The protocol that the settings were taken from, where a file holds one.
    """

    m: int | None = None
    primary: str = "mmd2"
    protocol: Protocol | None = None

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read settings: a benchmark's file or folder, a scorecard, or YAML of some settings.

        Raises
        ------
        ScorecardError
            It cannot be read, or names a setting that there is not.
        """
        path = file / FILE if file.is_dir() else file
        try:
            found = yaml.safe_load(path.read_text())
            if isinstance(found, dict) and "protocol" in found:
                protocol = Protocol.model_validate(found["protocol"])
                found = {
                    **dict(ScoringSettings.of(protocol)), "m": protocol.n_synth,
                    "primary": found.get("primary"), "protocol": protocol,
                }  # fmt: skip
            if isinstance(found, dict):
                # A setting that a file leaves empty is not chosen.
                return cls.model_validate({k: v for k, v in found.items() if v is not None})
        except OSError as error:
            raise ScorecardError(
                f"--protocol {path}: cannot be read: {error.strerror}. "
                f"Name a {FILE}, a scorecard, or YAML of settings."
            ) from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            known = [field for field in cls.model_fields if field != "protocol"]
            raise ScorecardError(
                f"--protocol {path}: {where}: {first['msg']}; {near_miss(where, known)}"
            ) from error
        except yaml.YAMLError as error:
            raise ScorecardError(f"--protocol {path}: not YAML: {error}") from error
        raise ScorecardError(
            f"--protocol {path}: settings are needed, such as 'metrics: [mmd2, fid]'; "
            f"found {type(found).__name__}."
        )


def protocol_differences(found: Protocol, frozen: Protocol) -> list[str]:
    """Name every setting in which a protocol differs from another, with both values.

    As in "settings.mmd2 | qiu2022.bandwidth: 1.4 instead of 1.3".
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
    voxels = int(np.prod(shape))
    packed = zlib.decompress(base64.b64decode(text, validate=True))
    if len(packed) != -(-voxels // 8):
        raise ValueError(f"{len(packed)} bytes for {voxels} voxels")
    bits = np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=voxels)
    return bits.astype(bool).reshape(shape)


def real_floors(
    todo: Sequence[Job],
    real: Sample,
    mask: Bool[np.ndarray, "d h w"],
    protocol: Protocol,
    progress: Progress | None = None,
) -> list[FrozenFloor]:
    """Return the real-vs-real floors of every metric and part, at the n that entries have them.

    That is half of the real subjects, or n_synth where that is less. A metric that cannot be
    computed on these volumes has none: its rows say why when an entry is scored.
    """
    side = min(subjects.n_subjects(real.subjects) // 2, protocol.n_synth)
    floors = []
    for job in todo:
        settings = dict(protocol.settings[job.key])
        del settings["formula"]
        try:
            measure(job, real, mask, settings, progress)
            statistic = against_itself(job, real, settings)
            rows = {job.metric.name: statistic, **_paired_parts(job.metric.name, statistic)}
            for name, row in rows.items():
                floors.append(_floor(name, job, row, side, protocol))
        except MetricError:
            continue
    return floors


def _paired_parts(name: str, statistic: Statistic) -> dict[str, Statistic]:
    """The parts that compare two sets, which alone have a floor."""
    parts = statistic.parts() if isinstance(statistic, Composite) else {}
    return {
        JobKey(name, key).row: part.statistic
        for key, part in parts.items()
        if set(part.statistic.subjects) == {"real", "synth"}
    }


def _floor(name: str, job: Job, statistic: Statistic, side: int, protocol: Protocol) -> FrozenFloor:
    spread = floors_module.floor(
        statistic, n=side, splits=protocol.floor_splits, seed=protocol.seed,
        direction=job.metric.direction,
    )  # fmt: skip
    return FrozenFloor(
        metric=name, extractor=job.extractor, n=side, mean=spread.mean, low=spread.low,
        high=spread.high, minimum_detectable_effect=spread.minimum_detectable_effect,
    )  # fmt: skip


def _of(row: Value, frozen: FrozenFloor) -> FloorRecord:
    assert row.floor is not None
    update = frozen.model_dump(include={"mean", "low", "high", "minimum_detectable_effect"})
    return row.floor.model_copy(update=update)


def _short(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
