"""Checking cohorts before anything is computed, and the report on one cohort."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest

from synthbench.cohorts.preflight.check import (
    RULES,
    check,
    findings_within,
    report,
)
from synthbench.cohorts.reading import PREPARE
from synthbench.errors import CohortError, UsageError
from tests.cohorts.preflight.sets import N, moved, save
from tests.command_line import run

pytestmark = pytest.mark.slow


def test_check_lists_all_errors_and_what_to_type(changed):
    cohort = changed(lambda v, i: v[:, ::-1] if i == 3 else np.roll(v, 7, 1) if i == 4 else v)
    with pytest.raises(CohortError) as refused:
        check({"real": cohort})
    message = str(refused.value)
    assert "flip (real)" in message
    assert message.startswith("preflight: 3 findings would make numbers wrong:")
    assert "registered (real)" in message
    assert "--accept flip" in message
    assert "--accept registered" in message
    rules = {f.rule for f in findings_within(cohort, "real") if f.severity == "error"}
    said: list[str] = []
    kept = check({"real": cohort}, rules, said.append)
    assert {f.rule for f in kept if f.severity == "error"} == rules
    assert any(line.startswith("error (accepted): real:") for line in said)


def test_one_finding_is_one(changed):
    with pytest.raises(CohortError, match="preflight: 1 finding would make numbers wrong"):
        check({"real": changed(lambda v, i: v, n=3)})


def test_check_keeps_warnings_and_says_notes(real, changed):
    said: list[str] = []
    synth = changed(lambda v, i: 255 * v, seed=1)
    kept = check({"real": real, "synth": synth}, log=said.append)
    assert {f.rule for f in kept} == {"few"}
    assert any(line.startswith("note: synth:") for line in said)


def test_a_rule_that_is_none_cannot_be_accepted(real):
    with pytest.raises(UsageError, match="--accept flipp: no such rule; did you mean 'flip'"):
        check({"real": real}, ["flipp"])


def test_every_rule_has_a_sentence_in_the_docs(request):
    page = (request.config.rootpath / "docs" / "preflight.md").read_text(encoding="utf-8")
    missing = [rule for rule in RULES if f"`{rule}`" not in page]
    assert not missing


@pytest.fixture(scope="module")
def rubbish(brains, tmp_path_factory):
    """A cohort with a duplicate, a flip, and one of each kind of unusable file."""
    volumes, affine = brains(0)
    volumes[3] = volumes[3][:, ::-1]
    folder = save(volumes, affine, tmp_path_factory.mktemp("rubbish") / "x")
    nib.save(nib.Nifti1Image(np.stack(volumes[:2], -1), affine), folder / "four.nii")
    nib.save(nib.Nifti1Image(np.full((8, 8, 8), 2.0, np.float32), affine), folder / "constant.nii")
    holes = np.where(volumes[0] > 0.5, np.nan, volumes[0])
    nib.save(nib.Nifti1Image(holes, affine), folder / "holes.nii")
    nib.save(nib.Nifti1Image(volumes[0], moved(affine, 10)), folder / "moved.nii")
    np.save(folder / "array.npy", volumes[0])
    whole = gzip.compress((folder / "sub-x00.nii").read_bytes())
    (folder / "half.nii.gz").write_bytes(whole[: len(whole) // 2])
    table = "participant_id\tage\tsex\nsub-x00\t30\tF\nsub-x01\tn/a\tM\n"
    (folder / "participants.tsv").write_text(table, encoding="utf-8")
    return folder


def test_a_report_stops_at_nothing_and_names_all(rubbish):
    found = report(rubbish)
    assert found.failed
    words = {
        "four.nii": "4-D", "constant.nii": "every voxel is 2", "holes.nii": "NaN",
        "moved.nii": "another origin", "array.npy": "no geometry", "half.nii.gz": "truncated",
    }  # fmt: skip
    assert found.unusable.keys() == words.keys()
    for name, part in words.items():
        assert part in found.unusable[name]
    assert found.odd() == {"sub-x03.nii": ["flip"]}
    assert (found.listed, len(found.entries)) == (N + 6, N)


def test_scans_on_grids_of_their_own_are_usable_but_warned(brains, tmp_path):
    volumes, affine = brains(0, 6)
    for i, volume in enumerate(volumes):
        save([volume], moved(affine, i), tmp_path / f"{i}")
    found = report(tmp_path)
    assert not found.failed
    assert {"grid", "few"} == {f.rule for f in found.findings}
    assert PREPARE in next(f for f in found.findings if f.rule == "grid").message
    assert len(found.entries) == 6


def test_info_prints_a_report_writes_figures_and_fails(rubbish, tmp_path):
    done = run("data", "info", rubbish, "--out", tmp_path / "pictures")
    assert done.returncode == 1, done.stderr
    assert "6 unusable files, 1 findings" in done.stderr
    for line in ("skull-stripped", "registered to MNI152", "four.nii", "mirrored front-back"):
        assert line in done.stdout
    assert "2 of 9 subjects; age 30 to 30, n/a for 8; sex F (1), M (1), n/a for 7" in done.stdout
    for name in ("montage.png", "histograms.png"):
        assert (tmp_path / "pictures" / name).read_bytes().startswith(b"\x89PNG")
