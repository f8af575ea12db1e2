"""Noise: its estimate and its removal."""

from __future__ import annotations

import numpy as np
import pytest

from synthbench.cohorts.preparation.denoising import denoised, diagonal_haar, noise_sd
from synthbench.cohorts.preparation.settings import Denoising
from tests.cohorts.preparation.heads import ball, rician


def test_the_noise_is_found_in_the_air():
    """A ball of signal 100 in air, Rician noise of sd 3: both estimators' assumptions hold."""
    head = ball(15)
    assert noise_sd(rician(100.0 * head, 3.0), head) == pytest.approx(3, rel=0.05)


def test_air_that_was_set_to_zero_says_nothing_of_the_noise():
    """With no air left the wavelet estimate alone decides; noise on signal is Gaussian, sd 3."""
    head = np.ones((40, 40, 40), dtype=bool)
    assert noise_sd(rician(100.0 * head, 3.0), head) == pytest.approx(3, rel=0.05)


def test_haar_coefficients_by_hand():
    """Of a 2 x 2 x 2 cube, (sum of +- x) / sqrt(8): only the corner (0, 0, 0) is 1 here."""
    corner = np.zeros((2, 2, 2), np.float32)
    corner[0, 0, 0] = 1
    assert diagonal_haar(corner) == pytest.approx(np.full((1, 1, 1), 8**-0.5))
    assert diagonal_haar(np.ones((4, 4, 4), np.float32)) == pytest.approx(0)


def test_denoising_takes_the_noise_and_not_the_edges():
    """Two plates of 100 and 60: less than half of the noise is left, and each keeps its mean."""
    truth = np.where(np.arange(24)[:, None, None] < 12, 100.0, 60.0) * np.ones((24, 24, 24))
    noisy = rician(truth, 4.0)
    clean = denoised(noisy, 4.0, Denoising())
    left = clean - truth
    assert np.sqrt((left**2).mean()) < 0.5 * np.sqrt(((noisy - truth) ** 2).mean())
    assert abs(left[:12].mean()) < 0.5
    assert abs(left[12:].mean()) < 0.5
    assert denoised(noisy, 0.0, Denoising()) is noisy
