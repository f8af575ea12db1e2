"""The scans of a public cohort: their files, their participants and the covariates.

A downloaded cohort is a tree of folders in its project's own layout, with tables beside it.
`synthbench.cohorts.datasets.find.find_scans` reads it into a `ScanTable`: one entry per T1-weighted
scan, and covariates under common names. No image is opened: all comes from tables and file names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

NOT_KNOWN = "not known"
"""The name of terms of use that no file states."""

COVARIATES = ("age", "sex", "diagnosis", "site", "date", "days")
_OF_THE_SCAN = ("path", "participant_id", "session", "run", "axes")


@dataclass(frozen=True)
class Scan:
    """One T1-weighted scan.

    Attributes
    ----------
    path
        The image file (`.nii`, `.nii.gz`, or the `.hdr` of an ANALYZE pair).
    participant_id
        The person: "sub-" and then letters and digits only.
    session
        The visit: "ses-" and then letters and digits only; None in a cohort with one visit each.
    run
        The number of the scan in its session, in the layout's numbering; None where there is one.
    axes
        Directions of the voxel axes, such as "ASL" (anterior, superior, left), from the cohort's
        documentation, where the file's header cannot state them (ANALYZE). None: the header does.
    """

    path: Path
    participant_id: str
    session: str | None
    run: str | None
    axes: str | None = None


@dataclass(frozen=True)
class DataUseTerms:
    """Terms of use that bind a cohort's data, and all that is made from them.

    Attributes
    ----------
    name
        The name of the agreement or licence.
    url
        Address of the full text; empty where none is known.
    text
        A summary. It replaces nothing: the agreement that the user signed is what counts.
    """

    name: str
    url: str
    text: str

    def as_text(self) -> str:
        """Return the text of `DATA_USE_TERMS.txt`: name, address, an empty line, the summary."""
        return "\n".join([self.name, self.url, "", self.text, ""])

    @classmethod
    def of_text(cls, name: str, text: str) -> DataUseTerms:
        """Return the terms from a text of `as_text`; any other text is kept as it is.

        >>> terms = DataUseTerms("CC0", "https://x.org", "Cite us.")
        >>> DataUseTerms.of_text("CC0", terms.as_text()) == terms
        True
        """
        first, url, blank, *rest = [*text.split("\n", 3), "", "", ""][:4]
        if (first, blank) == (name, ""):
            return cls(name, url, rest[0].removesuffix("\n"))
        return cls(name, "", text)


@dataclass(frozen=True)
class ScanTable:
    """The scans of a cohort, and its covariates.

    Common names of covariates, in both tables: `age` (years), `sex` ("M", "F"), `diagnosis`
    ("CN" for cognitively normal or healthy controls, else the cohort's own label), `site`,
    `date` (ISO 8601), `days` (since the person entered the study). The columns of the cohort's
    own tables are kept too, with the prefix `orig_` where a name is a common one.

    Attributes
    ----------
    scans
        Ordered by participant, then by visit (earliest first), then by preference among the
        scans of a visit, as the layout documents it.
    participants
        One row per participant with a scan, indexed by `participant_id`.
    sessions
        One row per session with a scan, with columns `participant_id` and `session`, and the
        values that change between visits (age at the scan, diagnosis, days since entry).
    layout
        The layout's name.
    terms
        The terms of use of the data.
    notes
        What was left out and why, with counts, and the choice among several images.
    """

    scans: tuple[Scan, ...]
    participants: pd.DataFrame
    sessions: pd.DataFrame
    layout: str
    terms: DataUseTerms
    notes: tuple[str, ...]

    def covariates(self) -> pd.DataFrame:
        """Return one row per scan, in order: path, participant_id, session, run, axes, covariates.

        Where both tables have a column, the session's is taken, also its missing values: age at
        entry is not age at the scan.
        """
        rows = pd.DataFrame(
            {
                "path": [str(scan.path) for scan in self.scans],
                "participant_id": [scan.participant_id for scan in self.scans],
                "session": pd.Series([scan.session for scan in self.scans], dtype=object),
                "run": pd.Series([scan.run for scan in self.scans], dtype=object),
                "axes": pd.Series([scan.axes for scan in self.scans], dtype=object),
            }
        )
        lasting = self.participants.drop(columns=list(self.sessions), errors="ignore")
        # A left join on keys that hold None: pandas matches None with None.
        rows = rows.merge(self.sessions, how="left", on=["participant_id", "session"])
        rows = rows.merge(lasting, how="left", left_on="participant_id", right_index=True)
        first = [*_OF_THE_SCAN, *(name for name in COVARIATES if name in rows)]
        return rows[[*first, *(name for name in rows if name not in first)]]


def natural_order(text: str | None) -> tuple[tuple[int, str], ...]:
    """Return a key that sorts the numbers in a label as numbers: ses-2 before ses-10.

    >>> sorted(["ses-10", "ses-2", "ses-M6"], key=natural_order)
    ['ses-2', 'ses-10', 'ses-M6']
    """
    parts = re.findall(r"\d+|\D+", text or "")
    # Text has no number: -1 keeps the pairs comparable, and "ses-2" before "ses-M6".
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts)


def visit_order(
    session: str | None, days: float | None, date: str | None
) -> tuple[float, str, tuple[tuple[int, str], ...]]:
    """Return a key that sorts a person's visits: by days since entry, date, then label.

    A visit of unknown day or date comes after the others.
    """
    known = days is not None and not pd.isna(days)
    dated = isinstance(date, str)
    return (
        float(days) if known and days is not None else float("inf"),
        str(date) if dated else "9999",
        natural_order(session),
    )
