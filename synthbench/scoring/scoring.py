"""Scoring synthetic volumes against real ones: from cohorts to a scorecard."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from synthbench.cohorts.preflight import check
from synthbench.cohorts.preflight import findings as findings_module
from synthbench.cohorts.pseudonyms import Pseudonyms
from synthbench.errors import CohortError, MetricError, UsageError
from synthbench.metrics.inference import sections
from synthbench.records.cohort import CohortRecord
from synthbench.records.scorecard import PreflightRecord, Scorecard, software
from synthbench.records.values import Value
from synthbench.runs.sidecar import drawn_by_synthbench
from synthbench.runtime.files import write_atomic
from synthbench.runtime.processes import is_main
from synthbench.scoring import (
    adherence,
    local_copying,
    membership,
    memorization,
    morphometry,
)
from synthbench.scoring.benchmark import Benchmark, settings_and_benchmark
from synthbench.scoring.condition_measures import Measures
from synthbench.scoring.inputs import CohortSet, Source
from synthbench.scoring.memorization import Neighbours
from synthbench.scoring.protocol import check_names, metrics_of
from synthbench.scoring.requested import requested_of
from synthbench.scoring.rows import missing_row, rows_of_job
from synthbench.scoring.sample_data import JobData, SampleData
from synthbench.scoring.settings import Context, ScoringSettings
from synthbench.scoring.setup import Setup, cohorts_to_score, common_space, origin_of, seeds, set_up
from synthbench.scoring.statistics import SAMPLED_IMAGES

PACKAGES = ("torch", "numpy", "scipy", "nibabel")
"""Packages whose versions a scorecard records: its numbers may depend on them."""

WITHOUT_WEIGHTS = "--extractor random-resnet10 (needs no weights)"
"""The option that scores without weights, as messages advise it."""


@dataclass(frozen=True)
class Scoring:
    """The results of one scoring; only the card may be published.

    Attributes
    ----------
    card
        The scorecard.
    sample_data
        The numbers per image that comparisons need: participant-level data.
    features
        By "role/extractor", one row per volume, real ones included: participant-level data.
    neighbours
        Each synthetic volume's nearest training and hold-out volume, by file name; empty where
        memorization was not assessed. Participant-level data.
    """

    card: Scorecard
    sample_data: SampleData
    features: Mapping[str, Float32[np.ndarray, "n d"]]
    neighbours: tuple[Neighbours, ...]

    def save_volume_data(
        self,
        *,
        features: Path | None = None,
        neighbours: Path | None = None,
        sample_data: Path | None = None,
        identifiers: bool = False,
    ) -> list[Path]:
        """Write the participant-level data that a file is named for, and return these files.

        Only their owner may read them.

        Parameters
        ----------
        features
            An npz file of the features.
        neighbours
            A TSV file of the nearest volumes; not written where memorization was not assessed.
        sample_data
            An npz file of the sample data.
        identifiers
            True: `neighbours` names real volumes by their files; False: by pseudonyms.
        """
        written = []
        if features is not None:
            content, arrays = io.BytesIO(), dict[str, Any](self.features)
            np.savez_compressed(content, **arrays)
            write_atomic(features, content.getvalue(), private=True)
            written.append(features)
        if neighbours is not None and self.neighbours:
            table = memorization.neighbours_table(self.neighbours, Pseudonyms(identifiers))
            write_atomic(neighbours, table.encode(), private=True)
            written.append(neighbours)
        if sample_data is not None:
            self.sample_data.save(sample_data)
            written.append(sample_data)
        return written


def score(
    real: Source,
    synth: Source,
    *,
    train: Source | None = None,
    holdout: Source | None = None,
    benchmark: Path | Benchmark | None = None,
    assume_grid: Literal["real"] | float | None = None,
    accept: Sequence[str] = (),
    name: str | None = None,
    context: Context | None = None,
    **settings: Any,
) -> Scorecard:
    """Read synthetic and real volumes, score them, and return the scorecard.

    `score_cohorts` returns more than the scorecard, and takes tables of conditions and measures.

    Parameters
    ----------
    real, synth, train, holdout
        Folders or manifests, cohorts, lists of paths, arrays or tensors `(n, d, h, w)` whose axes
        go to the right, front and top, or lists of arrays, tensors or images of nibabel's
        (`synthbench.read_cohort`). An array has no geometry: `assume_grid` gives it.
    benchmark
        Settings that were frozen on this real cohort, in place of `settings`.
    assume_grid
        The grid of arrays without one: "real", or an isotropic voxel size in mm.
    accept, name, context
        As in `score_cohorts`.
    **settings
        The fields of `ScoringSettings`, such as `extractors=["voxels"]`.

    Returns
    -------
    Scorecard
        Its values do not depend on the order or the names of the files.

    Raises
    ------
    SynthbenchError
        A cohort cannot be read or scored, there is no setting of such a name, or a benchmark has
        frozen it.
    """
    if benchmark is not None and settings:
        raise UsageError(f"the benchmark has frozen this: leave out {', '.join(settings)}.")
    context = context or Context()
    chosen = ScoringSettings.checked(settings) if benchmark is None else Benchmark.opened(benchmark)
    # A wrong name is refused before volumes are read, which takes time.
    check_choices(chosen, accept)
    cohorts = CohortSet.read(
        real, synth, train=train, holdout=holdout, assume_grid=assume_grid,
        progress=context.progress,
    )  # fmt: skip
    return score_cohorts(cohorts, chosen, context, accept=accept, name=name).card


def check_choices(
    settings: ScoringSettings | Benchmark, accept: Sequence[str] = (), *, tables: bool = False
) -> None:
    """Raise where there is no extractor, metric, intensity rule or preflight rule of a name.

    `tables` is True where there are tables of measures (`check_names`).

    Raises
    ------
    UsageError
        There is no such name; the message names the nearest.
    """
    if isinstance(settings, ScoringSettings):
        check_names(settings, tables=tables)
        if settings.index and find_spec("faiss") is None:
            raise UsageError(
                "--index: it needs faiss, which is not installed. Type: pip install "
                "'synthbench[index]'"
            )
    if isinstance(accept, str):
        raise UsageError(f"accept={accept!r}: a list of names is needed, such as [{accept!r}].")
    check.check_rules(accept)


def score_cohorts(
    cohorts: CohortSet,
    settings: ScoringSettings | Benchmark | None = None,
    context: Context | None = None,
    *,
    accept: Sequence[str] = (),
    name: str | None = None,
) -> Scoring:
    """Score synthetic volumes against real ones, and return all that was found.

    Parameters
    ----------
    cohorts
        The volumes with their tables and sidecars. Where it is known what was requested of each
        synthetic volume, condition adherence and effect replication are assessed
        (`synthbench.scoring.adherence`).
    settings
        The settings, or a benchmark that was frozen on this real cohort; None: the defaults.
    context
        Workers, cache, progress and log; no number depends on it. The cache gives features of
        earlier scorings, and keeps those of this one and its sample data.
    accept
        Rules of `synthbench.cohorts.preflight.check.RULES` whose errors do not stop the scoring;
        the scorecard names them.
    name
        The name of the synthetic volumes in tables; None: their generator's.

    Raises
    ------
    SynthbenchError
        A cohort cannot be used, preflight finds an error, the grids differ, or the benchmark was
        frozen on other data.
    """
    settings, context = settings or ScoringSettings(), context or Context()
    check_choices(settings, accept, tables=bool(cohorts.measures))
    origin = origin_of(cohorts.synthbench_sidecars)
    try:
        drawn = ("synth",) if drawn_by_synthbench(cohorts.sidecars, cohorts.synth.grid) else ()
        context.progress("comparing the volumes of all sets", 0, 0)
        findings = check.check(cohorts.by_role, accept, context.log, drawn=drawn)
        target, notes = common_space(cohorts, settings, origin)
    except CohortError as error:
        raise cohorts.explained(error) from error
    scored, requested = cohorts_to_score(cohorts, settings)
    own, _ = settings_and_benchmark(settings)
    tests = {"memorization", "local_copying", "membership_inference"}
    if "train" in cohorts.by_role and requested is None and not tests & {*metrics_of(own)}:
        notes.append(
            "train: nothing used the training volumes, as the metrics have no test for copies: add "
            "--metric memorization, or score on a benchmark that has it"
        )
    with sections.kept_by(context.pairs):
        setup = set_up(scored, target, settings, context)
        notes += _notes_on_samples(setup)
        values, job_data = _values(setup)
        notes += setup.notes
    if setup.cohorts is not scored:  # an extractor refused some volumes, which count as failed
        scored = setup.cohorts
        requested = requested_of(scored.synth, scored.synthbench_sidecars, scored.conditions)
    assessed = memorization.assess(
        scored.by_role, setup.samples, setup.mask, setup.extractors, setup.protocol, context
    )
    copied_parts = local_copying.assess(
        scored.by_role, setup.samples, setup.mask, setup.protocol, context
    )
    attacked = membership.assess(
        scored.by_role, setup.samples, setup.extractors, setup.protocol, context
    )
    measures = Measures(setup.samples, scored.by_role, scored.measures, context)
    regions = morphometry.assess(setup.samples, setup.extractors, measures, setup.protocol, context)
    adherence_record = replication_record = None
    if requested is not None:
        adherence_record, replication_record = adherence.assess(
            requested, measures, setup.protocol, scored.train
        )
    sample_data = _sample_data(scored, setup, job_data)
    if context.cache is not None and is_main():
        context.cache.keep_sample_data(sample_data.key, sample_data.packed())
        context.cache.trim()
    records = {
        role: CohortRecord.of(cohort, available=cohorts.by_role[role].available)
        for role, cohort in scored.by_role.items()
    }
    card = Scorecard(
        name=name or origin.generator or "synth",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        real=records["real"],
        synth=records["synth"],
        train=records.get("train"),
        holdout=records.get("holdout"),
        benchmark=setup.benchmark and setup.benchmark.name,
        protocol=setup.protocol,
        protocol_hash=setup.protocol.hash,
        untrained=setup.extractors.untrained,
        values=tuple(values),
        memorization=assessed.records,
        not_assessed=assessed.why_not or copied_parts.why_not or attacked.why_not,
        local_copying=copied_parts.record,
        membership=attacked.records,
        morphometry=regions,
        preflight=tuple(_preflight_record(finding) for finding in findings),
        adherence=adherence_record,
        replication=replication_record,
        origin=origin,
        notes=tuple(notes),
        software=software(*PACKAGES),
    )
    features = {
        f"{role}/{e}": x for role, s in setup.samples.items() for e, x in s.features.items()
    }
    return Scoring(card, sample_data, features, assessed.neighbours)


def _notes_on_samples(setup: Setup) -> list[str]:
    """Return a note on the metrics that were computed on some of the volumes only."""
    frozen = setup.protocol.settings
    keys = [job.key for job in setup.todo if SAMPLED_IMAGES in frozen.get(job.key, {})]
    if not keys:
        return []
    most = frozen[keys[0]][SAMPLED_IMAGES]
    return [
        f"{', '.join(keys)}: of pairs of volumes, so they are computed on {most} random volumes of "
        "each set that has more; their intervals include this choice"
    ]


def _preflight_record(finding: findings_module.Finding) -> PreflightRecord:
    assert finding.severity != "note"
    return PreflightRecord(
        rule=finding.rule, role=finding.role, severity=finding.severity,
        volumes=len(finding.volumes), accepted=finding.severity == "error",
    )  # fmt: skip


def _sample_data(cohorts: CohortSet, setup: Setup, job_data: Mapping[str, JobData]) -> SampleData:
    return SampleData(
        real_fingerprint=cohorts.real.fingerprint,
        synth_fingerprint=cohorts.synth.fingerprint,
        protocol=setup.protocol,
        subjects={role: setup.samples[role].subjects for role in ("real", "synth")},
        jobs=job_data,
        seeds=seeds(cohorts.synthbench_sidecars),
    )


def _values(setup: Setup) -> tuple[list[Value], dict[str, JobData]]:
    """Return the rows of all metrics, and by job the matrices that they were computed from.

    Raises
    ------
    MetricError
        Nothing could be computed.
    """
    values: list[Value] = []
    job_data: dict[str, JobData] = {}
    missing = setup.extractors.missing
    refused: list[str] = []
    for job in setup.todo:
        if job.extractor in missing:
            values.append(missing_row(job, missing[job.extractor]))
            continue
        setup.context.progress(f"statistics of {job.key}", 0, 0)
        rows, data = rows_of_job(job, setup)
        values += rows
        if isinstance(data, MetricError):
            refused.append(str(data))
        elif data is not None:
            job_data[job.key] = data
    if setup.benchmark is not None:
        values = setup.benchmark.with_frozen_floors(values)
    if values and all(value.missing for value in values) and "train" not in setup.samples:
        lacking = [why.text for why in missing.values()]
        reasons = dict.fromkeys([*lacking, *refused])
        other = f". Or score with {WITHOUT_WEIGHTS}" if missing and not setup.benchmark else ""
        raise MetricError(f"nothing could be scored: {'; '.join(reasons)}{other}")
    return values, job_data


def without_weights(card: Scorecard) -> str | None:
    """Return what to do about rows that lack an extractor's weights; None where no row does."""
    lacking = dict.fromkeys(
        value.extractor
        for value in card.values
        if value.extractor and value.missing and value.missing.reason == "weights"
    )
    if not lacking:
        return None
    names = " and ".join(lacking)
    advice = f"the weights of {names} are not here: fetch them where there is a network"
    # A benchmark has frozen its extractors.
    return advice if card.benchmark else f"{advice}, or score with {WITHOUT_WEIGHTS}"
