"""Faint noise in an empty background, which extractors do not see: a rule of the protocol."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import yaml

from synthbench.records.protocol import BackgroundRecord, Protocol
from synthbench.scoring import freeze, scoring
from synthbench.scoring.benchmark import Benchmark, BenchmarkSettings
from synthbench.scoring.settings import Context, ScoringSettings
from synthbench.sensitivity.corruptions.corrupted import corruption
from synthbench.sensitivity.study import sensitivity
from tests.conftest import AFFINE, blob

EXTRACTOR = "random-resnet10"
SETTINGS = {"extractors": (EXTRACTOR,), "metrics": ("fid", "mmd2", "kid"), "resamples": 100}


def noisy(volume: np.ndarray, seed: int, sd: float) -> np.ndarray:
    """The volume with noise clipped at zero in its background, as a generator leaves it."""
    noise = np.random.default_rng(seed).normal(0, sd, volume.shape)
    return np.where(volume > 0, volume, np.clip(noise, 0, None)).astype(np.float32)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Six real volumes; five synthetic ones, clean and with background noise of 0.5 to 2%."""
    root = tmp_path_factory.mktemp("background")
    for name, n, seed, sd in (
        ("real", 6, 1, 0), ("clean", 5, 2, 0), ("faint", 5, 2, 0.005), ("strong", 5, 2, 0.02),
    ):  # fmt: skip
        (root / name).mkdir()
        for i in range(n):
            # A brain of 0.55 leaves a background beyond the margin of 12 mm.
            volume = blob(1000 * seed + i, width=0.55)
            volume = noisy(volume, 7 + i, sd) if sd else volume
            nib.save(nib.Nifti1Image(volume, AFFINE), root / name / f"sub-{name}{i}.nii.gz")
    return root


@pytest.fixture(scope="module")
def values(folders):
    """Values of clean and noisy synthetic volumes under a benchmark of each rule."""

    def scored(rule):
        settings = ScoringSettings(**SETTINGS, background=rule)
        benchmark = freeze.freeze(folders / "real", "b", settings, n_synth=5)
        return benchmark, {
            name: {
                row.metric: row.value
                for row in scoring.score(folders / "real", folders / name, benchmark=benchmark,
                                         accept=("registered", "few")).values
            }
            for name in ("clean", "faint", "strong")
        }  # fmt: skip

    return {name: scored(rule) for name, rule in (("old", None), ("new", BackgroundRecord()))}


@pytest.mark.slow
def test_noise_decides_the_distance_of_features_only_under_the_old_rule(values):
    """What the intensity rule does to the scale of the volume may be left."""
    for metric in ("fid", "mmd2", "kid"):
        clean, moved = (values["new"][1][name][metric] for name in ("clean", "faint"))
        before, after = (values["old"][1][name][metric] for name in ("clean", "faint"))
        assert abs(moved - clean) < 0.05 * abs(after - before), metric


@pytest.mark.slow
def test_clean_volumes_do_not_move(values):
    """Nothing of them is faint or lies beyond the margin, so not one bit differs."""
    assert values["new"][1]["clean"] == values["old"][1]["clean"]


@pytest.mark.slow
def test_the_rule_is_a_field_of_the_protocol_and_enters_the_hash(values):
    old, new = values["old"][0].protocol, values["new"][0].protocol
    assert old.background is None
    assert new.background == BackgroundRecord(margin_mm=12, level=0.05)
    assert old.hash != new.hash
    assert old.hash == new.model_copy(update={"background": None}).hash


@pytest.mark.slow
def test_benchmarks_without_the_field_keep_their_rule_and_hash(values, folders, tmp_path):
    benchmark, found = values["old"]
    file = benchmark.save(tmp_path / "b")
    fields = yaml.safe_load(file.read_text(encoding="utf-8"))
    del fields["protocol"]["background"]
    file.write_text(yaml.safe_dump(fields, sort_keys=False), encoding="utf-8")
    before = Benchmark.load(file)
    assert before.protocol.hash == benchmark.protocol.hash
    card = scoring.score(
        folders / "real", folders / "faint", benchmark=before, accept=("registered", "few")
    )
    assert {row.metric: row.value for row in card.values} == found["faint"]
    # Another benchmark with its settings has its rule, too.
    assert BenchmarkSettings.load(file).background is None


def test_new_protocols_have_the_rule():
    assert ScoringSettings().background == BackgroundRecord()
    assert Protocol.model_fields["background"].default is None


@pytest.mark.slow
def test_the_sensitivity_study_sees_noise_under_the_old_rule_only(tmp_path):
    """Its curve is flat, at the floor, where extractors do not see the damage."""
    faint = replace(corruption("background"), doses=(0.5, 1))
    folder = tmp_path / "real"
    folder.mkdir()
    for i in range(12):
        nib.save(nib.Nifti1Image(blob(i, width=0.3), AFFINE), folder / f"sub-{i}.nii.gz")
    curves = {}
    for name, rule in (("old", None), ("new", BackgroundRecord())):
        settings = ScoringSettings(extractors=(EXTRACTOR,), metrics=("mmd2",), background=rule)
        study = sensitivity(folder, settings, Context(cache=None), corruptions=[faint])
        curves[name] = study.rows[0].curve
    assert curves["old"].values[1] > curves["old"].floor.high
    excess = [curves[name].values[1] - curves[name].floor.mean for name in ("new", "old")]
    assert abs(excess[0]) < 0.05 * excess[1]
