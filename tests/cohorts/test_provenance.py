"""The terms of datasets."""

from __future__ import annotations

import json

import pytest

from synthbench.cohorts import provenance
from synthbench.cohorts.reading import read_cohort
from synthbench.errors import CohortError


def test_datasets_are_asked_for_their_terms(make_cohort, tmp_path):
    folder = make_cohort("prepared", n=2, shape=(8, 8, 8))
    cohort = read_cohort(folder)
    assert provenance.sources(cohort) == [{"name": "", "licence": "", "terms": "", "url": ""}]
    described = {"Name": "P", "License": "CC0", "SourceDatasets": [{"URL": "https://a.b"}]}
    (folder / "dataset_description.json").write_text(json.dumps(described), encoding="utf-8")
    (folder / "DATA_USE_TERMS.txt").write_text("Keep it.\n", encoding="utf-8")
    assert provenance.sources(cohort) == [
        {"name": "P", "licence": "CC0", "terms": "Keep it.\n", "url": "https://a.b"}
    ]
    (folder / "dataset_description.json").write_text("{", encoding="utf-8")
    with pytest.raises(CohortError, match="not valid JSON"):
        provenance.sources(cohort)
