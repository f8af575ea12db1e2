"""A quick part of the study of whole cohorts: its table, its volumes and its scorecard."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from synthbench.cohorts.reading import read_cohort
from synthbench.records.scorecard import Scorecard
from tests.command_line import run
from tests.studies.conftest import script


def test_each_step_has_a_row(monkeypatch, capsys, tmp_path):
    study = script("large_cohort")

    def in_this_process(command, limit, cache):
        found = run(*command)
        assert found.returncode == 0, found.stderr
        return study.Step(wall=1.0, cpu=2.0, peak=2**30)

    monkeypatch.setattr(study, "measured", in_this_process)
    monkeypatch.setattr(study, "FITTED", 8)
    monkeypatch.setattr(study, "PER_FOLDER", 5)
    monkeypatch.setattr(study, "PER_SHARD", 6)
    # Other processes could not import a script that was loaded under another name.
    monkeypatch.setattr(study, "ProcessPoolExecutor", ThreadPoolExecutor)
    typed = ["--n", "12", "--real", "9", "--shape", "16", "18", "16", "--keep", str(tmp_path)]
    study.main([*typed, "--score", "--extractor voxels --metric kid"])
    rows = capsys.readouterr().out.splitlines()[2:]
    assert rows == [f"| 12 | {step} | 1 | 2 | 1.00 |" for step in ("train", "sample", "score")]
    assert len(read_cohort(tmp_path / "real-9").entries) == 9
    assert len(list((tmp_path / "synth-12").glob("*.tar"))) == 2
    card = Scorecard.load(tmp_path / "card-12.json")
    assert (card.real.n, card.synth.n) == (9, 12)


def test_a_command_is_measured(tmp_path):
    found = script("large_cohort").measured(["--version"], "1GiB", tmp_path)
    assert found.wall > 0
    assert found.cpu > 0
    assert found.peak > 2**20
