from __future__ import annotations

import pytest

from synthbench.cohorts.datasets.find import find_scans
from synthbench.cohorts.datasets.selection import chosen_scans
from synthbench.errors import CohortError

SCANS = (
    "scans/OAS30001_MR_d0129/anat2/sub-OAS30001_ses-d0129_run-01_T1w.nii.gz",
    "scans/OAS30001_MR_d0129/anat3/NIFTI/sub-OAS30001_ses-d0129_run-02_T1w.nii.gz",
    "scans/OAS30001_MR_d0129/anat1/sub-OAS30001_ses-d0129_acq-TSE_T2w.nii.gz",
    "scans/OAS30001_MR_d2430/anat1/sub-OAS30001_sess-d2430_T1w.nii.gz",
    "scans/OAS30002_MR_d0653/anat1/sub-OAS30002_ses-d0653_T1w.nii.gz",
)
DEMOGRAPHICS = "OASISID,AgeatEntry,GENDER,EDUC\nOAS30001,65.2,2,12\nOAS30002,67.25,1,18\n"
CLINICAL = (
    "OASISID,OASIS_session_label,days_to_visit,age at visit,MMSE,CDRTOT,dx1\n"
    "OAS30001,OAS30001_UDSb4_d0000,0,65.2,28,0,Cognitively normal\n"
    "OAS30001,OAS30001_UDSb4_d0339,339,66.1,28,0,uncertain dementia\n"
    "OAS30001,OAS30001_UDSb4_d2400,2400,71.8,20,0.5,AD Dementia\n"
    "OAS30002,OAS30002_UDSb4_d1500,1500,71.4,30,0,Cognitively normal\n"
)

FORMER_CLINICAL = (
    "ADRC_ADRCCLINICALDATA ID,Subject,Date,Age,mmse,ageAtEntry,cdr,dx1\n"
    "OAS30002_ClinicalData_d0600,OAS30002,,,29,67.25,0,Cognitively normal\n"
)


@pytest.fixture
def cohort(tree, write):
    write("files/demo-demographics/OASIS3_demographics.csv", DEMOGRAPHICS)
    write("files/UDSb4/OASIS3_UDSb4_cdr.csv", CLINICAL)
    return tree(*SCANS)


def test_sessions_stay_with_their_subject_and_runs_are_kept(cohort):
    found = find_scans(cohort)
    assert found.layout == "oasis3"
    assert [(s.participant_id, s.session, s.run) for s in found.scans] == [
        ("sub-OAS30001", "ses-d0129", "01"),
        ("sub-OAS30001", "ses-d0129", "02"),
        ("sub-OAS30001", "ses-d2430", None),
        ("sub-OAS30002", "ses-d0653", None),
    ]
    assert any("T2w 1" in note for note in found.notes)
    assert found.terms.name.startswith("OASIS")


def test_the_diagnosis_is_the_nearest_visits_within_a_year(cohort):
    """Day 129 lies 129 days from day 0 and 210 from 339; day 653 is 847 days from day 1500."""
    found = find_scans(cohort)
    rows = found.sessions
    assert rows["diagnosis"].fillna("none").tolist() == ["CN", "AD Dementia", "none"]
    assert rows["clinical_gap_days"].tolist()[:2] == [-129, -30]
    assert rows["MMSE"].tolist()[:2] == [28, 20]
    assert any("1 of 3 sessions have no clinical visit" in note for note in found.notes)
    near = chosen_scans(cohort, where="clinical_gap_days.abs() <= 60").rows
    assert near["session"].tolist() == ["ses-d2430"]


def test_age_is_that_at_the_scan(cohort):
    """Age at entry, and the session's days over 365.25: 65.2 + 0.353, + 6.653; 67.25 + 1.788."""
    found = find_scans(cohort)
    assert found.sessions["age"].tolist() == pytest.approx([65.55, 71.85, 69.04])
    assert found.sessions["days"].tolist() == [129, 2430, 653]
    assert found.participants["sex"].tolist() == ["F", "M"]


def test_the_tables_of_the_former_archive(tree, write):
    write("ADRC_Clinical_Data.csv", FORMER_CLINICAL)
    write("subjects.csv", "Subject,M/F,Hand\nOAS30002,M,R\n")
    row = find_scans(tree(SCANS[-1])).covariates().iloc[0]
    assert (row["diagnosis"], row["sex"], row["CDRTOT"]) == ("CN", "M", 0)
    assert row["age"] == pytest.approx(69.04)


def test_bids_as_oasis_gives_it(tree):
    found = find_scans(tree("sub-OAS30001/ses-d0129/anat/sub-OAS30001_ses-d0129_T1w.nii.gz"))
    assert found.layout == "oasis3"
    assert found.sessions["days"].tolist() == [129]
    assert any("age and sex are not known" in note for note in found.notes)


def test_two_tables_of_one_kind_are_refused(cohort, write):
    write("old/demographics.csv", DEMOGRAPHICS)
    with pytest.raises(CohortError, match="one table of demographics is needed"):
        find_scans(cohort)
