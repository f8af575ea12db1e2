"""ADNI, PPMI and NIFD as the LONI Image and Data Archive packs them.

    <study>/<subject>/<series description>/<date_time>/<image id>/*.nii or *.dcm

Covariates come from the CSV of the image collection, which is downloaded beside the images.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pandas as pd

from synthbench.cohorts.datasets.layouts.layout import SIGNED_AGREEMENT, FolderLayout, Layout
from synthbench.cohorts.datasets.layouts.tables import (
    agreed,
    assemble,
    no_participants,
    read_table,
    tables_with,
    with_common_names,
)
from synthbench.cohorts.datasets.layouts.tree import counted, folders, is_nifti, label
from synthbench.cohorts.datasets.scans import DataUseTerms, Scan, ScanTable, natural_order
from synthbench.errors import CohortError

# Columns of an advanced search: {their name: the name in the CSV of a collection}.
_SEARCH_COLUMNS = {
    "Subject ID": "Subject",
    "Image ID": "Image Data ID",
    "Research Group": "Group",
    "Study Date": "Acq Date",
}
_SOURCES = {"age": "Age", "diagnosis": "Group"}
# Columns that describe an image and not the visit.
_OF_THE_IMAGE = (
    *("Image Data ID", "Modality", "Description", "Type", "Format", "Downloaded", "Acq Date"),
    *("Imaging Protocol", "Archive Date", "Structure", "Series Identifier"),
)
_T1 = re.compile(r"mp ?rage|mpr|spgr|bravo|\btfe\b|\bm?t1")
_NOT_T1 = re.compile(
    r"mask|label|segment|harp|hippo|calibration|localizer|scout|survey|\bloc\b|\bt2|flair|"
    r"\bmap\b|rho|\bt?se\b|fse|post|contrast|\bgad"
)
_PLANES = re.compile(r"\b(ax|axial|tra|cor|coronal)\b")
_VOLUMETRIC = re.compile(r"3 ?d|mp ?rage|spgr|volum")
_PROCESSED = re.compile(r"gradwarp|b1 correction|\bn3m?\b|scaled|\bmt1\b")
_REPEAT = re.compile(r"repeat|mpr r\b|mprage 2|\brpt\b")


@dataclass(frozen=True)
class _Study:
    """One study of the archive: its name, a pattern of its subjects' numbers, its terms."""

    name: str
    subjects: str
    terms: DataUseTerms

    def site(self, subject: str) -> str | None:
        """Return the site, with which a subject's number begins; None where it has none."""
        return subject.split("_")[0] if "_S_" in subject else None


@dataclass(frozen=True)
class _Image:
    """The content of one image folder."""

    folder: Path
    subject: str
    series: str
    date: str
    number: str
    volumes: tuple[Path, ...]


def _fits(study: _Study, folder: Path) -> bool:
    named = (place.upper() for place in (folder.name, *_subfolders(folder)))
    return any(name.startswith(study.name) for name in named) and any(
        next(subject.glob("*/*/[IS][0-9]*"), None) for subject in _subjects(study, folder)
    )


def _subfolders(folder: Path) -> list[str]:
    return [place.name for place in folders(folder, ".*", depth=1)]


def _subjects(study: _Study, folder: Path) -> Iterator[Path]:
    return folders(folder, study.subjects, depth=3)


def _read(study: _Study, folder: Path) -> ScanTable:
    """Return the NIfTI images whose series description is that of a T1-weighted volume.

    The images of a day are ordered: acquired images before processed ones (GradWarp, B1
    correction, N3), the first scan before its repeat, then by image id.
    """
    images, notes = _images(study, folder)
    chosen = [image for image in images if _is_t1(image.series)]
    others = [image.series for image in images if not _is_t1(image.series)]
    with_volumes = [image for image in chosen if image.volumes]
    if others:
        notes.append(f"skipped by their series description: {counted(others)}")
    if len(with_volumes) < len(chosen):
        notes.append(_convert(folder, chosen))
    scans = [
        Scan(volume, _participant(image.subject), _session(image.date), image.number)
        for image in sorted(with_volumes, key=_preference)
        for volume in image.volumes
    ]
    rows, table_notes = _collection(folder)
    participants, sessions, join_notes = _covariates(rows, with_volumes)
    found = assemble(
        study.name.lower(),
        study.terms,
        folder,
        scans,
        participants,
        sessions,
        (*notes, *table_notes, *join_notes),
    )
    sites = {_participant(image.subject): study.site(image.subject) for image in with_volumes}
    if not any(sites.values()):
        return found
    site = found.participants.index.map(sites)
    return replace(found, participants=found.participants.assign(site=site))


def _images(study: _Study, folder: Path) -> tuple[list[_Image], list[str]]:
    images, strange = [], 0
    for subject in _subjects(study, folder):
        for place in sorted(subject.glob("*/*/*")):
            series, when = place.parts[-3], place.parts[-2]
            day = re.match(r"\d{4}-\d{2}-\d{2}", when)
            if not (place.is_dir() and day and re.fullmatch(r"[IS]\d+", place.name)):
                strange += place.is_dir()
                continue
            volumes = tuple(sorted(file for file in place.iterdir() if is_nifti(file.name)))
            images.append(_Image(place, subject.name, series, day[0], place.name, volumes))
    note = f"{strange} folders skipped, because they are not <series>/<date_time>/<image id>"
    return images, [note] if strange else []


def _is_t1(series: str) -> bool:
    words = _words(series)
    slices = _PLANES.search(words) and not _VOLUMETRIC.search(words)
    return bool(_T1.search(words) and not _NOT_T1.search(words) and not slices)


def _words(series: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", series.lower())


def _preference(image: _Image) -> tuple[bool, bool, tuple[tuple[int, str], ...]]:
    words = _words(image.series)
    return (
        bool(_PROCESSED.search(words)),
        bool(_REPEAT.search(words)),
        natural_order(image.number),
    )


def _convert(folder: Path, images: Iterable[_Image]) -> str:
    waiting = [image for image in images if not image.volumes]
    return (
        f"{len(waiting)} T1-weighted images have no NIfTI file (DICOM only) and are skipped "
        f"(first: {waiting[0].folder}). Convert them in place and run this again:\n"
        f"    find '{folder}' -iname '*.dcm' -printf '%h\\n' | sort -u | "
        'while read -r d; do dcm2niix -z y -f "%f" -o "$d" "$d"; done'
    )


def _participant(subject: str) -> str:
    return f"sub-{label(subject)}"


def _session(date: str) -> str:
    return f"ses-{label(date)}"


# ---------------------------------------------------------------- covariates


def _collection(folder: Path) -> tuple[pd.DataFrame | None, list[str]]:
    """Return the rows of all CSV files of image collections, here or one folder down; notes."""
    beside = sorted((*folder.glob("*.csv"), *folder.glob("*/*.csv")))
    files = [
        *tables_with(beside, "Image Data ID", "Subject"),
        *tables_with(beside, "Image ID", "Subject ID"),
    ]
    if not files:
        return None, [
            f"no CSV of the image collection in {folder}: age, sex and group are not known. In "
            "the archive (ida.loni.usc.edu), open the collection, download its CSV, and put it "
            "there"
        ]
    text = ["Image Data ID", "Image ID", "Subject", "Subject ID", "Visit"]
    parts = [read_table(file, text=text).rename(columns=_SEARCH_COLUMNS) for file in files]
    names = ", ".join(file.name for file in files)
    return pd.concat(parts, ignore_index=True), [f"covariates from {names}"]


def _covariates(
    rows: pd.DataFrame | None, images: list[_Image]
) -> tuple[pd.DataFrame, pd.DataFrame, tuple[str, ...]]:
    """Return the participants and the sessions of the collection's table, and notes."""
    sessions = pd.DataFrame(
        {
            "participant_id": [_participant(image.subject) for image in images],
            "session": [_session(image.date) for image in images],
            "date": [image.date for image in images],
            "number": [image.number.lstrip("IS") for image in images],
        },
        dtype=object,
    )
    keys = ["participant_id", "session"]
    if rows is None:
        return no_participants(), _days(sessions.drop(columns="number").groupby(keys).first()), ()
    numbers = rows["Image Data ID"].str.extract(r"(\d+)", expand=False)
    rows = rows.assign(number=numbers).drop_duplicates("number")
    joined = sessions.merge(rows, on="number", how="left")
    unlisted = int(joined["Subject"].isna().sum())
    notes = [f"{unlisted} of {len(images)} images are not in the CSV"] if unlisted else []
    _check_subjects(joined, images)
    joined = joined.drop(columns=["number", "Subject", *_OF_THE_IMAGE], errors="ignore")
    listed = joined.dropna(subset=[c for c in ("Sex", "Age", "Group") if c in joined], how="all")
    persons, person_notes = agreed(
        listed[["participant_id", *(c for c in ("Sex",) if c in listed)]], ["participant_id"]
    )
    participants, sex_notes = with_common_names(persons, {"sex": "Sex"})
    visits, visit_notes = agreed(joined.drop(columns="Sex", errors="ignore"), keys)
    covariates, visit_values = with_common_names(visits.drop(columns="date"), _SOURCES)
    covariates.insert(0, "date", visits["date"])
    return (
        participants,
        _days(covariates),
        (*notes, *person_notes, *sex_notes, *visit_notes, *visit_values),
    )


def _check_subjects(joined: pd.DataFrame, images: list[_Image]) -> None:
    """Refuse a table in which an image belongs to another subject than in the tree."""
    whose = joined["Subject"].map(lambda s: s if pd.isna(s) else _participant(s))
    wrong = whose.notna() & (whose != joined["participant_id"])
    if wrong.any():
        first = images[int(wrong.to_numpy().argmax())]
        raise CohortError(
            f"{first.folder}: belongs to subject {first.subject}, but in the CSV of the collection "
            f"image {first.number} belongs to {joined.loc[wrong, 'Subject'].iloc[0]} "
            f"({int(wrong.sum())} images in all). Use the CSV of the same download."
        )


def _days(sessions: pd.DataFrame) -> pd.DataFrame:
    """Return the sessions with the days since the participant's first scan here."""
    dates = pd.to_datetime(sessions["date"])
    first = dates.groupby(level="participant_id").transform("min")
    return sessions.assign(days=(dates - first).dt.days.astype("float64"))


# ---------------------------------------------------------------- the studies

ADNI_STUDY = _Study(
    "ADNI",
    r"\d{3}_S_\d{4,5}",
    DataUseTerms(
        name="ADNI data use agreement",
        url="https://ida.loni.usc.edu/collaboration/access/appLicense.jsp",
        text=(
            "Nothing at the level of a participant may be passed on in any form: no scans, no "
            "derived data, no features, no synthetic pictures that stand for one participant; "
            "summaries may. No AI service that does not keep its inputs contained. Papers name "
            "ADNI in the byline, acknowledge it in its words and follow its publication policy. "
            + SIGNED_AGREEMENT
        ),
    ),
)
PPMI_STUDY = _Study(
    "PPMI",
    r"\d{3,6}",
    DataUseTerms(
        name="PPMI data use agreement",
        url="https://www.ppmi-info.org/sites/default/files/docs/ppmi-data-use-agreement.pdf",
        text=(
            "Nothing at the level of a participant may be passed on, processed or altered data "
            "included: no scans, features, or synthetic pictures that stand for one participant. "
            "No AI service that does not keep its inputs contained. Papers acknowledge PPMI in "
            "its words and follow its publication policy. " + SIGNED_AGREEMENT
        ),
    ),
)
NIFD_STUDY = _Study(
    "NIFD",
    r"\d_S_\d{4}",
    DataUseTerms(
        name="NIFD (FTLDNI) data use agreement",
        url="https://4rtni-ftldni.ini.usc.edu/",
        text=(
            "Nothing at the level of a participant may be passed on: no scans, no derived data, "
            "no features, no synthetic pictures that stand for one participant. Papers "
            "acknowledge the study and its grants in its words and follow its publication "
            "policy. " + SIGNED_AGREEMENT
        ),
    ),
)


def _layout(study: _Study, example: str) -> Layout:
    return FolderLayout(
        name=study.name.lower(),
        signs=f"{study.name}/{example}/<series>/<date_time>/I<number>",
        fits=partial(_fits, study),
        read=partial(_read, study),
        terms=study.terms,
        path=rf"/(?i:{study.name})[^/]*/(.*/)?{study.subjects}/[^/]+/\d{{4}}-\d\d-\d\d[^/]*/[IS]\d+/",
    )


def adni() -> Layout:
    """Return the layout of ADNI, from the LONI archive."""
    return _layout(ADNI_STUDY, "002_S_0413")


def ppmi() -> Layout:
    """Return the layout of PPMI, from the LONI archive."""
    return _layout(PPMI_STUDY, "3000")


def nifd() -> Layout:
    """Return the layout of NIFD, from the LONI archive."""
    return _layout(NIFD_STUDY, "1_S_0001")
