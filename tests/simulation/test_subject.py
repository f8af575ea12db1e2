"""The embedded atlas cohort: reproducible, within range, and true to what it says of itself."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import stats

from synthbench.errors import UsageError
from synthbench.simulation import deformation, template
from synthbench.simulation import subject as subject_module
from synthbench.simulation.subject import draw
from synthbench.simulation.template import LABELS
from tests.simulation.small import FINER_SHAPE, SHAPE, TINY, rendered

# --- subjects ---


@pytest.mark.slow
def test_a_subject_depends_on_seed_and_index_alone(subject: subject_module.Subject) -> None:
    before = subject_module.draw(3, 0, SHAPE)
    again = subject_module.draw(3, 1, SHAPE)
    np.testing.assert_array_equal(again.volume, subject.volume)
    assert (again.ventricle_volume, again.age) == (subject.ventricle_volume, subject.age)
    assert not np.array_equal(before.volume, subject.volume)
    assert not np.array_equal(subject_module.draw(4, 1, SHAPE).volume, subject.volume)


@pytest.mark.slow
def test_the_number_of_threads_changes_nothing(subject: subject_module.Subject) -> None:
    torch.set_num_threads(2)
    try:
        again = subject_module.draw(3, 1, SHAPE)
    finally:
        torch.set_num_threads(1)
    np.testing.assert_array_equal(again.volume, subject.volume)
    assert again.ventricle_volume == pytest.approx(subject.ventricle_volume, rel=1e-9)


def test_the_global_random_state_is_neither_read_nor_moved(subject: subject_module.Subject) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    again = subject_module.draw(3, 1, SHAPE)
    np.testing.assert_array_equal(again.volume, subject.volume)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_volume_is_ras_within_unit_range_on_a_zero_background(
    subject: subject_module.Subject,
) -> None:
    volume = subject.volume
    assert volume.shape == SHAPE
    assert volume.dtype == np.float32
    assert nib.orientations.aff2axcodes(subject.affine) == ("R", "A", "S")
    assert volume.min() == 0
    assert 0.5 < volume.max() <= 1
    # The brain fills a third of the box at most, and touches no side face.
    assert 0.15 < (volume > 0).mean() < 0.35
    for face in (volume[0], volume[-1], volume[:, 0], volume[:, -1], volume[..., -1]):
        assert not face.any()


@pytest.mark.slow
def test_the_anatomy_is_the_same_at_another_shape(subject: subject_module.Subject) -> None:
    finer = subject_module.draw(3, 1, FINER_SHAPE)
    assert (finer.age, finer.sex) == (subject.age, subject.sex)
    assert finer.brain_volume == pytest.approx(subject.brain_volume, rel=0.03)
    assert finer.ventricle_volume == pytest.approx(subject.ventricle_volume, rel=0.1)


def test_ages_are_uniform_and_sexes_balanced() -> None:
    traits = [subject_module._draw_traits(0, index) for index in range(300)]
    ages = [t.age for t in traits]
    assert stats.kstest(ages, "uniform", args=(20, 65)).pvalue > 0.01
    assert sum(t.sex == "F" for t in traits) == 150
    assert sum(t.sex == "F" for t in traits[::2]) not in (0, 150)


def test_volumes_are_in_the_range_of_healthy_adults() -> None:
    subjects = [subject_module.draw(0, index, SHAPE) for index in range(6)]
    assert all(4e3 < s.ventricle_volume < 65e3 for s in subjects)
    assert all(0.9e6 < s.brain_volume < 1.7e6 for s in subjects)


def test_age_widens_the_ventricles_and_shrinks_the_brain() -> None:
    lives = [rendered(age=age) for age in (22.0, 43.0, 64.0, 84.0)]
    assert np.all(np.diff([s.ventricle_volume for s in lives]) > 0)
    assert np.all(np.diff([s.brain_volume for s in lives]) < 0)
    # The targets differ by exp(1.2 * (0.985^1.3 - 0.031^1.3)), a factor of 3.2.
    assert 2 < lives[-1].ventricle_volume / lives[0].ventricle_volume < 4.5


def test_male_brains_are_a_tenth_larger() -> None:
    """Head volumes are in the ratio 1.54 / 1.40, and a pose scales every tissue alike."""
    ratio = rendered(sex="M").brain_volume / rendered(sex="F").brain_volume
    assert ratio == pytest.approx(1.10, abs=0.02)


@pytest.mark.slow
def test_true_ventricle_volume_is_what_turns_dark_in_the_image() -> None:
    """Only the ventricles differ between the two images, so dark voxels count their growth."""
    small, large = (rendered(FINER_SHAPE, ventricle_z=z, noise_sd=0.0) for z in (-2.0, 2.0))
    grey, _, fluid, _ = subject_module._draw_traits(3, 1).intensities
    midpoint = (grey + fluid) / 2
    dark = [((s.volume > 0) & (s.volume < midpoint)).sum() for s in (small, large)]
    counted = (dark[1] - dark[0]) * np.prod(small.affine.diagonal()[:3])
    assert counted == pytest.approx(large.ventricle_volume - small.ventricle_volume, rel=0.15)


def test_true_brain_volume_is_what_is_bright_in_the_image() -> None:
    subject = rendered(FINER_SHAPE, noise_sd=0.0)
    grey, _, fluid, _ = subject_module._draw_traits(3, 1).intensities
    bright = (subject.volume > (grey + fluid) / 2).sum() * np.prod(subject.affine.diagonal()[:3])
    assert bright == pytest.approx(subject.brain_volume, rel=0.1)


# --- deformation ---


@pytest.mark.parametrize("ventricle_z", [-2.0, 2.0])
@pytest.mark.parametrize("age", [20.0, 85.0])
def test_deformations_do_not_fold(age: float, ventricle_z: float) -> None:
    traits = replace(subject_module._draw_traits(0, 0), age=age, ventricle_z=ventricle_z)
    for seed in range(3):
        displacement = subject_module._backward_displacement(traits, np.random.default_rng(seed))
        points = deformation.grid_points(deformation.DEFORMATION_SHAPE) + displacement.movedim(
            0, -1
        )
        z, y, x = points.double().movedim(-1, 0).numpy()
        spacing = [2 / side for side in deformation.DEFORMATION_SHAPE]
        gradients = [np.stack(np.gradient(component, *spacing)) for component in (x, y, z)]
        jacobian = np.linalg.det(np.moveaxis(np.stack(gradients), (0, 1), (-2, -1)))
        assert jacobian.min() > 0


def test_random_displacements_are_several_millimetres() -> None:
    velocity = subject_module._random_velocity(np.random.default_rng(0))
    displacement = deformation.exponential(velocity).flip(0).movedim(0, -1)
    millimetres = displacement * torch.tensor(deformation.EXTENT_MM) / 2
    brain = template.template_anatomy().mobility > 0.5
    assert 2 < float(millimetres.norm(dim=-1)[brain].median()) < 8


def test_noise_is_rician() -> None:
    """The Rice distribution of scipy with b = signal / sd, by Kolmogorov and Smirnov."""
    noisy = subject_module.rician(torch.full((16, 16, 16), 0.06), 0.03, np.random.default_rng(0))
    values = noisy.flatten().double().numpy()
    assert stats.kstest(values, stats.rice(b=2.0, scale=0.03).cdf).pvalue > 0.01


@pytest.mark.parametrize(("seed", "index", "name"), [(-1, 0, "seed"), (0, -1, "index")])
def test_seed_and_index_count_from_zero(seed: int, index: int, name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} must be 0 or more; found -1"):
        subject_module.draw(seed, index, SHAPE)


@pytest.mark.slow
def test_labels_are_the_brain_and_ordered_by_brightness():
    """White matter is brightest and fluid darkest; outside the brain there is no label."""
    subject = draw(0, 0, TINY)
    np.testing.assert_array_equal(subject.labels > 0, subject.volume > 0)
    means = {name: subject.volume[subject.labels == i].mean() for i, name in LABELS.items()}
    assert means["white matter"] > means["grey matter"] > means["sulcal fluid"]
    assert means["white matter"] > means["grey matter"] > means["lateral ventricles"]
