"""The rules on how files state their volumes: voxel sizes, affines, units, backgrounds."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from synthbench.cohorts.preflight.check import findings_between, findings_within
from synthbench.cohorts.reading import read_cohort
from synthbench.errors import CohortError
from tests.cohorts.preflight.sets import SPACING, N, save


def scaled(affine, factor):
    """The same directions with another voxel size; the origin stays, as in files that lost it."""
    other = affine.copy()
    other[:3, :3] *= factor
    return other


@pytest.fixture(scope="module")
def written(brains, tmp_path_factory):
    """Return a function that writes brains with another affine, and reads them."""
    root = tmp_path_factory.mktemp("written")

    def write(change, seed=0):
        volumes, affine = brains(seed)
        folder = root / f"set{len(list(root.iterdir()))}"
        return read_cohort(save(volumes, change(affine), folder))

    return write


def rules(findings, severity=None):
    return [f.rule for f in findings if f.rule != "few" and severity in (None, f.severity)]


@pytest.mark.parametrize("mm", [0.2, 1, 2.5, 10])
@pytest.mark.parametrize("role", ["real", "synth"])
def test_a_set_with_a_wrong_voxel_size_is_found(mm, role, written):
    """Brains of the template's 1.9 L at 5 mm have 1/125 of it at 1 mm, 1/8 at 2.5, 8 times at 10.

    A synthetic set is compared with the real one, because a generator may fail to draw a brain.
    """
    cohort = written(lambda affine: scaled(affine, mm / SPACING))
    found = findings_within(cohort, role)
    if mm < 1.5:
        assert "voxel-size" in rules(found, "error")
    else:
        assert ("voxel-size" in rules(found, "warning")) == (role == "real")


def test_micrometres_taken_for_millimetres_are_refused_before_voxels_are_read(written):
    with pytest.raises(CohortError, match=r"its voxels are 0\.005 x 0\.005 x 0\.005 mm"):
        written(lambda affine: scaled(affine, 0.005 / SPACING))


@pytest.mark.parametrize("mm", [1, 2.5, 4, 10])
def test_a_voxel_size_that_one_side_lost_is_an_error(mm, real, written):
    synth = written(lambda affine: scaled(affine, mm / SPACING), seed=1)
    found = findings_between({"real": real, "synth": synth})
    assert "voxel-size-mismatch" in rules(found, "error")


def test_right_voxel_sizes_and_failing_generators_are_no_finding(real, written, changed):
    same = written(lambda affine: affine, seed=1)
    blank = changed(lambda volume, i: 0.1 * np.random.default_rng(i).random(volume.shape))
    small = changed(lambda volume, i: np.where(np.indices(volume.shape)[0] == 19, volume, 0))
    for synth in (same, blank, small):
        found = findings_between({"real": real, "synth": synth})
        found += findings_within(synth, "synth")
        assert not {"voxel-size", "voxel-size-mismatch"} & set(rules(found))
    assert rules(findings_within(real, "real")) == []


def test_a_crop_of_the_field_of_view_is_no_other_voxel_size(real, brains, tmp_path):
    volumes, affine = brains(1)
    inner = [volume[4:-4, 4:-4, 4:-4] for volume in volumes]
    affine[:3, 3] += 4 * affine[:3, :3].sum(axis=1)
    cropped = read_cohort(save(inner, affine, tmp_path / "cropped"))
    assert "voxel-size-mismatch" not in rules(findings_between({"real": real, "synth": cropped}))


def odd(kind, volume, affine, file):
    image = nib.Nifti1Image(volume.astype(np.float32), affine)
    if kind == "sform-qform":
        mirrored = affine.copy()
        mirrored[0] *= -1
        image.set_qform(mirrored, 1)
        image.set_sform(affine, 4)
    elif kind == "units":
        thousandths = affine.copy()
        thousandths[:3] *= 1000
        image = nib.Nifti1Image(volume.astype(np.float32), thousandths)
        image.header.set_xyzt_units("micron")
    elif kind == "nan-background":
        outside = np.where(volume > 0, volume, np.nan).astype(np.float32)
        image = nib.Nifti1Image(outside, affine)
    nib.save(image, file)
    if kind == "file-name":
        file.rename(file.with_name(file.name + ".gz"))


@pytest.mark.parametrize(
    ("kind", "severity"),
    [
        ("sform-qform", "error"),
        ("units", "note"),
        ("nan-background", "warning"),
        ("file-name", "note"),
    ],
)
def test_odd_files_are_named(kind, severity, brains, tmp_path):
    volumes, affine = brains(0)
    folder = save(volumes[2:], affine, tmp_path / "odd")
    for i in range(2):
        odd(kind, volumes[i], affine, folder / f"odd{i}.nii")
    (finding,) = [f for f in findings_within(read_cohort(folder), "real") if f.rule != "few"]
    assert (finding.rule, finding.severity, len(finding.volumes)) == (kind, severity, 2)
    assert all(name.startswith("odd") for name in finding.volumes)
    assert "odd0" not in finding.summary


def test_a_replaced_affine_is_a_warning_that_the_scorecard_keeps(real, brains, tmp_path):
    volumes, affine = brains(1)
    lost = np.diag([*np.diag(affine)[:3], 1.0])
    folder = save(volumes, lost, tmp_path / "lost")
    cohort = read_cohort(folder, assume_grid=real.stored_grid)
    (finding,) = [f for f in findings_within(cohort, "synth") if f.rule == "assumed-grid"]
    assert (finding.severity, len(finding.volumes)) == ("warning", N)
    found = findings_between({"real": real, "synth": cohort})
    assert rules(found) == []
