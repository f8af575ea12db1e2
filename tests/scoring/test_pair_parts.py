"""Sums over pairs that are kept in a folder: by a scoring that was stopped, and by several jobs."""

from __future__ import annotations

import nibabel as nib
import pytest

from synthbench.errors import UsageError
from synthbench.metrics import kernels, mmd, mmd_permutation, prdc
from synthbench.metrics.blocked import near
from synthbench.metrics.inference import resampling, tiles
from synthbench.metrics.inference.sections import Unfinished
from synthbench.runtime.part import Part
from synthbench.scoring import protocol
from synthbench.scoring.cache.pairs import RECORD, PairSums
from synthbench.scoring.divided.pair_part import pair_part
from synthbench.scoring.inputs import CohortSet
from synthbench.scoring.scoring import score_cohorts
from synthbench.scoring.settings import Context, ScoringSettings
from tests.conftest import AFFINE, blob

SETTINGS = ScoringSettings(
    extractors=("voxels",), metrics=("mmd2", "kid", "precision", "coverage", "fid"), resamples=100
)


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    root = tmp_path_factory.mktemp("cohorts")
    for name, n, seed in (("real", 16, 0), ("synth", 15, 1)):
        (root / name).mkdir()
        for i in range(n):
            image = nib.Nifti1Image(blob(1000 * seed + i), AFFINE)
            nib.save(image, root / name / f"sub-{name[0]}{i:03d}.nii.gz")
    return CohortSet.read(root / "real", root / "synth")


@pytest.fixture(autouse=True)
def large(monkeypatch):
    """Sets of 16 images are large, and have many tiles."""
    for module in (kernels, mmd, mmd_permutation, prdc, protocol, resampling):
        monkeypatch.setattr(module, "LARGE_SET", 10)
    monkeypatch.setattr(tiles, "TILE_NUMBERS", 9)
    monkeypatch.setattr(near, "ROWS", 3)
    near.forget()
    yield
    near.forget()


def values(cohorts, pairs=None):
    found = score_cohorts(cohorts, SETTINGS, Context(cache=None, pairs=pairs))
    near.forget()
    return found.card.values


def test_a_scoring_that_was_stopped_goes_on(cohorts, tmp_path, monkeypatch):
    whole = values(cohorts)
    kept = []

    class Stopping(PairSums):
        def keep(self, key, section, sums):
            super().keep(key, section, sums)
            kept.append(key)
            if len(kept) % 7 == 0:
                raise KeyboardInterrupt

    stops = 0
    while True:
        try:
            found = values(cohorts, Stopping.opened(tmp_path / "pairs"))
            break
        except KeyboardInterrupt:
            stops += 1
            near.forget()
    assert stops > 5
    assert found == whole
    assert len(set(kept)) >= 8  # a median, the kernels of two metrics and floors, p, neighbours
    files = list((tmp_path / "pairs").glob("*.npz"))
    assert len(files) == len(kept)  # no section twice
    assert all(file.stat().st_mode & 0o077 == 0 for file in files)


def test_jobs_that_compute_a_part_each_give_the_undivided_scoring(cohorts, tmp_path):
    whole, folder = values(cohorts), tmp_path / "pairs"
    for rounds in range(1, 9):
        waiting = []
        for number in (3, 1, 2):
            part = PairSums.opened(folder, Part(number, 3))
            waiting += pair_part(cohorts, SETTINGS, Context(cache=None, pairs=part))
            near.forget()
        print(rounds, *waiting, sep="\n  ")
        if not waiting:
            break
    assert 2 < rounds < 7
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert values(cohorts, PairSums.opened(folder)) == whole
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == before


def test_a_part_that_is_missing_is_named(cohorts, tmp_path):
    folder = tmp_path / "pairs"
    for number in (1, 3):
        part = PairSums.opened(folder, Part(number, 3))
        waiting = pair_part(cohorts, SETTINGS, Context(cache=None, pairs=part))
    assert "5 of 16 sections of a pass over pairs (median) are missing: 2/16, 5/16" in waiting[0]
    with pytest.raises(Unfinished, match=r"synthbench score --pairs DIR --shard I/N"):
        values(cohorts, PairSums.opened(folder))
    with pytest.raises(UsageError, match="divided among 3 jobs"):
        PairSums.opened(folder, Part(1, 4))
    # Without the record the scoring computes what is missing.
    (folder / RECORD).unlink()
    assert values(cohorts, PairSums.opened(folder)) == values(cohorts)


def test_a_damaged_file_is_named(cohorts, tmp_path):
    values(cohorts, PairSums.opened(tmp_path / "pairs"))
    file = next((tmp_path / "pairs").glob("median-*.npz"))
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(UsageError, match=r"median-.*\.npz: it cannot be read .* Delete it"):
        values(cohorts, PairSums.opened(tmp_path / "pairs"))


def test_a_damaged_record_is_refused(tmp_path):
    PairSums.opened(tmp_path, Part(1, 3))
    (tmp_path / RECORD).write_bytes(b"\xff\x00")
    with pytest.raises(UsageError, match="Use the same number, or another folder"):
        PairSums.opened(tmp_path, Part(1, 3))


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "pairs").write_bytes(b"")
    with pytest.raises(UsageError, match="--pairs"):
        PairSums.opened(tmp_path / "pairs")


def test_other_volumes_have_other_sums(cohorts, make_cohort, tmp_path):
    """The folder of another scoring is no trap: its sums have other names."""
    values(cohorts, PairSums.opened(tmp_path / "pairs"))
    other = CohortSet.read(make_cohort("other", n=16, seed=2, subject="o"), cohorts.synth)
    assert values(other, PairSums.opened(tmp_path / "pairs")) == values(other)
