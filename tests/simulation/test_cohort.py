"""The embedded cohort as a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from synthbench.cohorts.reading import read_cohort
from synthbench.errors import UsageError
from synthbench.simulation import cohort as cohort_module
from synthbench.simulation import subject as subject_module
from synthbench.simulation.cohort import atlas_cohort
from synthbench.simulation.subject import draw
from synthbench.simulation.template import LABELS
from tests.simulation.small import SHAPE, TINY


def contents(folder: Path) -> dict[Path, bytes]:
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_files_load_as_the_drawn_subjects(cohort: Path) -> None:
    table = pd.read_csv(cohort / "participants.tsv", sep="\t")
    assert list(table) == ["participant_id", "age", "sex", "ventricle_volume", "brain_volume"]
    assert list(table.participant_id) == ["sub-0000", "sub-0001"]
    for index, row in table.iterrows():
        drawn = subject_module.draw(3, int(str(index)), SHAPE)
        name = f"{drawn.participant_id}_space-MNI152_desc-brain_T1w.nii.gz"
        image: Any = nib.load(cohort / drawn.participant_id / "anat" / name)
        loaded = image.get_fdata()
        np.testing.assert_allclose(loaded, drawn.volume, atol=1e-7)
        np.testing.assert_array_equal(loaded > 0, drawn.volume > 0)
        assert loaded.max() <= 1
        assert image.get_data_dtype() == np.uint8
        assert image.get_qform(coded=True)[1] == image.get_sform(coded=True)[1] == 4
        np.testing.assert_allclose(image.get_qform(), drawn.affine, atol=1e-4)
        np.testing.assert_allclose(image.affine, drawn.affine, atol=1e-4)
        assert b"simulated" in bytes(image.header["descrip"])
        assert (row.age, row.sex) == (drawn.age, drawn.sex)
        assert row.ventricle_volume == pytest.approx(drawn.ventricle_volume, abs=0.051)
        assert row.brain_volume == pytest.approx(drawn.brain_volume, abs=0.051)


def test_the_description_says_that_it_is_simulated_and_how(cohort: Path) -> None:
    description = json.loads((cohort / "dataset_description.json").read_text(encoding="utf-8"))
    generator = description["GeneratedBy"][0]
    assert description["DatasetType"] == "derivative"
    assert "simulated" in description["Name"]
    assert "MNI152" in generator["Description"]
    assert generator["Parameters"] == {"seed": 3, "shape": list(SHAPE)}


def test_a_larger_cohort_holds_the_same_subjects_and_can_extend_one(
    cohort: Path, tmp_path: Path
) -> None:
    first = contents(cohort_module.atlas_cohort(1, tmp_path / "grown", 3, SHAPE))
    written: list[int] = []
    grown = contents(
        cohort_module.atlas_cohort(2, tmp_path / "grown", 3, SHAPE, progress=written.append)
    )
    assert written == [1, 2]
    assert grown == contents(cohort)
    del first[Path("participants.tsv")]
    assert first.items() <= grown.items()


def test_an_interrupted_cohort_has_no_table_and_can_be_resumed(
    cohort: Path, tmp_path: Path
) -> None:
    def interrupt(written: int) -> None:
        raise KeyboardInterrupt

    out = cohort_module.atlas_cohort(1, tmp_path / "cut", 3, SHAPE)
    with pytest.raises(KeyboardInterrupt):
        cohort_module.atlas_cohort(2, out, 3, SHAPE, progress=interrupt)
    assert not (out / "participants.tsv").exists()
    assert contents(cohort_module.atlas_cohort(2, out, 3, SHAPE)) == contents(cohort)


def test_other_files_in_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match=r"notes\.txt"):
        cohort_module.atlas_cohort(1, tmp_path, 3, SHAPE)
    assert contents(tmp_path) == {Path("notes.txt"): b"mine"}


@pytest.mark.parametrize(("n", "seed"), [(1, 3), (2, 4)], ids=["fewer", "another seed"])
def test_another_cohort_in_the_folder_is_refused(cohort: Path, n: int, seed: int) -> None:
    before = contents(cohort)
    with pytest.raises(UsageError, match="very cohort"):
        cohort_module.atlas_cohort(n, cohort, seed, SHAPE)
    assert contents(cohort) == before


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="name a folder"):
        cohort_module.atlas_cohort(1, tmp_path / "file", 3, SHAPE)


@pytest.mark.parametrize("n", [0, -1])
def test_a_cohort_has_at_least_one_subject(n: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"at least 1 subject; found {n}"):
        cohort_module.atlas_cohort(n, tmp_path)


@pytest.mark.parametrize("shape", [(15, 40, 32), (32, 40), (32, 40, 32, 1), (32.5, 40, 32)])
def test_an_unusable_shape_is_named(shape: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 16 voxels; found"):
        subject_module.draw(0, 0, shape)
    with pytest.raises(UsageError, match="shape"):
        cohort_module.atlas_cohort(1, tmp_path, 0, shape)


@pytest.mark.slow
def test_written_maps_lie_beside_the_volumes_and_are_no_volumes_of_the_cohort(tmp_path):
    plain = atlas_cohort(2, tmp_path / "plain", shape=TINY)
    labelled = atlas_cohort(2, tmp_path / "labelled", shape=TINY, labels=True)
    cohort = read_cohort(labelled)
    assert cohort.fingerprint == read_cohort(plain).fingerprint
    for entry in cohort.entries:
        file = entry.path.with_name(entry.path.name.replace("_T1w.", "_dseg."))
        index = int(entry.subject.removeprefix("sub-"))
        np.testing.assert_array_equal(
            np.asarray(nib.load(file).dataobj), draw(0, index, TINY).labels
        )
    table = (labelled / "dseg.tsv").read_text(encoding="utf-8").splitlines()
    assert table == ["index\tname", *(f"{i}\t{name}" for i, name in LABELS.items())]
    assert atlas_cohort(2, labelled, shape=TINY, labels=True) == labelled
