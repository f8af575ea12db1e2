"""What in the headers, sidecars, tables and names of a cohort may tell who the volumes are of.

Looked for are the direct identifiers of HIPAA's Safe Harbor (45 CFR 164.514(b)(2)): names, dates,
addresses, numbers of devices and records. The keys of sidecars are the attributes that DICOM
PS3.15, annex E, removes. A day of the calendar counts, a time of day does not. Nothing finds a name
that looks like any other word: what is found must be looked at, what is not found proves nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from synthbench.cohorts.file_names import CONTRASTS
from synthbench.cohorts.preflight.header_texts import header_texts
from synthbench.runtime import tar
from synthbench.volumes.image_file import without_suffix

SIDECAR_KEYS = frozenset(
    key.lower()
    for key in (
        "PatientName", "PatientID", "PatientBirthDate", "PatientBirthTime", "PatientBirthName",
        "PatientMotherBirthName", "OtherPatientIDs", "OtherPatientNames", "PatientAddress",
        "PatientTelephoneNumbers", "PatientComments", "IssuerOfPatientID", "MedicalRecordLocator",
        "AdditionalPatientHistory", "Occupation", "ImageComments", "AccessionNumber", "StudyID",
        "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID",
        "AcquisitionDateTime", "AcquisitionDate", "StudyDate", "SeriesDate", "ContentDate",
        "InstanceCreationDate", "PerformedProcedureStepStartDate", "DateOfLastCalibration",
        "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName",
        "DeviceSerialNumber", "ReferringPhysicianName", "RequestingPhysician", "OperatorsName",
        "PerformingPhysicianName", "PhysiciansOfRecord", "NameOfPhysiciansReadingStudy",
    )
)  # fmt: skip
COLUMNS = frozenset(
    (
        "name", "firstname", "givenname", "lastname", "surname", "familyname", "fullname",
        "patientname", "initials", "dob", "birthdate", "dateofbirth", "birthday", "address",
        "street", "city", "zip", "zipcode", "postcode", "postalcode", "phone", "telephone",
        "mobile", "fax", "email", "mail", "mrn", "medicalrecordnumber", "ssn", "nhsnumber",
        "socialsecuritynumber", "insurancenumber", "patientid", "acqtime", "acquisitiondate",
        "scandate", "studydate", "examdate", "visitdate", "deathdate", "dateofdeath",
    )
)  # fmt: skip
"""Names of columns, in small letters without spaces and marks."""

_NOTHING = frozenset(("", "none", "n/a", "na", "nan", "null", "unknown", "anonymous", "anon", "x"))
_YEAR, _MONTH, _DAY = r"(?P<year>(?:19|20)\d\d)", r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_DATES = (
    # 1970-01-31, 1970_01_31, 19700131 and 19700131154500; no longer run of digits
    re.compile(rf"(?<!\d){_YEAR}(?P<mark>[-_./]?){_MONTH}(?P=mark){_DAY}(?!\d(?!\d{{5}}))"),
    # 31.01.1970 and 01/31/1970
    re.compile(rf"(?<!\d)\d{{1,2}}(?P<mark>[-_./])\d{{1,2}}(?P=mark){_YEAR}(?!\d)"),
    # Wed Dec  4 15:25:03 2024, 4 Dec 2024
    re.compile(
        r"(?i)(?:\b\d{1,2}[ -])?\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[ -]"
        rf".{{0,14}}?\b{_YEAR}\b"
    ),
)
_SHIFTED_BEFORE = 1925
"""BIDS asks that dates are moved to a year before 1925, where they must be kept but not told."""

_WORDS = "words about a person"
_MAIL = re.compile(r"[\w.+-]+@[\w-]+")
_CARET = re.compile(r"[A-Za-z]{2,}\^[A-Za-z]+")
_KINDS = {
    "a name": _CARET,
    "an address of mail or of a user": _MAIL,
    "a user's folder": re.compile(r"(?i)(?:/home/|/users/|[a-z]:\\users\\)[^/\\\s]+"),
    _WORDS: re.compile(r"(?i)\b(?:patient|birth|born|dob|mrn|name)\b"),
}
_PERSON = re.compile(r"^([A-Z][a-z]{2,})[ _,.-]*([A-Z][a-z]{2,})(?![a-z])")
_NO_PERSON = frozenset(CONTRASTS) | frozenset(
    ("sub", "ses", "brain", "head", "scan", "image", "volume", "subject", "patient", "control",
     "synth", "real", "train", "test", "sample", "healthy", "young", "old", "the", "anat")
)  # fmt: skip
_SOFTWARE = re.compile(
    r"(?i)(?:fsl ?[\d.]*|\d+\.\d+(?:\.\d+)?(?::[0-9a-f]+)?|spm[\d ,.+*-]*(?:3d normalized|"
    r"realigned|segmented|smoothed)?|freesurfer [a-z]{3} +\d{1,2} +\d{4}|(?:itk|ants|afni|nibabel|"
    r"c3d|niftyreg|mrtrix|mrtrix3)[ -]?v?[\d.]*|synthetic: [a-z]+|te=[-\d.;a-z=]*)"
)
"""What programs write into `descrip` of every file."""
_ALWAYS = frozenset(("patient_id", "scannum", "exp_date", "generated", "gzip comment"))
_MOST_BYTES = 16 * 2**20
_MOST_LINES = 100_000


def kinds_of(text: str) -> list[str]:
    """Return what in a text may tell a person; empty where nothing is seen.

    >>> kinds_of("DOE^JOHN, scanned on 2019-03-07"), kinds_of("FSL5.0")
    (['a date', 'a name'], [])
    """
    kinds = []
    for pattern in _DATES:
        if any(int(found["year"]) >= _SHIFTED_BEFORE for found in pattern.finditer(text)):
            kinds = ["a date"]
    return kinds + [kind for kind, pattern in _KINDS.items() if pattern.search(text)]


def in_header(file: Path) -> dict[str, str]:
    """Return the fields of an image's header that may tell a person, with their texts.

    Parameters
    ----------
    file
        The image.

    Returns
    -------
    dict
        By field, with what was seen: `{"descrip: a date": "2019-03-07"}`. A text that is not one
        of a known program is among them, as anybody may have typed it.
    """
    found = {}
    for field, text in header_texts(file).items():
        if text.lower() in _NOTHING or (field == "descrip" and _SOFTWARE.fullmatch(text)):
            continue
        kind = ", ".join(kinds_of(text))
        if field == "gzip file name":
            if _stem(text) != _stem(file.name):
                found[f"{field}: another than the file's" + (f", {kind}" if kind else "")] = text
        elif kind:
            found[f"{field}: {kind}"] = text
        elif field in _ALWAYS or field.startswith("extension"):
            found[field] = text
        elif field != "intent_name":
            found[f"{field}: a free text"] = text
    return found


def _stem(name: str) -> str:
    stem = without_suffix(name.replace("\\", "/").rsplit("/", 1)[-1].lower())
    return stem.removesuffix(".gz").removesuffix(".nii")


def in_sidecar(file: Path) -> dict[str, str]:
    """Return the keys of a JSON file that tell a person, a place or a day, with their values."""
    try:
        with tar.open_binary(file) as opened:
            text = opened.read(_MOST_BYTES + 1)
        if len(text) > _MOST_BYTES:
            return {}
        content = json.loads(text.decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    found: dict[str, str] = {}
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            found |= dict(_of_fields(value))
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return dict(sorted(found.items()))


def _of_fields(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in fields.items():
        if key.lower() not in SIDECAR_KEYS:
            continue
        text = value if isinstance(value, str) else json.dumps(value)
        if isinstance(value, (bool, type(None), dict)) or text.strip().lower() in _NOTHING:
            continue
        if "date" in key.lower() and _is_shifted(text):
            continue
        yield key, text


def _is_shifted(text: str) -> bool:
    """Return True where a date was moved to a year in which nobody was scanned."""
    years = re.findall(r"(?<!\d)(1[5-9]\d\d)(?=-|\d{4}(?!\d))", text)
    return bool(years) and all(int(year) < _SHIFTED_BEFORE for year in years)


def in_table(file: Path) -> dict[str, str]:
    """Return the columns of a CSV or TSV file that tell a person, with the first such value."""
    try:
        if file.stat().st_size > _MOST_BYTES:
            return {}
        lines = file.read_text(encoding="utf-8-sig").splitlines()[:_MOST_LINES]
    except (OSError, ValueError):
        return {}
    if not lines:
        return {}
    mark = "\t" if "\t" in lines[0] else ";" if lines[0].count(";") > lines[0].count(",") else ","
    head, *rows = ([cell.strip().strip('"') for cell in line.split(mark)] for line in lines)
    found = {}
    for index, column in enumerate(head):
        values = [row[index] for row in rows if index < len(row)]
        told = [value for value in values if value.lower() not in _NOTHING]
        if not told:
            continue
        if re.sub(r"[^a-z]", "", column.lower()) in COLUMNS:
            if not all(_is_shifted(value) for value in told):
                found[column] = told[0]
            continue
        seen = next(((kind, value) for value in told if (kind := _whole(value))), None)
        if seen is not None:
            found[f"{column}: {seen[0]}"] = seen[1]
    return found


def _whole(value: str) -> str | None:
    """Return the kind of a cell that is nothing but a date, a mail address or a name."""
    if _CARET.fullmatch(value) or _MAIL.fullmatch(value):
        return kinds_of(value)[-1]
    for pattern in _DATES[:2]:
        found = pattern.match(value)
        # A number of eight digits may be an identifier: only with marks it is a date here.
        if found and found["mark"] and int(found["year"]) >= _SHIFTED_BEFORE:
            return "a date"
    return None


def in_name(name: str) -> str | None:
    """Return what a file's name, with its folders, may tell of a person; None where nothing.

    >>> in_name("sub-JohnDoe/anat/sub-JohnDoe_T1w.nii.gz"), in_name("Doe_Jane_19700131.nii.gz")
    ('a name', 'a date')
    >>> in_name("sub-IXI012/sub-IXI012_ses-01_T1w.nii.gz")
    """
    for part in re.split(r"[/\\]", name):
        for text in (without_suffix(part), without_suffix(part).replace("_", " ")):
            kinds = [kind for kind in kinds_of(text) if kind != _WORDS]
            if kinds:
                return kinds[0]
        found = _PERSON.match(re.sub(r"^(?:sub|patient|subject)-", "", part))
        if found and not {word.lower() for word in found.groups()} & _NO_PERSON:
            return "a name"
    return None


def texts_below(root: Path, files: Iterable[Path]) -> dict[str, dict[str, str]]:
    """Return what sidecars and tables tell, by the name of the file; those without are left out.

    Parameters
    ----------
    root
        The cohort's folder, or its manifest.
    files
        The files below the folder, or the manifest and the sidecars of its volumes.
    """
    base = root if root.is_dir() else root.parent
    found = {}
    for file in files:
        suffix = file.suffix.lower()
        if file.name.startswith(".") or not tar.is_file(file):
            continue
        read = in_sidecar if suffix == ".json" else in_table if suffix in (".csv", ".tsv") else None
        if read is not None and (told := read(file)):
            found[str(file.relative_to(base)) if file.is_relative_to(base) else str(file)] = told
    return found
