"""From volumes to statistics: what the metrics need of a set of volumes, computed once.

A `Sample` is a set of volumes with its features (`synthbench.scoring.features`) and measures. A
`Job` is a metric, with one extractor where it works on features. `prepared` returns the statistic
of a job on two samples, on which all inference works.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from synthbench import registry
from synthbench.errors import UsageError
from synthbench.metrics.fid import effective_rank
from synthbench.metrics.metric import Composite, CrossMetric, Metric, Statistic, VolumeMetric
from synthbench.records.keys import JobKey
from synthbench.records.protocol import Protocol
from synthbench.runtime.callbacks import Progress, shown
from synthbench.scoring.cache.measures import Measuring
from synthbench.scoring.cache.store import Cache
from synthbench.volumes.sets import Chosen, Cleaned, Joined, Readable

SAMPLED_IMAGES = "sampled_images"
"""The frozen setting of a metric of pairs of volumes: it is computed on at most so many volumes of
each set, drawn by the seed. Their pairs are a design of all pairs, and an interval that resamples
them includes the choice. A protocol without it takes all volumes."""


@dataclass
class Sample:
    """A set of volumes, and what was computed from it.

    Attributes
    ----------
    role
        Its name in progress bars and messages.
    volumes
        The volumes, in the common space.
    subjects
        The number of each volume's subject, from 0.
    threshold
        What a voxel must exceed for extractors to see it (`BackgroundRecord`). None: they get the
        volumes as they are.
    features
        By extractor, one row per volume.
    measures
        By metric, the matrix that `VolumeMetric.measure` returned.
    ranks
        By extractor, the effective rank of the features where it was asked for.
    """

    role: str
    volumes: Readable
    subjects: np.ndarray
    threshold: Float32[np.ndarray, "d h w"] | None = None
    features: dict[str, Float32[np.ndarray, "n d"]] = field(default_factory=dict)
    measures: dict[str, Float64[np.ndarray, "n _"]] = field(default_factory=dict)
    ranks: dict[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.volumes)

    @property
    def inputs(self) -> Readable:
        """The volumes as extractors get them."""
        return self.volumes if self.threshold is None else Cleaned(self.volumes, self.threshold)

    def rank(self, extractor: str) -> float:
        """Return the effective rank of an extractor's features, which is computed once.

        Raises
        ------
        MetricError
            The features are unusable, or constant.
        """
        if extractor not in self.ranks:
            self.ranks[extractor] = effective_rank(self.features[extractor])
        return self.ranks[extractor]

    def drawn(self, most: int, seed: int) -> Sample:
        """Return this sample, or `most` random volumes of it where it has more.

        They are those that `chosen` names.
        """
        if len(self) <= most:
            return self
        return self._of(self.chosen(most, seed))

    def without(self, indices: Collection[int]) -> Sample:
        """Return the sample without some of its volumes."""
        return self._of(np.delete(np.arange(len(self)), list(indices)))

    def _of(self, chosen: Int64[np.ndarray, " k"]) -> Sample:
        return Sample(
            role=self.role,
            volumes=Chosen(self.volumes, chosen.tolist()),
            subjects=np.unique(self.subjects[chosen], return_inverse=True)[1],
            threshold=self.threshold,
            features={name: rows[chosen] for name, rows in self.features.items()},
        )

    def chosen(self, most: int, seed: int) -> Int64[np.ndarray, " k"]:
        """Return the indices of `most` random volumes, or of all where there are not more.

        They depend on the seed, the role and the number of volumes only.
        """
        if len(self) <= most:
            return np.arange(len(self))
        rng = np.random.default_rng([seed, *self.role.encode()])
        return np.sort(rng.choice(len(self), most, replace=False))

    def joined(self, other: Sample) -> Sample:
        """Return this sample followed by one of other subjects, with the features of both."""
        return Sample(
            role=f"{self.role} and {other.role}",
            volumes=Joined(self.volumes, other.volumes),
            subjects=np.concatenate([self.subjects, self.subjects.max() + 1 + other.subjects]),
            threshold=self.threshold,
            features={
                name: np.concatenate([rows, other.features[name]])
                for name, rows in self.features.items()
            },
        )


@dataclass(frozen=True)
class Job:
    """A metric, and the extractor whose features it works on; None for a metric of volumes."""

    metric: Metric
    extractor: str | None

    @property
    def key(self) -> str:
        """The name under which a protocol keeps its settings."""
        return str(JobKey(self.metric.name, extractor=self.extractor))

    def material(self, sample: Sample, n: int | None = None) -> Float64[np.ndarray, "n _"]:
        """Return the matrix that the metric takes of a sample, or of its first n volumes."""
        if self.extractor is not None:
            return sample.features[self.extractor][:n]
        measured = sample.measures[self.metric.name]
        assert isinstance(self.metric, VolumeMetric)
        return measured[:n, :n] if self.metric.pairs else measured[:n]


def sampled(job: Job, sample: Sample, protocol: Protocol) -> Sample:
    """Return the volumes of a sample that a metric is computed on."""
    most = protocol.settings[job.key].get(SAMPLED_IMAGES)
    return sample if most is None else sample.drawn(most, protocol.seed)


def jobs(metrics: Iterable[str], extractors: Sequence[str]) -> list[Job]:
    """Return one job per metric of volumes, and one per metric of features and extractor.

    They are in the order of the metrics. Metrics that need the training images have no job here:
    `synthbench.scoring.memorization` computes them. A metric of measures that a person can name
    has jobs for the extractors that give such measures only.

    Raises
    ------
    UsageError
        A metric's name is unknown.
    """
    found: list[Job] = []
    for name in metrics:
        metric: Metric = registry.load("metrics", name)()
        if metric.needs == "features":
            found += [
                Job(metric, extractor)
                for extractor in extractors
                if not getattr(metric, "of_measures", False) or _gives_measures(extractor)
            ]
        elif metric.needs == "volumes":
            found.append(Job(metric, None))
    return found


def _gives_measures(extractor: str) -> bool:
    """Return whether an extractor's features have names; a file of the user has none."""
    try:
        found = registry.load("extractors", extractor)()
    except UsageError:
        return False
    return bool(getattr(found, "measures", ()))


def measure(
    job: Job,
    sample: Sample,
    mask: Bool[np.ndarray, "d h w"],
    settings: Mapping[str, Any],
    progress: Progress | None = None,
    cache: Cache | None = None,
) -> None:
    """Compute a metric's measures of a sample's volumes, unless the sample or the cache has them.

    Raises
    ------
    MetricError
        The volumes do not fit the metric.
    """
    metric = job.metric
    if isinstance(metric, VolumeMetric) and metric.name not in sample.measures:
        bar = shown(f"{metric.label}, {sample.role}", progress)
        measuring = Measuring(metric, mask, settings, cache, bar)
        sample.measures[metric.name] = measuring.within(sample.volumes)


def across(
    job: Job,
    real: Sample,
    synth: Sample,
    mask: Bool[np.ndarray, "d h w"],
    settings: Mapping[str, Any],
    progress: Progress | None = None,
    cache: Cache | None = None,
) -> Float64[np.ndarray, "n m"] | None:
    """Return the matrix over pairs of a real and a synthetic volume; None without one."""
    if not isinstance(job.metric, CrossMetric):
        return None
    bar = shown(f"{job.metric.label}, {real.role} x {synth.role}", progress)
    measuring = Measuring(job.metric, mask, settings, cache, bar)
    return measuring.across(real.volumes, synth.volumes)


def prepared(
    job: Job,
    real: Float64[np.ndarray, "n _"],
    synth: Float64[np.ndarray, "m _"],
    subjects: Mapping[str, np.ndarray],
    settings: Mapping[str, Any],
    cross: Float64[np.ndarray, "n m"] | None = None,
) -> Statistic:
    """Return the job's statistic of a real and a synthetic set."""
    extra = {} if cross is None else {"cross": cross}
    return job.metric.prepare(real, synth, subjects=subjects, **extra, **settings)


def against_itself(
    job: Job, sample: Sample, settings: Mapping[str, Any], dose: float = 0.0
) -> Statistic:
    """Return the job's statistic of one sample in both roles, for the floor.

    With a dose, the sample in the synthetic role is shifted by it (`shifted`).
    """
    material = job.material(sample)
    moved = shifted(job.metric, material, dose) if dose else material
    subjects = {"real": sample.subjects, "synth": sample.subjects}
    cross = moved if isinstance(job.metric, CrossMetric) else None
    return prepared(job, material, moved, subjects, settings, cross)


def shift_of(
    job: Job, sample: Sample, settings: Mapping[str, Any], part: str | None = None
) -> Callable[[float], Statistic] | None:
    """Return the function from a dose to the statistic of a sample and of it shifted by the dose.

    It is that of a part where one is named. None for a metric whose value depends on pairs of
    both sets: `shifted` has no such pairs.
    """
    if isinstance(job.metric, CrossMetric) and job.metric.needs_cross:
        return None

    def at(dose: float) -> Statistic:
        whole = against_itself(job, sample, settings, dose)
        if part is None:
            return whole
        assert isinstance(whole, Composite)
        return whole.parts()[part].statistic

    return at


def shifted(
    metric: Metric, material: Float64[np.ndarray, "n _"], dose: float
) -> Float64[np.ndarray, "n _"]:
    """Return a matrix of images that all differ in one way: the alternative of power.

    Every column (a feature, a bin of a profile) is raised by `dose` of its standard deviations
    over the images. In a matrix over pairs, every pair is raised by `dose` standard deviations of
    the pairs, so that all images are more alike.
    """
    rows = np.asarray(material, dtype=np.float64)
    if isinstance(metric, VolumeMetric) and metric.pairs:
        # The diagonal holds an image with itself; NaN is a pair that was not computed.
        apart = np.where(np.eye(len(rows), dtype=np.bool_), np.nan, rows)
        return rows + dose * float(np.nanstd(apart))
    moved: Float64[np.ndarray, "n _"] = rows + dose * rows.std(axis=0)
    return moved
