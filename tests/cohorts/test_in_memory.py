"""What a program holds, in place of a folder."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

import synthbench
from synthbench.cohorts.reading import read_cohort
from synthbench.errors import CohortError, UsageError
from synthbench.scoring.inputs import CohortSet
from tests.conftest import AFFINE, blob

ARRAYS = np.stack([blob(i) for i in range(5)])
IMAGES = [nib.Nifti1Image(array, AFFINE) for array in ARRAYS]


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / "deep" / f"sub-{i}_T1w.nii.gz" for i in range(5)]
    paths[0].parent.mkdir()
    for path, image in zip(paths, IMAGES, strict=True):
        nib.save(image, path)
    return paths


@pytest.mark.parametrize(
    ("held", "spacing"),
    [
        (IMAGES, None),
        (tuple(IMAGES), None),
        (ARRAYS, 4.0),
        (ARRAYS, 4),
        (ARRAYS[:, None], 4.0),
        (ARRAYS[..., None], None),
        (list(ARRAYS), 4.0),
        (torch.from_numpy(ARRAYS)[:, None], 4.0),
        (torch.from_numpy(ARRAYS).requires_grad_(), 4.0),
        ([torch.from_numpy(array)[None] for array in ARRAYS], 4.0),
        ((array.astype(np.float64) for array in ARRAYS), 4.0),
    ],
)
def test_each_form_is_the_cohort_of_the_files(held, spacing, files):
    """The fingerprint is over grid and voxels; the grid of 4 mm is centred, as AFFINE is."""
    from_files = read_cohort(files[0].parent)
    if spacing is None and isinstance(held, np.ndarray):
        with pytest.raises(CohortError, match=r"\(n, d, h, w\)"):
            read_cohort(held)
        return
    cohort = read_cohort(held, assume_grid=spacing)
    assert cohort.fingerprint == from_files.fingerprint
    assert np.array_equal(cohort.load(2), from_files.load(2))
    assert [name[:7] for name in (e.name for e in cohort.entries)] == ["volume-"] * 5


def test_paths_in_a_list_name_files_and_persons(files):
    cohort = read_cohort([str(files[0]), *files[1:]])
    assert cohort.fingerprint == read_cohort(files[0].parent).fingerprint
    assert sorted(entry.name for entry in cohort.entries) == [file.name for file in files]
    assert {entry.subject for entry in cohort.entries} == {f"sub-{i}" for i in range(5)}


def test_a_list_may_be_mixed(files):
    cohort = read_cohort([*files[:3], *IMAGES[3:]])
    assert cohort.fingerprint == read_cohort(files[0].parent).fingerprint


def test_axes_of_an_image_are_turned_as_those_of_a_file(files):
    flipped = nib.Nifti1Image(ARRAYS[0][::-1], AFFINE @ np.diag([-1, 1, 1, 1]) + 0.0)
    flipped.affine[0, 3] = 46.0
    assert np.array_equal(read_cohort([flipped]).load(0), ARRAYS[0])


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ([], "an empty list"),
        (ARRAYS[0], "Put single volumes into a list"),
        (IMAGES[0], "found one Nifti1Image"),
        (3, "found one int"),
        (None, "found one NoneType"),
        ([ARRAYS[0], "nowhere.nii"], "1 of 1 listed files do not exist"),
        ([ARRAYS[0], {}], "volume 2: is no array"),
        ([ARRAYS[0][0]], "volume 1: is 2-D"),
        ([np.full((4, 4, 4), "x")], "volume 1: holds <U1 values"),
        (ARRAYS, "an array has no geometry. Give its voxel size in mm (assume_grid=2.0"),
        ([nib.Nifti1Image(ARRAYS[0], None)], "an array has no geometry"),
    ],
)
def test_what_cannot_be_used_is_refused_with_what_to_do(held, words):
    with pytest.raises(CohortError) as refused:
        read_cohort(held, role="synth")
    assert words in str(refused.value)
    assert str(refused.value).startswith("synth: ")


def test_a_file_named_twice_is_refused(files):
    with pytest.raises(CohortError, match="listed more than once"):
        read_cohort([files[0], files[0]])


def test_failures_are_counted_in_files_only():
    with pytest.raises(UsageError, match="count_failures"):
        read_cohort(IMAGES, count_failures=True)


def test_tables_of_the_current_folder_are_not_those_of_volumes_in_memory(tmp_path, monkeypatch):
    (tmp_path / "conditions.tsv").write_text("file\tage\nvolume-0001\t3\n", encoding="utf-8")
    (tmp_path / "volume-0001.json").write_text('{"synthetic": true}', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    cohorts = CohortSet.read(IMAGES, IMAGES)
    assert not any(cohorts.sidecars)
    assert not any(entry.path.parent.is_dir() for entry in cohorts.synth.entries)


@pytest.mark.slow
def test_scores_are_those_of_the_files(files):
    other = [blob(100 + i) for i in range(5)]
    settings: dict[str, Any] = {
        "extractors": ["voxels"],
        "metrics": ["intensity"],
        "resamples": 100,
    }
    accept = ("background", "registered", "shift")
    context = synthbench.Context(cache=None)
    cards = [
        synthbench.score(real, other, assume_grid="real", accept=accept, context=context,
                         **settings)
        for real in (files[0].parent, files, IMAGES)
    ]  # fmt: skip
    assert len({card.values[0].value for card in cards}) == 1
    assert len({card.protocol_hash for card in cards}) == 1
