"""The settings and presets of MS-SSIM."""

from __future__ import annotations

import pytest

from synthbench.errors import MetricError
from synthbench.metrics.similarity import settings as settings_module
from synthbench.metrics.similarity.settings import PRESETS, Settings


@pytest.mark.parametrize(
    ("shape", "window", "expected"),
    [
        ((84, 128, 84), 11, 3),
        ((176, 180, 176), 11, 5),
        ((175, 200, 200), 11, 4),
        ((10, 99, 99), 11, 0),
    ],
)
def test_scales_that_fit(shape, window, expected):
    """11 voxels at the coarsest grid and MONAI's 11 (s - 1)^2: 11, 22, 44, 99, 176 a side."""
    assert settings_module.scales_that_fit(shape, Settings(window=window)) == expected


def test_presets():
    """The default's weights are Wang's first three over their sum; the others keep all five."""
    total = 0.0448 + 0.2856 + 0.3001
    assert PRESETS["default"].weights == pytest.approx(
        (0.0448 / total, 0.2856 / total, 0.3001 / total)
    )
    assert PRESETS["wang5"].weights == (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
    assert (PRESETS["monai-k4"].window, PRESETS["monai-k4"].full_frame) == (4, True)


@pytest.mark.parametrize(
    ("call", "found"),
    [
        (lambda: Settings(window=1), "window"),
        (lambda: Settings(sigma=0.0), "sigma"),
        (lambda: Settings(weights=()), "at least one scale"),
        (lambda: Settings(weights=(0.5, -0.1)), "smallest of weights"),
    ],
)
def test_settings_outside_their_range_are_named(call, found):
    with pytest.raises(MetricError, match=found):
        call()
