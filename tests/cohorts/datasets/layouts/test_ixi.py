from __future__ import annotations

import pytest

from synthbench.cohorts.datasets.find import find_scans
from synthbench.errors import CohortError

SCANS = ("IXI002-Guys-0828-T1.nii.gz", "IXI012-HH-1211-T1.nii.gz", "IXI012-HH-1211-T2.nii.gz")
HEADER = '"IXI_ID","SEX_ID (1=m, 2=f)","HEIGHT","STUDY_DATE","AGE"\n'


def test_a_flat_folder_and_the_saved_table(tree, write):
    write("IXI.csv", HEADER + "2,2,164,2005-11-18,35.8\n12,1,175,2005-06-01,38.78\n"
          "13,1,182,2005-06-01,46.71\n")  # fmt: skip
    found = find_scans(tree(*SCANS))
    assert found.layout == "ixi"
    assert [s.participant_id for s in found.scans] == ["sub-IXI002", "sub-IXI012"]
    people = found.participants
    assert people["site"].tolist() == ["Guys", "HH"]
    assert people["sex"].tolist() == ["F", "M"]
    assert people["age"].tolist() == [35.8, 38.78]
    assert people["date"].tolist() == ["2005-11-18", "2005-06-01"]
    assert set(people["diagnosis"]) == {"CN"}
    assert people["HEIGHT"].tolist() == [164, 175]
    assert found.terms.name == "CC BY-SA 3.0"
    assert any("T2 1" in note for note in found.notes)


def test_rows_that_contradict_each_other_are_left_missing(tree, write):
    """IXI.xls lists some numbers twice, and codes an unknown sex as 0."""
    write("IXI.csv", HEADER + "2,2,164,2005-11-18,35.8\n2,2,164,2005-11-18,40.1\n"
          "12,0,175,2005-06-01,38.78\n")  # fmt: skip
    found = find_scans(tree(*SCANS))
    assert found.participants["age"].isna().tolist() == [True, False]
    assert found.participants["sex"].fillna("?").tolist() == ["F", "?"]
    assert any("AGE: contradictory in the table" in note for note in found.notes)
    assert any(note.startswith("sex: 1 values") for note in found.notes)


def test_a_scan_that_the_table_lacks_is_said(tree, write):
    write("IXI.csv", HEADER + "2,2,164,2005-11-18,35.8\n")
    found = find_scans(tree(*SCANS))
    assert found.participants.loc["sub-IXI012", "site"] == "HH"
    assert any("1 of 2 participants are in no table (first: sub-IXI012)" in n for n in found.notes)


def test_excel_alone_is_refused_with_the_way_to_save_it(tree, write):
    root = tree(*SCANS)
    write("IXI.xls", "")
    with pytest.raises(CohortError, match=r"Excel files are not read.*IXI\.csv") as error:
        find_scans(root)
    assert "soffice --headless --convert-to csv" in str(error.value)


def test_a_table_without_ages_is_refused(tree, write):
    root = tree(*SCANS)
    write("IXI.csv", "IXI_ID,SEX_ID\n2,1\n")
    with pytest.raises(CohortError, match="a column 'AGE' is needed"):
        find_scans(root)
