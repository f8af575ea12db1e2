"""The radial power spectrum of a volume."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from synthbench.metrics.radial_spectrum import QUANTUM, radial_profile
from tests.metrics.simulated_volumes import SPACING, ball, heads


def test_white_noise_has_the_density_of_its_variance():
    """White noise of variance s^2 has the density s^2 times the voxel's volume at every
    frequency: 10 log10(0.1^2 * 2 * 2 * 3) = -9.2 dB; rounding to 8 bits adds its own variance.
    """
    noise = 0.1 * np.random.default_rng(0).standard_normal((40, 44, 36))
    spacing = (2.0, 2.0, 3.0)
    frequencies, power = radial_profile(
        noise.astype(np.float32) + 0.5, np.ones(noise.shape, dtype=bool), spacing
    )
    expected = 10 * np.log10((0.1**2 + QUANTUM) * np.prod(spacing))
    # A bin averages over many coefficients, beyond the first few.
    np.testing.assert_allclose(power[5:], expected, atol=1.0)
    assert power[5:].mean() == pytest.approx(expected, abs=0.1)
    assert frequencies[0] == pytest.approx(1 / 80)  # the shortest side: 40 * 2 mm
    assert frequencies[-1] <= 1 / 6 < frequencies[-1] + frequencies[0]


def test_a_wave_has_its_power_at_its_frequency():
    """Nine periods along an axis of 36 voxels of 2 mm: 9/72 cycles/mm, whichever the axis."""
    for axis in range(3):
        wave = np.sin(2 * np.pi * 9 * np.indices((36, 36, 36))[axis] / 36)
        volume = (0.5 + 0.2 * wave).astype(np.float32)
        mask = np.ones(volume.shape, dtype=bool)
        frequencies, power = radial_profile(volume, mask, (2.0, 2.0, 2.0))
        assert frequencies[power.argmax()] == pytest.approx(9 / 72)


def test_bins_average_the_full_spectrum():
    """Against a full complex transform, binned by hand."""
    volume = heads(1, 4)[0]
    mask = ball()
    frequencies, power = radial_profile(volume, mask, SPACING)
    occupied = [np.flatnonzero(mask.any(axis=a)) for a in ((1, 2), (0, 2), (0, 1))]
    box = tuple(slice(o[0], o[-1] + 1) for o in occupied)
    shape = mask[box].shape
    depth = distance_transform_edt(np.pad(mask, 1), sampling=SPACING)[1:-1, 1:-1, 1:-1][box]
    window = np.sin(np.pi / 2 * np.minimum(depth / 8, 1)) ** 2
    inside = volume[box].astype(np.float64)
    centred = (inside - (inside * window).sum() / window.sum()) * window
    density = np.abs(np.fft.fftn(centred)) ** 2 / (window**2).sum() * np.prod(SPACING)
    grid = np.meshgrid(*(np.fft.fftfreq(n, 4.0) for n in shape), indexing="ij")
    radius = np.sqrt(sum(g**2 for g in grid))
    step = 1 / (min(shape) * 4.0)
    expected = [density[np.abs(radius - f) < step / 2].mean() for f in frequencies]
    decibels = 10 * np.log10(np.array(expected) + QUANTUM * np.prod(SPACING))
    np.testing.assert_allclose(power, decibels, atol=1e-3)
