"""Volumes of tissues and ventricles, on simulated heads with known truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import stats

from synthbench import registry
from synthbench.errors import MetricError, WeightsError
from synthbench.metrics.extractors import anatomy, tissue
from synthbench.metrics.extractors.anatomy import (
    MEASURES,
    RATIOS,
    Anatomy,
    AnatomyLimits,
    brain_fraction,
    ventricle_fractions,
    volumes_of,
)
from synthbench.metrics.extractors.tissue import MNI152_2MM, tissues_of
from synthbench.sensitivity.corruptions.of_volumes import enlarge_ventricles, shade
from synthbench.simulation.subject import draw
from tests.metrics.extractors.simulated_heads import SHAPE, SPACE, on_mni152, subject

pytestmark = pytest.mark.slow

ML_PER_VOXEL = 8e-3

SUBJECTS = 10


@dataclass(frozen=True)
class Simulated:
    """Subjects on the grid of the extractor, with the truth and the measured volumes in mL."""

    volumes: list[np.ndarray]
    ventricles: np.ndarray
    brains: np.ndarray
    measured: list[dict[str, float]]

    def measure(self, name: str) -> np.ndarray:
        return np.array([row[name] for row in self.measured])


@pytest.fixture(scope="module")
def simulated() -> Simulated:
    subjects = [subject(index) for index in range(SUBJECTS)]
    volumes = [on_mni152(one.volume) for one in subjects]
    return Simulated(
        volumes=volumes,
        ventricles=np.array([one.ventricle_volume for one in subjects]) / 1000,
        brains=np.array([one.brain_volume for one in subjects]) / 1000,
        measured=[volumes_of(volume) for volume in volumes],
    )


@pytest.fixture(scope="module")
def measured(simulated: Simulated) -> dict[str, float]:
    return simulated.measured[0]


def assert_close(
    found: dict[str, float], expected: dict[str, float], share: float, millilitres: float = 1e-3
) -> None:
    for name in MEASURES:
        assert found[name] == pytest.approx(expected[name], rel=share, abs=millilitres), name


def test_ventricles_follow_the_truth_at_low_resolution(simulated: Simulated):
    """At 3.8 mm a ventricle is a few voxels wide; its volume is still off by little."""
    found = simulated.measure("ventricle_volume")
    assert stats.pearsonr(found, simulated.ventricles).statistic >= 0.98
    assert stats.spearmanr(found, simulated.ventricles).statistic >= 0.97
    assert found.mean() == pytest.approx(simulated.ventricles.mean(), rel=0.15)


def test_brain_volumes_follow_the_truth(simulated: Simulated):
    found = simulated.measure("brain_volume")
    assert stats.pearsonr(found, simulated.brains).statistic >= 0.9
    assert found.mean() == pytest.approx(simulated.brains.mean(), rel=0.1)


def test_wider_ventricles_measure_wider(head: np.ndarray, measured: dict[str, float]):
    """The deformation that ages the embedded cohort adds 65% and 130% of the template's volume."""
    doses = [0.0, 65.0, 130.0]
    volumes = [measured["ventricle_volume"]] + [
        volumes_of(np.clip(enlarge_ventricles(head, dose, MNI152_2MM), 0, 1))["ventricle_volume"]
        for dose in doses[1:]
    ]
    growth = np.diff(volumes) / volumes[0]
    assert (growth > 0.15).all(), volumes


def test_brain_fraction_is_that_of_tissue(measured: dict[str, float]):
    tissue_ml = measured["grey_matter_volume"] + measured["white_matter_volume"]
    assert measured["brain_volume"] == pytest.approx(tissue_ml)
    fraction = brain_fraction(measured)
    assert fraction == pytest.approx(tissue_ml / (tissue_ml + measured["csf_volume"]))


def test_a_factor_on_the_intensities_does_not_matter(head: np.ndarray, measured: dict[str, float]):
    assert_close(volumes_of(np.float32(700) * head), measured, share=1e-3)


def test_a_mild_bias_field_hardly_matters(head: np.ndarray, measured: dict[str, float]):
    shaded = shade(head, 0.3, MNI152_2MM, np.random.default_rng(0))
    assert_close(volumes_of(shaded), measured, share=0.03, millilitres=0.5)


def test_a_mirrored_volume_has_the_same_volumes_and_the_opposite_asymmetry(
    head: np.ndarray, measured: dict[str, float]
):
    """The template is its own mirror image, and so is the grid."""
    expected = {**measured, "ventricle_asymmetry": -measured["ventricle_asymmetry"]}
    assert_close(volumes_of(np.ascontiguousarray(head[::-1])), expected, share=1e-4)


def test_asymmetry_is_left_less_right(head: np.ndarray):
    """With the left ventricle filled by white matter, asymmetry is the right one's volume, < 0."""
    fractions = ventricle_fractions(tissues_of(head))
    right = fractions[46:].sum() * ML_PER_VOXEL
    filled = head.copy()
    left = fractions > 0
    left[46:] = False
    filled[left] = np.percentile(head[head > 0], 80)
    found = volumes_of(filled)
    assert found["ventricle_volume"] == pytest.approx(right, rel=0.1)
    assert found["ventricle_asymmetry"] == pytest.approx(-right, rel=0.1)


def test_fluid_outside_the_ventricles_territory_is_no_ventricle(
    head: np.ndarray, measured: dict[str, float]
):
    """A ball of fluid, 10 mm in radius, in parietal white and grey matter: 4.2 mL.

    Its intensities are drawn from the fluid of the same head. The ventricles hardly change: by
    what the ball adds to the evidence on fluid's mean.
    """
    mm = [
        axis * 2.0 + start
        for axis, start in zip(np.indices(head.shape), (-90, -126, -72), strict=True)
    ]
    ball = sum((axis - at) ** 2 for axis, at in zip(mm, (46, -40, 44), strict=True)) < 10**2
    fluid = head[tissues_of(head).fractions[tissue.FLUID] > 0.5]
    cyst = np.where(ball, np.random.default_rng(0).choice(fluid, head.shape), head)
    found = tissues_of(cyst)
    ventricles = ventricle_fractions(found)
    assert found.fractions[tissue.FLUID, ball].mean() > 0.7
    assert not ventricles[ball].any()
    total = ventricles.sum() * ML_PER_VOXEL
    assert total == pytest.approx(measured["ventricle_volume"], rel=0.05)


def test_a_volume_on_another_grid_is_resampled(simulated: Simulated):
    subject = draw(7, 0, SHAPE)
    assert volumes_of(subject.volume, SPACE) == simulated.measured[0]


def test_features_are_the_measures_in_order(simulated: Simulated):
    extractor = registry.load("extractors", "anatomy")()
    found = extractor.features(torch.from_numpy(np.stack(simulated.volumes[:2])[:, None]))
    measured = np.array([[row[name] for name in MEASURES] for row in simulated.measured[:2]])
    expected = (measured - anatomy.TYPICAL_ML) / anatomy.SPREAD_ML
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_the_limits_are_the_measures_and_two_ratios(simulated: Simulated):
    """A mirrored head has the opposite asymmetry, one without its right side the asymmetry 1."""
    head = simulated.volumes[0]
    mirrored, half = head[::-1].copy(), head.copy()
    half[46:] = 0
    extractor = registry.load("extractors", "anatomy-limits")()
    batch = torch.from_numpy(np.stack([head, mirrored, half])[:, None])
    found = extractor.features(batch).numpy()
    assert found.shape == (3, len(MEASURES) + len(RATIOS))
    np.testing.assert_allclose(found[:2, :6], Anatomy().features(batch[:2]).numpy(), rtol=1e-6)
    assert found[0, 6] == pytest.approx(brain_fraction(simulated.measured[0]), rel=1e-6)
    assert found[1, 7] == pytest.approx(-found[0, 7], abs=2e-3)
    assert abs(found[0, 7]) < 0.05
    assert found[2, 7] > 0.9


def test_names_are_pinned():
    assert RATIOS == ("brain_fraction", "hemisphere_asymmetry")
    assert AnatomyLimits().dim == 8
    assert MEASURES == (
        "brain_volume",
        "grey_matter_volume",
        "white_matter_volume",
        "csf_volume",
        "ventricle_volume",
        "ventricle_asymmetry",
    )
    assert Anatomy().dim == 6
    assert Anatomy().preprocessing == "tissue-mixture-v1"


def ball(radius: float, intensity: float) -> np.ndarray:
    axes = np.meshgrid(*(np.arange(side) - side // 2 for side in MNI152_2MM.shape), indexing="ij")
    inside = np.asarray(sum(axis**2 for axis in axes) < radius**2)
    return (inside * intensity).astype(np.float32)


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        pytest.param(ball(0, 0), "needs voxels above zero; found none", id="blank"),
        pytest.param(ball(30, 0.5), "not all equal.* 1 different", id="constant"),
        pytest.param(ball(6, 0.5), "found 1?[0-9]{1,2} voxels", id="too small"),
        pytest.param(ball(30, np.nan), "must be finite", id="NaN"),
        pytest.param(ball(30, -0.5), "at least 0; found -0.5", id="negative"),
        pytest.param(np.ones((8, 8, 8), np.float32), r"found the shape \(8, 8, 8\)", id="shape"),
    ],
)
def test_unusable_volumes_are_refused(volume: np.ndarray, message: str):
    with pytest.raises(MetricError, match=message):
        volumes_of(volume)


def test_the_extractor_names_the_volume_that_it_refuses(head: np.ndarray):
    batch = torch.from_numpy(np.stack([head, ball(0, 0)])[:, None])
    with pytest.raises(MetricError, match=r"anatomy: volume 1: .*found none"):
        Anatomy().features(batch)


def test_other_maps_than_the_pinned_ones_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tissue, "MAPS_SHA256", "0" * 64)
    with pytest.raises(WeightsError, match=r"nilearn==0\.14\.1"):
        tissue.pinned_template()


def test_the_core_lies_in_the_territory():
    """The template's lateral ventricles hold some 16 mL at 1 mm; sulci are no part of theirs."""
    found = anatomy.template_ventricles()
    assert (found.territory | ~found.core).all()
    assert found.core.sum() * ML_PER_VOXEL == pytest.approx(16.4, abs=0.5)
    assert not found.territory[45, 100, 40]  # between the frontal lobes, at (0, 74, 8) mm
