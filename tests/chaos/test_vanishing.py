"""An output folder that is deleted, or taken away, while a command writes into it."""

from __future__ import annotations

from pathlib import Path
from shutil import rmtree

import pytest

from synthbench.cohorts.split import split
from synthbench.errors import InUseError
from synthbench.runtime.lock import LOCK, only_writer
from synthbench.sampling.sampling import sample
from synthbench.simulation.cohort import atlas_cohort
from synthbench.training.training import train
from tests.command_line import run


def test_volumes_that_vanish_are_an_error_though_the_rest_could_be_written(tmp_path):
    """The folder is made again for the second subject, and the first one is not in it."""
    out = tmp_path / "cohort"

    def vanish(done: int) -> None:
        if done == 1:
            rmtree(out)

    with pytest.raises(InUseError, match="was deleted") as caught:
        atlas_cohort(2, out, shape=(16, 20, 16), progress=vanish)
    assert str(out) in str(caught.value)
    atlas_cohort(2, out, shape=(16, 20, 16))
    assert len(list(out.rglob("*.nii.gz"))) == 2


def test_samples_into_a_folder_that_has_vanished_name_the_file(make_cohort, tmp_path):
    real = make_cohort("real", n=4, shape=(16, 16, 16))
    made, out = train("noise", out=tmp_path / "run", real=real), tmp_path / "out"
    with pytest.raises(FileNotFoundError) as caught:
        sample(made, 3, out, progress=lambda done, total, words: rmtree(out))
    assert caught.value.filename == str(out / "synth-000001.nii.gz")
    assert len(sample(made, 3, out)) == 3


def test_a_split_whose_folder_has_vanished_is_an_error(make_cohort, tmp_path):
    real, out = make_cohort("real", n=10, shape=(16, 16, 16)), tmp_path / "out"
    with pytest.raises(InUseError, match="was deleted"):
        split(real, None, out, progress=lambda done: rmtree(out, ignore_errors=True))


def test_a_lock_that_is_deleted_by_hand_is_an_error_of_the_first(tmp_path):
    """Whoever deletes the lock of a command that runs may have two writers."""
    first = only_writer(tmp_path)
    first.__enter__()
    (tmp_path / LOCK).unlink()
    with only_writer(tmp_path):
        with pytest.raises(InUseError, match="incomplete or mixed"):
            first.__exit__(None, None, None)
        assert (tmp_path / LOCK).is_file()  # it is the second one's


@pytest.mark.parametrize("command", ["data atlas --n 1 --out {}", "data split {real} --out {}"])
def test_a_folder_in_place_of_which_there_is_a_file_is_refused(command, make_cohort, tmp_path):
    real = make_cohort("real", n=4, shape=(16, 16, 16))
    out: Path = tmp_path / "file"
    out.write_text("mine", encoding="utf-8")
    ended = run(*command.format(out, real=real).split())
    assert ended.returncode == 2
    assert f"{out}: that is a file" in ended.stderr
    assert out.read_text(encoding="utf-8") == "mine"
