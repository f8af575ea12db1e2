from __future__ import annotations

import io
import json
import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from synthbench import metrics
from synthbench.cohorts.pseudonyms import Pseudonyms
from synthbench.cohorts.reading import read_cohort
from synthbench.errors import CohortError, MetricError, ScorecardError, UsageError
from synthbench.metrics.extractors.random_resnet import RandomResNet10
from synthbench.records.scorecard import Scorecard
from synthbench.records.values import Missing
from synthbench.scoring import freeze, scoring
from synthbench.scoring.inputs import CohortSet
from synthbench.scoring.memorization import VOXELS, neighbours_table
from synthbench.scoring.settings import (
    DEFAULT_EXTRACTOR,
    DEFAULT_METRICS,
    Context,
    ScoringSettings,
)
from tests.conftest import AFFINE, blob

pytestmark = pytest.mark.slow

GRID = (28, 28, 28)
EXTRACTORS = ("random-resnet10",)
METRICS = ("mmd2", "fid", "ms_ssim")
# Three scales of MS-SSIM need 44 voxels per side.
FULL = ScoringSettings(extractors=EXTRACTORS, resamples=200, scales=2)


@pytest.fixture
def pair(make_cohort):
    """Eight real and seven synthetic volumes that differ a little."""
    return (
        make_cohort("real", n=8, seed=1, shape=GRID),
        make_cohort("synth", n=7, seed=2, shape=GRID, width=0.9),
    )


@pytest.fixture
def small(make_cohort):
    return make_cohort("real", n=6, seed=1), make_cohort("synth", n=5, seed=2, width=0.9)


def save(volume, file):
    nib.save(nib.Nifti1Image(volume, AFFINE), file)


def score(real, synth, **options):
    if "benchmark" not in options:
        options = {"extractors": EXTRACTORS, "metrics": METRICS, "resamples": 200, **options}
    return scoring.score(real, synth, **options)


def score_all(settings, *cohorts, **options):
    return scoring.score_cohorts(CohortSet.read(*cohorts, **options), settings)


def write_families(folder, n, shape):
    """Real, training, hold-out and synthetic volumes, with two copies of training ones."""
    roles = {"real": (1, 1.0), "train": (2, 1.0), "synth": (3, 0.9), "holdout": (4, 1.0)}
    folders = {}
    for role, (seed, width) in roles.items():
        folders[role] = folder / role
        folders[role].mkdir()
        for i in range(n):
            save(blob(1000 * seed + i, shape, width), folders[role] / f"{role}-{i:02d}.nii.gz")
    for i in range(2):
        shutil.copy(
            folders["train"] / f"train-{i:02d}.nii.gz", folders["synth"] / f"copy{i}.nii.gz"
        )
    return folders


@pytest.fixture(scope="module")
def families(tmp_path_factory):
    return write_families(tmp_path_factory.mktemp("cohorts"), 12, GRID)


@pytest.fixture(scope="module")
def small_families(tmp_path_factory):
    return write_families(tmp_path_factory.mktemp("cohorts"), 6, (24, 24, 24))


@pytest.fixture(scope="module")
def full_card(families):
    found = score_all(FULL, **families)
    return found.card, found.neighbours


def test_every_family_has_a_value_an_interval_and_a_floor(full_card):
    card, _ = full_card
    families: dict[str, list[str]] = {}
    for value in card.values:
        families.setdefault(value.key.metric, []).append(value.metric)
    # Every default metric, in that order; copies are assessed apart.
    apart = ("memorization", "local_copying")
    assert list(families) == [name for name in DEFAULT_METRICS if name not in apart]
    assert {name: rows for name, rows in families.items() if len(rows) > 1} == {
        "ms_ssim": ["ms_ssim", "ms_ssim.synth", "ms_ssim.real", "ms_ssim.cross"],
        "spectrum": ["spectrum", "spectrum.seam_x", "spectrum.seam_y", "spectrum.seam_z"],
        "g4r_ssim": ["g4r_ssim", "g4r_ssim.synth", "g4r_ssim.real"],
    }
    assert set(families) >= {
        "mmd2", "fid", "kid", "precision", "recall", "density", "coverage", "intensity",
        "mmd_linear",
    }  # fmt: skip
    for value in card.values:
        assert value.missing is None
        if value.metric not in ("precision", "recall", "coverage"):  # which may be 0 or 1 exactly
            assert value.interval.low < value.interval.high
        assert value.target in ("zero", "floor")
        if value.metric.partition(".")[2] in ("synth", "real"):
            assert value.floor is None
        else:
            assert value.floor.low <= value.floor.mean <= value.floor.high
            effect = value.floor.minimum_detectable_effect
            if value.metric in ("mmd2", "fid", "kid", "ms_ssim", "spectrum", "intensity"):
                assert effect > 0
            elif value.metric == "mmd_linear":  # its inner products have no shift
                assert effect is None
    gap, synth, real = (card.row(f"ms_ssim{part}") for part in ("", ".synth", ".real"))
    assert gap.value == pytest.approx(synth.value - real.value)
    assert 0 < card.row("mmd2").p <= 1
    assert card.row("mmd2").saturated is not None
    assert card.protocol.settings["mmd2 | random-resnet10"]["bandwidth"] > 0


def test_a_second_scoring_reads_each_file_once_and_gives_the_same_scorecard(
    families, full_card, monkeypatch
):
    """Reading a cohort reads each file, for its hash; all that is measured of it is kept."""
    monkeypatch.setattr("synthbench.cohorts.cohort.read", lambda *_: pytest.fail("read again"))
    again = score_all(FULL, **families)
    first, second = (card.model_copy(update={"created": ""}) for card in (full_card[0], again.card))
    assert second.model_dump_json() == first.model_dump_json()
    assert again.neighbours == full_card[1]


def test_a_hold_out_raises_the_floors_n_and_leaves_the_values(families, full_card):
    """Twelve reals and twelve of the hold-out make sides of 12; halves of the reals make 6."""
    card, _ = full_card
    alone = score(families["real"], families["synth"], metrics=("mmd2", "fid"))
    for name in ("mmd2", "fid"):
        floor, halves = card.row(name).floor, alone.row(name).floor
        assert (floor.n, floor.source) == (12, "hold-out")
        assert (halves.n, halves.source) == (6, "halves")
        assert card.row(name).value == alone.row(name).value
        assert card.row(name).interval == alone.row(name).interval
        # All 12 of the 12 reals; 12 of the 14 synthetic volumes at random.
        assert floor.synth_mean == pytest.approx(card.row(name).value, rel=0.2)
    assert card.holdout.n == 12
    assert alone.holdout is None


def test_copies_are_found_in_features_and_voxels(full_card):
    card, neighbours = full_card
    assert [record.space for record in card.memorization] == ["random-resnet10", VOXELS]
    for record in card.memorization:
        assert record.n == 12
        assert record.exact_copies == 2
        assert record.plain.detected
        assert record.plain.verdict == "copies"
        assert record.plain.near_p is not None
        assert record.sides_p is not None
    assert card.not_assessed is None
    named = neighbours_table(neighbours, Pseudonyms(identifiers=True))
    table = pd.read_csv(io.StringIO(named), sep="\t")
    copies = table[(table.space == VOXELS) & (table.mirrored == "no")].set_index("synth")
    assert copies.loc["copy1.nii.gz", "train"] == "train-01.nii.gz"
    assert copies.loc["copy1.nii.gz", "train_distance"] == pytest.approx(0, abs=1e-3)
    assert len(table) == 2 * 2 * 14
    # By default the same rows, each real name under one pseudonym, numbered as they appear.
    hidden = pd.read_csv(io.StringIO(neighbours_table(neighbours)), sep="\t")
    for role in ("train", "holdout"):
        numbers, known = pd.factorize(table[role])
        assert hidden[role].tolist() == [f"{role}-{number + 1}" for number in numbers]
        assert len(known) > 1
    unnamed = [name for name in table if name not in ("train", "holdout")]
    pd.testing.assert_frame_equal(hidden[unnamed], table[unnamed])


def test_copied_parts_are_found_and_located(full_card):
    """Two of the 14 synthetic volumes are copies of training volumes: 1/7 of all cubes."""
    card, _ = full_card
    record = card.local_copying
    assert (record.n_train, record.n_holdout) == (12, 12)
    assert [scale.side for scale in record.scales] == [3, 5, 9]
    assert record.scales[2].share == pytest.approx(1 / 7, abs=0.03)
    assert len(record.map.places) == len(record.map.share)
    settings = card.protocol.settings["local_copying"]
    assert settings["sides"] == [3, 5, 9]
    again = Scorecard.model_validate_json(card.model_dump_json())
    assert again.local_copying == record


def test_a_protocol_without_copied_parts_does_not_look_for_them(small_families):
    options = {role: small_families[role] for role in ("train", "holdout")}
    card = score(
        small_families["real"], small_families["synth"], metrics=("memorization",), **options
    )
    assert card.local_copying is None
    assert "local_copying" not in card.protocol.settings


def test_memorization_is_not_assessed_without_unseen_volumes(small_families):
    real, synth = small_families["real"], small_families["synth"]
    options = {"metrics": ("memorization",)}
    assert "--train" in score(real, synth, **options).not_assessed
    with pytest.raises(CohortError, match=r"6 of 6 real volumes are identical .* of train"):
        score(real, synth, train=real, **options)
    seen = score(real, synth, train=real, accept=("identical-across", "subjects"), **options)
    accepted = {record.rule for record in seen.preflight if record.accepted}
    assert accepted == {"identical-across"}
    assert "6 of the 6 real volumes are training volumes" in seen.not_assessed
    assert seen.memorization == ()
    assert score(real, synth, train=small_families["train"], **options).memorization[0].n == 6
    assert score(real, synth, metrics=("fid",)).not_assessed is None  # not asked for
    unused = score(real, synth, train=small_families["train"], metrics=("fid",))
    assert any("nothing used the training volumes" in note for note in unused.notes)


def test_a_hold_out_that_was_trained_on_is_refused(small_families, tmp_path):
    families = small_families
    mixed = tmp_path / "mixed"
    shutil.copytree(families["holdout"], mixed)
    shutil.copy(families["train"] / "train-00.nii.gz", mixed / "x.nii.gz")
    with pytest.raises(CohortError, match=r"1 of 7 holdout volumes .* of train: x\.nii\.gz"):
        score(families["real"], families["synth"], train=families["train"], holdout=mixed)
    with pytest.raises(CohortError, match="6 of 6 holdout volumes are identical"):
        score(families["real"], families["synth"], holdout=families["real"])


def test_datasets_may_number_their_subjects_alike(make_cohort, tmp_path):
    """sub-000 of two BIDS datasets are two persons; outside of datasets they are one."""
    real, synth = make_cohort("real", n=6, seed=1), make_cohort("synth", n=5, seed=3)
    train = make_cohort("train", n=6, seed=2)
    options = {"metrics": ("memorization",), "train": train}
    with pytest.raises(CohortError, match="6 of 6 real volumes are of persons in train"):
        score(real, synth, **options)
    for folder in (real, train):
        (folder / "dataset_description.json").write_text("{}", encoding="utf-8")
    assert score(real, synth, **options).memorization[0].n == 6


def test_a_share_of_zero_has_an_interval_with_a_width(make_cohort):
    """Spheres of half the width are in no real ball, whichever image is left out."""
    real = make_cohort("real", n=12, seed=1)
    synth = make_cohort("synth", n=12, seed=2, width=0.5)
    row = score(real, synth, metrics=("precision",)).row("precision")
    assert row.value == 0
    assert row.interval.method == "score"
    assert row.interval.low == 0 < row.interval.high < 1
    assert row.floor.synth_mean == 0


def test_a_metric_that_cannot_be_computed_loses_no_other(pair):
    """Seven synthetic volumes make sides of 4, too few for five neighbours."""
    card = score(*pair, metrics=("coverage", "fid"))
    assert "undefined at 4 subjects" in card.row("coverage").missing.text
    assert card.row("fid").value > 0


def test_values_are_those_of_the_plain_functions(small):
    """The scorecard's numbers, by hand: read, scale, extract volume by volume, call the metric."""
    import torch

    features = {}
    for role, folder in zip(("real", "synth"), small, strict=True):
        extractor = RandomResNet10()
        rows = [extractor.features(torch.from_numpy(v)[None, None]).numpy()[0]
                for v in read_cohort(folder).volumes()]  # fmt: skip
        features[role] = np.stack(rows)
    card = score(*small)
    assert card.row("fid").value == pytest.approx(metrics.fid(**_xy(features)), rel=1e-9)
    assert card.row("mmd2").value == pytest.approx(metrics.mmd2(**_xy(features)), rel=1e-9)


def _xy(features):
    return {"x": features["real"], "y": features["synth"]}


def test_scores_do_not_depend_on_order_names_batch_or_workers(small, tmp_path):
    """Renaming reverses the listing; the values, intervals and floors are equal to the last bit."""
    first = score(*small, context=Context(workers=1, batch_size=1))
    renamed = []
    for folder in small:
        other = tmp_path / f"renamed-{folder.name}"
        other.mkdir()
        for i, file in enumerate(sorted(folder.iterdir())):
            shutil.copy(file, other / f"z{99 - i}.nii.gz")
        renamed.append(other)
    second = score(*renamed, context=Context(workers=3, batch_size=4))
    assert second.values == first.values
    assert second.protocol_hash == first.protocol_hash
    assert second.real == first.real


def test_progress_names_what_is_under_way(small):
    """Preflight and statistics of large sets take minutes: the last volume read says nothing."""
    said = []
    score(
        *small,
        extractors=("voxels",),
        metrics=("kid", "intensity"),
        context=Context(progress=lambda what, *_: said.append(what)),
    )
    named = list(dict.fromkeys(said))
    steps = ["comparing the volumes of all sets", "statistics of kid | voxels",
             "statistics of intensity"]  # fmt: skip
    assert [what for what in named if what in steps] == steps
    assert named.index("voxels, synth") < named.index(steps[1])


def test_a_grid_too_small_for_ms_ssim_says_so_and_scores_the_rest(small):
    card = score(*small)
    row = card.row("ms_ssim")
    assert row.value is None
    assert (row.missing.reason, "at least 44 voxels" in row.missing.text) == ("images", True)
    assert card.row("fid").value is not None


def test_missing_weights_leave_the_rest_and_name_the_fix(small, monkeypatch, tmp_path):
    """No network and an empty weights folder: what needs weights is missing, nothing else is."""
    from synthbench.errors import WeightsError
    from synthbench.metrics.extractors import weights

    def offline(file, sha256=None, progress=True):
        raise WeightsError("no network")

    monkeypatch.setenv("SYNTHBENCH_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(weights, "fetch", offline)
    said: list[str] = []
    card = score(
        *small, extractors=(DEFAULT_EXTRACTOR,), metrics=["mmd2", "fid", "intensity"],
        context=Context(log=said.append),
    )  # fmt: skip
    name = "medicalnet-resnet50-23dataset"
    assert card.row("fid").missing == Missing(reason="weights", text=f"synthbench fetch {name}")
    assert str(card.row("fid").missing) == f"missing: synthbench fetch {name}"
    assert card.row("mmd2").value is None
    assert card.row("intensity").value is not None
    assert any("fetching" in line for line in said)
    advice = scoring.without_weights(card)
    assert advice is not None
    assert f"the weights of {name} are not here" in advice
    assert "--extractor random-resnet10 (needs no weights)" in advice
    with pytest.raises(MetricError, match=f"synthbench fetch {name}. Or score with --extractor"):
        score(*small, extractors=(DEFAULT_EXTRACTOR,), metrics=["fid"])
    with pytest.raises(WeightsError):
        freeze.freeze(small[0], "b", n_synth=4)


def test_different_grids_stop_with_the_fix_and_space_records_it(make_cohort):
    affine = np.array([[2.0, 0, 0, -47], [0, 2, 0, -47], [0, 0, 2, -47], [0, 0, 0, 1]])
    real = make_cohort("real", n=5, seed=1, shape=(48, 48, 48), affine=affine)
    synth = make_cohort("synth", n=5, seed=2)
    with pytest.raises(CohortError, match=r"real is 48 x 48 x 48 at 2 mm.*--space synth"):
        score(real, synth)
    card = score(real, synth, space="synth")
    assert card.protocol.space.shape == (24, 24, 24)
    assert "real resampled from 48 x 48 x 48 at 2 mm to 24 x 24 x 24 at 4 mm" in card.notes


def test_a_grid_of_another_place_is_said_to_be_interpolated(small, make_cohort):
    moved = AFFINE.copy()
    moved[0, 3] += 1
    near = make_cohort("near", n=5, seed=2, affine=moved)
    (note,) = score(small[0], near, space="real").notes
    assert "its first voxel lies +1, +0, +0 mm from theirs" in note
    assert "interpolated" in note


def test_arrays_without_geometry_are_scored_on_the_assumed_grid(small, tmp_path):
    synth = tmp_path / "arrays"
    synth.mkdir()
    for i in range(5):
        np.save(synth / f"{i}.npy", blob(2000 + i, width=0.9))
    with pytest.raises(CohortError, match="--assume-grid real"):
        score(small[0], synth)
    card = score(small[0], synth, assume_grid="real")
    assert "synth: grid assumed for 5 of 5 volumes without geometry" in card.notes
    assert card.row("mmd2").value == pytest.approx(score(*small).row("mmd2").value, rel=1e-12)


def test_copies_of_real_volumes_are_noted(small):
    real, synth = small
    shutil.copy(next(real.iterdir()), synth / "copy.nii.gz")
    shutil.copy(synth / "copy.nii.gz", synth / "again.nii.gz")
    said: list[str] = []
    found = {
        record.rule: record
        for record in score(real, synth, context=Context(log=said.append)).preflight
    }
    across, within = found["identical-across"], found["identical"]
    assert (across.role, across.volumes, across.severity) == ("synth", 2, "warning")
    assert (within.role, within.volumes, within.accepted) == ("synth", 2, False)
    assert any("copy.nii.gz" in line for line in said)


def test_too_few_volumes_are_refused(make_cohort):
    with pytest.raises(CohortError, match="synth: at least 4 subjects"):
        score(make_cohort("real", n=6), make_cohort("synth", n=3, seed=1))


def test_scans_of_one_subject_are_one_resampling_unit(small, tmp_path):
    """The interval is the delete-one-subject jackknife, done here by removing rows.

    Two scans of each synthetic subject leave together; the real ones have one scan each.
    """
    real, synth = small
    rows = ["path,participant_id"]
    for i, file in enumerate(sorted(synth.iterdir())):
        near = tmp_path / f"near-{i}.npy"
        np.save(near, np.clip(blob(2000 + i, width=0.9) * 0.9 + 0.05 * (i % 2), 0, 1))
        rows += [f"{file},p{i}", f"{near},p{i}"]
    manifest = tmp_path / "two-scans.csv"
    manifest.write_text("\n".join(rows) + "\n", encoding="utf-8")
    settings = ScoringSettings(extractors=EXTRACTORS, metrics=METRICS)
    found = score_all(settings, real, manifest, assume_grid="real")
    card = found.card
    assert (card.synth.n, card.synth.subjects) == (10, 5)
    x, y = (found.features[f"{role}/random-resnet10"] for role in ("real", "synth"))
    owner = read_cohort(manifest, assume_grid=read_cohort(real).stored_grid).subjects
    without_real = [metrics.fid(np.delete(x, i, 0), y) for i in range(6)]
    without_synth = [metrics.fid(x, y[owner != s]) for s in range(5)]
    variance = sum((len(u) - 1) * np.var(u) for u in (without_real, without_synth))
    interval = card.row("fid").interval
    half = (interval.high - interval.low) / 2
    assert half == pytest.approx(1.959964 * np.sqrt(variance), rel=1e-5)


# ---------------------------------------------------------------- scorecards


def test_a_scorecard_survives_its_file_and_refuses_edits(small, tmp_path):
    card = score(*small)
    card.save(tmp_path / "s.json")
    assert Scorecard.load(tmp_path / "s.json") == card
    text = (tmp_path / "s.json").read_text(encoding="utf-8")
    (tmp_path / "s.json").write_text(
        text.replace('"resamples": 200', '"resamples": 9999'), encoding="utf-8"
    )
    with pytest.raises(ScorecardError, match="it was edited"):
        Scorecard.load(tmp_path / "s.json")
    (tmp_path / "s.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ScorecardError, match="not a scorecard"):
        Scorecard.load(tmp_path / "s.json")
    with pytest.raises(ScorecardError, match="cannot be read"):
        Scorecard.load(tmp_path / "none.json")


def test_a_scorecard_names_no_file_and_no_volume(small):
    """What may be published: no path, no file name, no per-file hash, no feature."""
    real, synth = small
    text = score(real, synth).model_dump_json()
    assert str(real.parent) not in text
    assert ".nii" not in text
    for entry in read_cohort(real).entries:
        assert entry.digest not in text


def test_the_sidecars_origin_is_recorded(make_cohort, tmp_path):
    from synthbench.runs import sidecar
    from synthbench.sampling import sampling
    from synthbench.training import training

    real = make_cohort("real", n=6)
    run = training.train("noise", out=tmp_path / "run", real=real)
    files = sampling.sample(run, 5, tmp_path / "synth", clean=True)
    for file in files:
        about = sidecar.read_sidecar(file) | {"guidance": 2.0, "precision": "bf16"}
        sidecar.sidecar_file(file).write_text(json.dumps(about), encoding="utf-8")
    card = score(real, tmp_path / "synth")
    assert card.name == "noise"
    assert card.origin.drawing == "guidance 2, bf16, cleaned"
    assert str(card.origin.cleaned).startswith("zero outside the largest component")
    assert card.origin.generator == "noise"
    assert card.origin.weights_sha256 == run.record["weights_sha256"]
    assert card.origin.training_cohort == read_cohort(real).fingerprint


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"metrics": "fid"}, "metrics='fid': a list of names is needed, such as"),
        ({"accept": "few"}, "accept='few': a list of names is needed, such as"),
        ({"extractor": ["voxels"]}, "no setting 'extractor': did you mean 'extractors'"),
        ({"resamples": "many"}, "resamples='many': .*valid integer"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_read(wrong, words, tmp_path):
    with pytest.raises(UsageError, match=words):
        scoring.score(tmp_path / "nowhere", tmp_path / "nowhere", **wrong)


def test_scoring_reads_each_sidecar_once(small, monkeypatch):
    """Origin, conditions and seeds are all known from one reading."""
    from synthbench.runs import sidecar

    for seed, file in enumerate(sorted(small[1].iterdir())):
        about = {"synthetic": True, "generator": "g", "seed": seed}
        sidecar.sidecar_file(file).write_text(json.dumps(about), encoding="utf-8")
    read = []
    find = sidecar.sidecar_file

    def counted(volume):
        read.append(volume)
        return find(volume)

    monkeypatch.setattr(sidecar, "sidecar_file", counted)
    settings = ScoringSettings(extractors=("voxels",), metrics=("fid",), resamples=100)
    found = score_all(settings, *small)
    assert len(read) == 5
    assert found.card.name == "g"
    assert sorted(found.sample_data.seeds) == [0, 1, 2, 3, 4]


def test_intervals_end_where_the_metric_does(small):
    """A share lies between 0 and 1, whatever the jackknife's normal interval says."""
    real = small[0]
    card = score(
        real, real, metrics=["precision", "coverage", "intensity", "fid"],
        accept=["identical-across"],
    )  # fmt: skip
    for value in card.values:
        if value.interval:
            assert value.interval.low >= 0
            if value.metric in ("precision", "coverage"):
                assert value.interval.high <= 1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"metrics": ["mmd3"]}, "did you mean 'mmd2'"),
        ({"extractors": [DEFAULT_EXTRACTOR, "random-resnet11"]}, "did you mean 'random-resnet10'"),
        ({"intensity": "percentil"}, "did you mean 'percentile'"),
        ({"accept": ["flipp"]}, "did you mean 'flip'"),
    ],
)
def test_wrong_names_are_refused_before_anything_is_read_or_fetched(
    wrong, words, tmp_path, monkeypatch
):
    """There is nothing to read here, and fetching is not allowed."""
    from synthbench.metrics.extractors import weights

    monkeypatch.setattr(weights, "fetch", None)
    with pytest.raises(UsageError, match=words):
        score(tmp_path / "nowhere", tmp_path / "nowhere", **wrong)
    with pytest.raises(UsageError, match="did you mean 'percentile'"):
        freeze.freeze(tmp_path / "nowhere", "b", ScoringSettings(intensity="percentil"), n_synth=4)


def test_intensities_are_refused_with_the_side_and_the_count(small):
    real, synth = small
    for i in range(2):
        file = synth / f"sub-00{i}.nii.gz"
        save(3 * nib.load(file).get_fdata(dtype=np.float32), file)
    with pytest.raises(CohortError, match="synth: 2 of 5 volumes break the intensity rule 'unit'"):
        score(real, synth, intensity="unit")
