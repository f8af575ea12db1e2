"""Scoring: synthetic volumes against real ones, with intervals, floors and the protocol."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool
from pydantic import ValidationError

from synthbench import fidelity, memorization, preflight
from synthbench.benchmark import Benchmark, packed_mask, real_floors
from synthbench.cohort import Cohort, check_intensities, majority_mask, overlap, read_cohort
from synthbench.dose_response import Sensitivity, read_back
from synthbench.errors import (
    CohortError,
    MetricError,
    UsageError,
    WeightsError,
)
from synthbench.evaluation import (
    Job,
    Progress,
    Sample,
    Say,
    across,
    against_itself,
    checking,
    jobs,
    measure,
    prepared,
)
from synthbench.extraction import add_features, load_extractors
from synthbench.feature_cache import FeatureCache
from synthbench.materials import JobMaterial, Materials
from synthbench.measures import Measures, read_tables
from synthbench.metrics import inference
from synthbench.metrics.frechet import effective_rank
from synthbench.metrics.metric import (
    Composite,
    IntervalMethod,
    Metric,
    Part,
    Statistic,
    Studentized,
)
from synthbench.processes import is_main
from synthbench.protocol import (
    DEFAULT_EXTRACTOR,
    check_frozen,
    check_metric_name,
    check_names,
    default_metrics,
    freeze_protocol,
    frozen_settings,
)
from synthbench.records.keys import JobKey
from synthbench.scorecard import (
    AdherenceRecord,
    CohortRecord,
    FloorRecord,
    IntervalRecord,
    Missing,
    Origin,
    PreflightRecord,
    Protocol,
    ReplicationRecord,
    Scorecard,
    Value,
    software,
)
from synthbench.space import Intensity, Space, intensity_words

PACKAGES = ("torch", "numpy", "scipy", "nibabel")
"""What a scorecard's numbers may depend on."""

WITHOUT_WEIGHTS = "--extractor random-resnet10 (needs no weights)"


def score(
    real: Path | str | Cohort,
    synth: Path | str | Cohort,
    *,
    train: Path | str | Cohort | None = None,
    holdout: Path | str | Cohort | None = None,
    name: str | None = None,
    benchmark: Path | Benchmark | None = None,
    extractors: Sequence[str] = (DEFAULT_EXTRACTOR,),
    metrics: Sequence[str] | None = None,
    space: Literal["same", "real", "synth"] = "same",
    intensity: Intensity = "percentile",
    ci: IntervalMethod | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    assume_grid: Literal["real"] | float | None = None,
    accept: Sequence[str] = (),
    workers: int = 2,
    batch_size: int | None = None,
    features_file: Path | None = None,
    neighbours_file: Path | None = None,
    materials_file: Path | None = None,
    curves: Path | Sensitivity | None = None,
    conditions_file: Path | None = None,
    measures_files: Sequence[Path] = (),
    cache: bool = True,
    progress: Progress | None = None,
    say: Say = lambda message: None,
) -> Scorecard:
    """Score synthetic volumes against real ones.

    Parameters
    ----------
    real, synth
        What `read_cohort` reads, or cohorts that were read.
    train
        The generator's training volumes: memorization is assessed where they are given.
    holdout
        Real volumes that the generator never saw and that are not in `real`. Floors are taken
        between disjoint sides of both together, which reaches a larger n than halves of `real`,
        and memorization compares with them; without them it compares with `real`, where that
        is disjoint from `train`.
    name
        What tables call the synthetic volumes; None: their generator or their folder.
    benchmark
        Settings frozen on this real cohort; they take the place of every setting from
        `extractors` to `seed`.
    extractors
        Names in the registry.
    metrics
        Names in the registry; None: `default_metrics()`.
    space
        The common grid: "same" (both must have it already), "real" or "synth" (the other side
        is resampled to it, antialiased).
    intensity
        The rule that brings both sides to [0, 1]; see `synthbench.space.INTENSITY_RULES`.
    ci
        Interval method for all metrics; None: each metric's own.
    resamples, level, seed
        Of the bootstrap.
    assume_grid
        Geometry of arrays without one: "real" (synthetic volumes lie as the real files store
        theirs), or an isotropic voxel size in mm.
    accept
        Rules of `synthbench.preflight.RULES` whose errors stop nothing; the scorecard names them.
    workers, batch_size
        Threads that read, volumes handed to an extractor at once (see `extraction.extract`); no
        number depends on them.
    features_file
        Where to save the features (npz), real ones included: participant-level data.
    neighbours_file
        Where to write each synthetic volume's nearest training and hold-out volume (TSV), by
        file name: participant-level data.
    materials_file
        Where to write what comparisons need of the images (`synthbench.materials`), for another
        machine: participant-level data.
    curves
        A record of `synthbench.sensitivity.sensitivity` on the same real cohort: values are read
        back on its curves, as the damage to real volumes that would score the same.
    conditions_file
        A table of what was asked of each synthetic volume, a column a condition, in place of
        what the volumes' sidecars or a `conditions.tsv` beside them tell. Where it is known,
        conditional fidelity and effect replication are assessed (`synthbench.fidelity`).
    measures_files
        Tables of measures that other programs wrote, by volume: a column that is named as a
        condition takes the place of synthbench's own measure of it.
    cache
        Take features from earlier runs, and keep those of this one and what comparisons need
        (`synthbench.materials`), in the local cache; no number depends on it.
    progress
        Called with (what, done, total).
    say
        Called with sentences for the user.

    Returns
    -------
    Scorecard
        Its values do not depend on the order or the names of the files.

    Raises
    ------
    SynthbenchError
        A cohort cannot be used, preflight finds an error, the grids differ, or the benchmark is
        of other data.
    """
    extractors, metrics, accept = (
        _names(what, names)
        for what, names in (("extractors", extractors), ("metrics", metrics), ("accept", accept))
    )
    frozen = None if benchmark is None else Benchmark.opened(benchmark)
    if neighbours_file is not None:
        chosen = frozen.protocol.intervals if frozen else metrics or default_metrics()
        if train is None or "memorization" not in chosen:
            raise UsageError(
                f"--neighbours {neighbours_file}: nearest training volumes are found where "
                "memorization is assessed: add --train and, with --metric, --metric memorization."
            )
    if frozen is None:
        check_names(extractors, metrics, intensity)
    preflight.check_rules(accept)
    measured_elsewhere = read_tables(measures_files)
    study = Sensitivity.load(curves) if isinstance(curves, Path) else curves
    kept = FeatureCache(say=say) if cache else None
    cohorts = _cohorts(
        {"real": real, "synth": synth, "train": train, "holdout": holdout}, assume_grid, progress
    )
    findings = preflight.check(cohorts, accept, say)
    notes = [f"{role}: {note}" for role, cohort in cohorts.items() for note in cohort.notes]
    if frozen is not None:
        frozen.check_real(cohorts["real"])
        target, intensity = frozen.protocol.space.grid, frozen.protocol.space.intensity
        frozen.check_scaling(intensity_words(intensity))
        extractors = tuple(e.name for e in frozen.protocol.extractors)
        metrics = tuple(frozen.protocol.intervals)
    else:
        target = _target(cohorts["real"], cohorts["synth"], space)
        metrics = default_metrics() if metrics is None else tuple(dict.fromkeys(metrics))
    origin = _origin(cohorts["synth"])
    if origin.intensity not in (None, intensity):
        raise UsageError(
            f"synth: its sidecars say that it was written as {origin.intensity}; scored as "
            f"'{intensity}', its unit would be lost. Add --intensity {origin.intensity}"
        )
    for role, cohort in cohorts.items():
        if not cohort.grid.same_grid(target):
            notes.append(f"{role} resampled from {cohort.grid} to {target}")
        else:
            check_intensities(cohort, intensity, role)
    available = {role: len(cohort) for role, cohort in cohorts.items()}
    if frozen is not None:
        cohorts["synth"] = _subsampled(
            cohorts["synth"], frozen.protocol.n_synth, frozen.protocol.seed
        )
    asked = fidelity.asked_of(cohorts["synth"], _sidecars(cohorts["synth"]), conditions_file)
    if measured_elsewhere and asked is None:
        raise UsageError(
            "--measures: it is not known what was asked of the synthetic volumes: they have no "
            "sidecars with conditions. Name them with --conditions FILE."
        )
    samples = {
        role: Sample(role, cohort.volumes(target, intensity, workers, role=role), cohort.subjects)
        for role, cohort in cohorts.items()
    }
    mask = None if frozen is None else frozen.mask
    if mask is None:
        mask = majority_mask(cohorts["real"].volumes(target, intensity, workers, role="real"))
    loaded = load_extractors(extractors, say)
    add_features(samples.values(), loaded, batch_size, progress, cache=kept, workers=workers)
    todo = jobs(metrics, loaded.names)
    if frozen is None:
        protocol = freeze_protocol(
            samples["real"], target, intensity, mask, metrics, todo, loaded, ci=ci,
            resamples=resamples, level=level, seed=seed, n_synth=len(samples["synth"]),
        )  # fmt: skip
    else:
        check_frozen(frozen, mask, loaded)
        protocol = frozen.protocol
    # A benchmark's floors are those of its real cohort, whatever hold-out an entry brings.
    reference = samples["real"]
    if "holdout" in samples and frozen is None and not overlap(cohorts["holdout"], cohorts["real"]):
        reference = reference.joined(samples["holdout"])
    values: list[Value] = []
    taken: dict[str, JobMaterial] = {}
    for job in todo:
        if job.extractor in loaded.missing:
            values.append(_missing(job, loaded.missing[job.extractor]))
        else:
            values += _rows(job, samples, reference, mask, protocol, taken, progress)
    if frozen is not None:
        values = frozen.with_frozen_floors(values)
    if values and all(value.missing for value in values) and "train" not in cohorts:
        whys = dict.fromkeys(value.missing.text for value in values if value.missing)
        other = f". Or score with {WITHOUT_WEIGHTS}" if loaded.missing and frozen is None else ""
        raise MetricError(f"nothing could be scored: {'; '.join(whys)}{other}")
    if study is not None:
        values = [
            value.model_copy(
                update={"equivalents": read_back(study, value, protocol, cohorts["real"])}
            )
            for value in values
        ]
        if not any(value.equivalents for value in values):
            notes.append(
                "no value can be read back on the sensitivity curves: they are of another "
                "cohort, grid, extractor or number of volumes, or turn round"
            )
    assessed, not_assessed = memorization.assess(
        cohorts, samples, mask, loaded, protocol, neighbours_file if is_main() else None, progress,
        cache=kept,
    )  # fmt: skip
    followed: AdherenceRecord | None = None
    replicated: ReplicationRecord | None = None
    if asked is not None:
        measures = Measures(samples, cohorts, measured_elsewhere, kept, progress)
        followed, replicated = fidelity.assess(asked, measures, protocol, cohorts.get("train"))
    if is_main():
        _keep(_materials(cohorts, samples, protocol, taken), kept, materials_file)
    if features_file is not None and is_main():
        arrays = {f"{role}/{e}": x for role, s in samples.items() for e, x in s.features.items()}
        np.savez_compressed(features_file, **arrays)  # type: ignore[arg-type]
    records = {role: CohortRecord.of(cohort, available[role]) for role, cohort in cohorts.items()}
    return Scorecard(
        name=name or origin.generator or "synth",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        real=records["real"],
        synth=records["synth"],
        train=records.get("train"),
        holdout=records.get("holdout"),
        benchmark=None if frozen is None else frozen.name,
        protocol=protocol,
        protocol_hash=protocol.hash,
        values=tuple(values),
        memorization=tuple(assessed),
        not_assessed=not_assessed,
        preflight=tuple(_preflight_record(finding) for finding in findings),
        adherence=followed,
        replication=replicated,
        origin=origin,
        notes=tuple(notes),
        software=software(*PACKAGES),
    )


def freeze(
    real: Path | str | Cohort,
    name: str,
    *,
    n_synth: int,
    primary: str = "mmd2",
    extractors: Sequence[str] = (DEFAULT_EXTRACTOR,),
    metrics: Sequence[str] | None = None,
    target: Space | None = None,
    intensity: Intensity = "percentile",
    ci: IntervalMethod | Mapping[str, IntervalMethod] | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    assume_grid: float | None = None,
    workers: int = 2,
    cache: bool = True,
    progress: Progress | None = None,
    say: Say = lambda message: None,
) -> Benchmark:
    """Freeze a protocol on a real cohort: space, mask, extractors, bandwidths, floors, n and m.

    Parameters
    ----------
    real
        The reference cohort.
    name
        Of the benchmark.
    n_synth
        m: how many synthetic volumes an entry is scored with.
    primary
        The metric that the leaderboard is ordered by.
    target
        The grid; None: the real cohort's own.
    ci
        Interval method of all metrics, or of those named; of others each metric's own.

    Raises
    ------
    SynthbenchError
        The cohort cannot be used, or an extractor's weights cannot be had.
    """
    if n_synth < 2:
        raise UsageError(f"--m: at least 2 synthetic volumes are needed; found {n_synth}.")
    metrics = default_metrics() if metrics is None else tuple(dict.fromkeys(metrics))
    check_names(extractors, metrics, intensity)
    if primary not in metrics:
        check_metric_name(primary, "--primary")
        raise UsageError(
            f"--primary {primary}: it is not among the metrics ({', '.join(metrics)}). Add "
            f"--metric {primary}, or order by one that is: --primary {metrics[0]}."
        )
    kept = FeatureCache(say=say) if cache else None
    if not isinstance(real, Cohort):
        real = read_cohort(Path(real), role="real", assume_grid=assume_grid,
                           progress=checking("real", progress))  # fmt: skip
    volumes = real.volumes(target or real.grid, intensity, workers, role="real")
    sample = Sample("real", volumes, real.subjects)
    mask = majority_mask(volumes)
    loaded = load_extractors(extractors, say)
    if loaded.missing:
        raise WeightsError("; ".join(map(str, loaded.missing.values())))
    add_features([sample], loaded, progress=progress, cache=kept, workers=workers)
    if kept is not None and is_main():
        kept.trim()
    todo = jobs(metrics, loaded.names)
    protocol = freeze_protocol(
        sample, volumes.space, intensity, mask, metrics, todo, loaded, ci=ci,
        resamples=resamples, level=level, seed=seed, n_synth=n_synth,
    )  # fmt: skip
    return Benchmark(
        name=name, primary=primary, real_fingerprint=real.fingerprint,
        real_subjects=len(set(real.subjects)), protocol=protocol,
        stored_mask=packed_mask(mask),
        floors=tuple(real_floors(todo, sample, mask, protocol, progress)),
        software=software(*PACKAGES),
    )  # fmt: skip


def _names(what: str, names: Sequence[str] | None) -> Any:
    """A string is a sequence of letters, which nobody means."""
    if isinstance(names, str):
        raise UsageError(f"{what}={names!r}: a list of names is needed, such as [{names!r}].")
    return names


# ---------------------------------------------------------------- cohorts and spaces


def _cohorts(
    given: Mapping[str, Path | str | Cohort | None],
    assume_grid: Literal["real"] | float | None,
    progress: Progress | None,
) -> dict[str, Cohort]:
    """Read the cohorts that are given, the real one first: others may lie on its grid."""
    cohorts: dict[str, Cohort] = {}
    for role, source in given.items():
        if source is None:
            continue
        if isinstance(source, Cohort):
            cohorts[role] = source
            continue
        grid: Space | float | None = None
        if isinstance(assume_grid, float):
            grid = assume_grid
        elif assume_grid == "real" and role != "real":
            grid = cohorts["real"].stored_grid
        cohorts[role] = read_cohort(
            Path(source), role=role, assume_grid=grid, progress=checking(role, progress)
        )
    for role, cohort in cohorts.items():
        found = len(set(cohort.subjects))
        if found < 4:
            purpose = {
                "train": "to compare them with a hold-out",
                "holdout": "to stand for volumes that nobody has seen",
            }.get(role, "for a value with an interval and a floor")
            raise CohortError(f"{role}: at least 4 subjects are needed {purpose}; found {found}.")
    return cohorts


def _target(real: Cohort, synth: Cohort, space: Literal["same", "real", "synth"]) -> Space:
    if space == "real":
        return real.grid
    if space == "synth":
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


def _preflight_record(finding: preflight.Finding) -> PreflightRecord:
    assert finding.severity != "note"
    return PreflightRecord(
        rule=finding.rule, role=finding.role, severity=finding.severity,
        volumes=len(finding.volumes), accepted=finding.severity == "error",
    )  # fmt: skip


def _subsampled(cohort: Cohort, n: int, seed: int) -> Cohort:
    if len(cohort) < n:
        raise CohortError(
            f"synth: the benchmark scores {n} volumes; found {len(cohort)}. "
            f"Sample {n - len(cohort)} more."
        )
    chosen = np.sort(np.random.default_rng(seed).permutation(len(cohort))[:n])
    return cohort.subset(chosen)


def _sidecars(synth: Cohort) -> list[dict[str, Any]]:
    """Return the sidecar of every volume; nothing where one has none that says it is synthetic."""
    sidecars: list[dict[str, Any]] = []
    for entry in synth.entries:
        file = entry.path.with_name(entry.path.name.split(".nii")[0] + ".json")
        try:
            found = json.loads(file.read_text())
        except (OSError, ValueError):
            return []
        if not isinstance(found, dict) or not found.get("synthetic"):
            return []
        sidecars.append(found)
    return sidecars


def _seeds(synth: Cohort) -> tuple[int, ...] | None:
    """Return the seed of each volume, where all sidecars name one and no two share it."""
    seeds = [sidecar.get("seed") for sidecar in _sidecars(synth)]
    found = [seed for seed in seeds if isinstance(seed, int)]
    return tuple(found) if found and len(set(found)) == len(synth) else None


def _origin(synth: Cohort) -> Origin:
    """Return what the sidecars of all volumes agree on; nothing where there are none."""
    sidecars = _sidecars(synth)
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


def _materials(
    cohorts: Mapping[str, Cohort],
    samples: Mapping[str, Sample],
    protocol: Protocol,
    taken: Mapping[str, JobMaterial],
) -> Materials:
    return Materials(
        real_fingerprint=cohorts["real"].fingerprint,
        synth_fingerprint=cohorts["synth"].fingerprint,
        protocol=protocol,
        subjects={role: samples[role].subjects for role in ("real", "synth")},
        jobs=taken,
        seeds=_seeds(cohorts["synth"]),
    )


def _keep(materials: Materials, cache: FeatureCache | None, file: Path | None) -> None:
    """Keep what comparisons need in the cache and in a file, where there are such."""
    if file is not None:
        materials.save(file)
    if cache is not None:
        cache.keep_materials(materials.key, materials.packed())
        cache.trim()


# ---------------------------------------------------------------- values


def _rows(
    job: Job,
    samples: Mapping[str, Sample],
    reference: Sample,
    mask: Bool[np.ndarray, "d h w"],
    protocol: Protocol,
    taken: dict[str, JobMaterial],
    progress: Progress | None,
) -> list[Value]:
    """Return the metric's row, then a row for each of its parts.

    What the metric took of the images is put into `taken`. `reference` is the real sample,
    followed by the hold-out where there is one: floors are taken within it.
    """
    settings = frozen_settings(job.metric, job.key, protocol)
    real, synth = samples["real"], samples["synth"]
    subjects = {"real": real.subjects, "synth": synth.subjects}
    try:
        measure(job, reference, mask, settings, progress)
        measure(job, synth, mask, settings, progress)
        cross = across(job, real, synth, mask, settings, progress)
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
        return [_missing(job, Missing(reason="images", text=str(error)))]
    taken[job.key] = JobMaterial(of_real, of_synth, cross)
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
    return rows


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
