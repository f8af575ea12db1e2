"""Local copying in a scorecard: are parts of synthetic volumes copies of training volumes?

The metric is `synthbench.metrics.local_copying`. This module applies it to cohorts, with the same
hold-out as `synthbench.scoring.memorization`, and writes the record. Above `LARGE_SET` volumes in
a set it takes so many random volumes of it, which the record states: time grows with the square of
the number of volumes, and memory with that number times the number of cubes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Int64

from synthbench.cohorts.cohort import Cohort
from synthbench.errors import MetricError
from synthbench.metrics.inference import resampling
from synthbench.metrics.local_copying import LocalAssessment, LocalCopying, Scale, Searched
from synthbench.metrics.metric import VolumeSource
from synthbench.metrics.nearest.patches import Rule, Search, search
from synthbench.records.local_copying import (
    LocalCopyingRecord,
    LocalScaleRecord,
    PlaceMapRecord,
)
from synthbench.records.protocol import Protocol
from synthbench.records.reasons import public_words
from synthbench.runtime.callbacks import shown
from synthbench.scoring.cache.keys import rule_key
from synthbench.scoring.cache.measures import kept
from synthbench.scoring.memorization import not_assessed
from synthbench.scoring.protocol import frozen_settings
from synthbench.scoring.settings import Context
from synthbench.scoring.statistics import Sample
from synthbench.volumes.sets import Readable


@dataclass(frozen=True)
class CopiedParts:
    """The result on copied parts.

    Attributes
    ----------
    record
        None where it was not assessed.
    why_not
        Why it was not assessed; None where it was, or where it is not among the metrics.
    """

    record: LocalCopyingRecord | None = None
    why_not: str | None = None


def assess(
    cohorts: Mapping[str, Cohort],
    samples: Mapping[str, Sample],
    mask: Bool[np.ndarray, "d h w"],
    protocol: Protocol,
    context: Context,
) -> CopiedParts:
    """Return the result on copied parts inside the mask."""
    metric = LocalCopying()
    if metric.name not in protocol.intervals:
        return CopiedParts()
    why = not_assessed(cohorts)
    if why is not None:
        return CopiedParts(why_not=why)
    holdout = "holdout" if "holdout" in cohorts else "real"
    whole = {"synth": samples["synth"], "train": samples["train"], "holdout": samples[holdout]}
    most = resampling.LARGE_SET
    sides = {name: sample.drawn(most, protocol.seed) for name, sample in whole.items()}
    sampled = most if max(map(len, whole.values())) > most else None
    try:
        found = metric.assess(
            {name: sample.volumes for name, sample in sides.items()},
            mask,
            permutations=protocol.permutations,
            seed=protocol.seed,
            subjects={name: sample.subjects for name, sample in sides.items()},
            progress=shown("copied parts", context.progress),
            searched=_searched({name: sample.volumes for name, sample in sides.items()}, context),
            **frozen_settings(metric, metric.name, protocol),
        )
    except MetricError as error:
        context.log(f"copied parts: {error}")
        return CopiedParts(why_not=f"not assessed: {public_words(error)}")
    return CopiedParts(_record(found, sampled))


def _searched(volumes: Mapping[str, Readable], context: Context) -> Searched:
    """Return `search` of these volumes, which may take its result from the cache."""

    def searched(
        sources: Mapping[str, VolumeSource],
        index: Mapping[str, Int64[np.ndarray, " n"]],
        mask: Bool[np.ndarray, "d h w"],
        rule: Rule,
        rng: np.random.Generator,
        progress: Callable[[int, int], None] | None = None,
    ) -> Search:
        depends = {
            "formula": LocalCopying.formula, **asdict(rule),
            "subjects": {name: subjects.tolist() for name, subjects in index.items()},
            "random state": rng.bit_generator.state,
        }  # fmt: skip
        arrays = kept(
            context.cache, LocalCopying.name, rule_key(LocalCopying.name, depends, mask),
            list(volumes.values()),
            lambda: search(sources, index, mask, rule, rng, progress).arrays(),
        )  # fmt: skip
        return Search.of_arrays(arrays, rule.sides)

    return searched


def _record(found: LocalAssessment, sampled: int | None) -> LocalCopyingRecord:
    return LocalCopyingRecord(
        verdict=found.verdict,
        text=found.text,
        level=found.level,
        n_train=found.n_train,
        n_holdout=found.n_holdout,
        sides_p=found.sides_p,
        part=found.part,
        detectable_share=found.detectable,
        scales=tuple(_scale(scale) for scale in found.scales),
        map=PlaceMapRecord(
            side=found.map.side,
            stride=found.stride,
            places=tuple((int(x), int(y), int(z)) for x, y, z in found.places),
            share=tuple(round(float(share), 6) for share in found.map.share),
            threshold=found.map.threshold,
            p=found.map.p,
        ),
        sampled=sampled,
    )


def _scale(scale: Scale) -> LocalScaleRecord:
    fields = asdict(scale)
    if math.isnan(scale.gap_low):
        fields |= {"gap_low": None, "gap_high": None}
    return LocalScaleRecord(**fields)
