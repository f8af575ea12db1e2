"""What in a cohort may tell who its volumes are of: fields, sidecars, tables, names, faces.

`data info` looks for it; training and scoring do not, as nothing of it changes a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from synthbench.cohorts.preflight.faces import FACE_ML, face_of
from synthbench.cohorts.preflight.findings import Finding, if_any, of_set
from synthbench.cohorts.preflight.identifiers import in_header, in_name, texts_below
from synthbench.cohorts.preflight.survey import Survey
from synthbench.runtime import tar
from synthbench.runtime.walk import files_below
from synthbench.volumes.image_file import without_suffix

PRIVACY: dict[str, str] = {
    "identifying-header": "no header holds a name, a date, or a text that somebody may have typed",
    "identifying-table": "no sidecar and no table tells a name, a date, a place or a device",
    "identifying-name": "no name of a file tells a person or a date",
    "face": "no head has a face",
}
"""The requirement of each rule that `data info` has in addition; none of them stops a run."""

_SHOWN = 8


def privacy(path: Path, survey: Survey, role: str, *, identifiers: bool = False) -> list[Finding]:
    """Return what in a cohort may tell who its volumes are of, as warnings.

    Parameters
    ----------
    path
        The cohort's folder or manifest.
    survey
        Its volumes.
    role
        What findings call it.
    identifiers
        True: what was found is printed too, not only where.
    """
    return [
        *_headers(survey, role, identifiers),
        *_tables(path, survey, role, identifiers),
        *_names(survey, role),
        *_faces(survey, role),
    ]


def _headers(survey: Survey, role: str, identifiers: bool) -> list[Finding]:
    found = {entry.name: in_header(entry.path) for entry in survey.entries}
    told = [(name, _told(fields, identifiers)) for name, fields in found.items() if fields]
    return if_any(
        "identifying-header", "warning", role, told,
        "fields of these headers may tell who or when was scanned",
        "Look at them (--identifiers prints them), and empty them before you pass the files on "
        "(nibabel: image.header['descrip'] = b'', image.header.extensions.clear(); gzip -n keeps "
        "no name).",
    )  # fmt: skip


def _tables(path: Path, survey: Survey, role: str, identifiers: bool) -> list[Finding]:
    folder = path.is_dir()
    beside = (
        entry.path.with_name(without_suffix(entry.path.name) + ".json")
        for entry in survey.entries
        if not folder or tar.split(entry.path) is not None
    )
    files = [*(files_below(path) if folder else [path]), *beside]
    found = texts_below(path, files)
    if not found:
        return []
    shown = [f"{name} ({_told(fields, identifiers)})" for name, fields in found.items()]
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    message = (
        f"{len(found)} sidecars or tables have fields that may tell who, when or where was "
        f"scanned: {', '.join(shown[:_SHOWN])}{more}. Remove these fields before you pass the "
        "files on."
    )
    return [of_set("identifying-table", "warning", role, message)]


def _told(fields: Mapping[str, str], identifiers: bool) -> str:
    """Return the fields of a file for a message, with what they hold where that is asked for."""
    if not identifiers:
        return "; ".join(fields)
    return "; ".join(f"{field} = {text!r:.200}" for field, text in fields.items())


def _names(survey: Survey, role: str) -> list[Finding]:
    told = [(name, kind) for name in survey.names if (kind := in_name(name)) is not None]
    return if_any(
        "identifying-name", "warning", role, told, "these names look like a person's or a date",
        "If they are, name the files by a code that is kept apart.",
    )  # fmt: skip


def _faces(survey: Survey, role: str) -> list[Finding]:
    heads = [
        (name, face_of(inspection))
        for name, inspection, placement in zip(
            survey.names, survey.inspections, survey.placements, strict=True
        )
        if placement.stripped is False
    ]
    there = [(name, f"{f.foreground_ml:.0f} mL") for name, f in heads if f.there]
    unknown = [(name, f"correlation {f.fit:.2f}") for name, f in heads if f.there is None]
    return [
        *if_any(
            "face", "warning", role, there,
            f"these heads have a face (at least {FACE_ML:.0f} mL of tissue where it is), and may "
            "be recognised",
            "Remove it before you pass the files on (pydeface, mri_deface, quickshear), or strip "
            "the skull: synthbench data prepare",
        ),
        *if_any(
            "face", "note", role, unknown,
            "it is not known whether these heads have a face, as no T1-weighted brain is found in "
            "them",
            "Look at them.",
        ),
    ]  # fmt: skip
