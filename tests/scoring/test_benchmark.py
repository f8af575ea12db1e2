from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import yaml

from synthbench.cli import app
from synthbench.cohorts.cohort import majority_mask
from synthbench.cohorts.reading import read_cohort
from synthbench.errors import ScorecardError, UsageError
from synthbench.scoring import freeze, scoring
from synthbench.scoring.benchmark import (
    Benchmark,
    BenchmarkSettings,
    packed_mask,
    protocol_differences,
    unpacked_mask,
)
from synthbench.scoring.cache import measures
from synthbench.scoring.settings import ScoringSettings
from tests.conftest import AFFINE, blob

pytestmark = pytest.mark.slow

EXTRACTORS = ("voxels",)
METRICS = ("mmd2", "intensity", "ms_ssim_wang5")


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    """Folders of six real volumes, four synthetic ones, and seven of another real cohort."""
    folder = tmp_path_factory.mktemp("cohorts")
    for name, n, seed in (("real", 6, 1), ("synth", 4, 2), ("other", 7, 8)):
        (folder / name).mkdir()
        for i in range(n):
            volume = nib.Nifti1Image(blob(1000 * seed + i), AFFINE)
            nib.save(volume, folder / name / f"sub-{i:03d}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def real(cohorts):
    return cohorts / "real"


@pytest.fixture(scope="module")
def synth(cohorts):
    return cohorts / "synth"


@pytest.fixture(scope="module")
def frozen(real):
    settings = ScoringSettings(extractors=EXTRACTORS, metrics=METRICS, resamples=100)
    return freeze.freeze(real, "b", settings, n_synth=4)


@pytest.fixture(scope="module")
def card(frozen, real, synth):
    return scoring.score(real, synth, benchmark=frozen)


def run(monkeypatch, *arguments):
    """The exit code of a command line; 0 where it ends by itself."""
    monkeypatch.setattr("sys.argv", ["synthbench", *map(str, arguments)])
    try:
        app.main()
    except SystemExit as ended:
        return ended.code or 0
    return 0


# ---------------------------------------------------------------- the mask


@pytest.mark.parametrize("shape", [(2, 2, 2), (3, 5, 7), (4, 1, 2)])
def test_a_mask_survives_its_text(shape):
    mask = np.random.default_rng(0).random(shape) < 0.5
    np.testing.assert_array_equal(unpacked_mask(packed_mask(mask), shape), mask)


def test_the_mask_is_stored_and_is_the_majority_mask(frozen, real):
    mask = majority_mask(read_cohort(real, role="real").volumes())
    np.testing.assert_array_equal(frozen.mask, mask)


def test_a_voxel_that_flips_elsewhere_moves_no_number(
    frozen, real, synth, card, monkeypatch, tmp_path
):
    """On a machine whose majority mask has another voxel the frozen one is used all the same;
    a benchmark of before it was stored is refused there.
    """

    def flipped(volumes):
        mask = majority_mask(volumes)
        mask[tuple(np.argwhere(mask)[0])] = False
        return mask

    monkeypatch.setenv("SYNTHBENCH_CACHE", str(tmp_path))  # no other machine's mask is kept
    monkeypatch.setattr(measures, "majority_mask", flipped)
    assert scoring.score(real, synth, benchmark=frozen).values == card.values
    with pytest.raises(ScorecardError, match="a library resamples differently"):
        scoring.score(real, synth, benchmark=frozen.model_copy(update={"stored_mask": None}))


@pytest.mark.parametrize(
    ("text", "words"), [("%%", "stored_mask is no mask"), ("eJwDAAAAAAE=", "0 bytes for 13824")]
)
def test_a_damaged_mask_is_named(frozen, text, words):
    with pytest.raises(ScorecardError, match=words):
        _ = frozen.model_copy(update={"stored_mask": text}).mask


def test_another_stored_mask_is_an_edited_file(frozen, real, synth):
    other = packed_mask(np.ones(frozen.protocol.space.shape, dtype=bool))
    edited = frozen.model_copy(update={"stored_mask": other})
    with pytest.raises(ScorecardError, match=r"mask differs .* benchmark\.yaml was edited"):
        scoring.score(real, synth, benchmark=edited)


# ---------------------------------------------------------------- floors


def test_floors_are_those_of_a_scoring_without_the_benchmark(frozen, real, synth):
    """The same splits of the same real volumes, whatever they are scored with.

    MS-SSIM with five scales needs a larger grid, so it has no floor.
    """
    alone = scoring.score(
        real, synth, extractors=EXTRACTORS, metrics=METRICS,
        resamples=100,
    )  # fmt: skip
    found = {(f.metric, f.extractor): f for f in frozen.floors}
    assert set(found) == {("mmd2", "voxels"), ("intensity", None)}
    for key, floor in found.items():
        value = alone.row(*key)
        assert value is not None
        assert value.floor is not None
        row = value.floor
        assert (floor.n, floor.mean, floor.low, floor.high, floor.minimum_detectable_effect) == (
            row.n, row.mean, row.low, row.high, row.minimum_detectable_effect,
        )  # fmt: skip


def test_a_metric_that_the_grid_cannot_have_is_not_frozen(real):
    """Three scales of 11 voxels need 44 per side, and these volumes have 24: no entry has it."""
    settings = ScoringSettings(extractors=(), metrics=("intensity", "ms_ssim"), resamples=100)
    with pytest.raises(UsageError, match=r"--scales 2.* a benchmark cannot freeze it"):
        freeze.freeze(real, "b", settings, n_synth=4, primary="intensity")


def test_entries_stand_against_the_frozen_floor_and_keep_their_own_value(frozen, real, synth):
    own = scoring.score(real, synth, benchmark=frozen.model_copy(update={"floors": ()}))
    moved = [f.model_copy(update={"mean": f.mean + 1}) for f in frozen.floors]
    card = scoring.score(real, synth, benchmark=frozen.model_copy(update={"floors": moved}))
    for before, after in zip(own.values, card.values, strict=True):
        if before.floor is not None and after.floor is not None:
            assert after.floor.mean == pytest.approx(before.floor.mean + 1)
            assert after.floor.synth_mean == before.floor.synth_mean


# ---------------------------------------------------------------- files and settings


def test_a_benchmark_can_be_frozen_again_from_its_file_alone(
    frozen, real, tmp_path, monkeypatch, capsys
):
    file = frozen.save(tmp_path / "b")
    monkeypatch.chdir(tmp_path)
    options = ("--real", real, "--protocol", file)
    assert run(monkeypatch, "benchmark", "init", "again", *options) == 0
    again = Benchmark.load(tmp_path / "leaderboards" / "again")
    assert again.model_copy(update={"name": "b"}) == frozen
    assert f"as {file}" in capsys.readouterr().err


def test_the_settings_of_another_cohorts_benchmark_are_taken_and_what_changed_is_said(
    frozen, cohorts, tmp_path, monkeypatch, capsys
):
    file = frozen.save(tmp_path / "b")
    monkeypatch.chdir(tmp_path)
    other = cohorts / "other"
    assert run(monkeypatch, "benchmark", "init", "new", "--real", other, "--protocol", file) == 0
    said = capsys.readouterr().err
    assert "n_real: 7 instead of 6" in said
    assert "settings.mmd2 | voxels.bandwidth" in said
    made = Benchmark.load(tmp_path / "leaderboards" / "new").protocol
    assert made.resamples == 100
    assert made.intervals == frozen.protocol.intervals


def test_settings_are_read_from_benchmarks_scorecards_and_yaml(frozen, card, tmp_path):
    frozen.save(tmp_path / "b")
    card.save(tmp_path / "card.json")
    of_benchmark, of_card = (BenchmarkSettings.load(tmp_path / name) for name in ("b", "card.json"))
    assert of_benchmark.primary == "mmd2"
    assert of_benchmark.model_fields_set - of_card.model_fields_set == {"primary"}
    assert of_card == of_benchmark
    assert (of_card.metrics, of_card.m, of_card.extractors) == (METRICS, 4, EXTRACTORS)
    (tmp_path / "some.yaml").write_text("metrics: [fid]\nseed: 0\n", encoding="utf-8")
    some = BenchmarkSettings.load(tmp_path / "some.yaml")
    assert some.model_dump(exclude_unset=True) == {"metrics": ("fid",), "seed": 0}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("metric: [fid]", r"metric: .*did you mean 'metrics'\?"),
        ("- fid", "settings are needed"),
        ("a: [", "not valid YAML"),
        (None, "cannot be read"),
    ],
)
def test_settings_that_cannot_be_read_are_explained(tmp_path, text, words):
    file = tmp_path / "p.yaml"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(ScorecardError, match=words):
        BenchmarkSettings.load(file)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--seed", "3"), "has chosen this: leave out --seed"),
        (("--metric", "fid", "--seed", "3"), "leave out --metric, --seed"),
        ((), "--m: say with how many"),
    ],
)
def test_options_against_the_file_are_refused(tmp_path, monkeypatch, capsys, options, words):
    (tmp_path / "p.yaml").write_text("metrics: [fid]\nseed: 0\n", encoding="utf-8")
    arguments = ("benchmark", "init", "n", "--real", "r", "--protocol", tmp_path / "p.yaml")
    assert run(monkeypatch, *arguments, *options) == 2
    assert words in capsys.readouterr().err


def test_differences_name_the_settings_themselves(frozen):
    protocol = frozen.protocol
    assert protocol_differences(protocol, protocol) == []
    settings = {**protocol.settings, "mmd2 | voxels": {"formula": "f", "new": 1}}
    other = protocol.model_copy(update={"settings": settings, "seed": 9})
    assert set(protocol_differences(other, protocol)) == {
        f"settings.mmd2 | voxels.formula: f instead of "
        f"{protocol.settings['mmd2 | voxels']['formula'][:37]}...",
        f"settings.mmd2 | voxels.bandwidth: absent instead of "
        f"{protocol.settings['mmd2 | voxels']['bandwidth']:.6g}",
        "settings.mmd2 | voxels.new: 1 instead of absent",
        "seed: 9 instead of 0",
    }


def test_a_benchmark_of_before_loads_and_scores(frozen, real, synth, card, tmp_path):
    """As they were first written: no mask, no floors, no versions."""
    file = frozen.save(tmp_path / "b")
    fields = yaml.safe_load(file.read_text(encoding="utf-8"))
    for field in ("stored_mask", "floors", "software"):
        del fields[field]
    file.write_text(yaml.safe_dump(fields, sort_keys=False), encoding="utf-8")
    before = Benchmark.load(file)
    assert before.mask is None
    assert scoring.score(real, synth, benchmark=before).values == card.values


@pytest.mark.parametrize(
    ("metrics", "primary", "words"),
    [
        (("fidd",), "mmd2", "^--metric: no metric is named 'fidd': did you mean 'fid'?"),
        (("fid",), "mmd2", r"not among the chosen metrics \(fid\)\. .*--primary fid\.$"),
        (("fid",), "mmd", "^--primary: no metric is named 'mmd': did you mean 'mmd2'?"),
        (("fid",), "fid | voxels", r"no such row\. Choose one of: 'fid \| random-resnet10'\.$"),
        (("ms_ssim",), "ms_ssim | voxels", "no such row. Choose one of: 'ms_ssim'.$"),
        (("ms_ssim",), "ms_ssim.synth", "^--primary: no metric is named 'ms_ssim.synth'"),
    ],
)
def test_a_wrong_choice_of_metrics_is_refused_by_the_option_that_it_is_of(metrics, primary, words):
    """Nothing is read before: the folder of real volumes is not there."""
    settings = ScoringSettings(metrics=metrics, extractors=("random-resnet10",))
    with pytest.raises(UsageError, match=words):
        freeze.freeze("nowhere", "b", settings, n_synth=4, primary=primary)
