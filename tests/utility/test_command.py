"""The command: its options, its files, and the verdict in a scorecard."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from synthbench.cohorts.reading import read_cohort
from synthbench.errors import CohortError, MetricError, ScorecardError, UsageError
from synthbench.records.cohort import CohortRecord
from synthbench.records.scorecard import Scorecard
from synthbench.scoring.inputs import draw
from synthbench.utility.command import add_to_scorecard
from synthbench.utility.record import UtilityRecord
from synthbench.utility.settings import UtilitySettings
from tests.boards import features, make_card, make_materials, make_protocol
from tests.conftest import AFFINE
from tests.utility.spheres import ACCEPT, COMMON, SHAPE

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _few_refits(monkeypatch):
    """The command has no option for their number, and nothing here looks at their spread."""
    few = partial(UtilitySettings, refits=COMMON["refits"])
    monkeypatch.setattr("synthbench.utility.command.UtilitySettings", few)


def test_the_command_prints_the_verdict_and_writes_the_record(folders, tmp_path):
    out = tmp_path / "utility.json"
    result = command(folders, "--out", out)
    assert result.exit_code == 0
    found = UtilityRecord.load(out)
    assert found.summary.sentence in result.stdout
    assert found.settings_hash in result.stdout


def command(folders, *options):
    from typer.testing import CliRunner

    from synthbench.cli.app import app

    arguments = ["utility", "--label", "sex", "--extractor", "voxels", "--ratios", "1"]
    arguments += map(str, options)
    for role in ("real", "synth", "test"):
        arguments += [f"--{role}", str(folders[role])]
    for rule in ACCEPT:
        arguments += ["--accept", rule]
    return CliRunner().invoke(app, arguments)


def scorecard_of(folder: Path, file: Path) -> Path:
    """A scorecard of a folder's volumes, whatever their values."""
    fingerprint = read_cohort(folder).fingerprint
    kept = make_materials(make_protocol(features(0)), features(0), features(1), fingerprint)
    make_card("mine", kept).save(file)
    return file


def test_a_verdict_is_added_to_a_scorecard_whose_other_bytes_stay(folders, tmp_path):
    file = scorecard_of(folders["synth"], tmp_path / "card.json")
    before = file.read_bytes()
    result = command(folders, "--scorecard", file)
    assert result.exit_code == 0
    assert "card.json: the verdict was added\n" in result.stderr
    card = Scorecard.load(file)
    assert card.utility is not None
    after = file.read_bytes()
    assert after.replace(
        f'"utility": {json.dumps(json.loads(after)["utility"], indent=1)}'
        .replace("\n", "\n ").encode(), b'"utility": null') == before  # fmt: skip
    assert (card.utility.n_real, card.utility.n_synth, card.utility.n_test) == (12, 14, 16)
    held = {role: record.fingerprint for role, record in card.utility.cohorts.items()}
    assert held == {role: read_cohort(folder).fingerprint for role, folder in folders.items()}
    card.save(file)
    assert Scorecard.load(file) == card
    again = command(folders, "--scorecard", file, "--seed", "1")
    assert f"the verdict was added, in place of: {card.utility.sentence} (sex)" in again.stderr
    now = Scorecard.load(file).utility
    assert now is not None
    assert now.settings_hash != card.utility.settings_hash


def test_a_scorecard_of_other_volumes_keeps_its_bytes(folders, tmp_path):
    file = scorecard_of(folders["real"], tmp_path / "card.json")
    before = file.read_bytes()
    result = command(folders, "--scorecard", file)
    assert isinstance(result.exception, ScorecardError)
    assert "of other synthetic volumes" in str(result.exception)
    assert file.read_bytes() == before


def test_a_benchmarks_draw_from_the_volumes_may_have_their_verdict(record, folders, tmp_path):
    """A benchmark scores 9 of 14, those that a permutation by its seed puts first."""
    cohort = read_cohort(folders["synth"])
    seed = make_protocol(features(0)).seed
    for wrong, shift in ((False, 0), (True, 1)):
        order = np.random.default_rng(seed + shift).permutation(14)
        drawn = cohort.subset(np.sort(order[:9]))
        file = scorecard_of(folders["synth"], tmp_path / "card.json")
        card = Scorecard.load(file)
        card.model_copy(update={"synth": CohortRecord.of(drawn, available=14)}).save(file)
        if wrong:
            with pytest.raises(ScorecardError, match="of other synthetic volumes"):
                add_to_scorecard(record, file, folders["synth"])
        else:
            assert add_to_scorecard(record, file, folders["synth"]) is None
            assert Scorecard.load(file).utility == record.summary


def test_failed_samples_are_counted_or_refused_as_by_score(folders, tmp_path):
    """Two of 16 volumes failed. Their scorecard counts them, and gets the verdict of the rest."""
    failing = dict(folders, synth=tmp_path / "synth")
    shutil.copytree(folders["synth"], failing["synth"])
    for name in ("sub-20_T1w.nii.gz", "sub-21_T1w.nii.gz"):
        nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.float32), AFFINE), failing["synth"] / name)
    refused = command(failing)
    assert isinstance(refused.exception, CohortError)
    assert "--count-failures" in str(refused.exception)
    scored = read_cohort(failing["synth"], role="synth", count_failures=True)
    # A benchmark may have drawn 15 of the 16, so that `utility` has to read them as `score` did.
    for drawn in (16, 15):
        seed = make_protocol(features(0)).seed
        chosen = scored.drawn(draw(16, drawn, seed))
        file = scorecard_of(folders["synth"], tmp_path / "card.json")
        card = Scorecard.load(file)
        card.model_copy(update={"synth": CohortRecord.of(chosen, available=16)}).save(file)
        result = command(failing, "--count-failures", "--scorecard", file)
        assert result.exit_code == 0, result.exception
        verdict = Scorecard.load(file).utility
        assert verdict is not None
        assert (verdict.n_synth, verdict.cohorts["synth"].failed_share) == (14, 2 / 16)
        assert "2 of 16 volumes failed (12.5%) and are left out (constant: 2)" in result.stdout


def test_a_volume_that_the_extractor_refuses_has_failed(folders, tmp_path):
    """`random-resnet10` cannot take one grey level. The study is that of the others.

    The verdict belongs to the scorecard of these volumes, whichever extractors that one had.
    """
    options = ["--label", "sex", "--extractor", "random-resnet10"]
    grey = np.zeros(SHAPE, np.float32)
    grey[4:12, 4:12, 4:12] = 0.5
    failing = dict(folders, synth=tmp_path / "synth")
    shutil.copytree(folders["synth"], failing["synth"])
    nib.save(nib.Nifti1Image(grey, AFFINE), failing["synth"] / "sub-04_T1w.nii.gz")
    refused = command(failing, *options)
    assert isinstance(refused.exception, MetricError)
    assert "must differ" in str(refused.exception)

    cohort = read_cohort(failing["synth"], role="synth", count_failures=True)
    names = [entry.name for entry in cohort.entries]
    without = cohort.with_failed([names.index("sub-04_T1w.nii.gz")], "refused")
    for scored in (cohort, without):
        file = scorecard_of(failing["synth"], tmp_path / "card.json")
        card = Scorecard.load(file)
        card.model_copy(update={"synth": CohortRecord.of(scored, available=14)}).save(file)
        out = tmp_path / "record.json"
        result = command(failing, *options, "--count-failures", "--scorecard", file, "--out", out)
        assert result.exit_code == 0, result.exception
        assert "1 of 14 volumes failed (7.1%) and are left out (refused: 1)" in result.stdout
        verdict = Scorecard.load(file).utility
        assert verdict is not None
        assert (verdict.n_synth, verdict.cohorts["synth"].failed_share) == (13, 1 / 14)

    (failing["synth"] / "sub-04_T1w.nii.gz").unlink()
    command(failing, *options, "--out", tmp_path / "rest.json")
    rest = UtilityRecord.load(tmp_path / "rest.json")
    assert UtilityRecord.load(out).differences == rest.differences


def test_a_wrong_scorecard_is_named_before_anything_is_read(tmp_path):
    nowhere = dict.fromkeys(("real", "synth", "test"), "nowhere")
    result = command(nowhere, "--scorecard", tmp_path / "absent.json")
    assert isinstance(result.exception, ScorecardError)
    assert "Write one with synthbench score --out" in str(result.exception)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "--label: name a column"),
        (["--label", "sex", "--model", "prob"], "did you mean 'probe'?"),
        (["--label", "sex", "--model", "cnn", "--network", "resnet"], "did you mean 'resnet10'?"),
        (["--label", "sex", "--ratios", "1;2"], "write numbers as 0.5,1,2,5"),
        (["--label", "sex", "--segmentation"], "leave out --label"),
        (["--segmentation", "--model", "cnn"], "leave out --model"),
        (["--label", "sex", "--epochs", "5"], "leave out --epochs, or add --model cnn"),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_anything_is_read(options, words):
    from typer.testing import CliRunner

    from synthbench.cli.app import app

    nowhere = ["--real", "nowhere", "--synth", "nowhere", "--test", "nowhere"]
    result = CliRunner().invoke(app, ["utility", *nowhere, *options])
    assert isinstance(result.exception, UsageError)
    assert words in str(result.exception)
