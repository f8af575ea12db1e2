"""Which files of a folder are the volumes of a cohort."""

from __future__ import annotations

from collections import Counter

import pytest

from synthbench.cohorts.choice import Choice, choose
from synthbench.errors import CohortError, UsageError

PEOPLE = ("11", "12", "13", "14")


def chosen(root, patterns, *, suffix=None, filters=(), role="real", bids=False):
    """Return the names of chosen files and the reasons; `{}` is the person in a pattern."""
    if bids:
        (root / "dataset_description.json").write_text("{}", encoding="utf-8")
    files = [root / pattern.replace("{}", person) for pattern in patterns for person in PEOPLE]
    found = choose(files, root, Choice.parse(suffix, filters), role)
    return Counter(n.name.replace(n.entities.get("sub", "#"), "{}") for n in found.names), found


T1W = "sub-{}/anat/sub-{}_T1w.nii.gz"


@pytest.mark.parametrize(
    "other",
    [
        "sub-{}/anat/sub-{}_mask.nii.gz",
        "sub-{}/anat/sub-{}_desc-brain_mask.nii.gz",
        "sub-{}/anat/sub-{}_dseg.nii.gz",
        "sub-{}/anat/sub-{}_label-GM_probseg.nii.gz",
        "sub-{}/anat/sub-{}_label-tumor_T1w.nii.gz",
        "sub-{}/anat/sub-{}_T1w_seg.nii.gz",
        "sub-{}/anat/sub-{}_T1w_brainmask.nii.gz",
        "sub-{}/anat/sub-{}_T2w.nii.gz",
        "sub-{}/func/sub-{}_task-rest_bold.nii.gz",
        "derivatives/old/sub-{}/anat/sub-{}_desc-smooth_T1w.nii.gz",
        "sourcedata/sub-{}/anat/sub-{}_T1w.nii.gz",
        "code/example/sub-{}_T1w.nii.gz",
    ],
)
@pytest.mark.parametrize("bids", [True, False])
def test_only_the_t1w_images_of_bids_are_taken(tmp_path, other, bids):
    kinds, found = chosen(tmp_path, [T1W, other], bids=bids)
    assert kinds == {T1W: 4}
    assert sum(len(names) for names in found.left_out.values()) == 4


@pytest.mark.parametrize(
    "patterns",
    [
        ["CASE_{}/CASE_{}_t1.nii.gz", "CASE_{}/CASE_{}_t1ce.nii.gz"],
        ["CASE_{}/t1.nii.gz", "CASE_{}/flair.nii.gz"],
        ["p{}/T1.nii.gz", "p{}/T2.nii.gz"],
        ["p{}-t1n.nii.gz", "p{}-t2f.nii.gz"],
        ["IXI0{}-Guys-0828-T1.nii.gz", "IXI0{}-Guys-0828-PD.nii.gz"],
        ["T1/p{}.nii.gz", "T2/p{}.nii.gz"],
        ["p{}/orig.mgz", "p{}/brain.mgz"],
        ["sub-{}_T2w.nii.gz", "sub-{}_FLAIR.nii.gz"],
        ["sub-{}_T1w.nii.gz", "sub-{}_desc-brain_T1w.nii.gz"],
        ["sub-{}_space-MNI_T1w.nii.gz", "sub-{}_space-orig_T1w.nii.gz"],
        ["sub-{}_T1w.nii.gz", "sub-{}_ce-gadolinium_T1w.nii.gz"],
    ],
    ids=lambda patterns: " ".join(patterns) if isinstance(patterns, list) else None,
)
def test_several_images_of_one_scan_are_refused(tmp_path, patterns):
    with pytest.raises(CohortError, match=r"4 of 4 scans.*--suffix"):
        chosen(tmp_path, patterns)


@pytest.mark.parametrize(
    "patterns",
    [
        ["{}.nii.gz"],
        ["p{}/scan1.nii.gz", "p{}/scan2.nii.gz"],
        ["sub-{}/ses-1/T1w.nii.gz", "sub-{}/ses-2/T1w.nii.gz"],
        ["sub-{}_run-1_T1w.nii.gz", "sub-{}_run-2_T1w.nii.gz"],
        ["PD_{}.nii.gz", "HC_{}.nii.gz"],
        ["sub-{}_space-MNI_desc-brain_T1w.nii.gz"],
    ],
    ids=lambda patterns: " ".join(patterns) if isinstance(patterns, list) else None,
)
def test_scans_and_groups_are_no_kinds_of_image(tmp_path, patterns):
    _, found = chosen(tmp_path, patterns)
    assert len(found.names) == 4 * len(patterns)
    assert found.left_out == {}


def test_suffix_and_filter_choose(tmp_path):
    brats = ["c{}/c{}_t1.nii.gz", "c{}/c{}_t1ce.nii.gz", "c{}/c{}_seg.nii.gz"]
    _, found = chosen(tmp_path, brats, suffix="T1")
    assert {n.stem[-3:] for n in found.names} == {"_t1"}
    two = ["sub-{}_T1w.nii.gz", "sub-{}_desc-brain_T1w.nii.gz"]
    assert chosen(tmp_path, two, filters=["desc=brain"])[0] == {two[1]: 4}
    assert chosen(tmp_path, two, filters=["desc=none"])[0] == {two[0]: 4}
    assert chosen(tmp_path, two, suffix="desc-brain_T1w")[0] == {two[1]: 4}
    visits = ["sub-{}/ses-01/T1w.nii.gz", "sub-{}/ses-02/T1w.nii.gz"]
    assert chosen(tmp_path, visits, filters=["ses=1"])[0] == {visits[0]: 4}
    masks = ["sub-{}_T1w.nii.gz", "sub-{}_mask.nii.gz"]
    assert chosen(tmp_path, masks, suffix="mask")[0] == {masks[1]: 4}


def test_a_choice_that_nothing_fits_lists_what_there_is(tmp_path):
    with pytest.raises(CohortError, match="There are: T1w 4"):
        chosen(tmp_path, [T1W], suffix="T2w")
    with pytest.raises(CohortError, match="Values of ses: none 4"):
        chosen(tmp_path, [T1W], filters=["ses=1"])
    assert len(chosen(tmp_path, ["{}.nii.gz"], filters=["ses=1"], role="synth")[1].names) == 4


@pytest.mark.parametrize("text", ["ses", "ses=", "sess=1"])
def test_filters_that_cannot_be_read(text):
    with pytest.raises(UsageError, match="--filter"):
        Choice.parse(None, [text])
