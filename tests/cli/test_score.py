from __future__ import annotations

import stat
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from synthbench.cli import app
from synthbench.readers.results import Analysis, Answered, Compared
from synthbench.records.readers import Estimated
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


def test_what_readers_saw_enters_the_scorecard_of_the_same_volumes_only(
    tmp_path, monkeypatch, capsys
):
    """Another cohort is refused before anything is scored."""
    kept = make_materials(make_protocol(features(0)), features(0), features(1), "1" * 64)
    found = scoring.Scoring(make_card("mine", kept), kept, features={}, neighbours=())
    scored = []
    share = Estimated(value=0.7, low=0.6, high=0.8)
    analysis = Analysis(
        study="5" * 64, margin=0.1, readers={"reader-1": Answered(answered=9, asked=9)},
        compared=(Compared(group="ours", control=False, readers=1, cases=9, answers=9,
                           accuracy=share, d_prime=share, equivalence_p=0.5, verdict="told",
                           per_reader={"reader-1": 0.7}),),
        real_fingerprint="r" * 64, fingerprints={"ours": "1" * 64},
    ).save(tmp_path / "analysis.json")  # fmt: skip
    card = tmp_path / "card.json"

    def scoring_of_nothing(*_, **__):
        scored.append(1)
        return found

    def score(fingerprint, readers):
        read = SimpleNamespace(synth=SimpleNamespace(fingerprint=fingerprint))
        monkeypatch.setattr(CohortSet, "read", lambda *_, **__: read)
        monkeypatch.setattr(scoring, "score_cohorts", scoring_of_nothing)
        ended = run("score", "--real", "a", "--synth", "b", "--out", card, *readers)
        return ended.returncode, ended.stdout, ended.stderr

    code, out, err = score("1" * 64, ["--readers", analysis])
    assert (code, len(scored)) == (0, 1), err
    assert "1 reader found the real one in 70 [60, 80]% of the pairs" in " ".join(out.split())
    held = Scorecard.load(card).readers
    assert held is not None
    assert held.generator == "ours"
    code, _, err = score("2" * 64, ["--readers", analysis])
    assert (code, len(scored)) == (2, 1)
    assert "readers saw other volumes (fingerprint 222222222222" in err
    code, _, err = score("1" * 64, ["--readers", tmp_path])
    assert (code, len(scored)) == (2, 1)
    assert "readers analyse" in err
    code, _, err = score("1" * 64, [])
    assert code == 0
    assert "held what readers saw, and the new one does not" in err
    assert Scorecard.load(card).readers is None


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
