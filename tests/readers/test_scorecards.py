"""What readers saw, in the scorecards of the volumes that they saw."""

from __future__ import annotations

import pytest

from synthbench.errors import ScorecardError, UsageError
from synthbench.readers.analysis import analyse
from synthbench.readers.scorecards import add_to_scorecards, result_of
from synthbench.readers.simulated import IDEAL, Truth, answer_all
from synthbench.records.scorecard import Scorecard
from tests.boards import features, make_card, make_materials, make_protocol, make_readers
from tests.command_line import run
from tests.readers.small import study


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scorecards") / "study"
    study(folder, readers=3)
    answer_all(folder, Truth({"alpha": 9.0, "blurred": 9.0}, {"real": 1.0}), [IDEAL], seed=1)
    return folder


@pytest.fixture(scope="module")
def found(folder):
    return analyse(folder)


def card_of(fingerprint, file, seed=0, **changes):
    """A scorecard of volumes with a fingerprint."""
    protocol = make_protocol(features(0), resamples=200 + seed)
    kept = make_materials(protocol, features(0), features(1), fingerprint)
    made = make_card("mine", kept)
    synth = made.synth.model_copy(update=changes)
    return made.model_copy(update={"synth": synth}).save(file)


def test_the_result_is_that_of_the_generator_with_the_fingerprint(found):
    for name in ("alpha", "beta"):
        result = result_of(found, found.fingerprints[name], "card")
        compared = {one.group: one for one in found.compared}
        assert result.generator == name
        assert result.study == found.study
        assert (result.readers, result.real_fingerprint) == (3, found.real_fingerprint)
        assert result.comparison is not None
        assert result.comparison.accuracy == compared[name].accuracy
        assert result.comparison.verdict == compared[name].verdict
        assert result.controls == {g: compared[g].accuracy for g in ("blurred", "real")}
        assert [one.mean for one in result.ratings] == [one.means[name] for one in found.rated]
        assert [one.real for one in result.ratings] == [one.means["real"] for one in found.rated]
    assert "reader-1" not in result.model_dump_json()  # totals only


def test_another_cohort_is_refused_with_what_the_study_has(found):
    for wrong in ("f" * 64, found.real_fingerprint):
        with pytest.raises(ScorecardError, match=r"readers saw other volumes") as caught:
            result_of(found, wrong, "card.json")
        assert f"alpha {found.fingerprints['alpha'][:12]}" in str(caught.value)


def test_results_are_added_to_several_scorecards_and_the_metrics_compared(folder, found, tmp_path):
    first = card_of(found.fingerprints["alpha"], tmp_path / "a.json")
    second = card_of(found.fingerprints["beta"], tmp_path / "b.json")
    ended = run("readers", "analyse", folder, "--scorecard", first, "--scorecard", second)
    assert ended.returncode == 0, ended.stderr
    assert "cannot be told from 2 generators" in " ".join(ended.stdout.split())
    assert "a.json" in ended.stderr
    for file, name in ((first, "alpha"), (second, "beta")):
        held = Scorecard.load(file).readers
        assert held == result_of(found, found.fingerprints[name], "")


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"fingerprint": "f" * 64}, ScorecardError, "other volumes"),
        ({"available": 99, "drawn": 24}, ScorecardError, "score --readers"),
        ({}, UsageError, "2 protocols"),
    ],
    ids=["volumes", "a draw", "protocol"],
)
def test_where_one_scorecard_is_wrong_none_is_changed(changes, error, words, found, tmp_path):
    good = card_of(found.fingerprints["alpha"], tmp_path / "a.json")
    fields = {"fingerprint": found.fingerprints["beta"], **changes}
    other = card_of(fields.pop("fingerprint"), tmp_path / "b.json", seed=1, **fields)
    before = good.read_bytes(), other.read_bytes()
    with pytest.raises(error, match=words):
        add_to_scorecards(found, [good, other])
    assert (good.read_bytes(), other.read_bytes()) == before
    with pytest.raises(UsageError, match="twice"):
        add_to_scorecards(found, [good, good])


def test_a_newer_result_takes_the_place_of_an_older_one(found, tmp_path):
    file = card_of(found.fingerprints["alpha"], tmp_path / "a.json")
    card = Scorecard.load(file)
    card.model_copy(update={"readers": make_readers()}).save(file)
    add_to_scorecards(found, [file])
    held = Scorecard.load(file)
    assert held.readers is not None
    assert held.readers.study == found.study
    assert held.model_copy(update={"readers": None}) == card


def test_the_record_never_takes_the_place_of_a_file_of_the_study(folder):
    for file in (folder / "study.json", folder / "x.json", folder.with_name("study.key.json")):
        ended = run("readers", "analyse", folder, "--out", file)
        assert ended.returncode == 2
        assert "beside it" in ended.stderr
    assert not (folder / "x.json").exists()
