from __future__ import annotations

import stat
import sys

import numpy as np
import pytest

from synthbench.cli import app
from synthbench.records.scorecard import Scorecard
from synthbench.scoring import scoring
from synthbench.scoring.inputs import CohortSet
from tests.boards import features, make_card, make_materials, make_protocol, make_verdict
from tests.command_line import run


def test_a_failed_score_leaves_no_scorecard(make_cohort, tmp_path):
    real = make_cohort("real", n=5)
    (real / "bad.nii.gz").write_bytes(b"nothing")
    result = run("score", "--real", real, "--synth", real, "--out", tmp_path / "a" / "s.json")
    assert result.returncode == 2
    assert "bad.nii.gz: cannot be read" in result.stderr
    assert not (tmp_path / "a" / "s.json").exists()


def test_features_go_to_the_very_file_that_is_named_and_for_its_owner_only(tmp_path):
    """NumPy would add .npz. What was there stays until the new file is whole."""
    kept = make_materials(make_protocol(features(0)), features(0), features(1), "1" * 64)
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    found = scoring.Scoring(make_card("mine", kept), kept, {"real/voxels": rows}, neighbours=())
    file = tmp_path / "features"
    file.write_bytes(b"before")
    assert found.save_volume_data(features=file, sample_data=tmp_path / "data") == [
        file, tmp_path / "data"
    ]  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "features"]
    with np.load(file, allow_pickle=False) as arrays:
        assert np.array_equal(arrays["real/voxels"], rows)
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_scoring_anew_says_that_the_verdict_on_utility_is_gone(tmp_path, monkeypatch, capsys):
    kept = make_materials(make_protocol(features(0)), features(0), features(1), "1" * 64)
    card = make_card("mine", kept)
    found = scoring.Scoring(card, kept, features={}, neighbours=())
    monkeypatch.setattr(CohortSet, "read", lambda *_, **__: None)
    monkeypatch.setattr(scoring, "score_cohorts", lambda *_, **__: found)
    file = tmp_path / "card.json"
    monkeypatch.setattr(
        sys, "argv", ["synthbench", "score", "--real", "a", "--synth", "b", "--out", str(file)]
    )
    for held, given in ((None, False), (make_verdict(), True), (None, False)):
        card.model_copy(update={"utility": held}).save(file)
        with pytest.raises(SystemExit) as ended:
            app.main()
        assert ended.value.code in (0, None)
        words = "held a verdict on utility (sex), and the new one holds none: run synthbench"
        assert (words in capsys.readouterr().err) is given
        assert Scorecard.load(file).utility is None
