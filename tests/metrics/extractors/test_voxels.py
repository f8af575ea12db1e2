"""The extractor of coarse voxels: its mask, its scale, and what it refuses."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from nilearn import datasets

from synthbench.errors import MetricError, WeightsError
from synthbench.metrics.extractors import voxels
from synthbench.metrics.extractors.voxels import COARSE_MNI152, Voxels
from synthbench.volumes.grid import PAPER_GRID
from tests.conftest import make_mask

SHAPE = (23, 28, 23)


@pytest.fixture(autouse=True, scope="module")
def _the_mask_is_made_anew():
    """The copy that other tests share would hide what `load` does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(voxels, "_verified_mask", make_mask)
        yield


@pytest.fixture(scope="module")
def mask() -> np.ndarray:
    return Voxels().load()


def volumes(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 1, *SHAPE, generator=torch.Generator().manual_seed(seed))


def test_the_grid_covers_the_papers_field_of_view():
    for side, mm, extent in zip(
        COARSE_MNI152.shape, COARSE_MNI152.spacing, (181, 217, 181), strict=True
    ):
        assert extent <= side * mm < extent + mm
    own, papers = (
        space.matrix @ np.append((np.array(space.shape) - 1) / 2, 1)
        for space in (COARSE_MNI152, PAPER_GRID)
    )
    np.testing.assert_allclose(own, papers, atol=1e-3)


def test_the_mask_is_the_brain_of_the_template(mask: np.ndarray):
    """Its volume and its centre, counted on the template at 1 mm inside the coarse field of view,
    to a few voxels of the surface.
    """
    template = datasets.load_mni152_template(resolution=1)
    mm = np.argwhere(np.asarray(template.dataobj) > 0) + template.affine[:3, 3]
    low = COARSE_MNI152.matrix[:3, 3] - 4
    inside = mm[((mm >= low) & (mm < low + 8 * np.array(SHAPE))).all(axis=1)]
    centre = COARSE_MNI152.matrix[:3, :3] @ np.argwhere(mask).mean(axis=0) + low + 4
    assert mask.sum() * 8**3 == pytest.approx(len(inside), rel=0.02)
    np.testing.assert_allclose(centre, inside.mean(axis=0), atol=0.5)


def test_the_hash_is_that_of_the_bits(mask: np.ndarray):
    """The bits of each group of eight voxels are the digits of a byte in base two."""
    digits = "".join("01"[int(voxel)] for voxel in mask.ravel())
    padded = digits.ljust(-(-len(digits) // 8) * 8, "0")
    content = bytes(int(padded[i : i + 8], 2) for i in range(0, len(padded), 8))
    assert hashlib.sha256(content).hexdigest() == Voxels().weights_sha256


def test_distances_are_root_mean_squares_inside_the_mask(mask: np.ndarray):
    pair = volumes(2)
    first, second = Voxels().features(pair).double()
    difference = (pair[0, 0] - pair[1, 0]).numpy()[mask].astype(np.float64)
    expected = np.sqrt((difference**2).mean())
    assert float((first - second).norm()) == pytest.approx(expected, rel=1e-6)


def test_what_is_outside_the_mask_is_not_seen(mask: np.ndarray):
    inside = volumes(1)
    changed = torch.where(torch.from_numpy(mask), inside, 1 - inside)
    assert torch.equal(Voxels().features(inside), Voxels().features(changed))


def test_another_grid_is_refused():
    with pytest.raises(MetricError, match=r"voxels: the grid must be 23 x 28 x 23 at 8 mm"):
        Voxels().features(torch.rand(1, 1, 28, 23, 23))


def test_another_mask_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(voxels, "brain_mask", lambda: np.ones(SHAPE, dtype=bool))
    with pytest.raises(WeightsError, match=r"must have the sha256 bb5b3cb3.* \(14812 voxels\)"):
        Voxels().load()
