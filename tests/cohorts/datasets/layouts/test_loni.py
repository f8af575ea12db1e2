from __future__ import annotations

import pytest

from synthbench.cohorts.datasets.find import find_scans
from synthbench.errors import CohortError

HEADER = (
    '"Image Data ID","Subject","Group","Sex","Age","Visit","Modality","Description","Type",'
    '"Acq Date","Format","Downloaded"\n'
)
FIRST = "ADNI/002_S_0413/MPRAGE/2006-05-19_16_17_47.0/I45117/ADNI_002_S_0413_I45117.nii"
SCANS = (
    FIRST,
    "ADNI/002_S_0413/MPRAGE_REPEAT/2006-05-19_16_17_47.0/I13448/ADNI_002_S_0413_I13448.nii",
    "ADNI/002_S_0413/MPR__GradWarp__B1_Correction__N3/2006-05-19_16_17_47.0/I40657/x.nii",
    "ADNI/002_S_0413/Axial_T2_FLAIR/2006-05-19_16_17_47.0/I13500/x.nii",
    "ADNI/002_S_0413/Sag_IR-SPGR/2012-05-15_11_00_00.0/I304790/x.nii.gz",
    "ADNI/011_S_0002/MP-RAGE/2005-08-26_08_40_10.0/I7128/x.nii",
)
ROWS = (
    '"I45117","002_S_0413","CN","F","76","sc","MRI","MPRAGE","Original","5/19/2006","NiFTI",""\n'
    '"I13448","002_S_0413","CN","F","76","sc","MRI","MPRAGE","Original","5/19/2006","NiFTI",""\n'
    '"304790","002_S_0413","EMCI","F","82","v11","MRI","IR","Original","5/15/2012","NiFTI",""\n'
    '"I7128","011_S_0002","CN","M","74","sc","MRI","MP-RAGE","Original","8/26/2005","NiFTI",""\n'
)


@pytest.fixture
def adni(tree, write):
    """Two people; the first was scanned on two days, three times on the first of them."""
    write("ADNI1_3_01_2024.csv", HEADER + ROWS)
    return tree(*SCANS)


def test_images_of_a_day_are_ordered_acquired_then_repeated_then_processed(adni):
    found = find_scans(adni)
    assert found.layout == "adni"
    assert [(s.participant_id, s.session, s.run) for s in found.scans] == [
        ("sub-002S0413", "ses-20060519", "I45117"),
        ("sub-002S0413", "ses-20060519", "I13448"),
        ("sub-002S0413", "ses-20060519", "I40657"),
        ("sub-002S0413", "ses-20120515", "I304790"),
        ("sub-011S0002", "ses-20050826", "I7128"),
    ]
    assert any("Axial_T2_FLAIR 1" in note for note in found.notes)
    assert any("1 of 5 images are not in the CSV" in note for note in found.notes)


def test_covariates_are_those_of_the_day_of_the_scan(adni):
    """15 May 2012 is 2188 days after 19 May 2006: 6 years of 365, 2 leap days, less 4."""
    found = find_scans(adni)
    sessions = found.sessions
    late = sessions.iloc[1].to_dict()
    assert (late["age"], late["diagnosis"], late["Visit"]) == (82, "EMCI", "v11")
    assert (late["date"], late["days"]) == ("2012-05-15", 6 * 365 + 2 - 4)
    assert sessions["days"].tolist()[0] == 0
    assert found.participants["sex"].tolist() == ["F", "M"]
    assert found.participants["site"].tolist() == ["002", "011"]
    rows = found.covariates()
    assert rows["age"].tolist() == [76, 76, 76, 82, 74]
    assert "participant may be passed on" in found.terms.text
    assert "agreement that you signed rules" in found.terms.text


def test_an_advanced_searchs_columns_are_taken_too(tree, write):
    write("idaSearch_1_17_2024.csv", "Subject ID,Sex,Research Group,Visit,Study Date,Age,Image ID\n"
          "011_S_0002,M,CN,ADNI Screening,8/26/2005,74.3,7128\n")  # fmt: skip
    found = find_scans(tree(SCANS[-1]))
    assert found.covariates()[["age", "sex", "diagnosis"]].values.tolist() == [[74.3, "M", "CN"]]


def test_without_a_csv_only_dates_and_sites_are_known(tree):
    found = find_scans(tree(SCANS[-1]))
    assert found.covariates()["date"].tolist() == ["2005-08-26"]
    assert "age" not in found.covariates()
    assert any("download its CSV" in note for note in found.notes)


def test_dicom_only_images_are_noted_with_the_command(tree, write):
    root = tree(SCANS[-1])
    write("ADNI/011_S_0003/MPRAGE/2005-09-01_00_00_00.0/I7/a.dcm", "")
    found = find_scans(root)
    assert len(found.scans) == 1
    note = next(note for note in found.notes if "DICOM only" in note)
    assert "1 T1-weighted images" in note
    assert "dcm2niix" in note


def test_dicom_alone_is_an_error_with_the_command(write, tmp_path):
    write("ADNI/011_S_0003/MPRAGE/2005-09-01_00_00_00.0/I7/a.dcm", "")
    with pytest.raises(CohortError, match="no T1-weighted scan") as error:
        find_scans(tmp_path / "download")
    assert "dcm2niix" in str(error.value)


def test_another_downloads_csv_is_refused(tree, write):
    write("c.csv", HEADER + ROWS.replace("011_S_0002", "011_S_0099"))
    with pytest.raises(CohortError, match="image I7128 belongs to 011_S_0099"):
        find_scans(tree(*SCANS))


def test_contradicting_groups_are_left_missing(tree, write):
    write(
        "c.csv", HEADER + ROWS.replace('"I13448","002_S_0413","CN"', '"I13448","002_S_0413","AD"')
    )
    found = find_scans(tree(*SCANS))
    assert found.sessions["diagnosis"].isna().tolist() == [True, False, False]
    assert any("Group: contradictory in the table" in note for note in found.notes)


@pytest.mark.parametrize(
    ("study", "subject", "participant", "group", "site"),
    [("PPMI", "3000", "sub-3000", "Control", None), ("NIFD", "1_S_0071", "sub-1S0071", "CON", "1")],
    ids=["PPMI", "NIFD"],
)
def test_the_same_tree_serves_other_studies(tree, write, study, subject, participant, group, site):
    """Control is a word for cognitively normal; any other word is kept as it is."""
    row = f'"I5","{subject}","{group}","M","66","BL","MRI","MPRAGE","Original","3/20/2015","",""\n'
    write("c.csv", HEADER + row)
    found = find_scans(tree(f"{study}/{subject}/T1_mprage/2015-03-20_07_00_00.0/I5/x.nii"))
    assert found.layout == study.lower()
    rows = found.covariates()
    assert rows["participant_id"].tolist() == [participant]
    assert rows["diagnosis"].tolist() == ["CN"]
    assert (rows["site"].tolist() if site else None) == ([site] if site else None)
    assert study in found.terms.name


@pytest.mark.parametrize(
    ("series", "taken"),
    [
        ("MPRAGE", True), ("MP-RAGE", True), ("IR-FSPGR", True), ("Accelerated_Sag_IR-SPGR", True),
        ("MPRAGE_GRAPPA2", True), ("3D_T1-weighted", True), ("MT1__GradWarp__N3m", True),
        ("AX_3D_T1", True), ("AX_T1", False), ("Axial_PD_T2_FSE", False), ("B1-Calibration", False),
        ("MPRAGE_Br_Mask", False), ("3_Plane_Localizer", False), ("Hippocampal_Mask", False),
        ("Axial_T2-FLAIR", False), ("Resting_State_fMRI", False),
    ],
)  # fmt: skip
def test_series_are_told_by_their_description(tree, series, taken):
    root = tree(FIRST, f"ADNI/003_S_0001/{series}/2006-05-19_16_17_47.0/I1/x.nii")
    assert ("sub-003S0001" in {s.participant_id for s in find_scans(root).scans}) == taken
