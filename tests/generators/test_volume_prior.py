from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from sklearn.decomposition import PCA

from synthbench.errors import UsageError
from synthbench.generators.components import principal_components
from synthbench.generators.volume_prior import VolumePrior


def heads(n=7, shape=(10, 8, 6)):
    """Noise in a box of 6 x 4 x 3 voxels, background 0 around it."""
    volumes = np.zeros((n, *shape), np.float32)
    volumes[:, 2:8, 1:5, 2:5] = np.random.default_rng(0).uniform(0.1, 1, (n, 6, 4, 3))
    return volumes


def prior(**changes):
    return VolumePrior.fit(heads(), **{"most": 3, "flip": False, **changes})


def test_components_are_those_of_scikit_learn():
    rows = heads().reshape(7, -1)
    found = principal_components(rows, rows.mean(axis=0, dtype=np.float64), most=3)
    known = PCA(3).fit(rows.astype(np.float64))
    assert np.linalg.norm(found, axis=1) ** 2 == pytest.approx(known.explained_variance_, rel=1e-4)
    along = np.abs((found * known.components_).sum(axis=1)) / np.linalg.norm(found, axis=1)
    assert along == pytest.approx(np.ones(3), abs=1e-4)


def test_signs_of_components_are_the_same_for_the_images_in_any_order():
    """The image farthest out along a component is on its positive side."""
    rows = heads(12).reshape(12, -1)
    mean = rows.mean(axis=0, dtype=np.float64)
    found = principal_components(rows, mean, most=5)
    scores = (rows - mean) @ found.T
    assert (scores.max(axis=0) == np.abs(scores).max(axis=0)).all()
    for seed in range(5):
        shuffled = np.random.default_rng(seed).permutation(rows)
        assert principal_components(shuffled, mean, most=5) == pytest.approx(found, abs=1e-4)


def test_shares_of_the_variance_choose_the_number_of_components():
    rows = heads().reshape(7, -1)
    shares = np.cumsum(PCA(6).fit(rows.astype(np.float64)).explained_variance_ratio_)
    found = principal_components(rows, rows.mean(axis=0, dtype=np.float64), share=shares[2] - 1e-6)
    assert len(found) == 3
    assert len(principal_components(rows, rows.mean(axis=0, dtype=np.float64), share=1.0)) == 6


def test_the_box_holds_all_heads_and_has_even_sides():
    """Of voxels 2-8, 1-5 and 2-5; the last side is odd, and gets one voxel more."""
    assert prior().box == ((2, 8), (1, 5), (1, 5))


def test_the_spread_is_scipys_of_the_variance():
    volumes = heads().astype(np.float64)
    variance = volumes.var(axis=0)
    least = 0.2 * np.sqrt(variance[volumes.mean(axis=0) > 0.05].mean())
    known = np.sqrt(gaussian_filter(variance, 1.0) + least**2)
    known[~volumes.any(axis=0)] = 0
    assert np.allclose(prior().spread[0, 0].numpy(), known[2:8, 1:5, 1:5], rtol=1e-5)
    assert torch.equal(prior().head[0, 0], torch.from_numpy(volumes.any(axis=0))[2:8, 1:5, 1:5])


def test_residuals_go_back_to_the_volumes():
    volumes = torch.from_numpy(heads())[:, None]
    found = prior()
    residual = found.residual(volumes)
    assert residual.shape == (7, 1, 6, 4, 4)
    assert torch.allclose(residual.mean(dim=0), torch.zeros(()), atol=1e-5)
    assert torch.allclose(found.volume(residual), volumes, atol=1e-6)


def test_the_spectrum_is_that_of_the_residuals():
    """The mean power over all frequencies is the mean square in the head (Parseval)."""
    found, volumes = prior(), torch.from_numpy(heads())[:, None]
    residual = found.residual(volumes)
    power = torch.fft.fftn(residual, dim=(2, 3, 4)).abs().square().mean(dim=(0, 1))
    share = float(found.head.float().mean())
    expected = float(residual.square().mean()) / share
    assert float(power.mean()) / int(found.head.sum()) == pytest.approx(expected, rel=1e-5)
    assert torch.allclose(found.spectrum, power[..., :3] / found.head.sum(), rtol=1e-4)


@pytest.mark.parametrize(("signal", "noise"), [(0.9, 0.436), (0.2, 0.98)])
def test_the_wiener_filter_is_the_posterior_mean_of_a_gaussian_field(signal, noise):
    """C a (a^2 C + s^2)^-1 x, by matrices, with C the covariance matrix of the field.

    The columns of C are the autocovariance, moved around the grid.
    """
    spectrum = 4 / (1 + torch.arange(64).reshape(4, 4, 4).double())
    spectrum = (spectrum + spectrum.flip(0, 1, 2).roll((1, 1, 1), (0, 1, 2))) / 2
    covariance = torch.fft.ifftn(spectrum).real
    columns = [covariance.roll(place, (0, 1, 2)).ravel() for place in np.ndindex(4, 4, 4)]
    matrix = torch.stack(columns, dim=1)
    everywhere = torch.ones(1, 1, 4, 4, 4)
    found = VolumePrior(
        everywhere,
        everywhere,
        spectrum[..., :3],
        spectrum[..., :3],
        torch.zeros(0, 4, 4, 4),
        ((0, 4),) * 3,
    )
    state = torch.randn((1, 1, 4, 4, 4), generator=torch.Generator().manual_seed(0)).double()
    inverse = torch.linalg.inv(signal**2 * matrix + noise**2 * torch.eye(64))
    known = signal * matrix @ inverse @ state.ravel()
    estimate = found.wiener(state, torch.tensor(signal), torch.tensor(noise))
    assert torch.allclose(estimate.ravel(), known, atol=1e-6)


def test_with_mirrored_volumes_the_mean_is_symmetric():
    found = prior(flip=True)
    assert torch.allclose(found.mean, found.mean.flip(2), atol=1e-7)
    assert not torch.allclose(prior().mean, prior().mean.flip(2), atol=1e-2)


def drawn(found, n=4000, rest_spread=1.0):
    draws = torch.Generator().manual_seed(0)
    return torch.cat([found.draw(draws, rest_spread) for _ in range(n)])


def test_shapes_have_the_variance_of_the_volumes_along_all_components():
    """Six components take all deviations of seven volumes from their mean; nothing is left."""
    found = prior(most=6)
    known = found.residual(torch.from_numpy(heads())[:, None]).var(dim=0)[0]
    assert torch.allclose(drawn(found).var(dim=0)[0], known, rtol=0.15, atol=1e-3)
    assert float(found.rest.max()) < 1e-6


@pytest.mark.parametrize("most", [0, 3])
def test_what_components_do_not_hold_is_drawn_from_its_spectrum(most):
    """The total variance is that of the volumes, with n for the rest and n - 1 along components.

    A field has one variance everywhere: what it has outside the head is lost.
    """
    found = prior(most=most)
    residual = found.residual(torch.from_numpy(heads())[:, None])
    total = float(residual.square().mean(dim=0).sum())
    along = float(found.components.square().sum())
    assert float(drawn(found).var(dim=0).sum()) == pytest.approx(total + along / 7, rel=0.03)


def test_the_rest_alone_is_drawn_wider():
    """What differs from draws with the same seed is what the components do not hold, once more."""
    found = prior(most=3)
    once, twice, none = (drawn(found, 20, spread) for spread in (1.0, 2.0, 0.0))
    assert torch.allclose(twice - once, once - none, atol=1e-5)
    assert float((once - none).std()) > 0.1
    assert torch.allclose(none, drawn(replace(found, rest=torch.zeros_like(found.rest)), 20))


def test_it_is_stored_as_arrays():
    found = prior()
    again = VolumePrior.of(found.arrays())
    assert again.box == found.box
    for name in ("mean", "spread", "spectrum", "rest"):
        assert torch.equal(getattr(again, name), getattr(found, name))
    assert torch.allclose(again.components, found.components, atol=1e-3)


@pytest.mark.parametrize("volumes", [heads(1), np.repeat(heads(1), 3, axis=0)])
def test_volumes_that_do_not_differ_have_no_spread(volumes):
    with pytest.raises(UsageError, match="2 volumes that differ"):
        VolumePrior.fit(volumes, most=1, flip=False)
