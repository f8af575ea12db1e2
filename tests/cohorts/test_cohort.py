"""Cohorts: identity, masks, overlap and intensities."""

from __future__ import annotations

import shutil
import time

import nibabel as nib
import numpy as np
import pytest

from synthbench.cohorts.cohort import (
    Cohort,
    check_intensities,
    majority_mask,
    overlap,
    read_volume,
    within_margin,
)
from synthbench.cohorts.reading import read_cohort
from synthbench.errors import CohortError
from synthbench.volumes.grid import Space
from tests.cohorts.files import save
from tests.conftest import blob


def test_the_fingerprint_depends_on_content_alone(make_cohort, tmp_path):
    folder = make_cohort("c", n=4)
    before = read_cohort(folder)
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for i, file in enumerate(sorted(folder.iterdir())):
        shutil.copy(file, renamed / f"x{9 - i}.nii.gz")
    after = read_cohort(renamed)
    assert after.fingerprint == before.fingerprint
    assert [e.digest for e in after.entries] == [e.digest for e in before.entries]
    changed = nib.load(renamed / "x9.nii.gz")
    data = changed.get_fdata(dtype=np.float32)
    data[12, 12, 12] += 1e-3
    save(data, renamed / "x9.nii.gz")
    assert read_cohort(renamed).fingerprint != before.fingerprint


def test_reading_ahead_changes_nothing(make_cohort):
    cohort = read_cohort(make_cohort("c", n=5))
    one = list(cohort.volumes(workers=1))
    three = list(cohort.volumes(workers=3))
    assert all(np.array_equal(a, b) for a, b in zip(one, three, strict=True))


def test_reading_ahead_waits_for_the_reader(make_cohort, monkeypatch):
    """Memory must not grow with the cohort: two workers hold at most four volumes and the next."""
    cohort = read_cohort(make_cohort("c", n=12))
    read: list[int] = []
    load = Cohort.load

    def counted(self, index):
        read.append(index)
        return load(self, index)

    monkeypatch.setattr(Cohort, "load", counted)
    volumes = iter(cohort.volumes(workers=2))
    next(volumes)
    time.sleep(0.3)
    assert len(read) <= 5
    assert len(list(volumes)) == 11


def test_the_majority_mask_by_hand(tmp_path):
    """A voxel lit in two of three volumes is in, in one of three out; a hole is filled."""
    base = np.zeros((8, 8, 8), np.float32)
    base[2:7, 2:7, 2:7] = 1
    base[4, 4, 4] = 0
    for i in range(3):
        volume = base.copy()
        volume[0, 0, 0] = i < 2
        volume[7, 7, 7] = i < 1
        volume[2, 2, 2] = 1 - 0.001 * i
        save(volume, tmp_path / f"{i}.nii")
    expected = base > 0
    expected[4, 4, 4] = True
    expected[0, 0, 0] = True
    assert np.array_equal(majority_mask(read_cohort(tmp_path).volumes()), expected)


def test_a_margin_is_in_millimetres_whatever_the_voxels():
    """Against the distances of all pairs of voxel centres."""
    rng = np.random.default_rng(0)
    spacing = np.array([2.0, 3.0, 5.0])
    mask = rng.random((6, 5, 4)) > 0.95
    space = Space.of(mask.shape, np.diag([*spacing, 1.0]))
    centres = np.argwhere(np.ones_like(mask)) * spacing
    inside = np.argwhere(mask) * spacing
    nearest = np.linalg.norm(centres[:, None] - inside[None], axis=2).min(axis=1)
    for margin in (0.0, 4.0, 6.0):
        expected = (nearest <= margin).reshape(mask.shape)
        assert np.array_equal(within_margin(mask, space, margin), expected)


def test_the_brain_centre_is_the_middle_of_the_common_box(tmp_path):
    """Voxels 2 to 5 along x: the middle is 3.5, at 4 * 3.5 - 46 mm."""
    volume = np.zeros((24, 24, 24), np.float32)
    volume[2:6, 8:11, 20:23] = 1
    for i in range(3):
        save(volume * (1 - 0.1 * i), tmp_path / f"{i}.nii")
    expected = (4 * 3.5 - 46, 4 * 9 - 46, 4 * 21 - 46)
    assert read_cohort(tmp_path).brain_centre() == pytest.approx(expected)


def test_what_was_measured_is_kept_and_is_no_part_of_an_entrys_identity(make_cohort):
    folder = make_cohort("c", n=4)
    first, again = read_cohort(folder), read_cohort(folder)
    assert first.entries == again.entries
    assert hash(first.entries[0]) == hash(again.entries[0])
    measured = first.entries[0].inspection
    assert measured is not None
    assert measured is not again.entries[0].inspection
    assert (measured.grid, measured.stored, measured.dtype) == (first.grid, first.grid, "float32")
    assert "inspection" not in repr(first.entries[0])


def test_a_volume_is_read_again_on_the_grid_that_was_assumed_for_it(tmp_path):
    for i in range(4):
        np.save(tmp_path / f"{i}.npy", blob(i))
    cohort = read_cohort(tmp_path, assume_grid=4.0)
    np.testing.assert_array_equal(read_volume(cohort.entries[0]), cohort.load(0))


def test_overlap_is_by_content_or_by_named_person_of_one_dataset(make_cohort, tmp_path):
    """`sub-000` to `sub-003` are persons of whichever dataset lies above the files, if any."""
    make_cohort("one", n=4)
    make_cohort("two", n=2, seed=1)
    one, two = read_cohort(tmp_path / "one"), read_cohort(tmp_path / "two")
    assert sorted(overlap(two, one)) == ["sub-000.nii.gz", "sub-001.nii.gz"]
    for name in ("one", "two"):
        (tmp_path / name / "dataset_description.json").write_text("{}", encoding="utf-8")
    assert overlap(two, one) == []
    shutil.copy(tmp_path / "one" / "sub-003.nii.gz", tmp_path / "two" / "sub-777.nii.gz")
    assert overlap(read_cohort(tmp_path / "two"), one) == ["sub-777.nii.gz"]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("unit", r"'unit'\. sub-00[13].*found 0 to "),
        ("constant:10:mm", r"'constant:10:mm'\. sub-00[13].*between 0.1 and 10 mm"),
    ],
)
def test_volumes_that_break_an_intensity_rule_are_counted_on_their_side(make_cohort, rule, words):
    """Two of five volumes, of at most 1, are a hundred times as bright."""
    folder = make_cohort("c", n=5)
    for i in (1, 3):
        file = folder / f"sub-00{i}.nii.gz"
        save(100 * nib.load(file).get_fdata(dtype=np.float32), file)
    with pytest.raises(CohortError, match=rf"synth: 2 of 5 volumes break .*{words}"):
        check_intensities(read_cohort(folder), rule, "synth")
    check_intensities(read_cohort(folder), "percentile", "synth")


def test_a_volume_that_breaks_the_rule_on_the_common_grid_is_named_with_its_side(make_cohort):
    volumes = read_cohort(make_cohort("c", n=2)).volumes(intensity="constant:0.1:mm", role="real")
    with pytest.raises(CohortError, match=r"^real: sub-00\d.nii.gz: the 99.9th percentile"):
        volumes[0]
