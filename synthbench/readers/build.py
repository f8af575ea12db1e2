"""Making a study: from cohorts to a folder of blinded copies, a plan for each reader, and a key."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Float32, UInt8
from scipy import ndimage

from synthbench.cohorts.cohort import Cohort
from synthbench.errors import UsageError
from synthbench.readers.design import (
    BLURRED,
    MEMORIZER,
    REAL,
    Plan,
    Settings,
    Shown,
    draw,
    order,
    sides,
)
from synthbench.readers.scales import default_scales, read_scales
from synthbench.readers.study import (
    Case,
    Key,
    Pair,
    Study,
    Trial,
    case_file,
    key_file,
    scales_file,
    study_file,
)
from synthbench.runtime.callbacks import Log, Progress, no_progress, to_logger
from synthbench.runtime.files import write_atomic
from synthbench.runtime.lock import content_of, only_writer
from synthbench.volumes.grid import Space
from synthbench.volumes.intensity import BACKGROUND, Intensity

BLUR_MM = 2.0
"""The standard deviation of the blur of the control, in mm; at least `BLUR_VOXELS`."""

BLUR_VOXELS = 0.8

SAME_TIME = 315_532_800
"""The time stamp of every copy: 1980-01-01."""


@dataclass(frozen=True)
class Cohorts:
    """What a study shows.

    Attributes
    ----------
    real
        Real volumes, whose grid all copies have.
    synth
        By generator, its volumes.
    memorizer
        Volumes of a memorizer, as a control; None: none.
    """

    real: Cohort
    synth: Mapping[str, Cohort]
    memorizer: Cohort | None = None


@dataclass(frozen=True)
class Making:
    """How a study is made.

    Attributes
    ----------
    settings
        Its design.
    seed
        The seed of everything that is drawn; None: a secret one, which the key holds. A reader who
        knows the seed, the code and the sizes of the sets can work out the key.
    intensity
        How intensities are scaled.
    scales
        A file of scales; None: the default ones.
    """

    settings: Settings = field(default_factory=Settings)
    seed: int | None = None
    intensity: Intensity = "percentile"
    scales: Path | None = None


def build(
    folder: Path,
    cohorts: Cohorts,
    making: Making,
    *,
    progress: Progress = no_progress,
    log: Log = to_logger,
) -> Study:
    """Write a study into a new folder, and its key beside it.

    All copies have one grid, one header, one size and one time stamp. Nothing in their names or in
    the plan tells what they are. The plan is written last: a folder that has one is complete.

    Parameters
    ----------
    folder
        A folder that is absent or empty.
    progress
        Called with the number of copies written.
    log
        Called with sentences for the user.

    Returns
    -------
    Study
        The plan that was written.

    Raises
    ------
    UsageError
        The folder is not empty, a key is beside it already, or there are too few volumes.
    CohortError
        A volume cannot be used.
    """
    key_at = key_file(folder)
    with only_writer(folder) as taken_over:
        found = content_of(folder)
        unfinished = taken_over and "study.json" not in found and "answers" not in found
        if (found or key_at.exists()) and not unfinished:
            what = folder if found else key_at
            raise UsageError(f"{what}: already there. Name a new folder, or delete both.")
        scales = default_scales() if making.scales is None else making.scales.read_bytes()
        if making.scales is not None:
            read_scales(making.scales)
        return _build(folder, cohorts, making, scales, progress, log)


def _build(
    folder: Path,
    cohorts: Cohorts,
    making: Making,
    scales: bytes,
    progress: Progress,
    log: Log,
) -> Study:
    seed = secrets.randbits(63) if making.seed is None else making.seed
    rng = np.random.default_rng(seed)
    whole = cohorts.real.fingerprint
    cohorts = replace(cohorts, real=_one_scan_each(cohorts.real, rng, log))
    settings = making.settings
    memorizer = 0 if cohorts.memorizer is None else len(cohorts.memorizer)
    sizes = {name: len(cohort) for name, cohort in cohorts.synth.items()}
    plan = draw(len(cohorts.real), sizes, memorizer, settings, rng)
    write_atomic(scales_file(folder), scales)  # nothing is written before the plan is known
    names = {shown: rng.bytes(6).hex() for shown in plan.shown}
    _write_copies(folder, names, cohorts, making.intensity, progress, log)
    space = cohorts.real.grid
    key = Key(
        seed=seed,
        cases={name: _case(shown, cohorts) for shown, name in sorted(
            names.items(), key=lambda one: one[1])},
        pairs=tuple(
            Pair(group=group, right=names[right], other=names[other])
            for group, pairs in plan.pairs.items() for right, other in pairs
        ),
        generators=tuple(cohorts.synth),
        real_fingerprint=whole,
        fingerprints={name: cohort.fingerprint for name, cohort in cohorts.synth.items()},
    )  # fmt: skip
    key.save(key_file(folder))
    study = Study(
        shape=space.shape,
        spacing=space.spacing,
        readers=_sessions(plan, names, settings, rng),
        key_sha256=hashlib.sha256(key.content()).hexdigest(),
    )
    study.save(study_file(folder))
    return study


def _one_scan_each(real: Cohort, rng: np.random.Generator, log: Log) -> Cohort:
    """Return the real cohort with one scan of each person, drawn by lot."""
    mixed = rng.permutation(len(real))
    _, first = np.unique(real.subjects[mixed], return_index=True)
    if len(first) < len(real):
        log(
            f"real: {len(real)} scans of {len(first)} persons; one of each is shown. Who comes "
            "twice would be known to be real."
        )
    return real.subset(sorted(int(i) for i in mixed[first]))


def _case(shown: Shown, cohorts: Cohorts) -> Case:
    return Case(group=shown.source, volume=_cohort_of(shown, cohorts).entries[shown.index].name)


def _cohort_of(shown: Shown, cohorts: Cohorts) -> Cohort:
    if shown.source == MEMORIZER:
        assert cohorts.memorizer is not None
        return cohorts.memorizer
    return cohorts.real if shown.source in (REAL, BLURRED) else cohorts.synth[shown.source]


# ---------------------------------------------------------------- sessions


def _sessions(
    plan: Plan, names: Mapping[Shown, str], settings: Settings, rng: np.random.Generator
) -> dict[str, tuple[Trial, ...]]:
    """Return the trials of each reader: practice, ratings, comparisons."""
    turned = sides({group: len(pairs) for group, pairs in plan.pairs.items()},
                   settings.readers, rng)  # fmt: skip
    found = {}
    for number in range(settings.readers):
        left = turned[number]
        trials: list[Trial] = []

        def add(kind: str, cases: tuple[str, ...], practice: bool = False) -> None:
            trials.append(  # noqa: B023 - it is called in this round only
                Trial.model_validate({"trial": f"t{len(trials) + 1:04d}", "kind": kind,  # noqa: B023
                                      "cases": cases, "practice": practice})
            )  # fmt: skip

        rating, comparing = (settings.design in (kind, "both") for kind in ("rating", "2afc"))
        for i, pair in enumerate(plan.practice):
            ordered = pair if i % 2 else pair[::-1]
            if rating:
                add("rating", (names[ordered[0]],), practice=True)
            if comparing:
                add("2afc", tuple(names[one] for one in ordered), practice=True)
        if rating:
            for _, shown, _ in order(plan.rated, settings.repeats, rng):
                add("rating", (names[shown],))
        if comparing:
            numbered = {group: list(range(len(pairs))) for group, pairs in plan.pairs.items()}
            for group, i, again in order(numbered, settings.repeats, rng):
                pair = plan.pairs[group][i]
                ordered = pair if left[group][i] != again else pair[::-1]
                add("2afc", tuple(names[one] for one in ordered))
        found[f"reader-{number + 1}"] = tuple(trials)
    return found


# ---------------------------------------------------------------- copies


def _write_copies(
    folder: Path,
    names: Mapping[Shown, str],
    cohorts: Cohorts,
    intensity: Intensity,
    progress: Progress,
    log: Log,
) -> None:
    space = cohorts.real.grid
    for name, cohort in cohorts.synth.items():
        if not cohort.grid.same_grid(space):
            log(
                f"{name}: is resampled from {cohort.grid} to the real volumes' {space}, which "
                "makes it smoother. Readers may see that."
            )
    (folder / "cases").mkdir(exist_ok=True)
    # In the order of their random names: the place of a file in the folder tells nothing either.
    for done, (shown, name) in enumerate(sorted(names.items(), key=lambda one: one[1]), 1):
        cohort = _cohort_of(shown, cohorts)
        volume = cohort.volumes(space, intensity, role=shown.source)[shown.index]
        if shown.source == BLURRED:
            volume = blurred(volume, space.spacing)
        file = case_file(folder, name)
        write_atomic(file, copy_bytes(volume, space))
        os.utime(file, (SAME_TIME, SAME_TIME))
        progress("blinded copies", done, len(names))


def blurred(
    volume: Float32[np.ndarray, "d h w"], spacing: tuple[float, float, float]
) -> Float32[np.ndarray, "d h w"]:
    """Return a volume blurred by a Gaussian of `BLUR_MM`, with zero where it is background."""
    sigma = [max(BLUR_MM / mm, BLUR_VOXELS) for mm in spacing]
    smooth = ndimage.gaussian_filter(volume.astype(np.float64), sigma, mode="constant")
    return np.where(smooth < BACKGROUND, 0, smooth).astype(np.float32)


def copy_bytes(volume: Float32[np.ndarray, "d h w"], space: Space) -> bytes:
    """Return a volume in [0, 1] as an uncompressed NIfTI-1 of 8 bits.

    The header depends on the grid only. Without compression all have one size: a blurred volume
    compresses to fewer bytes than a sharp one.
    """
    stored: UInt8[np.ndarray, "d h w"] = np.round(255 * np.clip(volume, 0, 1)).astype(np.uint8)
    image = nib.Nifti1Image(stored, space.matrix)
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(1, 0)
    image.header["cal_min"], image.header["cal_max"] = 0, 255
    content: bytes = image.to_bytes()
    return content
