from __future__ import annotations

import pytest

from synthbench.cohorts.datasets.find import find_scans
from synthbench.errors import CohortError

CROSS = """ID,M/F,Hand,Age,Educ,SES,MMSE,CDR,eTIV,nWBV,ASF,Delay
OAS1_0001_MR1,F,R,74,2,3,29,0,1344,0.743,1.306,N/A
OAS1_0002_MR1,M,R,23,4,,,,1500,0.8,1.1,N/A
OAS1_0061_MR2,F,R,70,4,,20,0.5,1500,0.8,1.1,40
"""
TEXT = """SESSION ID:   OAS1_0001_MR1

AGE:          74
M/F:          Female
HAND:         Right
CDR:          0.5
MMSE:         29

MR SCAN INFORMATION
"""
FIRST = (
    "disc1/OAS1_0001_MR1/PROCESSED/MPRAGE/SUBJ_111/OAS1_0001_MR1_mpr_n4_anon_sbj_111.hdr",
    "disc1/OAS1_0001_MR1/PROCESSED/MPRAGE/T88_111/OAS1_0001_MR1_mpr_n4_anon_111_t88_gfc.hdr",
    "disc1/OAS1_0001_MR1/RAW/OAS1_0001_MR1_mpr-1_anon.hdr",
    "disc1/OAS1_0002_MR1/RAW/OAS1_0002_MR1_mpr-1_anon.hdr",
    "disc1/OAS1_0002_MR1/RAW/OAS1_0002_MR1_mpr-2_anon.hdr",
    "disc2/OAS1_0061_MR2/PROCESSED/MPRAGE/SUBJ_111/OAS1_0061_MR2_mpr_n3_anon_sbj_111.hdr",
)
LONG = (
    "Subject ID,MRI ID,Group,Visit,MR Delay,M/F,Hand,Age,EDUC,SES,MMSE,CDR,eTIV,nWBV,ASF\n"
    "OAS2_0001,OAS2_0001_MR1,Converted,1,0,M,R,87,14,2,27,0,1987,0.696,0.883\n"
    "OAS2_0001,OAS2_0001_MR2,Converted,2,457,M,R,88,14,2,30,0.5,2004,0.681,0.876\n"
)
SECOND = (
    "OAS2_RAW_PART1/OAS2_0001_MR1/RAW/mpr-1.nifti.hdr",
    "OAS2_RAW_PART1/OAS2_0001_MR1/RAW/mpr-2.nifti.hdr",
    "OAS2_RAW_PART1/OAS2_0001_MR1/RAW/3906-3.nifti.hdr",
    "OAS2_RAW_PART1/OAS2_0001_MR2/RAW/mpr-1.nifti.hdr",
)


def test_the_average_in_native_space_is_preferred_and_said(tree, write):
    write("oasis_cross-sectional.csv", CROSS)
    found = find_scans(tree(*FIRST))
    assert found.layout == "oasis1"
    assert [(s.participant_id, s.session, s.run) for s in found.scans] == [
        ("sub-OAS10001", "ses-MR1", None),
        ("sub-OAS10002", "ses-MR1", "1"),
        ("sub-OAS10002", "ses-MR1", "2"),
        ("sub-OAS10061", "ses-MR2", None),
    ]
    assert "SUBJ_111" in str(found.scans[0].path)
    assert {scan.axes for scan in found.scans} == {"ASL"}
    assert any("2 of 3 sessions: the average" in note for note in found.notes)
    assert any("RAW 1, T88_111 1" in note for note in found.notes)
    rows = found.sessions
    assert rows["age"].tolist() == [74, 23, 70]
    assert rows["diagnosis"].fillna("not rated").tolist() == ["CN", "not rated", "AD"]
    assert rows["days"].tolist() == [0, 0, 40]
    assert rows["MMSE"].tolist()[0] == 29
    assert found.participants["sex"].tolist() == ["F", "M", "F"]
    assert "Acknowledge OASIS" in found.terms.text


def test_text_files_stand_in_for_the_table(tree, write):
    write("disc1/OAS1_0001_MR1/OAS1_0001_MR1.txt", TEXT)
    found = find_scans(tree(FIRST[0]))
    row = found.covariates().iloc[0]
    assert (row["age"], row["sex"], row["diagnosis"], row["MMSE"]) == (74, "F", "AD", 29)
    assert any("1 OAS1_*_MR*.txt" in note for note in found.notes)


def test_a_header_without_its_image_is_refused(tree):
    root = tree(*FIRST)
    (root / FIRST[0]).with_suffix(".img").unlink()
    with pytest.raises(CohortError, match=r"1 ANALYZE headers .*sbj_111\.hdr"):
        find_scans(root)


def test_all_repeats_of_oasis2_are_kept_with_the_diagnosis_at_the_visit(tree, write):
    write("oasis_longitudinal.csv", LONG)
    found = find_scans(tree(*SECOND))
    assert found.layout == "oasis2"
    assert [(s.session, s.run) for s in found.scans] == [
        ("ses-MR1", "1"),
        ("ses-MR1", "2"),
        ("ses-MR2", "1"),
    ]
    assert found.participants.index.tolist() == ["sub-OAS20001"]
    assert found.sessions["diagnosis"].tolist() == ["CN", "demented"]
    assert found.sessions["age"].tolist() == [87, 88]
    assert found.sessions["days"].tolist() == [0, 457]
    assert found.sessions["Group"].tolist() == ["Converted", "Converted"]
    assert any("3906-3.nifti.hdr 1" in note for note in found.notes)


def test_the_excel_table_of_oasis2_is_refused_with_the_way_to_save_it(tree, write):
    root = tree(*SECOND)
    write("oasis_longitudinal_demographics.xlsx", "")
    with pytest.raises(CohortError, match="Excel files are not read"):
        find_scans(root)


def test_a_table_without_age_is_refused(tree, write):
    root = tree(*SECOND)
    write("oasis_longitudinal.csv", "MRI ID,Ages\nOAS2_0001_MR1,3\n")
    with pytest.raises(CohortError, match="'Age' is needed; did you mean 'Ages'"):
        find_scans(root)
