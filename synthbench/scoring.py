"""Scoring: synthetic volumes against real ones, with intervals, floors and the protocol."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float32
from pydantic import ValidationError

from synthbench import fidelity, memorization, preflight
from synthbench.benchmark import Benchmark, packed_mask, real_floors, settings_and_benchmark
from synthbench.cohort import Cohort, check_intensities, majority_mask, overlap, read_cohort
from synthbench.errors import (
    CohortError,
    MetricError,
    UsageError,
    WeightsError,
)
from synthbench.evaluation import (
    Job,
    Sample,
    across,
    against_itself,
    jobs,
    measure,
    prepared,
)
from synthbench.extraction import Extractors, add_features, load_extractors
from synthbench.materials import JobMaterial, Materials
from synthbench.measures import Measures
from synthbench.memorization import Neighbours
from synthbench.metrics import inference
from synthbench.metrics.frechet import effective_rank
from synthbench.metrics.metric import (
    Composite,
    Metric,
    Part,
    Statistic,
    Studentized,
)
from synthbench.processes import is_main
from synthbench.protocol import (
    check_frozen,
    check_metric_name,
    check_names,
    freeze_protocol,
    frozen_settings,
    metrics_of,
)
from synthbench.records.keys import JobKey
from synthbench.runs.sidecar import Sidecar
from synthbench.runtime.callbacks import Progress, checking
from synthbench.scorecard import (
    CohortRecord,
    FloorRecord,
    IntervalRecord,
    Missing,
    Origin,
    PreflightRecord,
    Protocol,
    Scorecard,
    Value,
    software,
)
from synthbench.scoring_inputs import CohortSet, Source
from synthbench.scoring_settings import Context, ScoringSettings
from synthbench.space import Space, intensity_words

PACKAGES = ("torch", "numpy", "scipy", "nibabel")
"""What a scorecard's numbers may depend on."""

WITHOUT_WEIGHTS = "--extractor random-resnet10 (needs no weights)"


@dataclass(frozen=True)
class Scoring:
    """What one scoring found; only the card may be published.

    Attributes
    ----------
    card
        The scorecard.
    sample_data
        What comparisons need of each image: participant-level data.
    features
        By "role/extractor", one row per volume, real ones included: participant-level data.
    neighbours
        Each synthetic volume's nearest training and hold-out volume, by file name, where
        memorization was assessed: participant-level data.
    """

    card: Scorecard
    sample_data: Materials
    features: Mapping[str, Float32[np.ndarray, "n d"]]
    neighbours: tuple[Neighbours, ...]


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
    """Score synthetic volumes against real ones: read them, score them, return the scorecard.

    `score_cohorts` returns more than the scorecard, and takes tables of conditions and measures.

    Parameters
    ----------
    real, synth, train, holdout, assume_grid
        See `CohortSet.read`.
    benchmark
        Settings frozen on this real cohort; they take the place of `settings`.
    accept, name, context
        See `score_cohorts`.
    **settings
        The fields of `ScoringSettings`, such as `extractors=["voxels"]`.

    Returns
    -------
    Scorecard
        Its values do not depend on the order or the names of the files.

    Raises
    ------
    SynthbenchError
        See `score_cohorts`; or there is no setting of such a name, or a benchmark has frozen it.
    """
    if benchmark is not None and settings:
        raise UsageError(f"the benchmark has frozen this: leave out {', '.join(settings)}.")
    context = context or Context()
    chosen = ScoringSettings.checked(settings) if benchmark is None else Benchmark.opened(benchmark)
    # A wrong name is told before volumes are read.
    check_choices(chosen, accept)
    cohorts = CohortSet.read(
        real, synth, train=train, holdout=holdout, assume_grid=assume_grid,
        progress=context.progress,
    )  # fmt: skip
    return score_cohorts(cohorts, chosen, context, accept=accept, name=name).card


def check_choices(settings: ScoringSettings | Benchmark, accept: Sequence[str] = ()) -> None:
    """Check names of extractors, metrics, intensity rules and preflight rules.

    Raises
    ------
    UsageError
        There is no such name; the nearest is named.
    """
    if isinstance(settings, ScoringSettings):
        check_names(settings)
    if isinstance(accept, str):
        raise UsageError(f"accept={accept!r}: a list of names is needed, such as [{accept!r}].")
    preflight.check_rules(accept)


def score_cohorts(
    cohorts: CohortSet,
    settings: ScoringSettings | Benchmark | None = None,
    context: Context | None = None,
    *,
    accept: Sequence[str] = (),
    name: str | None = None,
) -> Scoring:
    """Score synthetic volumes against real ones.

    Parameters
    ----------
    cohorts
        The volumes and what is known of them. Where it is known what was asked of each synthetic
        volume, conditional fidelity and effect replication are assessed (`synthbench.fidelity`).
    settings
        What to score with, or a benchmark that was frozen on this real cohort; None: the
        defaults.
    context
        How to do it: no number depends on it. Features of earlier scorings are taken from its
        cache, where those of this one and its sample data are kept.
    accept
        Rules of `synthbench.preflight.RULES` whose errors stop nothing; the scorecard names them.
    name
        What tables call the synthetic volumes; None: their generator.

    Raises
    ------
    SynthbenchError
        A cohort cannot be used, preflight finds an error, the grids differ, or the benchmark is
        of other data.
    """
    settings, context = settings or ScoringSettings(), context or Context()
    check_choices(settings, accept)
    findings = preflight.check(cohorts.by_role, accept, context.log)
    origin = _origin(cohorts.synthbench_sidecars)
    target, notes = _common_space(cohorts, settings, origin)
    scored, asked = _scored(cohorts, settings)
    setup = _setup(scored, target, settings, context)
    values, taken = _values(setup)
    assessed = memorization.assess(
        scored.by_role, setup.samples, setup.mask, setup.extractors, setup.protocol, context
    )
    followed = replicated = None
    if asked is not None:
        measures = Measures(setup.samples, scored.by_role, scored.measures, context)
        followed, replicated = fidelity.assess(asked, measures, setup.protocol, scored.train)
    sample_data = _sample_data(scored, setup, taken)
    if context.cache is not None and is_main():
        context.cache.keep_materials(sample_data.key, sample_data.packed())
        context.cache.trim()
    records = {
        role: CohortRecord.of(cohort, available=len(cohorts.by_role[role]))
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
        values=tuple(values),
        memorization=assessed.records,
        not_assessed=assessed.why_not,
        preflight=tuple(_preflight_record(finding) for finding in findings),
        adherence=followed,
        replication=replicated,
        origin=origin,
        notes=tuple(notes),
        software=software(*PACKAGES),
    )
    features = {
        f"{role}/{e}": x for role, s in setup.samples.items() for e, x in s.features.items()
    }
    return Scoring(card, sample_data, features, assessed.neighbours)


def freeze(
    real: Path | str | Cohort,
    name: str,
    settings: ScoringSettings | None = None,
    context: Context | None = None,
    *,
    n_synth: int,
    primary: str = "mmd2",
    assume_grid: float | None = None,
) -> Benchmark:
    """Freeze a protocol on a real cohort: space, mask, extractors, bandwidths, floors, n and m.

    Parameters
    ----------
    real
        The reference cohort.
    name
        Of the benchmark.
    settings
        What entries are scored with; None: the defaults.
    context
        How to do it: no number depends on it.
    n_synth
        m: how many synthetic volumes an entry is scored with.
    primary
        The metric that the leaderboard is ordered by.
    assume_grid
        Isotropic voxel size in mm of arrays without geometry.

    Raises
    ------
    SynthbenchError
        The cohort cannot be used, or an extractor's weights cannot be had.
    """
    settings, context = settings or ScoringSettings(), context or Context()
    if n_synth < 2:
        raise UsageError(f"--m: at least 2 synthetic volumes are needed; found {n_synth}.")
    check_names(settings)
    _check_primary(primary, metrics_of(settings))
    if not isinstance(real, Cohort):
        real = read_cohort(Path(real), role="real", assume_grid=assume_grid,
                           progress=checking("real", context.progress))  # fmt: skip
    grid = settings.grid(real.grid)
    volumes = real.volumes(grid, settings.intensity, context.workers, role="real")
    sample = Sample("real", volumes, real.subjects)
    mask = majority_mask(volumes)
    loaded = load_extractors(settings.extractors, context.log)
    if loaded.missing:
        raise WeightsError("; ".join(map(str, loaded.missing.values())))
    add_features([sample], loaded, context)
    if context.cache is not None and is_main():
        context.cache.trim()
    todo = jobs(metrics_of(settings), loaded.names)
    protocol = freeze_protocol(settings, sample, grid, mask, todo, loaded, n_synth)
    return Benchmark(
        name=name, primary=primary, real_fingerprint=real.fingerprint,
        real_subjects=len(set(real.subjects)), protocol=protocol,
        stored_mask=packed_mask(mask),
        floors=tuple(real_floors(todo, sample, mask, protocol, context.progress)),
        software=software(*PACKAGES),
    )  # fmt: skip


def _check_primary(primary: str, metrics: Sequence[str]) -> None:
    if primary in metrics:
        return
    check_metric_name(primary, "--primary")
    raise UsageError(
        f"--primary {primary}: it is not among the metrics ({', '.join(metrics)}). Add "
        f"--metric {primary}, or order by one that is: --primary {metrics[0]}."
    )


# ---------------------------------------------------------------- cohorts and spaces


def _common_space(
    cohorts: CohortSet, settings: ScoringSettings | Benchmark, origin: Origin
) -> tuple[Space, list[str]]:
    """Return the common grid, and notes on what was assumed and what is resampled.

    Raises
    ------
    SynthbenchError
        The benchmark is of another cohort, the grids differ, or intensities do not fit the rule.
    """
    notes = [f"{role}: {note}" for role, cohort in cohorts.by_role.items() for note in cohort.notes]
    if isinstance(settings, Benchmark):
        settings.check_real(cohorts.real)
        target, intensity = settings.protocol.space.grid, settings.protocol.space.intensity
        settings.check_scaling(intensity_words(intensity))
    else:
        target, intensity = _target(cohorts.real, cohorts.synth, settings), settings.intensity
    if origin.intensity not in (None, intensity):
        raise UsageError(
            f"synth: its sidecars say that it was written as {origin.intensity}; scored as "
            f"'{intensity}', its unit would be lost. Add --intensity {origin.intensity}"
        )
    for role, cohort in cohorts.by_role.items():
        if not cohort.grid.same_grid(target):
            notes.append(f"{role} resampled from {cohort.grid} to {target}")
        else:
            check_intensities(cohort, intensity, role)
    return target, notes


def _target(real: Cohort, synth: Cohort, settings: ScoringSettings) -> Space:
    if isinstance(settings.space, Space):
        return settings.space
    if settings.space == "real":
        return real.grid
    if settings.space == "synth":
        return synth.grid
    if not real.grid.same_grid(synth.grid):
        raise CohortError(
            f"the grids differ: real is {real.grid}, synth is {synth.grid}"
            + (" with another origin or rotation" if str(real.grid) == str(synth.grid) else "")
            + ". Add --space synth (or --space real) to bring both to one of them, antialiased; "
            "the scorecard records it. If the synthetic volumes lie as the real ones and only "
            "their affines are wrong, write them again with the real affine."
        )
    return real.grid


def _scored(
    cohorts: CohortSet, settings: ScoringSettings | Benchmark
) -> tuple[CohortSet, fidelity.Asked | None]:
    """Return the volumes that are scored, which a benchmark draws, and what was asked of them."""
    if isinstance(settings, Benchmark):
        cohorts = cohorts.drawn(settings.protocol.n_synth, settings.protocol.seed)
    asked = fidelity.asked_of(cohorts.synth, cohorts.synthbench_sidecars, cohorts.conditions)
    if cohorts.measures and asked is None:
        raise UsageError(
            "--measures: it is not known what was asked of the synthetic volumes: they have no "
            "sidecars with conditions. Name them with --conditions FILE."
        )
    return cohorts, asked


def _preflight_record(finding: preflight.Finding) -> PreflightRecord:
    assert finding.severity != "note"
    return PreflightRecord(
        rule=finding.rule, role=finding.role, severity=finding.severity,
        volumes=len(finding.volumes), accepted=finding.severity == "error",
    )  # fmt: skip


def _seeds(sidecars: Sequence[Sidecar]) -> tuple[int, ...] | None:
    """Return the seed of each volume, where all sidecars name one and no two share it."""
    found = [seed for sidecar in sidecars if isinstance(seed := sidecar.get("seed"), int)]
    return tuple(found) if found and len(set(found)) == len(sidecars) else None


def _origin(sidecars: Sequence[Sidecar]) -> Origin:
    """Return what the sidecars of all volumes agree on; nothing where there are none."""
    if not sidecars:
        return Origin()
    fields = [f for f in Origin.model_fields if f not in ("seconds_a_volume", "training_seeds")]
    agreed = {f: sidecars[0].get(f) for f in fields
              if all(s.get(f) == sidecars[0].get(f) for s in sidecars)}  # fmt: skip
    seconds = [s["seconds"] for s in sidecars if isinstance(s.get("seconds"), (int, float))]
    mean = round(float(np.mean(seconds)), 3) if seconds else None
    trained = {sidecar.get("weights_sha256") for sidecar in sidecars}
    seeds = None if None in trained else len(trained)
    try:
        return Origin(**agreed, seconds_a_volume=mean, training_seeds=seeds)
    except ValidationError:
        return Origin()  # another program's sidecars


# ---------------------------------------------------------------- samples and protocol


@dataclass(frozen=True)
class _Setup:
    """All that values are computed from.

    Attributes
    ----------
    samples
        By role, with features.
    reference
        The real sample, followed by the hold-out where there is one: floors are taken within it.
    """

    samples: Mapping[str, Sample]
    reference: Sample
    mask: Bool[np.ndarray, "d h w"]
    extractors: Extractors
    todo: Sequence[Job]
    protocol: Protocol
    benchmark: Benchmark | None
    progress: Progress


def _setup(
    cohorts: CohortSet, target: Space, settings: ScoringSettings | Benchmark, context: Context
) -> _Setup:
    """Extract the features, and settle the protocol or hold it to the benchmark's."""
    own, frozen = settings_and_benchmark(settings)
    volumes = {
        role: cohort.volumes(target, own.intensity, context.workers, role=role)
        for role, cohort in cohorts.by_role.items()
    }
    samples = {
        role: Sample(role, volumes[role], cohort.subjects)
        for role, cohort in cohorts.by_role.items()
    }
    mask = None if frozen is None else frozen.mask
    if mask is None:
        mask = majority_mask(volumes["real"])
    extractors = load_extractors(own.extractors, context.log)
    add_features(samples.values(), extractors, context)
    todo = jobs(metrics_of(own), extractors.names)
    if frozen is None:
        protocol = freeze_protocol(
            own, samples["real"], target, mask, todo, extractors, len(samples["synth"])
        )
    else:
        check_frozen(frozen, mask, extractors)
        protocol = frozen.protocol
    reference = samples["real"]
    # A benchmark's floors are those of its real cohort, whatever hold-out an entry brings.
    holdout = cohorts.holdout if frozen is None else None
    if holdout is not None and not overlap(holdout, cohorts.real):
        reference = reference.joined(samples["holdout"])
    return _Setup(samples, reference, mask, extractors, todo, protocol, frozen, context.progress)


def _sample_data(cohorts: CohortSet, setup: _Setup, taken: Mapping[str, JobMaterial]) -> Materials:
    return Materials(
        real_fingerprint=cohorts.real.fingerprint,
        synth_fingerprint=cohorts.synth.fingerprint,
        protocol=setup.protocol,
        subjects={role: setup.samples[role].subjects for role in ("real", "synth")},
        jobs=taken,
        seeds=_seeds(cohorts.synthbench_sidecars),
    )


# ---------------------------------------------------------------- values


def _values(setup: _Setup) -> tuple[list[Value], dict[str, JobMaterial]]:
    """Return the rows of all metrics, and by job what each metric took of the images.

    Raises
    ------
    MetricError
        Nothing could be computed.
    """
    values: list[Value] = []
    taken: dict[str, JobMaterial] = {}
    missing = setup.extractors.missing
    for job in setup.todo:
        if job.extractor in missing:
            values.append(_missing(job, missing[job.extractor]))
            continue
        rows, material = _rows(job, setup)
        values += rows
        if material is not None:
            taken[job.key] = material
    if setup.benchmark is not None:
        values = setup.benchmark.with_frozen_floors(values)
    if values and all(value.missing for value in values) and "train" not in setup.samples:
        whys = dict.fromkeys(str(value.missing).removeprefix("missing: ") for value in values)
        other = f". Or score with {WITHOUT_WEIGHTS}" if missing and not setup.benchmark else ""
        raise MetricError(f"nothing could be scored: {'; '.join(whys)}{other}")
    return values, taken


def _rows(job: Job, setup: _Setup) -> tuple[list[Value], JobMaterial | None]:
    """Return the metric's row, then a row for each of its parts; and what it took of the images."""
    protocol, mask, reference = setup.protocol, setup.mask, setup.reference
    settings = frozen_settings(job.metric, job.key, protocol)
    real, synth = setup.samples["real"], setup.samples["synth"]
    subjects = {"real": real.subjects, "synth": synth.subjects}
    try:
        measure(job, reference, mask, settings, setup.progress)
        measure(job, synth, mask, settings, setup.progress)
        cross = across(job, real, synth, mask, settings, setup.progress)
        of_real, of_synth = job.material(reference, len(real)), job.material(synth)
        statistic = prepared(job, of_real, of_synth, subjects, settings, cross)
        floor_statistic = against_itself(job, reference, settings)
        p = job.metric.p_value(
            of_real, of_synth, permutations=protocol.permutations, seed=protocol.seed,
            subjects=subjects, **settings,
        )  # fmt: skip
        source: Literal["halves", "hold-out"] = "halves" if reference is real else "hold-out"
        whole = Part(job.metric.label, statistic, tabled=True)
        row = _row(job, JobKey(job.metric.name), whole, floor_statistic, protocol, source)
    except MetricError as error:
        return [_missing(job, Missing(reason="images", text=str(error)))], None
    rank = effective_rank(of_real) if job.extractor is not None else None
    saturated = getattr(statistic, "saturated", None)
    rows = [row.model_copy(update={"p": p, "effective_rank": rank, "saturated": saturated})]
    inner_floors = floor_statistic.parts() if isinstance(floor_statistic, Composite) else {}
    parts = statistic.parts() if isinstance(statistic, Composite) else {}
    for name, part in parts.items():
        key = JobKey(job.metric.name, name)
        both = set(part.statistic.subjects) == {"real", "synth"}
        inner_floor = inner_floors[name].statistic if both and name in inner_floors else None
        try:
            rows.append(_row(job, key, part, inner_floor, protocol, source))
        except MetricError as error:
            why = Missing(reason="images", text=str(error))
            rows.append(Value(**_declared(job, key, part.label, part.tabled), missing=why))
    return rows, JobMaterial(of_real, of_synth, cross)


def _row(
    job: Job,
    key: JobKey,
    part: Part,
    floor_statistic: Statistic | None,
    protocol: Protocol,
    source: Literal["halves", "hold-out"],
) -> Value:
    statistic = part.statistic
    method = protocol.intervals[job.metric.name]
    # A part need not give a variance where the whole does; the record names what was used.
    if method == "studentized" and key.part and not isinstance(statistic, Studentized):
        method = "jackknife"
    value = inference.estimate(statistic)
    interval = inference.interval(
        statistic, method, resamples=protocol.resamples, level=protocol.level, seed=protocol.seed
    )
    floor = None
    if floor_statistic is not None:
        floor = _floor(job.metric, statistic, floor_statistic, protocol, source)
    return Value(
        **_declared(job, key, part.label, part.tabled),
        value=value,
        magnitude=inference.magnitude(statistic),
        interval=_record(interval, job.metric),
        floor=floor,
    )  # fmt: skip


def _record(interval: inference.Interval, metric: Metric) -> IntervalRecord | None:
    """None for an interval of no width: values that all agree know nothing of their error.

    A share that is 0 of 86 images is no proof that it is 0. Otherwise the interval is cut where
    the metric cannot lie, which loses no coverage.
    """
    if interval.low == interval.high:
        return None
    least, most = getattr(metric, "bounds", (-math.inf, math.inf))
    low, high = max(interval.low, least), min(interval.high, most)
    if low > high:  # the whole interval lies outside, by rounding
        return None
    return IntervalRecord(
        low=low, high=high, level=interval.level, method=interval.method,
        label=interval.label, conditional_on_n=interval.conditional_on_n,
    )  # fmt: skip


def _floor(
    metric: Metric,
    statistic: Statistic,
    floor_statistic: Statistic,
    protocol: Protocol,
    source: Literal["halves", "hold-out"],
) -> FloorRecord:
    """Real against real at the largest n that both sides reach, and synth at the same n."""
    splits, seed = protocol.floor_splits, protocol.seed
    available = [inference.n_subjects(index) for index in statistic.subjects.values()]
    n = min(inference.n_subjects(floor_statistic.subjects["real"]) // 2, *available)
    floor = inference.floor(
        floor_statistic, n=n, splits=splits, seed=seed, direction=metric.direction
    )
    matched = inference.matched(statistic, n, repeats=splits, seed=seed)
    return FloorRecord(
        n=n, mean=floor.mean, low=floor.low, high=floor.high, synth_mean=matched.mean,
        source=source,
        minimum_detectable_effect=floor.minimum_detectable_effect,
    )  # fmt: skip


def without_weights(card: Scorecard) -> str | None:
    """Say what to do about rows that have no value for want of weights; None where none lacks."""
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


def _missing(job: Job, why: Missing) -> Value:
    metric = job.metric
    return Value(**_declared(job, JobKey(metric.name), metric.label, tabled=True), missing=why)


def _declared(job: Job, key: JobKey, label: str, tabled: bool) -> dict[str, Any]:
    """Return what a row takes over from its metric, and from its part where it is one."""
    metric, whole = job.metric, key.part is None
    return {
        "metric": key.row, "label": label, "extractor": job.extractor,
        "direction": metric.direction, "role": metric.role, "tabled": tabled,
        "label_with_n": whole and metric.label_with_n, "of_variety": whole and metric.of_variety,
        "target": metric.target,
    }  # fmt: skip
