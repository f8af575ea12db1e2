from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from synthbench.errors import UsageError
from synthbench.generators.components import principal_components
from synthbench.generators.shape_prior import ShapePrior


def heads(n=7, shape=(10, 8, 6)):
    """Noise in a box of 6 x 4 x 3 voxels, background 0 around it."""
    volumes = np.zeros((n, *shape), np.float32)
    volumes[:, 2:8, 1:5, 2:5] = np.random.default_rng(0).uniform(0.1, 1, (n, 6, 4, 3))
    return volumes


def prior(**changes):
    return ShapePrior.fit(heads(), **{"most": 3, "flip": False, "margin": 0, **changes})


def test_components_are_those_of_scikit_learn():
    rows = heads().reshape(7, -1)
    found = principal_components(rows, rows.mean(axis=0, dtype=np.float64), most=3)
    known = PCA(3).fit(rows.astype(np.float64))
    assert np.linalg.norm(found, axis=1) ** 2 == pytest.approx(known.explained_variance_, rel=1e-4)
    along = np.abs((found * known.components_).sum(axis=1)) / np.linalg.norm(found, axis=1)
    assert along == pytest.approx(np.ones(3), abs=1e-4)


def test_shares_of_the_variance_choose_the_number_of_components():
    rows = heads().reshape(7, -1)
    shares = np.cumsum(PCA(6).fit(rows.astype(np.float64)).explained_variance_ratio_)
    found = principal_components(rows, rows.mean(axis=0, dtype=np.float64), share=shares[2] - 1e-6)
    assert len(found) == 3
    assert len(principal_components(rows, rows.mean(axis=0, dtype=np.float64), share=1.0)) == 6


def test_the_box_holds_all_heads_and_has_even_sides():
    """Of voxels 2-8, 1-5 and 2-5; the last side is odd, and gets one voxel more."""
    assert prior().box == ((2, 8), (1, 5), (1, 5))
    assert prior(margin=1).box == ((1, 9), (0, 6), (0, 6))
    assert prior(margin=9).box == ((0, 10), (0, 8), (0, 6))


def test_residuals_are_standardised_and_go_back_to_the_volumes():
    volumes = torch.from_numpy(heads())[:, None]
    found = prior()
    residual = found.residual(volumes)
    assert residual.shape == (7, 1, 6, 4, 4)
    # One plane of the box lies outside the heads.
    assert float(residual[..., 1:].square().mean().sqrt()) == pytest.approx(1, abs=1e-5)
    assert torch.allclose(residual.mean(dim=0), torch.zeros(()), atol=1e-5)
    assert torch.allclose(found.volume(residual), volumes, atol=1e-6)


def test_with_mirrored_volumes_the_mean_is_symmetric():
    found = prior(flip=True)
    assert torch.allclose(found.mean, found.mean.flip(2), atol=1e-7)
    assert not torch.allclose(prior().mean, prior().mean.flip(2), atol=1e-2)


def test_shapes_have_the_variance_of_the_components():
    """With all six components, the variance at each voxel is that of the seven volumes."""
    found = prior(most=6)
    draws = torch.Generator().manual_seed(0)
    drawn = torch.cat([found.draw(draws) for _ in range(4000)])
    known = torch.from_numpy(heads())[:, 2:8, 1:5, 2:5].var(dim=0) / found.scale**2
    assert torch.allclose(drawn.var(dim=0)[0, ..., 1:], known, rtol=0.15, atol=1e-3)
    assert torch.count_nonzero(prior(most=0).draw(draws)) == 0


def test_it_is_stored_as_arrays():
    found = prior()
    again = ShapePrior.of(found.arrays())
    assert (again.box, again.scale) == (found.box, found.scale)
    assert torch.equal(again.mean, found.mean)
    assert torch.allclose(again.components, found.components, atol=1e-3)


@pytest.mark.parametrize("volumes", [heads(1), np.repeat(heads(1), 3, axis=0)])
def test_volumes_that_do_not_differ_have_no_spread(volumes):
    with pytest.raises(UsageError, match="2 volumes that differ"):
        ShapePrior.fit(volumes, most=1, flip=False, margin=0)
