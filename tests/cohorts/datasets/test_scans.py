"""The table of scans: the order of visits, and the covariates of a scan."""

from __future__ import annotations

import pandas as pd

from synthbench.cohorts.datasets.scans import DataUseTerms, Scan, ScanTable, visit_order


def test_visits_are_ordered_by_days_then_date_then_label():
    visits = [
        ("ses-3", 400.0, None),
        ("ses-1", None, "2006-01-02"),
        ("ses-10", None, None),
        ("ses-2", None, None),
        ("ses-4", 0.0, None),
        ("ses-9", None, "2005-01-02"),
    ]
    ordered = sorted(visits, key=lambda visit: visit_order(*visit))
    assert [v[0] for v in ordered] == ["ses-4", "ses-3", "ses-9", "ses-1", "ses-2", "ses-10"]


def test_a_sessions_covariate_replaces_the_participants(tmp_path):
    scans = (Scan(tmp_path / "a.nii", "sub-1", "ses-1", None),
             Scan(tmp_path / "b.nii", "sub-1", None, "2"))  # fmt: skip
    people = pd.DataFrame({"age": [60.0], "sex": ["F"]}, index=pd.Index(["sub-1"], name="p"))
    sessions = pd.DataFrame(
        {"participant_id": ["sub-1"] * 2, "session": ["ses-1", None], "age": [63.0, None]}
    )
    terms = DataUseTerms("x", "", "")
    rows = ScanTable(scans, people, sessions, "bids", terms, ()).covariates()
    assert rows["age"].fillna(-1).tolist() == [63, -1]
    assert rows["sex"].tolist() == ["F", "F"]
    assert rows["run"].tolist() == [None, "2"]
