from __future__ import annotations

import json

import pytest

from synthbench.cohorts.datasets.find import find_scans
from synthbench.errors import CohortError


@pytest.fixture
def cohort(tree, write):
    """Two people; the first has two visits, and two runs at the later."""
    write("participants.tsv", "participant_id\tage\tgender\tgroup\nsub-01\t60\tmale\tControl\n"
          "sub-02\t71.5\tfemale\tMCI\n")  # fmt: skip
    write("sub-01/sub-01_sessions.tsv", "session_id\tage\nses-2\t61\nses-10\t63.5\n")
    return tree(
        "sub-01/ses-10/anat/sub-01_ses-10_run-1_T1w.nii.gz",
        "sub-01/ses-10/anat/sub-01_ses-10_run-2_T1w.nii",
        "sub-01/ses-10/anat/sub-01_ses-10_T2w.nii.gz",
        "sub-01/ses-2/anat/sub-01_ses-2_acq-x_T1w.nii.gz",
        "sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz",
        "sub-02/anat/sub-02_T1w.nii.gz",
    )


def test_scans_are_ordered_by_participant_visit_and_preference(cohort):
    """ses-2 is before ses-10; among a visit's scans, fewest entities, then lowest run."""
    found = find_scans(cohort)
    assert found.layout == "bids"
    assert [scan.path.name for scan in found.scans] == [
        "sub-01_ses-2_T1w.nii.gz",
        "sub-01_ses-2_acq-x_T1w.nii.gz",
        "sub-01_ses-10_run-1_T1w.nii.gz",
        "sub-01_ses-10_run-2_T1w.nii",
        "sub-02_T1w.nii.gz",
    ]
    assert [(s.participant_id, s.session, s.run) for s in found.scans[1:4:2]] == [
        ("sub-01", "ses-2", None),
        ("sub-01", "ses-10", "2"),
    ]
    assert any("T2w 1" in note for note in found.notes)


def test_a_visits_age_is_taken_before_the_participants(cohort):
    rows = find_scans(cohort).covariates()
    assert rows["age"].tolist()[:4] == [61, 61, 63.5, 63.5]
    # The sessions tables have an age: none is known of the person who has no sessions table.
    assert rows["age"].isna().tolist() == [False] * 4 + [True]
    assert rows["sex"].tolist() == ["M"] * 4 + ["F"]
    assert rows["diagnosis"].tolist() == ["CN"] * 4 + ["MCI"]
    assert rows["gender"].tolist()[-1] == "female"
    assert rows["session"].tolist()[-1] is None


def test_terms_are_those_of_the_description(cohort, write):
    assert "names no licence" in find_scans(cohort).terms.text
    write("dataset_description.json", json.dumps({"Name": "x", "License": "CC0",
          "HowToAcknowledge": "Cite us.", "ReferencesAndLinks": ["https://x.org"]}))  # fmt: skip
    terms = find_scans(cohort).terms
    assert (terms.name, terms.url) == ("CC0", "https://x.org")
    assert "Cite us." in terms.text


def test_without_a_table_the_scans_are_found_and_it_is_said(tree):
    found = find_scans(tree("sub-01/anat/sub-01_T1w.nii"))
    assert len(found.scans) == 1
    assert any("no participants.tsv" in note for note in found.notes)


def test_values_are_read_by_rule_or_left_missing_and_said(tree, write):
    """BIDS caps ages as 89+; 9 is no sex."""
    write("participants.tsv", "participant_id\tage\tsex\n01\t89+\tF\n02\told\t9\n")
    found = find_scans(tree("sub-01/anat/sub-01_T1w.nii", "sub-02/anat/sub-02_T1w.nii"))
    assert found.participants["age"].isna().tolist() == [False, True]
    assert found.participants["age"].tolist()[0] == 89
    assert found.participants["sex"].isna().tolist() == [False, True]
    assert any("'89+' was read as 89 (line 2)" in note for note in found.notes)
    assert any("'old' was read as missing (line 3)" in note for note in found.notes)
    assert any("neither M nor F" in note for note in found.notes)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("participants.tsv", "subject\tage\n01\t3\n", "'participant_id' is needed"),
        ("participants.tsv", "participant_id\tage\n01\t3\n01\t4\n", "more than one row"),
        ("sub-01/sub-01_sessions.tsv", "session_id\n1\n1\n", "names a session twice"),
        ("dataset_description.json", "{", "not valid JSON"),
    ],
    ids=["no key", "repeated", "repeated session", "broken description"],
)
def test_broken_tables_are_named(tree, write, name, text, message):
    root = tree("sub-01/anat/sub-01_T1w.nii")
    file = write(name, text)
    with pytest.raises(CohortError, match=message) as error:
        find_scans(root)
    assert str(file) in str(error.value)
