"""A sensitivity study: known damage to real volumes, dose by dose, scored by every metric.

Every dose is scored as the floor is: undamaged volumes of one random half of the subjects against
damaged volumes of the other half, over many splits. So dose zero is the floor itself, and a curve
has the n of the column `synth (n=...)` of a scorecard on the same cohort. A value in that column
can be read back on the curve (`synthbench.sensitivity.read_back.read_back`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from synthbench.cohorts.choice import CohortFiles
from synthbench.cohorts.cohort import Cohort
from synthbench.cohorts.reading import read_cohort
from synthbench.errors import CohortError, MetricError
from synthbench.metrics.inference import floors, resampling
from synthbench.metrics.inference.contracts import Spread
from synthbench.metrics.memorization import Memorization
from synthbench.metrics.metric import (
    Composite,
    CrossMetric,
    Direction,
    Metric,
    Part,
    Statistic,
    Target,
)
from synthbench.metrics.nearest.distances import feature_distances
from synthbench.records.cohort import CohortRecord
from synthbench.records.keys import JobKey
from synthbench.records.protocol import BackgroundRecord, Protocol
from synthbench.records.reasons import public_words
from synthbench.records.scorecard import software
from synthbench.runtime.callbacks import Progress, checking, shown
from synthbench.runtime.processes import is_main
from synthbench.scoring.benchmark import Benchmark, settings_and_benchmark
from synthbench.scoring.cache.measures import real_mask
from synthbench.scoring.cache.store import Cache
from synthbench.scoring.features import Extractors, add_features, load_extractors
from synthbench.scoring.protocol import (
    check_frozen,
    check_names,
    freeze_protocol,
    frozen_settings,
    metrics_of,
)
from synthbench.scoring.settings import Context, ScoringSettings
from synthbench.scoring.statistics import Job, Sample, jobs, measure, prepared
from synthbench.sensitivity.corruptions.base import Corruption, Pick, SetCorruption
from synthbench.sensitivity.corruptions.corrupted import CORRUPTIONS, Corrupted, corruption
from synthbench.sensitivity.corruptions.of_sets import share_count
from synthbench.sensitivity.curve import Curve, Floor, Row
from synthbench.sensitivity.read_back import Sensitivity
from synthbench.volumes.grid import Space
from synthbench.volumes.sets import Readable, identity_of, name_of

FEWEST_SUBJECTS = 12
"""Subjects that the cohort needs at least."""

SET_SPLITS = 50
"""Random halves over which a corruption of the set is averaged; each has its own damaged sets."""

HELD_BYTES = 2**32
"""Volumes are kept in memory up to this size in bytes; larger sets are read for every dose."""


def sensitivity(
    real: Path | str | CohortFiles | Cohort,
    settings: ScoringSettings | Benchmark | None = None,
    context: Context | None = None,
    *,
    corruptions: Sequence[str | Corruption] | None = None,
    assume_grid: float | None = None,
) -> Sensitivity:
    """Return the curves of all metrics under growing doses of known damage to real volumes.

    Parameters
    ----------
    real
        A cohort, or what `read_cohort` reads: at least 12 subjects.
    settings
        The settings, or a benchmark that was frozen on this cohort; None: the defaults. The
        intensity rule is applied again to damaged volumes. The seed is also that of the damage
        and of the splits.
    context
        Workers, cache, progress and log. Damaged volumes are never kept in the cache.
    corruptions
        Corruptions, or their names in
        `synthbench.sensitivity.corruptions.corrupted.CORRUPTIONS`; None: all of these.
    assume_grid
        Isotropic voxel size in mm of arrays without geometry.

    Raises
    ------
    SynthbenchError
        The cohort cannot be used or is too small, a name is unknown, or the benchmark was frozen
        on other data.
    """
    context = context or Context()
    wanted = CORRUPTIONS if corruptions is None else corruptions
    chosen = [corruption(kind) if isinstance(kind, str) else kind for kind in wanted]
    own, frozen = settings_and_benchmark(settings or ScoringSettings())
    if frozen is None:
        check_names(own)
    real = _read(real, assume_grid, context)
    if frozen is not None:
        frozen.check_real(real)
    study = _prepared(real, own, frozen, context)
    todo = study.measured(context.cache)
    if context.cache is not None and is_main():
        context.cache.trim()
    memorization = "memorization" in metrics_of(own)
    if memorization and not any(_needs_training(kind) for kind in chosen):
        study.notes.append(
            "memorization: not assessed: it responds to copies of training volumes; add "
            "--corruption copies"
        )
    rows: list[Row] = []
    for kind in chosen:
        if isinstance(kind, SetCorruption) and not _keeps_places(kind):
            rows += study.of_sets(kind, todo, memorization)
        else:
            rows += study.of_volumes(kind, todo)
    return Sensitivity(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        real=CohortRecord.of(real),
        n=len(set(real.subjects)) // 2,
        protocol=study.protocol,
        seed=study.protocol.seed,
        rows=tuple(rows),
        notes=tuple(study.notes),
        software=software("torch", "numpy", "scipy"),
    )


def _read(
    real: Path | str | CohortFiles | Cohort, assume_grid: float | None, context: Context
) -> Cohort:
    if not isinstance(real, Cohort):
        real = read_cohort(
            real, role="real", assume_grid=assume_grid,
            progress=checking("real", context.progress),
        )  # fmt: skip
    for remark in real.remarks:
        context.log(f"{remark.severity}: real: {remark.message}")
    subjects = len(set(real.subjects))
    if subjects < FEWEST_SUBJECTS:
        raise CohortError(
            f"real: sensitivity needs at least {FEWEST_SUBJECTS} subjects, "
            f"{FEWEST_SUBJECTS // 2} per side; found {subjects}."
        )
    return real


def _prepared(
    real: Cohort, settings: ScoringSettings, frozen: Benchmark | None, context: Context
) -> _Study:
    """Return a study with the undamaged volumes, their features and the frozen protocol."""
    grid, intensity = settings.grid(real.grid), settings.intensity
    volumes = Held.of(real.volumes(grid, intensity, context.workers))
    mask = None if frozen is None else frozen.mask
    if mask is None:
        mask = real_mask(real.volumes(grid, intensity, context.workers), context.cache)
    allowed = None if frozen is None else context.networks
    loaded = load_extractors(settings.extractors, context.log, allowed, context.progress)
    threshold = BackgroundRecord.threshold_of(settings.background, mask, grid)
    clean = Sample("undamaged", volumes, real.subjects, threshold)
    add_features([clean], loaded, context)
    todo = [
        job
        for job in jobs(metrics_of(settings), loaded.names)
        if job.extractor not in loaded.missing
    ]
    if frozen is None:
        protocol = freeze_protocol(settings, clean, grid, mask, todo, loaded, len(clean) // 2)
    else:
        check_frozen(frozen, mask, loaded)
        protocol = frozen.protocol
    notes = [f"{name}: {why}" for name, why in loaded.missing.items()]
    return _Study(clean, volumes, mask, loaded, protocol, todo, notes, replace(context, cache=None))


def _needs_training(kind: Corruption) -> bool:
    return isinstance(kind, SetCorruption) and kind.needs_training


def pictured(study: Sensitivity) -> list[str] | None:
    """Return the metrics and parts that declare themselves drawn; None where none does."""
    return list(dict.fromkeys(row.metric for row in study.rows if row.drawn)) or None


# ---------------------------------------------------------------- volumes in memory


@dataclass(frozen=True, eq=False)
class Held:
    """Volumes of one grid, kept in memory where they fit, because every dose reads all of them."""

    source: Readable | Sequence[Float32[np.ndarray, "d h w"]]
    space: Space
    read_from: Readable | None = None

    @classmethod
    def of(cls, volumes: Readable) -> Held:
        """Return the volumes in memory, or as they are read where they do not fit."""
        size = 4 * int(np.prod(volumes.space.shape)) * len(volumes)
        return cls(list(volumes) if size <= HELD_BYTES else volumes, volumes.space, volumes)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Float32[np.ndarray, "d h w"]:
        return self.source[index]

    def __iter__(self) -> Iterator[Float32[np.ndarray, "d h w"]]:
        return iter(self.source)

    def name(self, index: int) -> str:
        """Return the name of a volume in messages."""
        return f"volume {index}" if self.read_from is None else name_of(self.read_from, index)

    def identity(self, index: int) -> str | None:
        """Return the identity of a volume's voxels for the cache; None in a subset."""
        return None if self.read_from is None else identity_of(self.read_from, index)

    def subset(self, indices: Int64[np.ndarray, " k"]) -> Held:
        """Return the volumes with these indices, in this order."""
        return Held([self.source[int(i)] for i in indices], self.space)


# ---------------------------------------------------------------- the study


def _keeps_places(kind: SetCorruption) -> bool:
    """Return True where volume i of the damaged set is still of subject i, as under flips."""
    return kind.name == "flip"


@dataclass(frozen=True)
class _Draw:
    """One random division of the cohort: indices of real, training and synthetic volumes.

    `sets` holds the synthetic ones at each dose, all as many as `real`.
    """

    real: Int64[np.ndarray, " n"]
    training: Int64[np.ndarray, " n"]
    sets: list[Int64[np.ndarray, " n"]]


@dataclass(frozen=True)
class _Study:
    """The undamaged volumes of a study, its protocol, and the steps that score damaged ones."""

    clean: Sample
    volumes: Held
    mask: Bool[np.ndarray, "d h w"]
    extractors: Extractors
    protocol: Protocol
    todo: list[Job]
    notes: list[str]
    context: Context

    def settings(self, job: Job) -> dict[str, Any]:
        return frozen_settings(job.metric, job.key, self.protocol)

    @property
    def progress(self) -> Progress:
        return self.context.progress

    def measured(self, cache: Cache | None) -> list[Job]:
        """Measure the undamaged volumes; return the jobs that succeed, and note why others fail."""
        done = []
        for job in self.todo:
            try:
                measure(job, self.clean, self.mask, self.settings(job), self.progress, cache)
                done.append(job)
            except MetricError as error:
                self.context.log(f"{job.key}: {error}")
                self.notes.append(f"{job.key}: {public_words(error)}")
        return done

    @property
    def clean_side(self) -> int:
        """Volumes per side where the undamaged ones are split in two."""
        return len(np.unique(self.clean.subjects)) // 2

    # Damage to volumes: every volume has a damaged version.

    def of_volumes(self, kind: Corruption, todo: Sequence[Job]) -> list[Row]:
        doses = (0.0, *_doses(kind, len(self.clean)))
        samples = [self.clean, *(self._damaged(kind, dose, todo) for dose in doses[1:])]
        rows = []
        for job in todo:
            spreads: dict[str, list[Spread]] = {}
            for sample in samples:
                for name, part in _with_parts(job, self._statistic(job, sample)).items():
                    spread = self._between_halves(job, part.statistic)
                    spreads.setdefault(name, []).append(spread)
            parts = _with_parts(job, self._statistic(job, self.clean))
            rows += [_row(kind, doses, job, name, parts[name], s) for name, s in spreads.items()]
        return rows

    def _damaged(self, kind: Corruption, dose: float, todo: Sequence[Job]) -> Sample:
        intensity = self.protocol.space.intensity
        damaged = Corrupted(self.volumes, kind, dose, self.protocol.seed, intensity=intensity)
        # Each measure reads all volumes: they are damaged once for all of them.
        held = Held.of(damaged)
        sample = Sample(kind.sentence(dose), held, self.clean.subjects, self.clean.threshold)
        add_features([sample], self.extractors, self.context)
        for job in todo:
            measure(job, sample, self.mask, self.settings(job), self.progress)
        # What compares two sets reads them again later: the doses are not all kept in memory.
        return replace(sample, volumes=damaged)

    def _statistic(self, job: Job, sample: Sample) -> Statistic:
        """Return the statistic of undamaged volumes as real and a sample as synthetic."""
        settings, cross = self.settings(job), None
        metric = job.metric
        if isinstance(metric, CrossMetric) and metric.needs_cross:
            bar = shown(f"{metric.label}, {sample.role}", self.progress)
            cross = metric.measure_across(
                self.clean.volumes, sample.volumes, self.mask, settings, bar
            )
        subjects = {"real": self.clean.subjects, "synth": sample.subjects}
        material = (job.material(self.clean), job.material(sample))
        return prepared(job, *material, subjects, settings, cross)

    def _between_halves(self, job: Job, statistic: Statistic) -> Spread:
        return floors.floor(
            statistic, splits=self.protocol.floor_splits, seed=self.protocol.seed,
            direction=job.metric.direction,
        )  # fmt: skip

    # Damage to the set: the volumes are undamaged, so all measures exist and rows are selected.

    def of_sets(self, kind: SetCorruption, todo: Sequence[Job], memorization: bool) -> list[Row]:
        rng = np.random.default_rng([self.protocol.seed, *kind.name.encode()])
        first = np.unique(self.clean.subjects, return_index=True)[1]
        parts = 3 if kind.needs_training else 2
        side = len(first) // parts
        doses = (0.0, *_doses(kind, side))
        draws = []
        for split in range(SET_SPLITS):
            order = rng.permutation(first)
            real, synth, training = (order[i * side : (i + 1) * side] for i in range(3))
            sets = [
                _picked(kind, dose, self.volumes.subset(synth), synth, training, split)
                for dose in doses
            ]
            n = min(len(chosen) for chosen in sets)
            picked = [rng.permutation(chosen)[:n] for chosen in sets]
            draws.append(_Draw(real[:n], training, picked))
            self.progress(kind.label, split + 1, SET_SPLITS)
        if (n := len(draws[0].real)) < self.clean_side:
            self.notes.append(f"{kind.label}: {n} volumes per side")
        rows: list[Row] = []
        for job in todo:
            try:
                rows += self._of_sets(kind, job, doses, draws)
            except MetricError as error:
                self.context.log(f"{kind.label}, {job.key}: {error}")
                self.notes.append(f"{kind.label}, {job.key}: {public_words(error)}")
        if memorization and kind.needs_training:
            rows += [
                self._memorization(kind, name, doses, draws) for name in self.extractors.loaded
            ]
        return rows

    def _of_sets(
        self, kind: SetCorruption, job: Job, doses: Sequence[float], draws: Sequence[_Draw]
    ) -> list[Row]:
        values: dict[str, list[list[float]]] = {}
        parts: dict[str, Part] = {}
        for draw in draws:
            for d, synth in enumerate(draw.sets):
                statistic = self._picked_statistic(job, draw.real, synth)
                for name, part in _with_parts(job, statistic).items():
                    parts[name] = part
                    per_dose = values.setdefault(name, [[] for _ in doses])
                    per_dose[d].append(resampling.estimate(part.statistic))
        n = len(draws[0].real)
        return [
            _row(kind, doses, job, name, parts[name], [_spread(v, n) for v in found])
            for name, found in values.items()
        ]

    def _picked_statistic(
        self, job: Job, real: Int64[np.ndarray, " n"], synth: Int64[np.ndarray, " n"]
    ) -> Statistic:
        material = job.material(self.clean)
        cross = None
        if isinstance(job.metric, CrossMetric) and job.metric.needs_cross:
            cross = material[np.ix_(real, synth)]
        sides = [
            material[np.ix_(chosen, chosen)] if _over_pairs(job.metric) else material[chosen]
            for chosen in (real, synth)
        ]
        # A copy counts as another volume: a metric does not know that it is a copy.
        subjects = {"real": np.arange(len(real)), "synth": np.arange(len(synth))}
        return prepared(job, sides[0], sides[1], subjects, self.settings(job), cross)

    def _memorization(
        self, kind: SetCorruption, extractor: str, doses: Sequence[float], draws: Sequence[_Draw]
    ) -> Row:
        metric = Memorization()
        settings = frozen_settings(metric, metric.name, self.protocol)
        x = self.clean.features[extractor]
        values = [
            [
                metric.assess(
                    feature_distances(x[draw.sets[d]], x[draw.training], x[draw.real]),
                    permutations=100, seed=self.protocol.seed, **settings,
                ).value
                for draw in draws
            ]
            for d in range(len(doses))
        ]  # fmt: skip
        spreads = [_spread(v, len(draws[0].real)) for v in values]
        curve = _curve(doses, kind.unit, spreads, metric.direction, metric.target)
        return Row.of(kind, metric.name, metric.label, curve, extractor, metric.drawn)


def _over_pairs(metric: Metric) -> bool:
    return bool(getattr(metric, "pairs", False))


def _picked(
    kind: SetCorruption,
    dose: float,
    volumes: Held,
    synth: Int64[np.ndarray, " n"],
    training: Int64[np.ndarray, " n"],
    split: int,
) -> Int64[np.ndarray, " k"]:
    """Return the indices in the cohort of the volumes that make up the damaged set."""
    picks: Sequence[Pick] = [Pick(i) for i in range(len(synth))]
    if dose:
        # One random stream for all doses: a larger share includes the changes of a smaller one.
        rng = np.random.default_rng([split, *kind.name.encode()])
        picks = kind.choose(volumes, dose, rng, len(training))
    return np.array([(training if pick.training else synth)[pick.index] for pick in picks])


def _with_parts(job: Job, statistic: Statistic) -> dict[str, Part]:
    """Return the statistic, and those of its parts that compare the two sets, by their rows."""
    metric = job.metric
    found = {metric.name: Part(metric.label, statistic, drawn=metric.drawn)}
    if isinstance(statistic, Composite):
        found |= {
            JobKey(metric.name, key).row: part
            for key, part in statistic.parts().items()
            if set(part.statistic.subjects) == {"real", "synth"}
        }
    return found


def _spread(values: Sequence[float], n: int) -> Spread:
    array: Float64[np.ndarray, " r"] = np.asarray(values, dtype=np.float64)
    low, high = np.quantile(array, [0.025, 0.975])
    return Spread(float(array.mean()), float(low), float(high), n=n, repeats=len(array))


def _doses(kind: Corruption, n: int) -> tuple[float, ...]:
    """Return the doses for n volumes; shares that give the same number of volumes are one dose."""
    if not isinstance(kind, SetCorruption):
        return kind.doses
    return tuple(dict.fromkeys(100 * share_count(dose, n) / n for dose in kind.doses))


def _row(
    kind: Corruption,
    doses: Sequence[float],
    job: Job,
    name: str,
    part: Part,
    spreads: Sequence[Spread],
) -> Row:
    direction = part.direction or job.metric.direction
    curve = _curve(doses, kind.unit, spreads, direction, job.metric.target)
    return Row.of(kind, name, part.label, curve, job.extractor, part.drawn)


def _curve(
    doses: Sequence[float],
    unit: str,
    spreads: Sequence[Spread],
    direction: Direction,
    target: Target,
) -> Curve:
    """Return the curve of one metric, whose floor is the value of the undamaged volumes."""
    floor = Floor.of(spreads[0])
    # Where nearly all splits agree, the mean can lie outside of the percentiles.
    low, high = min(floor.low, floor.mean), max(floor.high, floor.mean)
    return Curve(
        doses=tuple(doses),
        values=tuple(spread.mean for spread in spreads),
        intervals=tuple((spread.low, spread.high) for spread in spreads),
        floor=floor.model_copy(update={"low": low, "high": high}),
        direction=direction,
        target=target,
        unit=unit,
    )
