"""The datasets that a cohort comes from, and their licences."""

from __future__ import annotations

import json
from pathlib import Path

from synthbench.cohorts.cohort import Cohort
from synthbench.errors import CohortError


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
        A `dataset_description.json` is not valid JSON.
    """
    folders = {entry.path.resolve().parent for entry in cohort.entries}
    found = {_dataset(folder) for folder in folders}
    records = [_described(root) for root in sorted(root for root in found if root is not None)]
    if None in found:
        records.append({"name": "", "licence": "", "terms": "", "url": ""})
    return [dict(one) for one in dict.fromkeys(tuple(record.items()) for record in records)]


def _dataset(folder: Path) -> Path | None:
    candidates = (folder, *folder.parents)
    return next((f for f in candidates if (f / "dataset_description.json").is_file()), None)


def _described(root: Path) -> dict[str, str]:
    file = root / "dataset_description.json"
    try:
        described = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CohortError(
            f"{file}: is not valid JSON ({error}), so the terms that bind these data cannot be "
            "read. Fix it."
        ) from error
    described = described if isinstance(described, dict) else {}
    terms_file = root / "DATA_USE_TERMS.txt"
    terms = (
        terms_file.read_text(encoding="utf-8")
        if terms_file.is_file()
        else described.get("HowToAcknowledge")
    )
    linked = [s.get("URL") for s in described.get("SourceDatasets", []) if isinstance(s, dict)]
    links = [link for link in (*described.get("ReferencesAndLinks", []), *linked) if link]
    return {
        "name": str(described.get("Name") or ""),
        "licence": str(described.get("DataUse") or described.get("License") or ""),
        "terms": str(terms or ""),
        "url": str(links[0]) if links else "",
    }
