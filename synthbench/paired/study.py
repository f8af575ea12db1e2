"""Paired measures of whole cohorts: each image is compared with its own target."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64

from synthbench.cohorts.choice import CohortFiles
from synthbench.cohorts.cohort import Cohort
from synthbench.cohorts.reading import read_cohort
from synthbench.errors import MetricError, UsageError
from synthbench.metrics.measures.paired import mae, mean_of_pairs, psnr, ssim
from synthbench.paired.record import PairedRecord, PairedValue
from synthbench.paired.rule import Comparable, IntensityRange, comparable
from synthbench.records.cohort import CohortRecord
from synthbench.records.scorecard import software
from synthbench.runtime.callbacks import Progress, checking, no_progress, shown
from synthbench.volumes.image_file import without_suffix

PACKAGES = ("numpy", "scipy", "nibabel")

MASK = "target's voxels that differ from the background by 1% of the range, and what they enclose"

Name = Literal["psnr", "ssim", "mae"]


@dataclass(frozen=True)
class _Measure:
    name: Name
    label: str
    better: Literal["higher", "lower"]
    of: Callable[[Comparable], float]


MEASURES = (
    _Measure("psnr", "PSNR", "higher",
             lambda pair: psnr(pair.image, pair.target, pair.mask, pair.data_range)),
    _Measure("ssim", "SSIM", "higher",
             lambda pair: ssim(pair.image, pair.target, pair.mask, pair.data_range)),
    _Measure("mae", "MAE", "lower", lambda pair: mae(pair.image, pair.target, pair.mask)),
)  # fmt: skip


def paired(
    target: CohortFiles | Cohort,
    image: CohortFiles | Cohort,
    *,
    baseline: CohortFiles | Cohort | None = None,
    declared: IntensityRange | None = None,
    name: str | None = None,
    level: float = 0.95,
    progress: Progress = no_progress,
) -> PairedRecord:
    """Compare each image with its target, and return means with intervals by subjects.

    Parameters
    ----------
    target, image
        The true volumes and the ones that were made. A pair has one name of a file or, where each
        side has one volume of it, one participant.
    baseline
        Images by another method, for the same targets: the paired difference is estimated.
    declared
        The range of signed or quantitative intensities; None: both are divided by the target's
        99.9th percentile.
    name
        Of the images in tables; None: "images".
    level
        The coverage of the intervals.

    Raises
    ------
    SynthbenchError
        A cohort cannot be used, a volume has no partner, the grids differ, or an image equals its
        target.
    """
    cohorts = {
        role: given
        if isinstance(given, Cohort)
        else read_cohort(given, role=role, progress=checking(role, progress))
        for role, given in (("target", target), ("image", image), ("baseline", baseline))
        if given is not None
    }
    measured, clipped = {}, 0.0
    for role, cohort in cohorts.items():
        if role != "target":
            found, most = _measured(cohorts["target"], cohort, role, declared, progress)
            measured[role], clipped = found, max(clipped, most)
    subjects = cohorts["target"].subjects
    unit = "target's 99.9th percentile = 1" if declared is None else declared.unit
    values = tuple(
        _value(measure, measured, column, subjects, unit, level)
        for column, measure in enumerate(MEASURES)
    )
    records = {role: CohortRecord.of(cohort) for role, cohort in cohorts.items()}
    return PairedRecord(
        name=name or "images", created=datetime.now(UTC).isoformat(timespec="seconds"),
        target=records["target"], image=records["image"], baseline=records.get("baseline"),
        pairs=len(cohorts["target"]), subjects=len(set(cohorts["target"].subjects)),
        rule=rule_words(declared), mask=MASK, clipped=clipped, values=values,
        software=software(*PACKAGES),
    )  # fmt: skip


def rule_words(declared: IntensityRange | None) -> str:
    """Return how intensities are made comparable."""
    if declared is None:
        return "both divided by the 99.9th percentile of the target's voxels above zero"
    return f"both clipped to {declared.low:g} to {declared.high:g} ({declared.unit})"


def partners(target: Cohort, image: Cohort, role: str) -> list[int]:
    """Return for each target the place of its image.

    Raises
    ------
    UsageError
        A volume of either side has no partner, or more than one.
    """
    for key in (lambda e: without_suffix(e.name), lambda e: e.subject):
        names = [[key(entry) for entry in cohort.entries] for cohort in (target, image)]
        if all(max(Counter(side).values()) == 1 for side in names) and set(names[0]) == set(
            names[1]
        ):
            places = {name: place for place, name in enumerate(names[1])}
            return [places[name] for name in names[0]]
    subjects = [{entry.subject for entry in cohort.entries} for cohort in (target, image)]
    lonely = sorted(subjects[0] ^ subjects[1])
    why = (
        f"{len(lonely)} participants are on one side only (first: {lonely[0]})"
        if lonely
        else "participants have several volumes, and the names of files differ"
    )
    raise UsageError(
        f"{role}: {len(image)} volumes cannot be paired with {len(target)} targets: {why}. Give "
        "each image the name of its target's file, one of each."
    )


def _measured(
    target: Cohort,
    image: Cohort,
    role: str,
    declared: IntensityRange | None,
    progress: Progress,
) -> tuple[Float64[np.ndarray, "n 3"], float]:
    """Return the measures of each pair, and the largest share of voxels that were clipped."""
    if not target.grid.same_grid(image.grid):
        raise UsageError(
            f"{role}: the images are on {image.grid}, the targets on {target.grid}. Write the "
            "images on the grid of their targets: another interpolation would count as an error."
        )
    places = partners(target, image, role)
    advance = shown(role, progress)
    rows, clipped = [], 0.0
    for index, place in enumerate(places):
        of_target = target.entries[index].name
        try:
            pair = comparable(image.load(place), target.load(index), declared)
            row = [measure.of(pair) for measure in MEASURES]
        except MetricError as error:
            raise error.at(f"{role}: {of_target}") from error
        if not np.isfinite(row).all():
            raise UsageError(
                f"{role}: {image.entries[place].name} equals its target inside the mask, so its "
                "PSNR is infinite. Is it the target itself? Leave such pairs out."
            )
        rows.append(row)
        clipped = max(clipped, pair.clipped)
        if advance is not None:
            advance(index + 1, len(places))
    return np.array(rows), clipped


def _value(
    measure: _Measure,
    measured: Mapping[str, Float64[np.ndarray, "n 3"]],
    column: int,
    subjects: Int64[np.ndarray, " n"],
    unit: str,
    level: float,
) -> PairedValue:
    values = measured["image"][:, column]
    mean = mean_of_pairs(values, subjects, level)
    others = {}
    if "baseline" in measured:
        theirs = measured["baseline"][:, column]
        difference = mean_of_pairs(values - theirs, subjects, level)
        others = {
            "baseline": float(theirs.mean()), "difference": difference.value,
            "difference_low": difference.low, "difference_high": difference.high,
        }  # fmt: skip
    return PairedValue(
        measure=measure.name, label=measure.label, better=measure.better,
        unit={"psnr": "dB", "ssim": ""}.get(measure.name, unit),
        value=mean.value, low=mean.low, high=mean.high, level=level,
        least=float(values.min()), most=float(values.max()), **others,
    )  # fmt: skip
