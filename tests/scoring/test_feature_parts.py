"""Features that several jobs compute, and the scoring that reads them: the undivided one."""

from __future__ import annotations

import shutil

import nibabel as nib
import pytest

from synthbench.errors import UsageError
from synthbench.runtime.part import Part
from synthbench.scoring.cache.parts import AllParts, FeaturePart
from synthbench.scoring.cache.store import Cache
from synthbench.scoring.inputs import CohortSet
from synthbench.scoring.scoring import score_cohorts
from synthbench.scoring.settings import Context, ScoringSettings
from synthbench.scoring.setup import feature_part
from tests.conftest import AFFINE, blob

SETTINGS = ScoringSettings(
    extractors=("voxels", "random-resnet10"), metrics=("mmd2",), resamples=100
)


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    root = tmp_path_factory.mktemp("cohorts")
    for name, n, seed in (("real", 7, 0), ("synth", 6, 1)):
        (root / name).mkdir()
        for i in range(n):
            image = nib.Nifti1Image(blob(1000 * seed + i), AFFINE)
            nib.save(image, root / name / f"sub-{name[0]}{i:03d}.nii.gz")
    return CohortSet.read(root / "real", root / "synth")


@pytest.fixture(scope="module")
def computed(cohorts, tmp_path_factory):
    """Return the folder of the files of three parts, which no test changes."""
    folder = tmp_path_factory.mktemp("parts")
    for number in (1, 2, 3):
        part = feature_part(cohorts, SETTINGS, Context(cache=None), Part(number, 3))
        assert sum(len(rows) for rows in part.rows.values()) == 2 * (4 if number < 3 else 5)
        part.save(folder / f"{number}.npz")
    return folder


@pytest.fixture
def parts(computed, tmp_path):
    """Return a copy of these files."""
    return shutil.copytree(computed, tmp_path / "parts")


def test_a_scoring_with_the_features_of_all_parts_is_the_undivided_one(
    cohorts, parts, tmp_path, monkeypatch
):
    whole = score_cohorts(cohorts, SETTINGS, Context(cache=None))
    cache = Cache(folder=tmp_path / "cache")
    monkeypatch.setattr("synthbench.scoring.features._features", None)  # nothing is computed
    merged = score_cohorts(cohorts, SETTINGS, Context(cache=cache, parts=AllParts.load(parts)))
    assert {k: v.tobytes() for k, v in merged.features.items()} == {
        k: v.tobytes() for k, v in whole.features.items()
    }
    assert merged.card.values == whole.card.values
    assert merged.card.protocol_hash == whole.card.protocol_hash


def test_parts_that_are_missing_or_doubled_are_named(parts):
    content = (parts / "2.npz").read_bytes()
    (parts / "again.npz").write_bytes(content)
    with pytest.raises(UsageError, match=r"2/3 is there twice: .*2\.npz and .*again\.npz"):
        AllParts.load(parts)
    (parts / "again.npz").unlink()
    (parts / "2.npz").unlink()
    with pytest.raises(UsageError, match=r"1 of 3 parts are missing: 2/3"):
        AllParts.load(parts)
    (parts / "2.npz").write_bytes(content[:-100])
    with pytest.raises(UsageError, match=r"2\.npz: it holds no part"):
        AllParts.load(parts)


def test_parts_of_another_scoring_are_refused(cohorts, parts, make_cohort, tmp_path):
    other = CohortSet.read(make_cohort("other", n=7, seed=2, subject="o"), cohorts.synth)
    context = Context(cache=None, parts=AllParts.load(parts))
    with pytest.raises(UsageError, match="another scoring"):
        score_cohorts(other, SETTINGS, context)
    part = feature_part(other, SETTINGS, Context(cache=None), Part(2, 3))
    part.save(parts / "2.npz")
    with pytest.raises(UsageError, match="another call"):
        AllParts.load(parts)


def test_a_part_that_is_written_is_read(parts, tmp_path):
    one = FeaturePart.load(parts / "1.npz")
    one.save(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == (parts / "1.npz").read_bytes()
    assert (parts / "1.npz").stat().st_mode & 0o077 == 0
