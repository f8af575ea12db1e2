"""The study: arms, labels, the rules that keep cohorts apart, the record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from synthbench.cohorts.reading import read_cohort
from synthbench.errors import CohortError, ScorecardError, SynthbenchError, UsageError
from synthbench.records.cohort import CohortRecord
from synthbench.records.scorecard import Scorecard
from synthbench.utility.command import add_to_scorecard
from synthbench.utility.network import NetworkSettings, Padded, build
from synthbench.utility.record import BOTH, REAL, SYNTHETIC, TRTS, UtilityRecord
from synthbench.utility.segmentation import SegmentationSettings, dice_scores, segmentation_utility
from synthbench.utility.settings import StudySettings
from synthbench.utility.study import utility
from synthbench.utility.table import utility_table
from synthbench.utility.transfer import Transfer
from tests.boards import features, make_card, make_materials, make_protocol
from tests.conftest import AFFINE, blob

pytestmark = pytest.mark.slow

SHAPE = (16, 16, 16)
ACCEPT = ("registered", "registered-mismatch", "skull", "size", "subjects")
LENIENT = StudySettings(accept=ACCEPT)
COMMON: dict[str, Any] = {"extractor": "voxels", "accept": ACCEPT, "cache": False, "refits": 6}


def write(folder: Path, n: int, seed: int, table: str = "participants.tsv") -> Path:
    """Spheres: those of class M are larger, and age is brightness."""
    folder.mkdir()
    (folder / "dataset_description.json").write_text("{}")
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        sex = "FM"[i % 2]
        age = float(rng.uniform(20, 80))
        volume = blob(1000 * seed + i, SHAPE, 0.8 + 0.06 * (i % 2) + 0.05 * rng.standard_normal())
        volume *= 0.4 + age / 160
        nib.save(nib.Nifti1Image(volume, AFFINE), folder / f"sub-{i:02d}_T1w.nii.gz")
        rows.append({"participant_id": f"sub-{i:02d}", "age": age, "sex": sex})
    frame = pd.DataFrame(rows)
    if table == "participants.tsv":
        frame["height"] = [150.0 + i for i in range(n)]
    if table == "conditions.tsv":
        frame = frame.rename(columns={"participant_id": "file"})
        frame["file"] += "_T1w.nii.gz"
    frame.to_csv(folder / table, sep="\t", index=False)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    return {
        "real": write(root / "real", 12, 1),
        "synth": write(root / "synth", 14, 2, "conditions.tsv"),
        "test": write(root / "test", 16, 3),
    }


@pytest.fixture(scope="module")
def record(folders):
    return utility(
        folders["real"], folders["synth"], folders["test"], "sex", ratios=(0.5, 1, 5), **COMMON
    )


def test_every_arm_is_there_with_its_volumes(record):
    counts = {arm.name: (arm.real, arm.synth, arm.augmented, arm.tested) for arm in record.arms}
    assert counts == {
        REAL: (12, 0, 0, 16),
        SYNTHETIC: (0, 14, 0, 16),
        TRTS: (12, 0, 0, 14),
        BOTH: (12, 14, 0, 16),
        "real + augmentation": (12, 0, 14, 16),
    }
    assert all(set(arm.values) == {"auc", "balanced_accuracy"} for arm in record.arms)


def test_the_curve_stops_where_volumes_do_and_says_so(record):
    assert [(point.ratio, point.synth) for point in record.curve] == [(0.5, 6), (1.0, 12)]
    assert any("(too few synthetic volumes): 5x" in note for note in record.notes)


def test_what_was_accepted_is_noted(folders):
    """The real volumes once more as synthetic ones: an error unless it is accepted."""
    options = {**COMMON, "accept": (*ACCEPT, "identical-across")}
    real = folders["real"]
    noted = utility(real, real, folders["test"], "sex", ratios=(), **options).notes
    assert any(note.startswith("preflight, accepted: synth: identical-across (") for note in noted)


def test_the_verdict_is_that_of_the_first_difference(record):
    found = record.difference(BOTH)
    assert found is not None
    of_auc = found.values["auc"]
    assert (record.summary.low, record.summary.high) == (of_auc.low, of_auc.high)
    assert f"{100 * of_auc.value:+.1f} points AUC, 95% CI" in record.summary.sentence
    assert record.summary.sentence.startswith("synthetic data ")


def test_a_record_holds_no_names_and_survives_its_file(record, tmp_path):
    file = tmp_path / "utility.json"
    record.save(file)
    assert UtilityRecord.load(file) == record
    assert "sub-" not in file.read_text()
    changed = json.loads(file.read_text())
    changed["settings"]["seed"] = 7
    file.write_text(json.dumps(changed))
    with pytest.raises(ScorecardError, match="it was edited"):
        UtilityRecord.load(file)


def test_the_table_says_what_a_person_needs(record):
    from rich.console import Console

    console = Console(width=200, record=True, file=None, quiet=False)
    with console.capture() as captured:
        console.print(utility_table(record))
    text = captured.get()
    for words in ("trained on", "real + synthetic less real", "the verdict's variance",
                  record.summary.sentence):  # fmt: skip
        assert words in text


def test_numbers_are_a_regression(folders):
    found = utility(folders["real"], folders["synth"], folders["test"], "age", ratios=(), **COMMON)
    assert found.measures == ("mae", "r2")
    assert found.settings.task == "regression"
    assert "lower is better" in found.summary.sentence


def test_repeated_splits_have_nadeau_and_bengios_degrees_of_freedom(folders):
    found = utility(
        folders["real"], folders["synth"], folders["test"], "sex", ratios=(), splits=3, **COMMON
    )
    assert found.differences[0].values["auc"].df == pytest.approx(2)
    assert (found.summary.n_real, found.summary.n_test) == (12, 16)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label": "sexx"}, "did you mean 'sex'?"),
        ({"test": "real"}, "subjects in the training cohort"),
        ({"synth": "test", "accept": (*ACCEPT, "identical-across")}, "exactly test volumes"),
        ({"label": "sex", "task": "regression"}, "a regression needs numbers"),
        ({"transfer": Transfer("sex", Path("x"))}, "Add --model cnn"),
        ({"ratios": (0.0,)}, "multiples above 0"),
        ({"ratios": (float("inf"),)}, "finite multiples above 0"),
        ({"label": "height"}, "--label height: synth: .*conditions.tsv: no column 'height'"),
    ],
)
def test_what_would_mislead_is_refused(folders, change, words):
    given = {"label": "sex", "ratios": (), **COMMON, **change}
    sides = [folders[given.pop(role, role)] for role in ("real", "synth", "test")]
    with pytest.raises(SynthbenchError, match=words):
        utility(sides[0], sides[1], sides[2], given.pop("label"), **given)


def test_a_generator_that_was_trained_on_the_test_cohort_is_refused(folders, tmp_path):
    synth = write(tmp_path / "synth", 8, 5)
    fingerprint = read_cohort(folders["test"]).fingerprint
    for file in synth.glob("*.nii.gz"):
        sidecar = {"synthetic": True, "training_cohort": fingerprint}
        file.with_name(file.name.replace(".nii.gz", ".json")).write_text(json.dumps(sidecar))
    with pytest.raises(CohortError, match="trained on the test cohort itself"):
        utility(folders["real"], synth, folders["test"], "sex", ratios=(), **COMMON)


def test_labels_may_come_from_a_table_or_from_sidecars(folders, tmp_path):
    synth = write(tmp_path / "synth", 8, 5)
    (synth / "participants.tsv").rename(tmp_path / "labels.tsv")
    real, test = folders["real"], folders["test"]
    with pytest.raises(UsageError, match="--synth-labels FILE"):
        utility(real, synth, test, "sex", ratios=(), **COMMON)
    by_table = utility(
        real, synth, test, "sex", ratios=(), synth_labels_file=tmp_path / "labels.tsv", **COMMON
    )
    for i, file in enumerate(sorted(synth.glob("*.nii.gz"))):
        sidecar = {"synthetic": True, "conditions": {"sex": "FM"[i % 2]}}
        file.with_name(file.name.replace(".nii.gz", ".json")).write_text(json.dumps(sidecar))
    by_sidecar = utility(real, synth, test, "sex", ratios=(), **COMMON)
    assert by_sidecar.summary.arms == by_table.summary.arms


@pytest.mark.parametrize("role", ["real", "synth", "test"])
def test_a_side_of_one_class_is_named(folders, tmp_path, role):
    changed = write(tmp_path / role, 8, 7)
    table = pd.read_csv(changed / "participants.tsv", sep="\t")
    table["sex"] = ["F"] + ["M"] * 7
    table.to_csv(changed / "participants.tsv", sep="\t", index=False)
    sides = {**folders, role: changed}
    with pytest.raises(CohortError, match=f"{role}: .*'sex' are needed; found 1 of F and 7 of M"):
        utility(sides["real"], sides["synth"], sides["test"], "sex", ratios=(), **COMMON)


def test_a_word_among_numbers_is_named(folders, tmp_path):
    real = write(tmp_path / "real", 8, 7)
    table = pd.read_csv(real / "participants.tsv", sep="\t", dtype=str)
    table.loc[3, "age"] = "unknown"
    table.to_csv(real / "participants.tsv", sep="\t", index=False)
    with pytest.raises(UsageError, match="most values are numbers, but not unknown"):
        utility(real, folders["synth"], folders["test"], "age", ratios=(), **COMMON)


@pytest.mark.parametrize(
    ("transfer", "words"),
    [
        (("sexx", "other"), "--label sexx: transfer: "),
        (("sex", "nowhere"), "transfer: "),
        (("sex", "real"), "transfer: 12 of 12 volumes are of subjects in the training cohort"),
        (("sex", "synth"), "synth: 14 volumes are transfer volumes"),
    ],
)
def test_what_cannot_be_fine_tuned_on_is_refused_before_anything_is_trained(
    folders, tmp_path, monkeypatch, transfer, words
):
    monkeypatch.setattr(
        "synthbench.utility.arms.compare_arms", lambda *_, **__: pytest.fail("trained")
    )
    label, name = transfer
    data = write(tmp_path / "other", 8, 9) if name == "other" else folders.get(name, Path(name))
    with pytest.raises(SynthbenchError, match=words):
        utility(
            folders["real"], folders["synth"], folders["test"], "sex", ratios=(), model="cnn",
            network=NetworkSettings(seeds=1, epochs=1), accept=ACCEPT,
            transfer=Transfer(label, data),
        )  # fmt: skip


def test_a_network_is_trained_from_each_seed_and_fine_tuned(tmp_path):
    """Eighteen trainings of one step, of as few volumes as two classes of four need."""
    real, synth, test = (
        write(tmp_path / role, 8, seed) for seed, role in enumerate(("real", "synth", "test"), 1)
    )
    other = write(tmp_path / "other", 12, 9)
    found = utility(
        real, synth, test, "sex", ratios=(), model="cnn", accept=ACCEPT,
        network=NetworkSettings(seeds=2, epochs=1, batch_size=16),
        transfer=Transfer("sex", other),
    )  # fmt: skip
    assert set(found.differences[0].values["auc"].variance) == {
        "test subjects", "training seeds", "training seeds of the other arm"
    }  # fmt: skip
    assert [arm.name for arm in found.transfer_arms] == ["from scratch", REAL, SYNTHETIC, BOTH]
    assert found.transfer is not None
    assert found.transfer.n_test == 6


def test_a_network_depends_on_its_key_alone():
    one, same, other = (build("resnet10", key) for key in ([0, 1], [0, 1], [0, 2]))
    assert all((a == b).all() for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert any((a != b).any() for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_padding_is_cut_back():
    import torch

    x = torch.rand(1, 1, 5, 6, 7)
    assert torch.equal(Padded(torch.nn.Identity(), 4)(x), x)


def test_dice_by_hand():
    """Label 1: 2 voxels each, 1 shared, 2/4; label 2: absent from both; label 3: 0 of 1."""
    found = np.array([1, 1, 0, 0], dtype=np.uint8).reshape(1, 2, 2)
    truth = np.array([1, 0, 1, 3], dtype=np.uint8).reshape(1, 2, 2)
    np.testing.assert_array_equal(dice_scores(found, truth, (1, 2, 3)), [0.5, 1.0, 0.0])


def relabelled(folder: Path, numbers: dict[int, int]) -> None:
    for file in folder.glob("*_dseg.nii.gz"):
        labels = np.asarray(nib.load(file).dataobj)
        for old, new in numbers.items():
            labels = np.where(labels == old, np.uint8(new), labels)
        nib.save(nib.Nifti1Image(labels, AFFINE), file)


def test_segmentation_learns_what_is_bright(tmp_path):
    """Two shells of different brightness: after some steps most of both is found."""
    folders = []
    for seed, n in ((1, 4), (2, 4), (3, 4)):
        folder = write(tmp_path / f"s{seed}", n, seed)
        for file in folder.glob("*_T1w.nii.gz"):
            labels = (nib.load(file).get_fdata() > 0.1).astype(np.uint8)
            labels[:, :, 8:] *= 2
            name = file.name.replace("_T1w.", "_dseg.")
            nib.save(nib.Nifti1Image(labels, AFFINE), folder / name)
        folders.append(folder)
    found = segmentation_utility(
        *folders, settings=SegmentationSettings(channels=(4, 8), seeds=2, epochs=8), study=LENIENT
    )
    assert set(found.arms[0].values) == {"dice", "dice_1", "dice_2"}
    assert all(arm.values["dice"].value > 0.5 for arm in found.arms)
    relabelled(folders[1], {2: 7})
    words = ["synth: labels that are not in the real maps count as background: 7",
             "synth: labels of the real maps that are missing here: 2"]  # fmt: skip
    short = SegmentationSettings(channels=(4, 8), seeds=1, epochs=1)
    noted = segmentation_utility(*folders, settings=short, study=LENIENT).notes
    assert any("--seeds 1" in note for note in noted)
    assert [note for note in noted if "label" in note] == words
    relabelled(folders[1], {1: 6})
    with pytest.raises(CohortError, match=r"synth: the label maps have 6, 7, .* cohort 1, 2"):
        segmentation_utility(*folders, study=LENIENT)
    (folders[1] / "sub-00_dseg.nii.gz").unlink()
    with pytest.raises(CohortError, match="1 of 4 volumes have no label map"):
        segmentation_utility(*folders, study=LENIENT)


def test_transfer_is_read_from_the_command_line():
    assert Transfer.parse("label=dx,data=a,b") == Transfer("dx", Path("a,b"))
    with pytest.raises(UsageError, match="write it as label=NAME,data=DIR"):
        Transfer.parse("dementia")


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

    arguments = ["utility", "--label", "sex", "--extractor", "voxels", *map(str, options)]
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
    assert file.read_bytes().replace(
        f'"utility": {json.dumps(json.loads(file.read_text())["utility"], indent=1)}'
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
    assert "it is of other synthetic volumes" in str(result.exception)
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
