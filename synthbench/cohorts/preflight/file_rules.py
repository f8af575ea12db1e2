"""The rules of preflight on how files state their volumes; docs/preflight.md gives the reasons."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from synthbench.cohorts.inspection import FOREGROUND
from synthbench.cohorts.preflight.findings import Finding, Severity, if_any, of_set
from synthbench.cohorts.preflight.survey import Survey
from synthbench.cohorts.volume_file import MIN_EXTENT_MM

MIN_BRAIN_ML = 320.0
"""A smaller foreground is no brain. In cells of 6 mm, 12 adults of IXI have 2.06 L, at half their
voxel size 0.27 L, and at a newborn's size 0.53 L."""

MAX_HEAD_ML = 8000.0
"""A larger foreground is no head with a neck: adult heads have 3.5 to 5.2 L."""

_REMARKS: dict[str, tuple[Severity, str, str]] = {
    "sform-qform": (
        "error",
        "the two affines in these headers contradict each other (sform, which is used here, and "
        "qform, which other programs use)",
        "Find out which is right, and write it to both (nibabel: image.set_qform(image.affine)).",
    ),
    "assumed-grid": (
        "warning",
        "the affine of these files was replaced by that of --assume-grid",
        "If it is right for them, nothing needs to be fixed.",
    ),
    "nan-background": (
        "warning",
        "the background of these volumes is NaN, and was read as 0 (SPM and AFNI write NaN there)",
        "If that is right, nothing needs to be fixed. To write 0: numpy.nan_to_num.",
    ),
    "scaling": (
        "warning",
        "the scaling rule of these headers is not set, and values were read as they are stored",
        "Write the scaling rule, 1 and 0 if there is none: other programs may read NaN.",
    ),
    "units": (
        "note",
        "lengths were converted to mm",
        "If the unit in the header is right, nothing needs to be fixed.",
    ),
    "file-name": (
        "note",
        "the content of these files is not what their names say, and was read by content",
        "Rename them: other programs go by the name.",
    ),
}
"""By rule: its severity, what it finds, and how to fix it."""


def _remarks(survey: Survey, role: str) -> list[Finding]:
    found = []
    for rule, (severity, what, fix) in _REMARKS.items():
        volumes = [
            (name, remark.detail)
            for name, inspection in zip(survey.names, survey.inspections, strict=True)
            for remark in inspection.remarks
            if remark.rule == rule
        ]
        found += if_any(rule, severity, role, volumes, what, fix)
    return found


def _voxel_size(survey: Survey, role: str) -> list[Finding]:
    """Find voxel sizes with which a head is too small or too large for a human one.

    A generator may fail to draw a brain, but it does not choose the field of view: that is an
    error in synthetic volumes too. A small foreground may also be another object than a brain: a
    warning.
    """
    fix = (
        "Write the volumes with the voxel size of the data that they were made from, in mm, or "
        "state it: --assume-grid real, or for a real cohort the size, for example --assume-grid 2."
    )
    small = [
        (name, " x ".join(f"{length:.3g}" for length in inspection.extent_mm) + " mm")
        for name, inspection in zip(survey.names, survey.inspections, strict=True)
        if sorted(inspection.extent_mm)[1] < MIN_EXTENT_MM
    ]
    if small:
        what = f"the field of view holds no human head: below {MIN_EXTENT_MM:g} mm along two axes"
        return if_any("voxel-size", "error", role, small, what, fix)
    known = [
        placement.foreground_ml
        for placement, inspection in zip(survey.placements, survey.inspections, strict=True)
        if inspection.background_noise <= FOREGROUND
    ]
    if role == "synth" or 2 * len(known) <= len(survey.names):
        return []
    median = float(np.median(known))
    if MIN_BRAIN_ML <= median <= MAX_HEAD_ML:
        return []
    message = (
        f"the median foreground is {median:.0f} mL; here a brain has {MIN_BRAIN_ML:.0f} mL or "
        f"more, a head {MAX_HEAD_ML:.0f} mL or less. The voxel size is probably wrong. {fix}"
    )
    return [of_set("voxel-size", "warning", role, message)]


OF_FILES: tuple[Callable[[Survey, str], list[Finding]], ...] = (_voxel_size, _remarks)
