"""Extractors as losses: zero for the same volume, a gradient elsewhere, and none that has none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthbench.errors import UsageError, WeightsError
from synthbench.metrics.extractors import weights
from synthbench.metrics.extractors.anatomy import Anatomy
from synthbench.metrics.extractors.extractor import zscore_nonzero_zeros
from synthbench.metrics.extractors.medicalnet import MedicalNet
from synthbench.metrics.extractors.perceptual import perceptual_distance, sampling_points
from synthbench.metrics.extractors.random_resnet import RandomResNet10
from synthbench.metrics.extractors.voxels import Voxels
from synthbench.volumes.grid import Space, resample

SPACE = Space.of((16, 16, 16), np.diag([4.0, 4.0, 4.0, 1.0]))


def volume(seed=0):
    x = torch.rand((2, 1, 16, 16, 16), generator=torch.Generator().manual_seed(seed))
    x[..., :4] = 0
    return x


def test_the_distance_is_its_formula():
    """Unit-length maps of the standardised volumes, squared differences summed over channels."""
    extractor = RandomResNet10()
    distance = perceptual_distance("random-resnet10", extractor, SPACE)
    target = volume()
    other = target * 0.5  # an affine change inside the brain: moments of the target are used
    found = distance(target, other)
    network = extractor.load()
    for row, t, o in zip(found, target, other, strict=True):
        voxels = t[t > 0].double()
        moved = ((o.double() - voxels.mean()) / voxels.std(correction=0)) * (t > 0)
        maps = [network(x.float()[None]) for x in (zscore_nonzero_zeros(t), moved)]
        units = [m / m.norm(dim=1, keepdim=True) for m in maps]
        expected = (units[0] - units[1]).square().sum(dim=1).mean()
        assert torch.allclose(row, expected, rtol=1e-3)


def test_the_same_volume_is_at_no_distance_and_another_pulls():
    distance = perceptual_distance("random-resnet10", RandomResNet10(), SPACE)
    target, other = volume(), volume(1).requires_grad_(True)
    assert float(distance(target, target).abs().max()) == 0
    distance(target, other).sum().backward()
    assert bool(torch.isfinite(other.grad).all())
    assert bool(other.grad.any())


def test_a_blank_target_gives_a_finite_distance():
    distance = perceptual_distance("random-resnet10", RandomResNet10(), SPACE)
    blank = torch.zeros(1, 1, 16, 16, 16)
    assert bool(torch.isfinite(distance(blank, volume()[:1])).all())


@pytest.mark.slow
@pytest.mark.parametrize("extractor", [Anatomy(), Voxels()], ids=["anatomy", "voxels"])
def test_an_extractor_that_is_no_network_is_refused(extractor):
    with pytest.raises(UsageError, match=f"found '{extractor.name}'. Use random-resnet10"):
        perceptual_distance(extractor.name, extractor, SPACE)


def test_missing_weights_name_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv(weights.FOLDER_VARIABLE, str(tmp_path))
    name = "medicalnet-resnet10-23dataset"
    with pytest.raises(WeightsError, match=f"synthbench fetch {name}"):
        perceptual_distance(name, MedicalNet(name), SPACE)


def test_places_on_another_grid_are_those_of_resampling():
    """`grid_sample` at the places, against the library's own resampling, on a finer grid."""
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (8, 10, 6)
    finer = Space.of((12, 10, 14), affine)
    smooth = np.add.outer(np.add.outer(np.arange(16), 2 * np.arange(16)), 3 * np.arange(16))
    source = (smooth / smooth.max()).astype(np.float32)
    sampled = torch.nn.functional.grid_sample(
        torch.from_numpy(source)[None, None], sampling_points(SPACE, finer), align_corners=True
    )
    assert np.allclose(sampled[0, 0].numpy(), resample(source, SPACE, finer), atol=1e-4)
