"""Memorization in a scorecard: do synthetic volumes lie too near the training volumes?

The metric is `synthbench.metrics.memorization`. This module applies it to cohorts: it chooses the
real volumes that serve as the hold-out and the spaces in which distances are taken, and writes the
records.

Features of all volumes are compared. Voxels of large sets are not: above `LARGE_SET` volumes in a
set, the space of voxels takes so many random volumes of it, which the record states. All of them
would take time O(n^2 v), with v the voxels of the mask.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Bool

from synthbench.cohorts.cohort import Cohort, overlap
from synthbench.cohorts.pseudonyms import Pseudonyms
from synthbench.errors import MetricError
from synthbench.metrics.inference import resampling
from synthbench.metrics.memorization import Memorization
from synthbench.metrics.nearest.distances import (
    CopyDistances,
    distances_of_products,
    voxel_products,
)
from synthbench.metrics.nearest.findings import Assessment, CopyingTest
from synthbench.metrics.nearest.lists import copy_distances
from synthbench.records.memorization import CopiesTest, MemorizationRecord
from synthbench.records.protocol import Protocol
from synthbench.records.reasons import public_words
from synthbench.records.values import IntervalRecord
from synthbench.render import delimited
from synthbench.runtime.callbacks import shown
from synthbench.scoring.cache.keys import rule_key
from synthbench.scoring.cache.measures import kept
from synthbench.scoring.features import Extractors, extract
from synthbench.scoring.protocol import frozen_settings
from synthbench.scoring.settings import Context
from synthbench.scoring.statistics import Sample
from synthbench.volumes.sets import Flipped

VOXELS = "voxels in the mask"
"""The name of the space of voxels inside the mask; the other spaces have extractors' names."""

VOXEL_PRODUCTS = "memorization-voxels"
"""The name in the cache of the inner products from which distances in that space are taken."""

PRODUCTS = "inner products over the mask of synth, synth mirrored, training and hold-out volumes"
"""What they are; part of their key in the cache."""


@dataclass(frozen=True)
class Neighbours:
    """The volumes nearest to one synthetic volume, by file name: participant-level data.

    Attributes
    ----------
    space
        An extractor, or `VOXELS`.
    mirrored
        True where the synthetic volume was also mirrored, and the nearer of both was taken.
    synth, train, holdout
        The synthetic volume, and the nearest training and hold-out volume.
    train_distance, holdout_distance
        Their distances.
    """

    space: str
    mirrored: bool
    synth: str
    train: str
    train_distance: float
    holdout: str
    holdout_distance: float


@dataclass(frozen=True)
class Assessed:
    """The results on memorization.

    Attributes
    ----------
    records
        One per space; none where it was not assessed.
    why_not
        Why it was not assessed; None where it was, or where it is not among the metrics.
    neighbours
        One per space and synthetic volume, and again with mirrored volumes.
    """

    records: tuple[MemorizationRecord, ...] = ()
    why_not: str | None = None
    neighbours: tuple[Neighbours, ...] = ()


def assess(
    cohorts: Mapping[str, Cohort],
    samples: Mapping[str, Sample],
    mask: Bool[np.ndarray, "d h w"],
    extractors: Extractors,
    protocol: Protocol,
    context: Context,
) -> Assessed:
    """Return the results on memorization in every extractor's features and inside the mask."""
    metric = Memorization()
    if metric.name not in protocol.intervals:
        return Assessed()
    why = not_assessed(cohorts)
    if why is not None:
        return Assessed(why_not=why)
    holdout = "holdout" if "holdout" in cohorts else "real"
    roles = {"synth": "synth", "train": "train", "holdout": holdout}
    sides = {name: samples[role] for name, role in roles.items()}
    # Protocols that were frozen before there was a test for near copies keep their rule.
    settings = {"copy_size": None, **frozen_settings(metric, metric.name, protocol)}
    sites = _sites(cohorts["train"], cohorts[holdout])
    names = {name: [entry.name for entry in cohorts[role].entries] for name, role in roles.items()}
    records: list[MemorizationRecord] = []
    neighbours: list[Neighbours] = []
    for space in (*extractors.loaded, VOXELS):
        most = resampling.LARGE_SET if space == VOXELS else max(map(len, sides.values()))
        some = {name: sample.drawn(most, protocol.seed) for name, sample in sides.items()}
        chosen = {name: sample.chosen(most, protocol.seed) for name, sample in sides.items()}
        try:
            distances = _distances(space, some, mask, extractors, context)
            found = metric.assess(
                distances, permutations=protocol.permutations, seed=protocol.seed,
                subjects={name: sample.subjects for name, sample in some.items()},
                sites=sites and {role: of[chosen[role]] for role, of in sites.items()},
                **settings,
            )  # fmt: skip
        except MetricError as error:
            context.log(f"memorization, {space}: {error}")
            return Assessed(why_not=f"not assessed: {public_words(error)}")
        sampled = most if max(map(len, sides.values())) > most else None
        records.append(_record(space, found, sampled))
        neighbours += _neighbours(
            space, found, {role: [names[role][i] for i in of] for role, of in chosen.items()}
        )
    return Assessed(tuple(records), neighbours=tuple(neighbours))


def not_assessed(cohorts: Mapping[str, Cohort]) -> str | None:
    """Return why synthetic volumes cannot be compared with training volumes; None: they can."""
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


def _sites(train: Cohort, holdout: Cohort) -> dict[str, np.ndarray] | None:
    """Return the site of each volume's subject; None where a table does not have all."""
    sites = {}
    for role, cohort in (("train", train), ("holdout", holdout)):
        if "site" not in cohort.participants:
            return None
        column = cohort.participants["site"].reindex([entry.subject for entry in cohort.entries])
        if column.isna().any():
            return None
        sites[role] = column.astype(str).to_numpy()
    return sites


def _distances(
    space: str,
    sides: Mapping[str, Sample],
    mask: Bool[np.ndarray, "d h w"],
    extractors: Extractors,
    context: Context,
) -> CopyDistances:
    if space == VOXELS:
        of_synth, of_train, of_holdout = (sides[n].volumes for n in ("synth", "train", "holdout"))
        bar = shown("memorization, voxels", context.progress)
        products = kept(
            context.cache, VOXEL_PRODUCTS, rule_key(VOXEL_PRODUCTS, {"formula": PRODUCTS}, mask),
            [of_synth, of_train, of_holdout],
            lambda: {"products": voxel_products(of_synth, of_train, of_holdout, mask, bar)},
        )  # fmt: skip
        return distances_of_products(products["products"], len(of_synth), len(of_train))
    mirrored = extract(
        extractors.loaded[space], Flipped(sides["synth"].inputs), context.batch_size,
        shown(f"{space}, synth mirrored", context.progress), cache=context.cache,
        workers=context.workers,
    )  # fmt: skip
    synth, train, holdout = (sides[n].features[space] for n in ("synth", "train", "holdout"))
    subjects = {name: sample.subjects for name, sample in sides.items()}
    return copy_distances(synth, train, holdout, mirrored, subjects)


def _record(space: str, found: Assessment, sampled: int | None) -> MemorizationRecord:
    return MemorizationRecord(
        space=space,
        n=found.n,
        exact_copies=found.copies,
        auth_pct=found.auth_pct,
        plain=_test(found),
        flipped=None if found.flipped is None else _test(found.flipped),
        sides_p=found.sides_p,
        sampled=sampled,
    )


def _test(found: CopyingTest) -> CopiesTest:
    gap = found.gap
    return CopiesTest(
        value=found.value,
        interval=IntervalRecord(
            low=gap.low, high=gap.high, level=gap.level, method="permutation",
            label=f"{gap.level:.0%} CI (permuted labels)",
        ),
        p=found.p, level=found.level, detectable_share=found.detectable, detected=found.detected,
        text=found.text, verdict=found.verdict, near_p=found.near_p, close=found.close,
        holdout_close=found.holdout_close,
    )  # fmt: skip


def _neighbours(
    space: str, found: Assessment, names: Mapping[str, Sequence[str]]
) -> list[Neighbours]:
    return [
        Neighbours(
            space, mirrored, names["synth"][pair.synth],
            names["train"][pair.train], pair.train_distance,
            names["holdout"][pair.holdout], pair.holdout_distance,
        )
        for mirrored, test in ((False, found), (True, found.flipped))
        if test is not None
        for pair in test.neighbours
    ]  # fmt: skip


def neighbours_table(neighbours: Iterable[Neighbours], names: Pseudonyms | None = None) -> str:
    """Return a table of tab-separated values, with one row per space and synthetic volume.

    Parameters
    ----------
    names
        What training and hold-out volumes are called; None: pseudonyms.
    """
    names = names or Pseudonyms()
    rows: list[Sequence[Any]] = [[field.name for field in fields(Neighbours)]]
    for found in neighbours:
        row = asdict(found)
        row["train"] = names.of("train", found.train)
        row["holdout"] = names.of("holdout", found.holdout)
        row["mirrored"] = "either" if found.mirrored else "no"
        for distance in ("train_distance", "holdout_distance"):
            row[distance] = f"{row[distance]:.6g}"
        rows.append(list(row.values()))
    return delimited.lines(rows)
