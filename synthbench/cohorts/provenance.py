"""The datasets that a cohort comes from, and their licences."""

from __future__ import annotations

from pathlib import Path

from synthbench.cohorts.cohort import Cohort
from synthbench.cohorts.datasets.description import FILE, read_description
from synthbench.errors import CohortError
from synthbench.runtime.documents import check_own, is_there, read_text


def sources(cohort: Cohort) -> list[dict[str, str]]:
    """Return name, licence, terms and address of the datasets that a cohort's volumes lie in.

    A volume's dataset is the nearest folder above it with a `dataset_description.json` (BIDS);
    `synthbench data prepare` copies the terms of the scans into `DATA_USE_TERMS.txt`.

    Returns
    -------
    One record per dataset, with `name`, `licence`, `terms` and `url`, each empty where the dataset
    does not state it; volumes outside any dataset give a record with all of them empty.

    Raises
    ------
    CohortError
        A `dataset_description.json` or a text of terms cannot be read.
    """
    folders = {entry.path.resolve().parent for entry in cohort.entries}
    found = {_dataset(folder) for folder in folders}
    records = [_described(root) for root in sorted(root for root in found if root is not None)]
    if None in found:
        records.append({"name": "", "licence": "", "terms": "", "url": ""})
    return [dict(one) for one in dict.fromkeys(tuple(record.items()) for record in records)]


def _dataset(folder: Path) -> Path | None:
    candidates = (folder, *folder.parents)
    return next((f for f in candidates if is_there(f / FILE, CohortError)), None)


def _described(root: Path) -> dict[str, str]:
    described = read_description(root)
    file = root / "DATA_USE_TERMS.txt"
    terms = described.HowToAcknowledge
    if file.is_file():
        check_own(file, root, CohortError)
        terms = read_text(file, error=CohortError, fix="Save it as UTF-8.")
    return {
        "name": described.Name or "",
        "licence": described.licence or "",
        "terms": terms or "",
        "url": described.link,
    }
