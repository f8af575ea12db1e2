"""The rules of preflight on one set; docs/preflight.md gives the reason of each threshold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float64

from synthbench.cohorts.inspection import MIN_AGREEMENT, Inspection, template_on
from synthbench.cohorts.preflight import alignment
from synthbench.cohorts.preflight.findings import Finding, Severity, if_any, of_set, of_volumes
from synthbench.cohorts.preflight.label_maps import label_maps
from synthbench.cohorts.preflight.near_identity import near_identical
from synthbench.cohorts.preflight.survey import (
    FLIP_DEVIATIONS,
    LEAST_ASYMMETRY_SPREAD,
    MIN_COMPARED,
    MIN_TURN_AGREEMENT,
    MIN_TURN_GAIN,
    Power,
    Survey,
)
from synthbench.cohorts.reading import PREPARE
from synthbench.volumes.intensity import BACKGROUND, OVERSHOOT

MIN_SUBJECTS = 4
FEW_SUBJECTS = 30
MIN_SHIFT_MM = 4.0
MIN_SCALE_FACTOR = 2.0
MIN_SIZE_FACTOR = 1.25
MAX_CLIPPED = 0.01

CONTRADICTION = "The order of the voxels and the affine contradict each other"


def _single(role: str) -> Severity:
    """Return the severity of a fault in single volumes of a set."""
    return "warning" if role == "synth" else "error"


def _few(survey: Survey, role: str) -> list[Finding]:
    found = survey.subjects
    if role in ("train", "validation"):
        # The user decides how many are enough to train on, or to validate with.
        return []
    if found < MIN_SUBJECTS:
        message = f"{found} subjects; at least {MIN_SUBJECTS} are needed. Add volumes."
        return [of_set("few", "error", role, message)]
    if found >= FEW_SUBJECTS:
        return []
    message = (
        f"{found} subjects: intervals and floors are wide below {FEW_SUBJECTS}, the Fréchet "
        "distance is strongly biased"
        + ("" if survey.comparable else ", and volumes cannot be compared with each other")
        + ". Add volumes if you have more."
    )
    return [of_set("few", "warning", role, message)]


def _orientation(survey: Survey, role: str) -> list[Finding]:
    codes = [inspection.orientation for inspection in survey.inspections]
    counts = Counter(codes)
    if len(counts) == 1:
        return []
    common = counts.most_common(1)[0][0]
    others = [(n, code) for n, code in zip(survey.names, codes, strict=True) if code != common]
    return [
        of_volumes(
            "orientation", "note", role, others,
            f"most files store their axes as {common}, others do not",
            "They are turned to RAS when they are read: nothing needs to be fixed if the headers "
            "are right.",
        )
    ]  # fmt: skip


def _flip(survey: Survey, role: str) -> list[Finding]:
    return [*_mirrored_set(survey, role), *_mirrored_volumes(survey, role)]


def _mirrored_set(survey: Survey, role: str) -> list[Finding]:
    known = [p for p in survey.placements if np.isfinite(p.agreement)]
    if 2 * len(known) <= len(survey.names):
        return []
    as_is = float(np.median([p.agreement for p in known]))
    for axis, name in ((1, "front-back"), (2, "up-down")):
        mirrored = float(np.median([p.mirrored[axis] for p in known]))
        better = mirrored >= MIN_AGREEMENT and mirrored > as_is + MIN_TURN_GAIN
        if better and not _is_displaced(survey, axis):
            message = (
                f"mirrored {name}, the volumes correlate with MNI152 by {mirrored:.2f}, but by "
                f"{as_is:.2f} as they are. {CONTRADICTION}: write the volumes with the affine of "
                "the data that they were made from."
            )
            return [of_set("flip", _single(role), role, message)]
    return []


def _is_displaced(survey: Survey, axis: int) -> bool:
    """Return True where a shift explains why a set fits MNI152 better when it is mirrored."""
    if not survey.on_one_grid:
        return False
    template, _ = template_on(survey.coarse_grid)
    mean = survey.mean
    _, fit = alignment.shifted_fit(mean, template, survey.coarse_grid.spacing)
    return fit >= MIN_TURN_AGREEMENT and alignment.is_shift(
        mean, np.flip(mean, axis), template, MIN_TURN_GAIN
    )


def _shift_words(survey: Survey) -> str:
    """Return how far a set is displaced from MNI152, where a shift alone makes it fit."""
    if not survey.on_one_grid:
        return ""
    template, _ = template_on(survey.coarse_grid)
    moved, fit = alignment.shifted_fit(survey.mean, template, survey.coarse_grid.spacing)
    if fit < MIN_TURN_AGREEMENT:
        return ""
    words = "{:+.0f} {:+.0f} {:+.0f} mm (right, front, top)".format(*moved)
    return (
        f" Their mean fits it by {fit:.2f} once it is moved back by {words}: if that is so, only "
        "the origin of the affine is wrong."
    )


def _mirrored_volumes(survey: Survey, role: str) -> list[Finding]:
    if not survey.comparable:
        return []
    fix = f"{CONTRADICTION}: write them again from the original, or undo the turn."
    turned = [
        (name, str(turn))
        for name, turn in zip(survey.names, survey.turns, strict=True)
        if turn != alignment.Turn()
    ]
    # Where most volumes fit the others better when turned, the set has no common orientation.
    if 2 * len(turned) >= len(survey.names):
        return []
    found = if_any("flip", _single(role), role, turned, "turned, these fit the others better", fix)
    scores, median = survey.asymmetry, survey.power.median
    flipped = [
        (name, f"asymmetry {score:+.2f}, median {median:+.2f}")
        for name, score, hit in zip(
            survey.names, scores, mirrored_left_right(scores, survey.power), strict=True
        )
        if hit
    ]
    what = "mirrored left-right, these fit the others better"
    return [*found, *if_any("flip", _single(role), role, flipped, what, fix)]


def mirrored_left_right(scores: Float64[np.ndarray, " n"], power: Power) -> Bool[np.ndarray, " n"]:
    """Return a mask of the asymmetry scores of mirrored volumes.

    They are below zero, so that the mirror image fits better, and five robust deviations below the
    median, which has a probability of 3e-7 for a normal score.
    """
    far = power.median - scores > FLIP_DEVIATIONS * max(power.deviation, LEAST_ASYMMETRY_SPREAD)
    return np.asarray(far & (scores < 0))


def _shift(survey: Survey, role: str) -> list[Finding]:
    if not survey.comparable:
        return []
    moved = survey.displaced - np.nanmedian(survey.displaced, axis=0)
    far = np.zeros(len(moved), dtype=bool)
    for axis in range(3):
        far |= alignment.outlying(survey.displaced[:, axis], MIN_SHIFT_MM)
    off = [
        (name, "{:+.1f} {:+.1f} {:+.1f} mm".format(*millimetres))
        for name, millimetres, hit in zip(survey.names, moved, far, strict=True)
        if hit
    ]
    return if_any(
        "shift", _single(role), role, off,
        "these are displaced from the others (along the grid's axes, to the right, front and top)",
        "Register them again, or correct their affines and resample.",
    )  # fmt: skip


def _scale(survey: Survey, role: str) -> list[Finding]:
    scales = np.array([i.scale for i in survey.inspections])
    if len(scales) < MIN_COMPARED or scales.min() <= 0:
        return []
    far = alignment.outlying(np.log(scales), float(np.log(MIN_SCALE_FACTOR)))
    off = [
        (name, f"99.9th percentile {scale:.4g}")
        for name, scale, hit in zip(survey.names, scales, far, strict=True)
        if hit
    ]
    return if_any(
        "scale", "warning", role, off,
        f"intensities of another magnitude than the others (median {np.median(scales):.4g})",
        "With --intensity percentile a plain factor does no harm, with unit or a quantity it does: "
        "convert them in the same way as the others.",
    )  # fmt: skip


def _size(survey: Survey, role: str) -> list[Finding]:
    volumes = np.array([p.foreground_ml for p in survey.placements])
    if len(volumes) < MIN_COMPARED or volumes.min() <= 0:
        return []
    far = alignment.outlying(np.log(volumes), float(np.log(MIN_SIZE_FACTOR)))
    off = [
        (name, f"{volume:.0f} mL")
        for name, volume, hit in zip(survey.names, volumes, far, strict=True)
        if hit
    ]
    return if_any(
        "size", "warning", role, off,
        f"foreground of another volume than the others (median {np.median(volumes):.0f} mL)",
        "Look at them: a wrong voxel size, a rescaling, a failed brain mask or a cropped scan.",
    )  # fmt: skip


def _registered(survey: Survey, role: str) -> list[Finding]:
    states = [p.registered for p in survey.placements]
    agreement = [f"correlation with MNI152 {p.agreement:.2f}" for p in survey.placements]
    off = [
        (name, detail)
        for name, detail, state in zip(survey.names, agreement, states, strict=True)
        if state is False
    ]
    most = survey.most(lambda p: p.registered)
    if most is False:
        message = (
            f"{len(off)} of {len(states)} volumes are not registered to MNI152 (median correlation "
            f"{np.nanmedian([p.agreement for p in survey.placements]):.2f})."
            f"{_shift_words(survey)} Metrics that compare "
            "voxels see position first: register the volumes (to MNI152, or all to one space). "
            f"Whole heads: {PREPARE}"
        )
        return [of_set("registered", "warning", role, message)]
    return if_any(
        "registered", _single(role), role, off,
        "these are not registered to MNI152, as the others are",
        f"Register them again; whole heads: {PREPARE}",
    )  # fmt: skip


def _skull(survey: Survey, role: str) -> list[Finding]:
    states = [p.stripped for p in survey.placements]
    most = survey.most(lambda p: p.stripped)
    if all(state is False for state in states):
        message = (
            "no volume is skull-stripped. Features and distances see scalp and neck before the "
            f"brain: strip all sets with one tool, or none. To strip and register: {PREPARE}"
        )
        return [of_set("skull", "warning", role, message)]
    if most is None:
        return []
    off = [
        (name, "a head" if state is False else "a brain")
        for name, state in zip(survey.names, states, strict=True)
        if state is not None and state is not most
    ]
    return if_any(
        "skull", _single(role), role, off,
        "skull-stripped and not skull-stripped volumes are mixed; these differ from most",
        f"Strip all volumes with one tool, for example: {PREPARE}",
    )  # fmt: skip


def _background(survey: Survey, role: str) -> list[Finding]:
    if survey.most(lambda p: p.stripped) is False:
        return []  # a scanner's background is noise
    off = [
        (name, f"{inspection.background[2]:.3g}")
        for name, inspection in zip(survey.names, survey.inspections, strict=True)
        if _has_background(inspection) and not is_negative(inspection)
    ]
    return if_any(
        "background", "warning", role, off,
        "the background is not zero (upper quartile at the edge of the field of view)",
        f"Scoring sets values below {BACKGROUND:g} of the 99.9th percentile to zero, but these are "
        "above: mask the volumes.",
    )  # fmt: skip


def _has_background(inspection: Inspection) -> bool:
    floor = BACKGROUND * abs(inspection.scale)
    return bool(np.abs(inspection.background).max() > floor)


def _clipped(survey: Survey, role: str) -> list[Finding]:
    off = [
        (name, f"{inspection.clipped:.1%}")
        for name, inspection in zip(survey.names, survey.inspections, strict=True)
        if inspection.clipped > MAX_CLIPPED
    ]
    return if_any(
        "clipped", "warning", role, off,
        f"more than {MAX_CLIPPED:.0%} of the foreground is at the greatest value",
        "Contrast was cut off: "
        + (
            "the generator saturates there, or its volumes were written with too low a maximum."
            if role == "synth"
            else "convert them from the original with a higher maximum."
        ),
    )  # fmt: skip


def _negative(survey: Survey, role: str) -> list[Finding]:
    off = [
        (name, f"down to {inspection.low:.3g}")
        for name, inspection in zip(survey.names, survey.inspections, strict=True)
        if is_negative(inspection)
    ]
    return if_any(
        "negative", "error", role, off, "intensities are negative",
        "Undo the centring (for example (x + 1) / 2 for volumes in [-1, 1], or the z-score), so "
        "that the background is zero.",
    )  # fmt: skip


def is_negative(inspection: Inspection) -> bool:
    """Return True where values are below zero by more than the overshoot of interpolation."""
    return inspection.low < -OVERSHOOT * max(inspection.scale, 0.0)


def is_centred(survey: Survey) -> bool:
    """Return True where most volumes are centred on zero."""
    return 2 * sum(is_negative(i) for i in survey.inspections) > len(survey.inspections)


def _identical(survey: Survey, role: str) -> list[Finding]:
    groups: dict[str, list[str]] = {}
    for entry in survey.entries:
        groups.setdefault(entry.digest, []).append(entry.name)
    twins = [(names[0], f"as {', '.join(names[1:])}") for names in groups.values() if names[1:]]
    repeated = tuple(name for names in groups.values() if names[1:] for name in names)
    fix = (
        "The generator repeats itself; distances within the set are zero."
        if role == "synth"
        else "Keep one of each: a repeated volume counts twice, and halves the distances within "
        "the set."
    )
    found = if_any("identical", _single(role), role, twins, "identical volumes", fix)
    return [replace(finding, volumes=repeated) for finding in found]


WITHIN: tuple[Callable[[Survey, str], list[Finding]], ...] = (
    _few, _orientation, _flip, _shift, _scale, _size, _registered, _skull, _background, _clipped,
    _negative, label_maps, _identical, near_identical,
)  # fmt: skip
