"""The rule of preflight on masks and label maps among the volumes."""

from __future__ import annotations

from synthbench.cohorts.preflight.findings import Finding, if_any
from synthbench.cohorts.preflight.survey import Survey


def label_maps(survey: Survey, role: str) -> list[Finding]:
    """Return the finding on volumes whose voxels are those of a mask or a label map."""
    off = [
        (name, "")
        for name, inspection in zip(survey.names, survey.inspections, strict=True)
        if inspection.label_map
    ]
    return if_any(
        "label-maps", "warning" if role == "synth" else "error", role, off,
        f"{len(off)} of {len(survey.names)} volumes hold few values in flat regions: masks, label "
        "maps, or intensities in [0, 1] that were written as whole numbers",
        "Leave masks and label maps out with --suffix or --filter, or list the volumes in a "
        "manifest; write intensities again from the original, as floating point.",
    )  # fmt: skip
