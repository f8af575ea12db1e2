from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from synthbench import registry
from synthbench.errors import MetricError
from synthbench.metrics.extractors.radiomics import SCALES, Radiomics, radiomics_of, transformed
from synthbench.metrics.extractors.tissue import MNI152_2MM
from synthbench.testing import check_extractor


def head(seed=0):
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, side) for side in MNI152_2MM.shape), indexing="ij")
    inside = sum(axis**2 for axis in axes) < 0.3
    texture = gaussian_filter(rng.normal(size=MNI152_2MM.shape), 1.5)
    return np.where(inside, (0.5 + 0.8 * texture).clip(0.1, 1), 0).astype(np.float32)


def test_a_row_is_in_units_of_the_scales():
    volume = head()
    extractor = registry.load("extractors", "radiomics")()
    found = extractor.features(torch.from_numpy(volume)[None, None]).numpy()
    measured = radiomics_of(volume)
    assert list(measured) == list(SCALES)
    assert extractor.dim == len(SCALES) == 72
    expected = [
        (transformed(name, measured[name]) - typical) / spread
        for name, (typical, spread) in SCALES.items()
    ]
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)


def test_blur_and_noise_move_texture_in_opposite_directions():
    volume = head()
    rng = np.random.default_rng(1)
    noisy = np.where(volume > 0, (volume + 0.1 * rng.normal(size=volume.shape)).clip(0.05, 1), 0)
    # Divided by the blurred mask: the zeros beside the brain would darken its edge.
    inside = (volume > 0).astype(float)
    mean = gaussian_filter(volume, 1.5) / gaussian_filter(inside, 1.5).clip(1e-6)
    blurred = np.where(volume > 0, mean.clip(0.05, 1), 0)
    rows = [radiomics_of(v.astype(np.float32)) for v in (blurred, volume, noisy)]
    for name in ("glcm.Contrast", "glcm.JointEntropy", "glrlm.Percentage", "glcm.SumSquares"):
        values = [row[name] for row in rows]
        assert values == sorted(values), name


@pytest.mark.slow
def test_it_is_a_sound_extractor():
    check_extractor(Radiomics)


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        (np.zeros((4, 4, 4), np.float32), r"found the shape \(4, 4, 4\)"),
        (np.zeros(MNI152_2MM.shape, np.float32), "needs voxels above zero; found none"),
        (np.where(head() > 0, np.float32(0.5), np.float32(0)), "not all equal; found"),
    ],
)
def test_unusable_volumes_are_refused_by_name(volume, message):
    with pytest.raises(MetricError, match=rf"radiomics: volume 0: .*{message}"):
        Radiomics().features(torch.from_numpy(volume)[None, None])
