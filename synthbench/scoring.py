"""Scoring: synthetic volumes against real ones, with intervals, floors and the protocol."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float32, Float64
from pydantic import ValidationError

from synthbench import registry
from synthbench.benchmark import Benchmark
from synthbench.cohort import MASK_RULE, Cohort, Volumes, majority_mask, read_cohort
from synthbench.errors import (
    CohortError,
    MetricError,
    ScorecardError,
    UsageError,
    WeightsError,
)
from synthbench.metrics import inference
from synthbench.metrics.frechet import effective_rank
from synthbench.metrics.metric import Composite, IntervalMethod, Metric, Statistic, VolumeMetric
from synthbench.scorecard import (
    CohortRecord,
    ExtractorRecord,
    FloorRecord,
    IntervalRecord,
    MaskRecord,
    Origin,
    Protocol,
    Scorecard,
    SpaceRecord,
    Value,
)
from synthbench.space import INTENSITY_RULES, Intensity, Space

DEFAULT_EXTRACTOR = "medicalnet-resnet50-23dataset"
FLOOR_SPLITS = 200
PERMUTATIONS = 1000

Say = Callable[[str], None]
Progress = Callable[[str, int, int], None]
Features = dict[str, Float32[np.ndarray, "n d"]]


def score(
    real: Path | str | Cohort,
    synth: Path | str | Cohort,
    *,
    name: str | None = None,
    benchmark: Path | Benchmark | None = None,
    extractors: Sequence[str] = (DEFAULT_EXTRACTOR,),
    space: Literal["same", "real", "synth"] = "same",
    intensity: Intensity = "percentile",
    ci: IntervalMethod | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    assume_grid: Literal["real"] | float | None = None,
    workers: int = 2,
    batch_size: int = 1,
    features_file: Path | None = None,
    progress: Progress | None = None,
    say: Say = lambda message: None,
) -> Scorecard:
    """Score synthetic volumes against real ones.

    Parameters
    ----------
    real, synth
        What `read_cohort` reads, or cohorts that were read.
    name
        What tables call the synthetic volumes; None: their generator or their folder.
    benchmark
        Settings frozen on this real cohort; they take the place of every setting from
        `extractors` to `seed`.
    extractors
        Names in the registry.
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
    workers, batch_size
        Threads that read, volumes handed to an extractor at once; no number depends on them.
    features_file
        Where to save the features (npz), real ones included: participant-level data.
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
        Either cohort cannot be used, the grids differ, or the benchmark is of other data.
    """
    frozen = None if benchmark is None else _opened(benchmark)
    real, synth = _cohorts(real, synth, assume_grid, progress)
    notes = [f"real: {note}" for note in real.notes] + [f"synth: {note}" for note in synth.notes]
    notes += _identical(real, synth)
    if frozen is not None:
        frozen.check_real(real)
        target, intensity = frozen.protocol.space.grid, frozen.protocol.space.intensity
        frozen.check_scaling(INTENSITY_RULES[intensity])
        extractors = tuple(e.name for e in frozen.protocol.extractors)
    else:
        target = _target(real, synth, space)
    for role, cohort in (("real", real), ("synth", synth)):
        if not cohort.grid.same_grid(target):
            notes.append(f"{role} resampled from {cohort.grid} to {target}")
    available = len(synth)
    if frozen is not None:
        synth = _subsampled(synth, frozen.protocol.n_synth, frozen.protocol.seed)
    sides = {
        "real": real.volumes(target, intensity, workers),
        "synth": synth.volumes(target, intensity, workers),
    }
    mask = majority_mask(sides["real"])
    features, missing, records = _features(extractors, sides, batch_size, progress, say)
    subjects = {"real": real.subjects, "synth": synth.subjects}
    if frozen is None:
        protocol = _freeze(
            sides, mask, features, records, subjects, ci, resamples, level, seed
        )  # fmt: skip
    else:
        frozen.check_mask(_mask_record(mask))
        frozen.check_extractors(records)
        protocol = frozen.protocol
    values: list[Value] = []
    for metric_name in registry.names("metrics"):
        metric: Metric = registry.load("metrics", metric_name)()
        if metric.needs == "features":
            for extractor in extractors:
                if extractor in missing:
                    values.append(_missing(metric, missing[extractor], extractor))
                else:
                    material = {role: features[extractor][role] for role in sides}
                    values += _rows(metric, material, subjects, protocol, extractor)
        else:
            assert isinstance(metric, VolumeMetric)
            values += _volume_rows(metric, sides, mask, subjects, protocol, progress)
    if features_file is not None:
        arrays = {f"{role}/{e}": x for e, sets in features.items() for role, x in sets.items()}
        np.savez_compressed(features_file, **arrays)  # type: ignore[arg-type]
    origin = _origin(synth)
    return Scorecard(
        name=name or origin.generator or "synth",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        real=CohortRecord(
            n=len(real), subjects=len(set(real.subjects)), fingerprint=real.fingerprint,
            available=len(real),
        ),
        synth=CohortRecord(
            n=len(synth), subjects=len(set(synth.subjects)), fingerprint=synth.fingerprint,
            available=available,
        ),
        benchmark=None if frozen is None else frozen.name,
        protocol=protocol,
        protocol_hash=protocol.hash,
        values=tuple(values),
        origin=origin,
        notes=tuple(notes),
        software={
            "python": platform.python_version(),
            **{p: version(p) for p in ("synthbench", "torch", "numpy", "scipy", "nibabel")},
        },
    )  # fmt: skip


def freeze(
    real: Path | str | Cohort,
    name: str,
    *,
    n_synth: int,
    primary: str = "mmd2",
    extractors: Sequence[str] = (DEFAULT_EXTRACTOR,),
    target: Space | None = None,
    intensity: Intensity = "percentile",
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    assume_grid: float | None = None,
    workers: int = 2,
    progress: Progress | None = None,
    say: Say = lambda message: None,
) -> Benchmark:
    """Freeze a protocol on a real cohort: space, mask, extractors, kernel bandwidths, n and m.

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

    Raises
    ------
    SynthbenchError
        The cohort cannot be used, or an extractor's weights cannot be had.
    """
    if n_synth < 2:
        raise UsageError(f"--m: at least 2 synthetic volumes are needed; found {n_synth}.")
    if primary not in registry.names("metrics"):
        registry.load("metrics", primary)
    if not isinstance(real, Cohort):
        real = read_cohort(Path(real), role="real", assume_grid=assume_grid,
                           progress=_reading("real", progress))  # fmt: skip
    sides = {"real": real.volumes(target or real.grid, intensity, workers)}
    mask = majority_mask(sides["real"])
    features, missing, records = _features(extractors, sides, 1, progress, say)
    if missing:
        raise WeightsError("; ".join(missing.values()))
    subjects = {"real": real.subjects}
    protocol = _freeze(
        sides, mask, features, records, subjects, None, resamples, level, seed, n_synth
    )
    return Benchmark(
        name=name, primary=primary, real_fingerprint=real.fingerprint,
        real_subjects=len(set(real.subjects)), protocol=protocol,
    )  # fmt: skip


# ---------------------------------------------------------------- cohorts and spaces


def _opened(benchmark: Path | Benchmark) -> Benchmark:
    return benchmark if isinstance(benchmark, Benchmark) else Benchmark.load(Path(benchmark))


def _reading(role: str, progress: Progress | None) -> Callable[[int], None] | None:
    return None if progress is None else lambda done: progress(f"checking {role}", done, 0)


def _cohorts(
    real: Path | str | Cohort,
    synth: Path | str | Cohort,
    assume_grid: Literal["real"] | float | None,
    progress: Progress | None,
) -> tuple[Cohort, Cohort]:
    if not isinstance(real, Cohort):
        given = assume_grid if isinstance(assume_grid, float) else None
        real = read_cohort(
            Path(real), role="real", assume_grid=given, progress=_reading("real", progress)
        )
    if not isinstance(synth, Cohort):
        grid = real.stored_grid if assume_grid == "real" else assume_grid
        synth = read_cohort(
            Path(synth), role="synth", assume_grid=grid, progress=_reading("synth", progress)
        )
    for role, cohort in (("real", real), ("synth", synth)):
        if len(set(cohort.subjects)) < 4:
            raise CohortError(
                f"{role}: at least 4 subjects are needed for a value with an interval and a floor; "
                f"found {len(set(cohort.subjects))}."
            )
    return real, synth


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


def _identical(real: Cohort, synth: Cohort) -> list[str]:
    notes = []
    inside = {"real": [e.digest for e in real.entries], "synth": [e.digest for e in synth.entries]}
    for role, digests in inside.items():
        repeated = len(digests) - len(set(digests))
        if repeated:
            notes.append(f"{role}: {repeated} volumes are identical to another of the set")
    shared = sum(digest in set(inside["real"]) for digest in inside["synth"])
    if shared:
        notes.append(f"{shared} synthetic volumes are identical to real ones")
    return notes


def _subsampled(cohort: Cohort, n: int, seed: int) -> Cohort:
    if len(cohort) < n:
        raise CohortError(
            f"synth: the benchmark scores {n} volumes; found {len(cohort)}. "
            f"Sample {n - len(cohort)} more."
        )
    chosen = np.sort(np.random.default_rng(seed).permutation(len(cohort))[:n])
    return cohort.subset(chosen)


def _origin(synth: Cohort) -> Origin:
    """Return what the sidecars of all volumes agree on; nothing where there are none."""
    sidecars: list[dict[str, Any]] = []
    for entry in synth.entries:
        file = entry.path.with_name(entry.path.name.split(".nii")[0] + ".json")
        try:
            found = json.loads(file.read_text())
        except (OSError, ValueError):
            return Origin()
        if not isinstance(found, dict) or not found.get("synthetic"):
            return Origin()
        sidecars.append(found)
    fields = [f for f in Origin.model_fields if f != "seconds_a_volume"]
    agreed = {f: sidecars[0].get(f) for f in fields
              if all(s.get(f) == sidecars[0].get(f) for s in sidecars)}  # fmt: skip
    seconds = [s["seconds"] for s in sidecars if isinstance(s.get("seconds"), (int, float))]
    mean = round(float(np.mean(seconds)), 3) if seconds else None
    try:
        return Origin(**agreed, seconds_a_volume=mean)
    except ValidationError:
        return Origin()  # another program's sidecars


# ---------------------------------------------------------------- features


def _features(
    names: Sequence[str],
    sides: Mapping[str, Volumes],
    batch_size: int,
    progress: Progress | None,
    say: Say,
) -> tuple[dict[str, Features], dict[str, str], list[ExtractorRecord]]:
    """Extract with every extractor; say why where one's weights cannot be had."""
    features: dict[str, Features] = {}
    missing: dict[str, str] = {}
    records = []
    for name in dict.fromkeys(names):
        extractor = registry.load("extractors", name)()
        try:
            _ready(extractor, say)
        except WeightsError as error:
            missing[name] = f"missing: synthbench fetch {name}"
            say(str(error))
        else:
            features[name] = {
                role: _extract(extractor, volumes, batch_size, f"{name}, {role}", progress)
                for role, volumes in sides.items()
            }
        records.append(
            ExtractorRecord(
                name=name, weights_sha256=extractor.weights_sha256, layer=extractor.layer,
                preprocessing=extractor.preprocessing, dim=extractor.dim,
            )
        )  # fmt: skip
    return features, missing, records


def _ready(extractor: Any, say: Say) -> None:
    """Load an extractor, fetching its weights on first use."""
    from synthbench.metrics.extractors import weights

    file = getattr(extractor, "weight_file", None)
    if file is not None and weights.locate(file) is None:
        say(f"fetching {file.name} ({file.megabytes} MB, licence {file.licence}) ...")
        weights.fetch(file)
    load = getattr(extractor, "load", None)
    if load is not None:
        load()


def _extract(
    extractor: Any, volumes: Volumes, batch_size: int, what: str, progress: Progress | None
) -> Float32[np.ndarray, "n d"]:
    import torch

    rows: list[Float32[np.ndarray, "b d"]] = []
    batch: list[Float32[np.ndarray, "d h w"]] = []
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for done, volume in enumerate(volumes, 1):
        batch.append(volume)
        if len(batch) == batch_size or done == len(volumes):
            stacked = torch.from_numpy(np.stack(batch)[:, None]).to(device)
            rows.append(extractor.features(stacked).cpu().numpy())
            batch = []
        if progress:
            progress(what, done, len(volumes))
    return np.concatenate(rows)


# ---------------------------------------------------------------- the protocol


def _mask_record(mask: Bool[np.ndarray, "d h w"]) -> MaskRecord:
    digest = hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()
    return MaskRecord(rule=MASK_RULE, voxels=int(mask.sum()), sha256=digest)


def _freeze(
    sides: Mapping[str, Volumes],
    mask: Bool[np.ndarray, "d h w"],
    features: Mapping[str, Features],
    records: Sequence[ExtractorRecord],
    subjects: Mapping[str, np.ndarray],
    ci: IntervalMethod | None,
    resamples: int,
    level: float,
    seed: int,
    n_synth: int | None = None,
) -> Protocol:
    """Settle every setting that can change a number, on the real cohort alone."""
    real = sides["real"]
    settings: dict[str, dict[str, Any]] = {}
    methods: dict[str, IntervalMethod] = {}
    for name in registry.names("metrics"):
        metric: Metric = registry.load("metrics", name)()
        methods[name] = ci or metric.interval
        if metric.needs == "volumes":
            settings[name] = {
                "formula": metric.formula,
                **metric.freeze(None, None, spacing=real.space.spacing),
            }
            continue
        for extractor, sets in features.items():
            settings[_key(name, extractor)] = {
                "formula": metric.formula,
                **metric.freeze(sets["real"], subjects["real"]),
            }
    return Protocol(
        space=SpaceRecord(
            shape=real.space.shape,
            affine=real.space.affine,
            intensity=real.intensity,
            scaling=INTENSITY_RULES[real.intensity],
        ),
        mask=_mask_record(mask),
        extractors=tuple(records),
        settings=settings,
        intervals=methods,
        level=level,
        resamples=resamples,
        floor_splits=FLOOR_SPLITS,
        permutations=PERMUTATIONS,
        seed=seed,
        n_real=len(real),
        n_synth=len(sides["synth"]) if n_synth is None else n_synth,
    )


def _key(metric: str, extractor: str | None) -> str:
    return metric if extractor is None else f"{metric} | {extractor}"


# ---------------------------------------------------------------- values


def _volume_rows(
    metric: VolumeMetric,
    sides: Mapping[str, Volumes],
    mask: Bool[np.ndarray, "d h w"],
    subjects: Mapping[str, np.ndarray],
    protocol: Protocol,
    progress: Progress | None,
) -> list[Value]:
    settings = _settings(metric, protocol, None)
    material: dict[str, Float64[np.ndarray, "n _"]] = {}
    try:
        for role, volumes in sides.items():
            shown = None
            if progress:
                shown = _pairs_shown(f"{metric.label}, {role}", progress)
            material[role] = metric.measure(volumes, mask, settings, shown)
    except MetricError as error:
        return [_missing(metric, f"missing: {error}", None)]
    return _rows(metric, material, subjects, protocol, None)


def _pairs_shown(what: str, progress: Progress) -> Callable[[int, int], None]:
    return lambda done, total: progress(what, done, total)


def _rows(
    metric: Metric,
    material: Mapping[str, np.ndarray],
    subjects: Mapping[str, np.ndarray],
    protocol: Protocol,
    extractor: str | None,
) -> list[Value]:
    """Return the metric's row, then a row for each of its parts."""
    settings = _settings(metric, protocol, extractor)
    real, synth = material["real"], material["synth"]
    statistic = metric.prepare(real, synth, subjects=subjects, **settings)
    both_real = {"real": subjects["real"], "synth": subjects["real"]}
    against_itself = metric.prepare(real, real, subjects=both_real, **settings)
    p = metric.p_value(
        real, synth, permutations=protocol.permutations, seed=protocol.seed,
        subjects=subjects, **settings,
    )  # fmt: skip
    rank = effective_rank(real) if extractor is not None else None
    method = protocol.intervals[metric.name]
    rows = [
        _row(metric, metric.name, metric.label, statistic, against_itself, protocol, method,
             extractor, p, rank)
    ]  # fmt: skip
    if isinstance(statistic, Composite):
        for part, (label, inner) in statistic.parts().items():
            rows.append(
                _row(metric, f"{metric.name}.{part}", label, inner, None, protocol, method,
                     extractor, None, None)
            )  # fmt: skip
    return rows


def _row(
    metric: Metric,
    name: str,
    label: str,
    statistic: Statistic,
    against_itself: Statistic | None,
    protocol: Protocol,
    method: IntervalMethod,
    extractor: str | None,
    p: float | None,
    rank: float | None,
) -> Value:
    interval = inference.interval(
        statistic, method, resamples=protocol.resamples, level=protocol.level, seed=protocol.seed
    )
    return Value(
        metric=name,
        label=label,
        extractor=extractor,
        direction=metric.direction,
        value=inference.estimate(statistic),
        interval=IntervalRecord(
            low=interval.low, high=interval.high, level=interval.level, method=interval.method,
            label=interval.label,
        ),
        floor=None if against_itself is None else _floor(statistic, against_itself, protocol),
        p=p,
        effective_rank=rank,
    )  # fmt: skip


def _floor(statistic: Statistic, against_itself: Statistic, protocol: Protocol) -> FloorRecord:
    """Real against real at n' = half the real subjects, and synth at the same n'."""
    splits, seed = protocol.floor_splits, protocol.seed
    available = [inference.n_subjects(index) for index in statistic.subjects.values()]
    n = min(inference.n_subjects(against_itself.subjects["real"]) // 2, *available)
    floor = inference.floor(against_itself, n=n, splits=splits, seed=seed)
    matched = inference.matched(statistic, n, repeats=splits, seed=seed)
    return FloorRecord(
        n=n, mean=floor.mean, low=floor.low, high=floor.high, synth_mean=matched.mean
    )


def _settings(metric: Metric, protocol: Protocol, extractor: str | None) -> dict[str, Any]:
    key = _key(metric.name, extractor)
    if key not in protocol.settings:
        raise ScorecardError(
            f"the protocol was frozen without '{key}': it is of another version of synthbench or "
            "of other plugins. Freeze the benchmark anew."
        )
    settings = dict(protocol.settings[key])
    formula = settings.pop("formula")
    if formula != metric.formula:
        raise ScorecardError(
            f"{key}: the benchmark was frozen with the formula '{formula}'; this version has "
            f"'{metric.formula}'. Use the version of synthbench that froze it."
        )
    return settings


def _missing(metric: Metric, why: str, extractor: str | None) -> Value:
    return Value(
        metric=metric.name, label=metric.label, extractor=extractor,
        direction=metric.direction, missing=why,
    )  # fmt: skip
