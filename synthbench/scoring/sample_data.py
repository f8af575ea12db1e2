"""Sample data: the numbers per image that comparisons need, kept on the machine that scored.

A scorecard holds aggregates only, which is too little to compare two samples: a paired bootstrap
and a permutation test need a row for every image. So `score` keeps the matrices that its metrics
were computed from (features, profiles and pair matrices) in the local cache
(`synthbench.scoring.cache.store`), without the names of files or subjects. They are still
participant-level data: only their owner can read them, and no scorecard contains them.

One file holds one scoring: an `.npz` of plain arrays, one of them JSON. Its key is made of the
fingerprints of both cohorts and the hash of the protocol.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from synthbench import registry
from synthbench.errors import MetricError, ScorecardError, UsageError, near_miss
from synthbench.metrics.metric import Composite, Statistic
from synthbench.records.keys import JobKey
from synthbench.records.protocol import Protocol
from synthbench.records.scorecard import Scorecard
from synthbench.records.values import Value
from synthbench.runtime.arrays import unpack_npz
from synthbench.runtime.documents import first_problem, parse_json
from synthbench.runtime.files import check_is_file, write_atomic
from synthbench.runtime.memory import beyond_limit
from synthbench.scoring.cache.store import Cache
from synthbench.scoring.protocol import frozen_settings
from synthbench.scoring.statistics import Job, prepared

SCHEMA = 1
"""Part of every key. Raise it when the layout of a file changes."""

_ABOUT = "about"
_FIX = "Write sample data with synthbench score --sample-data."


@dataclass(frozen=True)
class JobData:
    """The matrices that one metric is computed from.

    Attributes
    ----------
    real, synth
        Features or profiles, one row per image, or the matrix over pairs of a set's images.
    cross
        The matrix over pairs of a real and a synthetic image, where the metric has one.
    """

    real: Float[np.ndarray, "n _"]
    synth: Float[np.ndarray, "m _"]
    cross: Float[np.ndarray, "n m"] | None = None


@dataclass(frozen=True)
class SampleData:
    """The matrices of all metrics of one scoring, from which they can be computed again.

    Attributes
    ----------
    real_fingerprint, synth_fingerprint
        Of the two cohorts.
    protocol
        Of the scoring; it holds each metric's frozen settings.
    subjects
        For each role, the number of each image's subject. Images are in their cohort's order.
    jobs
        By `Job.key`: "METRIC | EXTRACTOR", or "METRIC" for a metric of volumes. A metric without
        a value is absent.
    seeds
        The seed of each synthetic image; None where sidecars do not name them.
    """

    real_fingerprint: str
    synth_fingerprint: str
    protocol: Protocol
    subjects: Mapping[str, Int64[np.ndarray, " _"]]
    jobs: Mapping[str, JobData]
    seeds: tuple[int, ...] | None = None

    @property
    def key(self) -> str:
        """The key of this scoring in the cache (`sample_data_key`)."""
        return sample_data_key(self.real_fingerprint, self.synth_fingerprint, self.protocol.hash)

    def job(self, key: str) -> Job:
        """Return the metric and the extractor of a key of `jobs`.

        Raises
        ------
        UsageError
            There is no such key.
        """
        if key not in self.jobs:
            raise UsageError(f"sample data of '{key}': {near_miss(key, self.jobs)}")
        named = JobKey.parse(key)
        return Job(registry.load("metrics", named.metric)(), named.extractor)

    def has_rows(self, key: str) -> bool:
        """Return True where a job has one row per image that depends on no other image."""
        job = self.job(key)
        return job.extractor is not None or not getattr(job.metric, "pairs", False)

    def statistic(self, key: str, part: str | None = None) -> Statistic:
        """Return the statistic of a metric, or of one of its parts, as the scoring prepared it.

        Raises
        ------
        UsageError
            There is no such key or part.
        ScorecardError
            This version has another formula.
        MetricError
            The metric cannot be computed from these images.
        """
        job, data = self.job(key), self.jobs[key]
        settings = frozen_settings(job.metric, key, self.protocol)
        whole = prepared(job, data.real, data.synth, self.subjects, settings, data.cross)
        if part is None:
            return whole
        parts = whole.parts() if isinstance(whole, Composite) else {}
        if part not in parts:
            raise UsageError(f"{key}: no part '{part}'; {near_miss(part, parts)}")
        return parts[part].statistic

    def row_statistic(self, row: Value) -> Statistic:
        """Return the statistic of a scorecard's row."""
        return self.statistic(str(row.key.job), row.key.part)

    def with_synth(self, order: Sequence[int] | Int64[np.ndarray, " k"]) -> SampleData:
        """Return the sample data with these synthetic images, in this order.

        The fingerprint stays that of the cohort.
        """
        chosen = np.asarray(order, dtype=np.int64)
        jobs = {}
        for key, data in self.jobs.items():
            synth = data.synth[chosen]
            if not self.has_rows(key):
                synth = synth[:, chosen]
            cross = None if data.cross is None else data.cross[:, chosen]
            jobs[key] = JobData(data.real, synth, cross)
        subjects = {**self.subjects, "synth": self.subjects["synth"][chosen]}
        seeds = None if self.seeds is None else tuple(self.seeds[i] for i in chosen)
        return replace(self, subjects=subjects, jobs=jobs, seeds=seeds)

    def packed(self) -> bytes:
        """Return the sample data as the bytes of an `.npz` without pickles.

        Metrics of one extractor share their features, which are stored once.
        """
        arrays: dict[str, np.ndarray] = {}
        sources = {key: JobKey.parse(key).source for key in self.jobs}
        numbers = {source: i for i, source in enumerate(dict.fromkeys(sources.values()))}
        for key, data in self.jobs.items():
            number = numbers[sources[key]]
            arrays[f"real-{number}"], arrays[f"synth-{number}"] = data.real, data.synth
            if data.cross is not None:
                arrays[f"cross-{number}"] = data.cross
        about = {
            "schema": SCHEMA,
            "real_fingerprint": self.real_fingerprint,
            "synth_fingerprint": self.synth_fingerprint,
            "protocol": self.protocol.model_dump(mode="json"),
            "seeds": self.seeds,
            "jobs": {key: numbers[source] for key, source in sources.items()},
        }
        arrays |= {f"subjects-{role}": index for role, index in self.subjects.items()}
        arrays[_ABOUT] = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        return buffer.getvalue()

    def save(self, file: Path) -> None:
        """Write the sample data, which are participant-level data, to a file of their owner."""
        write_atomic(Path(file), self.packed(), private=True)

    @classmethod
    def load(cls, file: Path) -> SampleData:
        """Return the sample data of a file that `save` or `score --sample-data` wrote.

        Raises
        ------
        ScorecardError
            The file cannot be read, or holds something else.
        """
        try:
            check_is_file(Path(file))
            too_large = beyond_limit(Path(file).stat().st_size)
            if too_large:
                raise ScorecardError(f"{file}: reading it {too_large}.")
            content = Path(file).read_bytes()
        except OSError as error:
            raise ScorecardError(f"{file}: cannot be read: {error.strerror}.") from error
        try:
            return _unpacked(content)
        except ValueError as error:
            raise ScorecardError(
                f"{file}: holds no sample data, or is damaged: {error}. {_FIX}"
            ) from error


def sample_data_key(real_fingerprint: str, synth_fingerprint: str, protocol_hash: str) -> str:
    """Return the key under which the cache keeps a scoring's sample data: a sha256."""
    parts = [SCHEMA, real_fingerprint, synth_fingerprint, protocol_hash]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def load_sample_data(
    card: Scorecard, files: Sequence[Path] = (), *, cache: Cache | None = None
) -> SampleData | None:
    """Return the sample data of a scorecard's volumes; None where this machine has none.

    Parameters
    ----------
    card
        The scorecard.
    files
        Files of `synthbench score --sample-data`, which are searched first; those of other
        scorings are ignored.
    cache
        The cache that is searched next; None: the user's own.

    Raises
    ------
    ScorecardError
        A file cannot be read.
    """
    key = sample_data_key(card.real.fingerprint, card.synth.fingerprint, card.protocol_hash)
    for file in files:
        found = SampleData.load(file)
        if found.key == key:
            return found
    content = (cache or Cache()).find_sample_data(key)
    try:
        kept = None if content is None else _unpacked(content)
    except ValueError:  # a damaged file of the cache counts as absent
        return None
    return kept if kept is not None and kept.key == key else None


def require_sample_data(card: Scorecard, called: str, files: Sequence[Path] = ()) -> SampleData:
    """Return the sample data of a scorecard's volumes, or raise where this machine has none.

    Parameters
    ----------
    card, files
        As in `load_sample_data`.
    called
        The scorecard's file or name, for the message.

    Raises
    ------
    ScorecardError
        This machine has no sample data of it, or a file cannot be read.
    """
    found = load_sample_data(card, files)
    if found is None:
        frozen = f" --benchmark leaderboards/{card.benchmark}" if card.benchmark else ""
        raise ScorecardError(
            f"the volumes behind {called} were not scored on this machine: score them here "
            f"(synthbench score{frozen} --real REAL --synth SYNTH), or add --sample-data FILE, "
            "which synthbench score --sample-data FILE writes on the machine that has them."
        )
    return found


class _About(BaseModel):
    """The JSON in a file of sample data."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: int = Field(alias="schema", ge=SCHEMA, le=SCHEMA)
    real_fingerprint: str
    synth_fingerprint: str
    protocol: dict[str, Any]
    seeds: list[int] | None
    jobs: dict[str, int]


def _unpacked(content: bytes) -> SampleData:
    """Return the sample data in an `.npz`.

    Raises
    ------
    ValueError
        It is damaged or holds something else; the first field that does not fit is named.
    """
    arrays = unpack_npz(content)
    if _ABOUT not in arrays:
        raise ValueError(f"the array '{_ABOUT}' is missing")
    try:
        about = _About.model_validate(parse_json(arrays[_ABOUT].tobytes()))
        protocol = Protocol.model_validate(about.protocol)
    except ValidationError as error:
        raise ValueError(first_problem(error)) from error
    except (MetricError, RecursionError) as error:
        raise ValueError(f"protocol: {error}") from error
    subjects = {role: _subjects(arrays, role) for role in ("real", "synth")}
    sizes = {role: len(index) for role, index in subjects.items()}
    jobs = {}
    for key, number in about.jobs.items():
        cross = f"cross-{number}"
        jobs[key] = JobData(
            _matrix(arrays, f"real-{number}", sizes["real"]),
            _matrix(arrays, f"synth-{number}", sizes["synth"]),
            _matrix(arrays, cross, sizes["real"], sizes["synth"]) if cross in arrays else None,
        )
    if about.seeds is not None and len(about.seeds) != sizes["synth"]:
        raise ValueError(f"seeds: {sizes['synth']} are needed; found {len(about.seeds)}")
    return SampleData(
        real_fingerprint=about.real_fingerprint,
        synth_fingerprint=about.synth_fingerprint,
        protocol=protocol,
        subjects=subjects,
        jobs=jobs,
        seeds=None if about.seeds is None else tuple(about.seeds),
    )


def _subjects(arrays: Mapping[str, np.ndarray], role: str) -> Int64[np.ndarray, " _"]:
    found = arrays.get(f"subjects-{role}")
    if found is None or found.ndim != 1 or found.dtype.kind not in "iu" or not found.size:
        raise ValueError(f"the array 'subjects-{role}' must hold one whole number per image")
    return found


def _matrix(
    arrays: Mapping[str, np.ndarray], name: str, rows: int, columns: int | None = None
) -> Float[np.ndarray, "_ _"]:
    found = arrays.get(name)
    if (
        found is None
        or found.ndim != 2
        or found.dtype.kind != "f"
        or len(found) != rows
        or found.shape[1] != (columns or found.shape[1])
    ):
        held = "is missing" if found is None else f"holds {found.dtype} of shape {found.shape}"
        raise ValueError(f"the array '{name}' needs real numbers in {rows} rows; it {held}")
    return found
