"""Sidecars: where they are, and what is read where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from synthbench.cohorts.reading import read_cohort
from synthbench.errors import UsageError
from synthbench.runs.sidecar import (
    GridFields,
    drawn_by_synthbench,
    found_sidecars,
    read_sidecar,
    sidecar_file,
)


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


def drawn(cohort):
    return drawn_by_synthbench(found_sidecars(e.path for e in cohort.entries), cohort.grid)


@pytest.mark.parametrize(
    ("changed", "ours"),
    [
        ({}, True),
        ({"grid": None}, False),
        ({"synthetic": False}, False),
        ({"imported": {"file": "gan.npy"}}, False),
        ({"shift": 0.5}, False),
        ({"shape": [16, 16, 15]}, False),
    ],
    ids=["ours", "older version", "not ours", "imported", "another origin", "another shape"],
)
def test_volumes_are_drawn_by_synthbench_where_each_sidecar_has_their_grid(
    make_cohort, changed, ours
):
    """The files keep the affine in float32, so that the last digits may differ."""
    folder = make_cohort("synth", n=4, shape=(16, 16, 16), affine=np.diag([3.7, 3.7, 3.7, 1]))
    cohort = read_cohort(folder)
    grid = GridFields.of(cohort.grid)
    grid["affine"][3] += changed.get("shift", 1e-6)
    grid["shape"] = changed.get("shape", grid["shape"])
    fields = {"synthetic": True, "grid": grid}
    fields |= {key: value for key, value in changed.items() if key not in ("shift", "shape")}
    for entry in cohort.entries:
        sidecar_file(entry.path).write_text(json.dumps(fields), encoding="utf-8")
    assert drawn(cohort) is ours
    sidecar_file(cohort.entries[0].path).unlink()
    assert not drawn(cohort)
