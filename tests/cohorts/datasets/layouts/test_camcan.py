from __future__ import annotations

import pytest

from synthbench.cohorts.datasets.find import find_scans
from synthbench.errors import CohortError

ANAT = "cc700/mri/pipeline/release004/BIDS_20190411/anat"
SCANS = (
    f"{ANAT}/sub-CC110033/anat/sub-CC110033_T1w.nii.gz",
    f"{ANAT}/sub-CC110033/anat/sub-CC110033_T2w.nii.gz",
    f"{ANAT}/sub-CC721377/anat/sub-CC721377_T1w.nii.gz",
)


def test_the_archives_tree_and_participants_data(tree, write):
    write("participants_data.csv", "CCID,Age,Hand,Sex,Coil,MT_TR\nCC110033,24,78,MALE,32,30\n"
          "CC721377,84,100,FEMALE,32,30\nCC999999,50,0,MALE,32,30\n")  # fmt: skip
    found = find_scans(tree(*SCANS))
    assert found.layout == "camcan"
    assert [s.participant_id for s in found.scans] == ["sub-CC110033", "sub-CC721377"]
    assert found.participants["age"].tolist() == [24, 84]
    assert found.participants["sex"].tolist() == ["M", "F"]
    assert set(found.participants["diagnosis"]) == {"CN"}
    assert found.participants["Hand"].tolist() == [78, 100]
    assert found.sessions["session"].tolist() == [None, None]
    assert "Non-commercial" in found.terms.text
    assert any("T2w 1" in note for note in found.notes)
    assert any("1 participants of the tables have no scan" in note for note in found.notes)


def test_participants_tsv_in_the_bids_folder_with_codes_for_sex(tree, write):
    root = tree(*SCANS) / ANAT
    write(f"{ANAT}/participants.tsv", "participant_id\tage\thand\tgender_code\n"
          "sub-CC110033\t24\t78\t1\nsub-CC721377\t84\t100\t2\n")  # fmt: skip
    found = find_scans(root)
    assert found.layout == "camcan"
    assert found.participants["sex"].tolist() == ["M", "F"]
    assert found.participants["age"].tolist() == [24, 84]


def test_a_table_of_nobody_is_refused_and_none_is_said(tree, write):
    root = tree(*SCANS)
    assert any("no participants_data.csv" in note for note in find_scans(root).notes)
    write("participants_data.csv", "Age\n24\n")
    with pytest.raises(CohortError, match="CCID or participant_id"):
        find_scans(root)


def test_a_prepared_derivative_is_bids(tree, write):
    """What was prepared from Cam-CAN carries its covariates in its own participants.tsv."""
    root = tree("sub-CC110033/anat/sub-CC110033_space-MNI152_T1w.nii.gz")
    write("dataset_description.json", '{"DatasetType": "derivative", "License": "see Cam-CAN"}')
    assert find_scans(root).layout == "bids"
