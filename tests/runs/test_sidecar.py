"""Sidecars: where they are, and what is read where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from synthbench.errors import UsageError
from synthbench.runs.sidecar import found_sidecars, read_sidecar, sidecar_file


@pytest.mark.parametrize(
    ("volume", "sidecar"),
    [
        ("synth-000001.nii.gz", "synth-000001.json"),
        ("a.nii", "a.json"),
        ("a.mgz", "a.json"),
        ("a.npy", "a.json"),
        ("sub-1.nii.final.nii.gz", "sub-1.nii.final.json"),
        ("no-suffix", "no-suffix.json"),
    ],
)
def test_a_sidecar_has_the_name_of_its_volume(volume, sidecar):
    assert sidecar_file(Path("folder", volume)) == Path("folder", sidecar)


def test_what_lies_beside_a_volume_is_read(tmp_path):
    about = {"synthetic": True, "seed": 3}
    (tmp_path / "a.json").write_text(json.dumps(about), encoding="utf-8")
    assert read_sidecar(tmp_path / "a.nii.gz") == about
    assert found_sidecars([tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"]) == [about, {}]


@pytest.mark.parametrize("text", ["{", "[1, 2]"])
def test_other_programs_files_tell_nothing_and_synthbenchs_own_are_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    assert found_sidecars([tmp_path / "a.nii.gz"]) == [{}]
    with pytest.raises(UsageError, match=r"a\.json: .*Delete it"):
        read_sidecar(tmp_path / "a.nii.gz")


def test_a_missing_sidecar_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"a\.nii\.gz: has no sidecar a\.json"):
        read_sidecar(tmp_path / "a.nii.gz")
