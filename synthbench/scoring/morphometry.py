"""Regional morphometry in a scorecard: each region, by an extractor or by another program's table.

The metric is `synthbench.metrics.measures.morphometry`. Its rows say how far all regions are
together; the record of this module says which regions those are. A table of SynthSeg, FreeSurfer or
FastSurfer (`--measures`) gives a record of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from synthbench.errors import MetricError, UsageError
from synthbench.metrics.inference.floors import floor, matched
from synthbench.metrics.measures.constraints import MOST_MEASURES
from synthbench.metrics.measures.morphometry import Morphometry, region_differences, rejects
from synthbench.metrics.metric import Part, Statistic
from synthbench.metrics.subjects import n_subjects, subject_index
from synthbench.records.morphometry import MorphometryRecord, RegionRecord
from synthbench.records.protocol import Protocol
from synthbench.scoring.condition_measures import Measures
from synthbench.scoring.features import Extractors
from synthbench.scoring.settings import Context
from synthbench.scoring.statistics import Sample

INTRACRANIAL = re.compile(
    r"(total[ _-]*)?intracranial|estimatedtotalintracranialvol|e?tiv|icv", re.IGNORECASE
)
"""The column of the intracranial volume: SynthSeg, FreeSurfer and FastSurfer, participants."""

NOT_REGIONS = re.compile(r"holes|to-etiv|^age$|^sex$", re.IGNORECASE)
"""Numbers in such tables that are no volumes of a region."""

TABLE = "table"


@dataclass(frozen=True)
class Regional:
    """Measures of regions, by name.

    Attributes
    ----------
    source, unit
        Of the record.
    names
        Of the regions.
    real, synth
        One row per image, one column per region.
    """

    source: str
    unit: str
    names: Sequence[str]
    real: Float64[np.ndarray, "n d"]
    synth: Float64[np.ndarray, "m d"]


def assess(
    samples: Mapping[str, Sample],
    extractors: Extractors,
    measures: Measures,
    protocol: Protocol,
    context: Context,
) -> tuple[MorphometryRecord, ...]:
    """Return one record per extractor whose features have names, and one of the tables.

    Raises
    ------
    UsageError
        A table does not fit the volumes.
    """
    if Morphometry.name not in protocol.intervals:
        return ()
    sources = [
        Regional(
            name, extractor.unit, tuple(extractor.measures),
            *(np.asarray(samples[role].features[name], np.float64) for role in ("real", "synth")),
        )
        for name, extractor in extractors.loaded.items()
        if getattr(extractor, "measures", None)
    ]  # fmt: skip
    if measures.tables:
        sources.append(of_tables(measures))
    subjects = {role: samples[role].subjects for role in ("real", "synth")}
    records = []
    for source in sources:
        try:
            records.append(record_of(source, subjects, protocol))
        except MetricError as error:
            context.log(f"regional morphometry, {source.source}: {error}")
    return tuple(records)


def of_tables(measures: Measures) -> Regional:
    """Return the regions that tables hold, over the intracranial volume where they state it.

    Columns that hold one number for all real volumes are left out.

    Raises
    ------
    UsageError
        The tables have no numbers of both sets, or more than `MOST_MEASURES` columns of them.
    """
    found = measures.table_columns()
    wholes = [name for name in found if INTRACRANIAL.fullmatch(name.strip())]
    whole = wholes[0] if wholes else None
    columns = {
        name: (real, synth)
        for name, (synth, real) in found.items()
        if name not in wholes and not NOT_REGIONS.search(name) and np.ptp(real) > 0
    }
    if not 1 <= len(columns) <= MOST_MEASURES:
        raise UsageError(
            f"--measures: {len(columns)} columns hold volumes of regions of both the real and the "
            f"synthetic volumes; 1 to {MOST_MEASURES} are needed. Measure both sets with one "
            "program, and name both tables."
        )
    real, synth = (np.stack([pair[side] for pair in columns.values()], axis=1) for side in (0, 1))
    unit = "volumes as in the table"
    if whole is not None:
        of_synth, of_real = found[whole]
        _check_above_zero(whole, of_real, of_synth)
        real, synth = real / of_real[:, None], synth / of_synth[:, None]
        unit = "volumes over the intracranial volume"
    return Regional(TABLE, unit, tuple(columns), real, synth)


def _check_above_zero(name: str, *sides: Float64[np.ndarray, " _"]) -> None:
    least = min(float(side.min()) for side in sides)
    if not least > 0:
        raise UsageError(
            f"--measures: the intracranial volume ({name}) must be above zero for every volume; "
            f"found {least:g}. Correct the table."
        )


def record_of(
    source: Regional, subjects: Mapping[str, np.ndarray], protocol: Protocol
) -> MorphometryRecord:
    """Return the record of one source.

    Raises
    ------
    MetricError
        The measures are unusable, or there are too few subjects.
    """
    how = {"resamples": protocol.resamples, "seed": protocol.seed}
    found = region_differences(
        source.real, source.synth, subjects=subjects, level=protocol.level, **how
    )
    between, null = (
        Morphometry().prepare(
            source.real, other, subjects={"real": subjects["real"], "synth": of_other}
        )
        for other, of_other in (
            (source.synth, subjects["synth"]), (source.real, subjects["real"]),
        )
    )  # fmt: skip
    index = subject_index(subjects, real=len(source.real), synth=len(source.synth))
    side = min(n_subjects(index["real"]) // 2, n_subjects(index["synth"]))
    at_n = {
        key: (
            matched(one, side, repeats=protocol.floor_splits, seed=protocol.seed),
            floor(nulls, n=side, splits=protocol.floor_splits, seed=protocol.seed),
        )
        for key, one, nulls in (
            ("distance", between, null),
            ("within", _within(between.parts()), _within(null.parts())),
        )
    }
    (distance, distances), (within, withins) = at_n["distance"], at_n["within"]
    return MorphometryRecord(
        source=source.source, unit=source.unit,
        n_real=len(source.real), n_synth=len(source.synth), level=protocol.level,
        regions=tuple(
            RegionRecord(name=name, d=d, low=low, high=high, p=p, p_alone=alone)
            for name, d, low, high, p, alone in zip(
                source.names,
                *(x.tolist() for x in (found.d, found.low, found.high, found.p, found.p_alone)),
                strict=True,
            )
        ),
        distance=distance.mean, distance_low=distances.low, distance_high=distances.high,
        within=within.mean, within_low=withins.low, within_high=withins.high, floor_n=side,
        rejects_real=int(rejects(source.real, source.real).sum()),
        rejects_synth=int(rejects(source.real, source.synth).sum()),
    )  # fmt: skip


def _within(parts: Mapping[str, Part]) -> Statistic:
    return parts["within"].statistic
