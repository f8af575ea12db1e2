"""`local3d`: the local denoiser against sums written out, the start, mirrors and covariates."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.ndimage import uniform_filter
from scipy.special import softmax

from synthbench import registry
from synthbench.errors import UsageError
from synthbench.generators.local3d import combinations, mirrored
from synthbench.generators.local_score import (
    box_sums,
    local_denoiser,
    noise_levels,
    patch_side,
    running_box_sums,
)
from tests.generators.fitting import drawn, fitted

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("side", [1, 3, 5, 11])
def test_box_sums_are_sums_over_cubes(side):
    volume = torch.from_numpy(RNG.random((9, 7, 8)))
    cubes = torch.ones(1, 1, side, side, side, dtype=volume.dtype)
    expected = torch.nn.functional.conv3d(volume[None, None], cubes, padding=side // 2)[0, 0]
    for found in (box_sums(volume, side), running_box_sums(volume, side)):
        assert torch.allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize(("level", "side"), [(0.05, 3), (0.5, 5), (2.0, 9)])
def test_the_denoiser_is_the_posterior_mean_given_each_patch(level, side):
    """E[x_0[v] | patch] = sum_i w_i a_i[v], w a softmax of the patches' log-likelihoods."""
    atoms, noisy = RNG.random((6, 10, 9, 8)), RNG.random((10, 9, 8))
    prior = RNG.normal(size=6)
    squares = [uniform_filter((noisy - a) ** 2, side, mode="constant") * side**3 for a in atoms]
    exponents = prior[:, None, None, None] - np.array(squares) / (2 * level**2)
    expected = (softmax(exponents, axis=0) * atoms).sum(axis=0)
    found = local_denoiser(torch.from_numpy(noisy), torch.from_numpy(atoms), prior, level, side)
    assert np.allclose(found.numpy(), expected, atol=1e-9)


def test_one_atom_far_ahead_is_returned_and_not_a_number_never():
    atoms = torch.from_numpy(RNG.random((3, 6, 6, 6)).astype(np.float32))
    found = local_denoiser(atoms[1] + 0, atoms, np.zeros(3), 1e-3, 5)
    assert torch.equal(found, atoms[1])


def test_the_number_of_threads_changes_nothing():
    atoms = torch.from_numpy(RNG.random((7, 9, 8, 7)).astype(np.float32))
    noisy, before = atoms[0] + 0.1, torch.get_num_threads()
    found = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(local_denoiser(noisy, atoms, np.zeros(7), 0.3, 3))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


def test_levels_fall_between_their_ends_and_patches_shrink_with_them():
    levels = noise_levels(2.0, 0.03, 18)
    assert levels[[0, -1]] == pytest.approx([2.0, 0.03])
    assert np.all(np.diff(levels) < 0)
    sides = [patch_side(level, 0.0133, 12.0, 5, 31) for level in levels]
    assert sides == sorted(sides, reverse=True)
    assert all(side % 2 == 1 for side in sides)
    assert sides[0] == int((2 * 12 * 4 / 0.0133) ** (1 / 3)) // 2 * 2 + 1


def test_a_random_combination_has_the_mean_and_the_covariance_of_the_images():
    images = RNG.normal(size=(12, 5))
    mean, spread = combinations(np.zeros((12, 0), np.float32), np.zeros(0))
    assert np.allclose(mean @ images, images.mean(axis=0))
    assert np.allclose(images.T @ spread @ spread.T @ images, np.cov(images.T))


def test_with_covariates_it_has_the_mean_and_the_residuals_of_a_least_squares_fit():
    x = RNG.random((20, 2)).astype(np.float32)
    images = np.hstack([np.ones((20, 1)), x]) @ RNG.normal(size=(3, 4)) + RNG.normal(size=(20, 4))
    mean, spread = combinations(x, np.array([0.3, 0.9]))
    design = np.hstack([np.ones((20, 1)), x])
    fit, *_ = np.linalg.lstsq(design, images, rcond=None)
    assert np.allclose(mean @ images, np.array([1, 0.3, 0.9]) @ fit)
    residuals = images - design @ fit
    assert np.allclose(images.T @ spread @ spread.T @ images, residuals.T @ residuals / 17)


def test_too_few_volumes_with_a_covariate_are_an_error_in_words():
    with pytest.raises(UsageError, match="2 training volumes have a value"):
        combinations(np.array([[0.0], [1.0]], np.float32), np.array([0.5]))


@pytest.mark.parametrize("origin", [-7.0, -8.0, -6.0])
def test_mirror_images_lie_at_the_opposite_place_in_millimetres(origin):
    """Voxels of 2 mm whose centres are symmetric about 0, or off by half a voxel or a voxel."""
    affine = np.diag([2.0, 2, 2, 1])
    affine[0, 3] = origin
    volumes = RNG.random((2, 8, 3, 3))
    turned = mirrored(volumes, affine.ravel())
    x = origin + 2 * np.arange(8)
    for i, place in enumerate(x):
        there = np.flatnonzero(np.isclose(x, -place))
        expected = volumes[:, there[0]] if len(there) else np.zeros((2, 3, 3))
        assert np.array_equal(turned[:, i], expected)


def test_a_box_of_the_grid_is_mirrored_as_the_grid_is():
    affine = np.diag([2.0, 2, 2, 1])
    affine[0, 3] = -7.0
    volumes = RNG.random((2, 8, 3, 3))
    assert np.array_equal(
        mirrored(volumes[:, 2:6], affine.ravel(), first=2),
        mirrored(volumes, affine.ravel())[:, 2:6],
    )


def test_at_little_noise_a_volume_of_few_atoms_is_made_of_training_patches(make_cohort, tmp_path):
    """Where patches tell the atoms apart, each voxel is that of one training volume."""
    run = fitted(
        "local3d", make_cohort("real", n=4, shape=(16, 16, 16)), tmp_path,
        "mirror=false", "sigma_min=0.001", "start=mean", "sigma_max=0.5",
    )  # fmt: skip
    weights = run.load_weights()
    box = tuple(
        slice(a, a + n) for a, n in zip(weights["first"], weights["volumes"].shape[1:], strict=True)
    )
    volume = drawn(run, 1)[0][box]
    away = np.abs(weights["volumes"].astype(np.float32) - volume).min(axis=0)
    assert np.quantile(away, 0.99) < 1e-3


def test_requested_age_moves_the_volumes(make_cohort, tmp_path):
    """Balls that grow with age: samples are as large as the ages that are asked for."""
    real = make_cohort("real", n=8, shape=(16, 16, 16))
    ages, rng = np.linspace(20, 80, 8), np.random.default_rng(1)
    far = np.linalg.norm(np.indices((16, 16, 16)) - 7.5, axis=0)
    for age, file in zip(ages, sorted(real.rglob("*.nii.gz")), strict=True):
        image = nib.load(file)
        ball = np.clip(age / 20 + 3.5 - far, 0, 1) * rng.uniform(0.8, 1, far.shape)
        nib.save(nib.Nifti1Image(ball.astype(np.float32), image.affine), file)
    table = pd.DataFrame({"participant_id": [f"sub-{i:03d}" for i in range(8)], "age": ages})
    table.to_csv(real / "participants.tsv", sep="\t", index=False)
    run = fitted(
        "local3d", real, tmp_path, "conditions=[age]", "start=mean", accept=("registered", "flip")
    )
    plugin = registry.load("generators", "local3d")()
    rows = [{"age": 25.0}, {"age": 75.0}, {"age": None}]
    young, old, any_age = ((v > 0.5).sum() for v in plugin.sample(run, [3, 3, 3], conditions=rows))
    balls = np.array([np.clip(age / 20 + 3.5 - far, 0, 1).ravel() for age in ages])
    lines = np.polyfit(ages, balls, 1)
    expected = [(lines[0] * age + lines[1] > 0.5).sum() for age in (25, 75)]
    assert [young, old] == pytest.approx(expected, rel=0.25)
    assert any_age == (next(plugin.sample(run, [3])) > 0.5).sum()
    with pytest.raises(UsageError, match="no condition"):
        next(plugin.sample(run, [3], conditions=[{"height": 1.8}]))


def test_what_cannot_be_fitted_or_sampled_is_said(make_cohort, tmp_path):
    with pytest.raises(UsageError, match="at least 3"):
        fitted("local3d", make_cohort("two", n=2), tmp_path / "a")
    run = fitted("local3d", make_cohort("real", n=4), tmp_path / "b")
    plugin = registry.load("generators", "local3d")()
    with pytest.raises(UsageError, match="karras-euler"):
        plugin.sampling(run, "ddim", None)
    with pytest.raises(UsageError, match="at least 1"):
        plugin.sampling(run, None, 0)
    assert plugin.sampling(run, None, 3) == {"sampler": "karras-euler", "steps": 3}
