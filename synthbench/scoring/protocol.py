"""Freezing a protocol on a real cohort, and checking later scorings against it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import chain
from typing import Any, TypeGuard

import numpy as np
from jaxtyping import Bool

from synthbench import registry
from synthbench.cohorts.cohort import MASK_RULE
from synthbench.errors import ScorecardError, UsageError
from synthbench.metrics.inference.resampling import LARGE_SET
from synthbench.metrics.measures.morphometry import Morphometry
from synthbench.metrics.metric import Indexed, IntervalMethod, Metric, MultiScale, VolumeMetric
from synthbench.records.protocol import MaskRecord, Protocol, SpaceRecord
from synthbench.scoring.benchmark import Benchmark
from synthbench.scoring.features import Extractors, named_extractors
from synthbench.scoring.settings import DEFAULT, DEFAULT_METRICS, ScoringSettings
from synthbench.scoring.statistics import SAMPLED_IMAGES, Job, Sample
from synthbench.volumes.grid import Space
from synthbench.volumes.intensity import quantity

FLOOR_SPLITS = 200
"""Random divisions of the real volumes over which a floor is taken."""
PERMUTATIONS = 1000
"""Permutations of each test."""
LARGE_FLOOR_SPLITS = 40
LARGE_PERMUTATIONS = 200
"""The same, where a set has more than `LARGE_SET` images: a value then takes minutes, not
milliseconds, and varies little."""


def metrics_of(settings: ScoringSettings) -> tuple[str, ...]:
    """Return the names of the metrics that these settings score, each once."""
    chosen = (DEFAULT,) if settings.metrics is None else settings.metrics
    names = [(DEFAULT_METRICS if name == DEFAULT else (name,)) for name in chosen]
    return tuple(dict.fromkeys(chain.from_iterable(names)))


def check_names(settings: ScoringSettings, *, tables: bool = False) -> None:
    """Raise where a setting names what there is not, before volumes are read.

    Parameters
    ----------
    settings
        The settings that the user chose.
    tables
        True where there are tables of measures: regional morphometry can do without an extractor.

    Raises
    ------
    UsageError
        There is no such extractor, metric or intensity rule; the message names the nearest. Or a
        metric needs measures that a person can name, and no extractor gives them.
    """
    metrics = metrics_of(settings)
    for name in metrics:
        check_metric_name(name, "--metric")
    extractors = named_extractors(settings.extractors).values()
    if not any(getattr(extractor, "measures", ()) for extractor in extractors):
        for name in metrics:
            of_measures = getattr(registry.load("metrics", name)(), "of_measures", False)
            if of_measures and not (tables and name == Morphometry.name):
                raise UsageError(
                    f"--metric {name}: it needs measures that a person can name, and no extractor "
                    "here gives them. Add --extractor regions, anatomy or anatomy-limits."
                )
    quantity(settings.intensity)
    if settings.scales is not None and not any(
        has_scales(registry.load("metrics", name)()) for name in metrics
    ):
        raise UsageError(
            f"--scales {settings.scales}: none of the metrics has scales to choose "
            f"({', '.join(metrics)}). Leave it out, or add --metric ms_ssim."
        )


def has_scales(metric: Metric) -> TypeGuard[MultiScale]:
    """Return True where a user may choose a metric's number of scales."""
    return isinstance(metric, MultiScale) and metric.role != "for_papers"


def check_metric_name(name: str, option: str) -> None:
    """Raise `UsageError`, naming the option, where there is no such metric."""
    try:
        registry.load("metrics", name)
    except UsageError as error:
        raise UsageError(f"{option}: {error}") from error


def freeze_protocol(
    settings: ScoringSettings,
    real: Sample,
    space: Space,
    mask: Bool[np.ndarray, "d h w"],
    todo: Sequence[Job],
    extractors: Extractors,
    n_synth: int,
) -> Protocol:
    """Return the protocol: every setting that can change a number, from the real cohort alone.

    Parameters
    ----------
    settings
        The settings that the user chose.
    real
        The real volumes in the common space, with their features.
    space
        The common grid.
    mask
        Frozen from the real volumes.
    todo
        The jobs of the metrics.
    extractors
        Metrics of loaded extractors freeze settings; missing extractors are only recorded.
    n_synth
        How many synthetic volumes are scored.
    """
    large = max(len(real), n_synth) > LARGE_SET
    frozen: dict[str, dict[str, Any]] = {}
    methods: dict[str, IntervalMethod] = {}
    for name in metrics_of(settings):
        metric: Metric = registry.load("metrics", name)()
        own = getattr(metric, "large_interval", None) if large else None
        methods[name] = settings.interval_of(name) or own or metric.interval
        if metric.needs == "training":
            frozen[name] = {"formula": metric.formula, **metric.freeze(None, None)}
    for job in todo:
        if job.extractor is None:
            chosen = job.metric.freeze(None, None, spacing=space.spacing)
            if settings.scales is not None and has_scales(job.metric):
                chosen = job.metric.with_scales(chosen, settings.scales)
            if large and isinstance(job.metric, VolumeMetric) and job.metric.pairs:
                chosen = {**chosen, SAMPLED_IMAGES: LARGE_SET}
        elif job.extractor in extractors.loaded:
            chosen = job.metric.freeze(real.features[job.extractor], real.subjects)
            if settings.index and isinstance(job.metric, Indexed):
                chosen = job.metric.with_index(chosen, max(len(real), n_synth))
        else:
            continue
        frozen[job.key] = {"formula": job.metric.formula, **chosen}
    return Protocol(
        space=SpaceRecord.of(space, settings.intensity),
        mask=_mask_record(mask),
        extractors=tuple(extractors.records),
        settings=frozen,
        intervals=methods,
        level=settings.level,
        resamples=settings.resamples,
        floor_splits=LARGE_FLOOR_SPLITS if large else FLOOR_SPLITS,
        permutations=LARGE_PERMUTATIONS if large else PERMUTATIONS,
        seed=settings.seed,
        n_real=len(real),
        n_synth=n_synth,
        background=settings.background,
    )  # fmt: skip


def check_frozen(
    benchmark: Benchmark, mask: Bool[np.ndarray, "d h w"], extractors: Extractors
) -> None:
    """Raise where the mask or an extractor is not the one that the benchmark froze.

    Raises
    ------
    ScorecardError
        The mask or an extractor differs.
    """
    benchmark.check_mask(_mask_record(mask))
    benchmark.check_extractors(extractors.records)


def _mask_record(mask: Bool[np.ndarray, "d h w"]) -> MaskRecord:
    digest = hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()
    return MaskRecord(rule=MASK_RULE, voxels=int(mask.sum()), sha256=digest)


def frozen_settings(metric: Metric, key: str, protocol: Protocol) -> dict[str, Any]:
    """Return the settings that a metric froze, without its formula and `SAMPLED_IMAGES`.

    Raises
    ------
    ScorecardError
        The protocol does not hold them, or this version has another formula.
    """
    if key not in protocol.settings:
        raise ScorecardError(
            f"the protocol was frozen without '{key}', by another version of synthbench or with "
            "other plugins. Freeze the benchmark again."
        )
    settings = dict(protocol.settings[key])
    formula = settings.pop("formula")
    settings.pop(SAMPLED_IMAGES, None)
    if formula != metric.formula:
        raise ScorecardError(
            f"{key}: the benchmark was frozen with the formula '{formula}'; this version has "
            f"'{metric.formula}'. Use the version of synthbench that froze it."
        )
    return settings
