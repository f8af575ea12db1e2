"""IXI: one flat folder, IXI002-Guys-0828-T1.nii.gz, and IXI.xls saved as IXI.csv."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from synthbench.cohorts.datasets.layouts.layout import FolderLayout, Layout
from synthbench.cohorts.datasets.layouts.tables import (
    agreed,
    assemble,
    no_participants,
    no_sessions,
    number,
    read_table,
    sex,
    the_table,
    with_common_names,
)
from synthbench.cohorts.datasets.layouts.tree import counted, is_nifti
from synthbench.cohorts.datasets.scans import DataUseTerms, Scan, ScanTable

_NAME = re.compile(r"IXI(?P<id>\d{3})-(?P<site>[A-Za-z]+)-\d+-(?P<image>[A-Za-z0-9]+)\b.*")
_SOURCES = {"age": "AGE", "sex": "SEX_ID (1=m, 2=f)", "date": "STUDY_DATE"}
_TERMS = DataUseTerms(
    name="CC BY-SA 3.0",
    url="https://creativecommons.org/licenses/by-sa/3.0/",
    text=(
        "May be passed on and changed: name the IXI data set (https://brain-development.org/"
        "ixi-dataset/), say what was changed, and pass on under the same licence whatever is "
        "adapted from the images. This is a summary: the text of the licence rules."
    ),
)


def fits(folder: Path) -> bool:
    """Return True where there is an image with a name of IXI, here or one folder down."""
    return bool(_images(folder))


def _images(folder: Path) -> list[tuple[Path, re.Match[str]]]:
    files = sorted((*folder.glob("IXI*"), *folder.glob("*/IXI*")))
    named = ((file, _NAME.fullmatch(file.name)) for file in files if is_nifti(file.name))
    return [(file, found) for file, found in named if found]


def read(folder: Path) -> ScanTable:
    """Return the T1 images, with their site from the file name, and IXI.csv.

    IXI scanned healthy volunteers: the diagnosis of all is "CN".
    """
    images = _images(folder)
    chosen = [(file, found) for file, found in images if found["image"] == "T1"]
    others = [found["image"] for _, found in images if found["image"] != "T1"]
    scans = [Scan(file, f"sub-IXI{found['id']}", None, None) for file, found in chosen]
    sites = {f"sub-IXI{found['id']}": found["site"] for _, found in chosen}
    participants, notes = _participants(folder)
    passed = f"skipped, because they are no T1 images: {counted(others)}" if others else ""
    found = assemble("ixi", _TERMS, folder, scans, participants, no_sessions(), (passed, *notes))
    site = found.participants.index.map(sites)
    return replace(found, participants=found.participants.assign(site=site, diagnosis="CN"))


def _participants(folder: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    file = the_table(folder, "IXI")
    if file is None:
        note = f"no IXI.csv in {folder}: age and sex are not known. Save IXI.xls there as IXI.csv"
        return no_participants(), (note,)
    table = read_table(file, needs=["IXI_ID", *_SOURCES.values()])
    identifier = number(table["IXI_ID"])
    table = table[identifier.notna()]
    table = table.assign(participant_id=identifier.dropna().map("sub-IXI{:03.0f}".format))
    single, contradictions = agreed(table, ["participant_id"])
    codes = partial(sex, codes={1: "M", 2: "F"})
    named, lost = with_common_names(single, _SOURCES, sex=codes)
    return named, (*contradictions, *lost)


def ixi() -> Layout:
    """Return the layout of IXI."""
    return FolderLayout(
        name="ixi",
        signs="IXI<3 digits>-<site>-<number>-T1.nii.gz",
        fits=fits,
        read=read,
        terms=_TERMS,
        path=rf"/{_NAME.pattern}$",
    )
