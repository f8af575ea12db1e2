"""Sensitivity on spheres of noise: which curves must rise, and what reads back as what."""

from __future__ import annotations

import re
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from synthbench.cohorts.reading import read_cohort
from synthbench.errors import CohortError, UsageError
from synthbench.scoring import freeze, scoring
from synthbench.scoring.settings import ScoringSettings
from synthbench.sensitivity.corruptions.corrupted import CORRUPTIONS, Corrupted
from synthbench.sensitivity.output import figure, table
from synthbench.sensitivity.read_back import Sensitivity, read_back
from synthbench.sensitivity.study import sensitivity
from tests.conftest import AFFINE

pytestmark = pytest.mark.slow

EXTRACTORS = ("random-resnet10",)
METRICS = ("mmd2", "fid", "intensity", "mmd_linear", "memorization")


def scored(real, synth, **options):
    return scoring.score(real, synth, extractors=EXTRACTORS, **options)


def read_back_on(study, card):
    return read_back(card, study)


def settings(*metrics):
    return ScoringSettings(extractors=EXTRACTORS, metrics=metrics)


def mild(name):
    """A corruption at its first dose only."""
    return replace(CORRUPTIONS[name], doses=CORRUPTIONS[name].doses[:1])


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    """Twenty spheres and sixteen more of the same kind, by file."""
    from tests.conftest import blob

    folders = []
    for name, first, n in (("real", 0, 20), ("other", 500, 16)):
        folder = tmp_path_factory.mktemp(name)
        for i in range(n):
            volume = blob(first + i)
            nib.save(nib.Nifti1Image(volume, AFFINE), folder / f"sub-{first + i:03d}.nii.gz")
        folders.append(folder)
    return folders


FLIP = replace(CORRUPTIONS["flip"], doses=CORRUPTIONS["flip"].doses[-2:])
"""The two greatest shares: each dose of volumes runs the network on all of them."""


@pytest.fixture(scope="module")
def study(cohorts):
    return sensitivity(
        cohorts[0], settings(*METRICS),
        corruptions=("blur", FLIP, "duplicates", "copies", "modes"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def card(cohorts):
    """A scorecard of the other spheres, without damage."""
    return scored(*cohorts, metrics=METRICS[:4])


def test_dose_zero_is_the_floor_of_a_scorecard(study, card):
    """The same statistic, the same splits: equal numbers."""
    for value in card.values:
        curve = study.row("blur", value.metric, value.extractor).curve
        assert curve.doses[0] == 0
        assert curve.values[0] == pytest.approx(value.floor.mean, rel=1e-12)
        assert curve.floor.n == value.floor.n == 10


def test_blur_of_noise_is_seen_by_every_metric_of_features_and_intensities(study):
    """Blurring white noise changes its texture and its histogram, the more the wider."""
    for metric in ("mmd2", "fid", "intensity"):
        row = study.row("blur", metric)
        assert row.monotone
        assert row.response == "worse"
        assert 0 < row.leaves_floor < 8


def test_mirroring_a_distribution_that_is_symmetric_is_not_seen(study):
    """Noise in a sphere has the same distribution mirrored, whatever share of it is."""
    for metric in ("fid", "intensity", "mmd_linear"):
        assert study.row("flip", metric).leaves_floor is None


def test_only_memorization_sees_copies_of_training_volumes(study):
    """Training volumes are real: distances between distributions cannot tell."""
    row = study.row("copies", "memorization", "random-resnet10")
    assert row.monotone
    assert row.curve.values[-1] > row.curve.floor.high
    for metric in ("mmd2", "fid", "intensity", "mmd_linear"):
        assert study.row("copies", metric).leaves_floor is None
    assert study.row("blur", "memorization") is None


def test_modes_are_compared_at_one_n(study):
    """Sides of 10, and 60% left out at the largest dose: 4 volumes per side at every dose."""
    assert study.row("modes", "fid").curve.floor.n == 4
    assert study.row("duplicates", "fid").curve.floor.n == 10
    assert study.row("copies", "fid").curve.floor.n == 6  # thirds


def test_a_score_of_blurred_volumes_reads_back_as_their_blur(cohorts, study, tmp_path):
    """Other spheres, blurred by 5 mm: by their intensities that is 5 mm, up to sampling.

    The Frechet distance of so few spheres leaves its floor at 5.3 mm only, and says so.
    """
    real, other = cohorts
    volumes = read_cohort(other).volumes()
    blurred = tmp_path / "blurred"
    blurred.mkdir()
    for i, volume in enumerate(Corrupted(volumes, CORRUPTIONS["blur"], 5.0, seed=0)):
        nib.save(nib.Nifti1Image(volume, AFFINE), blurred / f"s{i:02d}.nii.gz")
    study.save(tmp_path / "s.json")
    loaded = Sensitivity.load(tmp_path / "s.json")
    card = read_back_on(loaded, scored(real, blurred, metrics=("fid", "intensity")))
    found = {e.corruption: e for e in card.row("intensity").equivalents}
    assert found["blur"].dose == pytest.approx(5, rel=0.15)
    assert found["blur"].low < 5 < found["blur"].high
    assert found["blur"].sentence.startswith("blurred by ")
    assert "flip" not in found  # its curve never leaves the floor
    of_fid = {e.corruption: e for e in card.row("fid").equivalents}
    assert of_fid["blur"].relation == "within the floor"


def test_curves_of_another_cohort_or_setting_are_not_read(cohorts, study, card):
    real, other = cohorts
    swapped = read_back_on(study, scored(other, real, metrics=("fid",)))
    assert swapped.row("fid").equivalents == ()
    assert any("of other real volumes" in note for note in swapped.notes)
    extractor = study.protocol.extractors[0].model_copy(update={"weights_sha256": "0" * 64})
    protocol = study.protocol.model_copy(update={"extractors": (extractor,)})
    retrained = study.model_copy(update={"protocol": protocol})
    of_features = card.model_copy(update={"values": (card.row("fid"),)})
    assert read_back_on(study, of_features).row("fid").equivalents != ()
    other_weights = read_back_on(retrained, of_features)
    assert other_weights.row("fid").equivalents == ()
    assert "other weights" in other_weights.notes[-1]


def changed(card, **space):
    """A scorecard whose protocol has another space."""
    found = card.protocol.space.model_copy(update=space)
    return card.model_copy(update={"protocol": card.protocol.model_copy(update={"space": found})})


def test_a_grid_that_differs_by_the_rounding_of_files_is_the_same(study, card):
    """NIfTI files keep the affine in single precision, run folders in double precision."""
    affine = tuple(float(np.float32(x * (1 + 1e-8)) + 1e-7) for x in card.protocol.space.affine)
    assert affine != card.protocol.space.affine
    rounded = changed(card, affine=affine)
    settings = {k: dict(v) for k, v in card.protocol.settings.items()}
    settings["mmd2 | random-resnet10"]["bandwidth"] *= 1 + 1e-7
    protocol = rounded.protocol.model_copy(update={"settings": settings})
    found = read_back_on(study, rounded.model_copy(update={"protocol": protocol}))
    for metric in ("fid", "mmd2"):
        assert found.row(metric).equivalents != ()


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda card: changed(card, shape=(24, 24, 23)), r"another grid \(24 x 24 x 24 at 4 mm\)"),
        (lambda card: changed(card, scaling="halved"), "another rule of intensities"),
    ],
)
def test_the_note_names_the_cause(study, card, change, cause):
    found = read_back_on(study, change(card))
    assert found.row("fid").equivalents == ()
    assert re.search(cause, found.notes[-1])


def test_the_note_names_the_number_of_volumes(study, card):
    floor = card.row("fid").floor.model_copy(update={"n": 9})
    values = tuple(value.model_copy(update={"floor": floor}) for value in card.values)
    found = read_back_on(study, card.model_copy(update={"values": values}))
    assert "have 4, 6, 10 volumes per side, and the value has 9" in found.notes[-1]


def test_a_metric_without_a_curve_is_named(cohorts, study):
    found = read_back_on(study, scored(*cohorts, metrics=("kid",)))
    assert "no curve of it" in found.notes[-1]


def test_a_study_is_repeatable_and_survives_its_file(cohorts, study, tmp_path):
    again = sensitivity(cohorts[0], settings("fid"), corruptions=(FLIP, "duplicates"))
    assert {row.corruption for row in again.rows} == {"flip", "duplicates"}
    for row in again.rows:
        assert row == study.row(row.corruption, row.metric, row.extractor)
    study.save(tmp_path / "s.json")
    assert Sensitivity.load(tmp_path / "s.json") == study
    assert ".nii" not in (tmp_path / "s.json").read_text(encoding="utf-8")
    figure(study, tmp_path / "s.png")
    assert (tmp_path / "s.png").stat().st_size > 10_000
    assert table(study)


def test_a_benchmarks_protocol_is_kept(cohorts):
    frozen = freeze.freeze(cohorts[0], "b", settings("fid", "mmd2"), n_synth=8)
    found = sensitivity(cohorts[0], frozen, corruptions=(mild("flip"),))
    assert found.protocol == frozen.protocol
    assert {row.metric for row in found.rows} == {"fid", "mmd2"}


def test_what_cannot_be_studied_is_refused_or_noted(cohorts, make_cohort):
    with pytest.raises(UsageError, match="did you mean 'blur'"):
        sensitivity(cohorts[0], corruptions=("blurr",))
    with pytest.raises(CohortError, match="at least 12 subjects, 6 per side; found 6"):
        sensitivity(make_cohort("few", n=6))
    few = make_cohort("dozen", n=12)
    found = sensitivity(few, settings("fid", "ms_ssim", "coverage"), corruptions=("modes",))
    assert any("at least 44 voxels per side" in note for note in found.notes)
    assert any("dropped modes, coverage" in note for note in found.notes)


# ---------------------------------------------------------------- the embedded cohort


def claims():
    """Every metric's own claims: the corruptions that it says it responds to."""
    from synthbench import registry

    return {
        name: metric.responds_to
        for name in registry.BUILT_IN["metrics"]
        if (metric := registry.load("metrics", name)()).responds_to
    }


@pytest.fixture(scope="module")
def atlas_study(tmp_path_factory):
    """Twelve subjects at about 4 mm, two doses of everything that some metric claims to see.

    Each damage is seen by the metrics only that claim to see it.
    """
    import torch

    from synthbench import registry
    from synthbench.simulation.cohort import atlas_cohort

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = atlas_cohort(12, tmp_path_factory.mktemp("atlas") / "a", seed=7, shape=(48, 60, 48))
    metrics_of: dict[str, list[str]] = {}
    for metric, names in claims().items():
        for name in names:
            if not metric.startswith("ms_ssim_"):
                metrics_of.setdefault(name, []).append(metric)
    found = {}
    for name, metrics in metrics_of.items():
        of_volumes = all(registry.load("metrics", m)().needs == "volumes" for m in metrics)
        found[name] = sensitivity(
            folder,
            ScoringSettings(extractors=() if of_volumes else EXTRACTORS, metrics=tuple(metrics)),
            corruptions=[replace(CORRUPTIONS[name], doses=CORRUPTIONS[name].doses[3:])],
        )
    torch.set_num_threads(threads)
    return found


@pytest.mark.parametrize(
    ("metric", "corruption"),
    [(metric, name) for metric, names in claims().items() for name in names
     if not metric.startswith("ms_ssim_")],
)  # fmt: skip
def test_on_the_embedded_cohort_metrics_respond_as_they_claim(atlas_study, metric, corruption):
    row = atlas_study[corruption].row(corruption, metric)
    assert row.monotone
    assert row.leaves_floor is not None
    assert np.ptp(row.curve.values) > 0


def test_shares_are_those_that_were_done(study):
    """Of 20 // 3 = 6 volumes, 5%, 10% and 20% are one volume, 50% three, and 100% all six."""
    curve = study.row("copies", "mmd2").curve
    nominal = CORRUPTIONS["copies"].doses
    counts = sorted({max(1, round(dose / 100 * 6)) for dose in nominal})
    assert curve.doses == pytest.approx([0, *(100 * k / 6 for k in counts)])
    assert any(note.endswith(": 6 volumes per side") for note in study.notes)


def test_memorization_without_copies_says_why_it_is_not_there(cohorts):
    wanted = settings("intensity", "memorization")
    found = sensitivity(cohorts[0], wanted, corruptions=(mild("blur"),))
    assert any("--corruption copies" in note for note in found.notes)
