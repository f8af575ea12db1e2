"""Memorization in a scorecard: do synthetic volumes lie too near the training volumes?

The metric is `synthbench.metrics.copying`. Here it is brought to cohorts: which real volumes
stand in as the hold-out, in which spaces distances are taken, and what is written down.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from synthbench.cohort import Cohort, overlap
from synthbench.errors import MetricError
from synthbench.evaluation import (
    Flipped,
    Progress,
    Sample,
    shown,
)
from synthbench.extraction import Extractors, extract
from synthbench.feature_cache import FeatureCache
from synthbench.files import write_atomic
from synthbench.metrics.copying import (
    Assessment,
    CopyingTest,
    Distances,
    Memorization,
    feature_distances,
    voxel_distances,
)
from synthbench.metrics.inference import studentized_interval
from synthbench.protocol import frozen_settings
from synthbench.scorecard import CopiesTest, IntervalRecord, MemorizationRecord, Protocol

VOXELS = "voxels in the mask"
"""The name of the space of in-mask voxels, beside those of extractors."""


def assess(
    cohorts: Mapping[str, Cohort],
    samples: Mapping[str, Sample],
    mask: Bool[np.ndarray, "d h w"],
    extractors: Extractors,
    protocol: Protocol,
    neighbours_file: Path | None = None,
    progress: Progress | None = None,
    cache: FeatureCache | None = None,
) -> tuple[list[MemorizationRecord], str | None]:
    """Assess memorization in every extractor's features and in the voxels inside the mask.

    Returns
    -------
    The records, and where there are none, why.
    """
    metric = Memorization()
    if metric.name not in protocol.intervals:
        return [], None
    why = _not_assessed(cohorts)
    if why is not None:
        return [], why
    holdout = "holdout" if "holdout" in cohorts else "real"
    roles = {"synth": "synth", "train": "train", "holdout": holdout}
    sides = {name: samples[role] for name, role in roles.items()}
    subjects = {name: sample.subjects for name, sample in sides.items()}
    settings = frozen_settings(metric, metric.name, protocol)
    records: list[MemorizationRecord] = []
    neighbours: list[tuple[object, ...]] = []
    for space in (*extractors.loaded, VOXELS):
        try:
            distances = _distances(space, sides, mask, extractors, progress, cache)
            found = metric.assess(
                distances, permutations=protocol.permutations, seed=protocol.seed,
                subjects=subjects, **settings,
            )  # fmt: skip
        except MetricError as error:
            return [], f"not assessed: {error}"
        records.append(_record(space, found, protocol))
        neighbours += _neighbour_rows(space, found, {n: cohorts[r] for n, r in roles.items()})
    if neighbours_file is not None:
        _write_neighbours(neighbours_file, neighbours)
    return records, None


def _not_assessed(cohorts: Mapping[str, Cohort]) -> str | None:
    if "train" not in cohorts:
        return "not assessed: name the generator's training volumes with --train"
    if "holdout" in cohorts:
        shared = overlap(cohorts["holdout"], cohorts["train"])
        if shared:
            return (
                f"not assessed: {len(shared)} of the {len(cohorts['holdout'])} hold-out volumes "
                "are of training subjects"
            )
        return None
    shared = overlap(cohorts["real"], cohorts["train"])
    if shared:
        return (
            f"not assessed: {len(shared)} of the {len(cohorts['real'])} real volumes are training "
            "volumes; name real volumes that the generator never saw with --holdout"
        )
    return None


def _distances(
    space: str,
    sides: Mapping[str, Sample],
    mask: Bool[np.ndarray, "d h w"],
    extractors: Extractors,
    progress: Progress | None,
    cache: FeatureCache | None,
) -> Distances:
    if space == VOXELS:
        of_synth, of_train, of_holdout = (sides[n].volumes for n in ("synth", "train", "holdout"))
        return voxel_distances(
            of_synth, of_train, of_holdout, mask, shown("memorization, voxels", progress)
        )
    mirrored = extract(
        extractors.loaded[space], Flipped(sides["synth"].volumes),
        progress=shown(f"{space}, synth mirrored", progress), cache=cache,
    )  # fmt: skip
    synth, train, holdout = (sides[n].features[space] for n in ("synth", "train", "holdout"))
    return feature_distances(synth, train, holdout, mirrored)


def _record(space: str, found: Assessment, protocol: Protocol) -> MemorizationRecord:
    return MemorizationRecord(
        space=space,
        n=found.n,
        exact_copies=found.copies,
        auth_pct=found.auth_pct,
        plain=_test(found, protocol),
        flipped=None if found.flipped is None else _test(found.flipped, protocol),
    )


def _test(found: CopyingTest, protocol: Protocol) -> CopiesTest:
    interval = None
    # All synthetic images alike have no interval; the test stands without one.
    with suppress(MetricError):
        made = studentized_interval(
            found.statistic, resamples=protocol.resamples, level=protocol.level, seed=protocol.seed
        )
        interval = IntervalRecord(
            low=made.low, high=made.high, level=made.level, method=made.method,
            label=f"{made.label}, for the draw of synthetic images",
            conditional_on_n=made.conditional_on_n,
        )  # fmt: skip
    return CopiesTest(
        value=found.value, interval=interval, p=found.p, level=found.level,
        detectable_share=found.detectable, detected=found.detected, text=found.text,
    )  # fmt: skip


def _neighbour_rows(
    space: str, found: Assessment, cohorts: Mapping[str, Cohort]
) -> list[tuple[object, ...]]:
    """A row a synthetic volume: its nearest training and hold-out volume, as it is or mirrored."""
    names = {role: [entry.name for entry in cohort.entries] for role, cohort in cohorts.items()}
    return [
        (
            space, mirrored, names["synth"][pair.synth],
            names["train"][pair.train], f"{pair.train_distance:.6g}",
            names["holdout"][pair.holdout], f"{pair.holdout_distance:.6g}",
        )
        for mirrored, test in (("no", found), ("either", found.flipped))
        if test is not None
        for pair in test.neighbours
    ]  # fmt: skip


def _write_neighbours(file: Path, rows: list[tuple[object, ...]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(("space", "mirrored", "synth", "train", "train_distance", "holdout",
                     "holdout_distance"))  # fmt: skip
    writer.writerows(rows)
    write_atomic(file, text.getvalue().encode())
