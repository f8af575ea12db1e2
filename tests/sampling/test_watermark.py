"""The watermark as functions of arrays: its test is exact, its mark survives, its key decides."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from synthbench.errors import UsageError
from synthbench.sampling import watermark
from synthbench.sampling.watermark import (
    THRESHOLD,
    WatermarkKey,
    agreement,
    check_grid,
    evidence,
    mark,
    most_likely,
    pattern,
    statistic,
)
from synthbench.volumes.grid import Space, resample

SPACE = Space.of(
    (40, 48, 40), np.array([[4, 0, 0, -78], [0, 4, 0, -94], [0, 0, 4, -78], [0, 0, 0, 1.0]])
)


def a_key(number: int) -> WatermarkKey:
    return WatermarkKey.parse(f"a key of these tests, {number}")


@pytest.fixture(scope="module")
def head():
    """Return an ellipsoid of two tissues, whose border follows smooth noise, with scan noise."""
    rng = np.random.default_rng(0)
    x, y, z = np.indices(SPACE.shape) - (np.array(SPACE.shape)[:, None, None, None] - 1) / 2
    inside = (x / 17) ** 2 + (y / 21) ** 2 + (z / 17) ** 2 < 1
    tissue = ndimage.gaussian_filter(rng.normal(size=SPACE.shape), 2) > 0
    noise = rng.normal(0, 0.01, SPACE.shape)
    return np.where(inside, np.where(tissue, 0.75, 0.55) + noise, 0).astype(np.float32)


@pytest.fixture(scope="module")
def marked(head):
    return mark(head, SPACE, a_key(1))


def _distorted(volume, blur):
    coarse = SPACE.regrid(spacing=6.0, centre=(1.0, -2.0, 1.5))
    moved = resample(ndimage.gaussian_filter(volume, blur), SPACE, coarse)
    return np.round(moved * 255), coarse


def test_the_threshold_is_hoeffdings():
    """exp(-t^2 / 2) = 0.001 gives t = sqrt(2 ln 1000) = 3.717."""
    assert pytest.approx(3.7169, abs=1e-4) == THRESHOLD
    assert most_likely(THRESHOLD) == pytest.approx(0.001)
    assert most_likely(-5.0) == 1.0


def test_z_is_a_sum_of_signs():
    """By hand, for two coefficients: signs a, evidence 3 and 4: z = (3 a1 + 4 a2) / 5."""
    key = a_key(0)
    found = np.array([3.0, 4.0]).reshape(2, 1, 1)
    a = key.signs.astype(float)
    assert agreement(found, (63, 2, -1), key) == pytest.approx(
        (3 * a[63, 2, 63] + 4 * a[0, 2, 63]) / 5
    )


def test_over_keys_an_unmarked_volume_has_mean_0_and_variance_1(head):
    """4,000 keys: the standard error of the mean is 0.016, of the variance 0.022."""
    found, first = evidence(head, SPACE)
    kept = found[found != 0]
    coins = 2.0 * np.random.default_rng(1).integers(0, 2, (4000, kept.size)) - 1
    z = coins @ kept / np.sqrt(np.sum(kept**2))
    real = np.array([agreement(found, first, a_key(i)) for i in range(5)])
    assert abs(z.mean()) < 0.05
    assert abs(z.var() - 1) < 0.08
    assert (z > THRESHOLD).mean() <= 0.001
    assert np.abs(real).max() < THRESHOLD


def test_the_mark_is_found_with_its_key_alone(head, marked):
    assert marked.found
    assert statistic(marked.volume, SPACE, a_key(1)) == marked.z
    assert abs(statistic(marked.volume, SPACE, a_key(2))) < THRESHOLD
    assert abs(statistic(head, SPACE, a_key(1))) < THRESHOLD


@pytest.mark.parametrize("blur", [0.0, 0.5, 0.75])
def test_the_mark_survives_coarser_voxels_eight_bits_and_a_light_blur(marked, blur):
    """The intensities are those of 8 bits, 0 to 255, on another grid: no scale is known."""
    volume, space = _distorted(marked.volume, blur)
    assert statistic(volume, space, a_key(1)) > THRESHOLD


def test_the_mark_is_faint_and_inside_the_brain_alone(head, marked):
    assert 0 < marked.strength <= watermark.MAX_STRENGTH
    assert np.array_equal(marked.volume == 0, head == 0)
    inside = head > 0.1
    change = marked.volume[inside] / head[inside] - 1
    assert np.sqrt(np.mean(change**2)) == pytest.approx(marked.strength, rel=0.02)


def test_the_same_call_gives_the_same_voxels(head, marked):
    assert np.array_equal(mark(head, SPACE, a_key(1)).volume, marked.volume)


def test_the_pattern_lies_in_space_not_in_voxels():
    """Every second voxel of a grid of 2 mm lies where a voxel of one of 4 mm does."""
    fine = Space.of((20, 20, 20), np.diag([2.0, 2.0, 2.0, 1.0]))
    coarse = Space.of((10, 10, 10), np.diag([4.0, 4.0, 4.0, 1.0]))
    assert pattern(a_key(3), fine)[::2, ::2, ::2] == pytest.approx(pattern(a_key(3), coarse))


def test_the_axes_of_the_file_do_not_matter(marked):
    """The voxels in the opposite order along x, with the affine that says so."""
    flip = SPACE.matrix @ np.array([[-1, 0, 0, 39], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    flipped = Space.of(SPACE.shape, flip)
    z = statistic(marked.volume[::-1].copy(), flipped, a_key(1))
    assert z == pytest.approx(marked.z, rel=1e-3)


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_volume_without_a_brain_has_no_mark(value):
    empty = np.full(SPACE.shape, value, dtype=np.float32)
    result = mark(np.zeros_like(empty), SPACE, a_key(1))
    assert (result.strength, result.found) == (0.0, False)
    assert statistic(empty, SPACE, a_key(1)) == 0.0


@pytest.mark.parametrize("text", ["", "   ", "fifteen letters", "\n\n  short \n"])
def test_a_key_that_can_be_guessed_is_refused(text):
    with pytest.raises(UsageError, match="can be guessed"):
        WatermarkKey.parse(text)


def test_a_key_in_a_file_is_the_key(tmp_path):
    file = tmp_path / "secret.txt"
    file.write_text("a key of these tests, 1\n", encoding="utf-8")
    key = WatermarkKey.parse(f"@{file}")
    assert key.identity == a_key(1).identity
    assert np.array_equal(key.signs, a_key(1).signs)
    file.write_bytes(b"\xff\xfe" * 20)
    for name in (file, tmp_path / "none.txt"):
        with pytest.raises(UsageError, match=name.name):
            WatermarkKey.parse(f"@{name}")


def test_what_a_sidecar_says_does_not_hold_the_key():
    said = a_key(1).fields
    assert said["version"] == 1
    assert len(str(said["key_id"])) == 12
    assert "a key of these" not in repr(a_key(1).fields)
    assert said != a_key(2).fields


def test_the_signs_are_balanced():
    """Of 262,144 fair coins the mean has an sd of 0.002."""
    signs = a_key(1).signs
    assert set(np.unique(signs)) == {-1, 1}
    assert abs(signs.mean()) < 0.01


def test_a_coarse_grid_is_refused():
    check_grid(SPACE)
    with pytest.raises(UsageError, match="voxels of at most"):
        check_grid(SPACE.regrid(spacing=5.0))


def test_a_field_of_view_beyond_the_period_is_refused():
    long = Space.of((150, 10, 10), np.diag([4.0, 4.0, 4.0, 1.0]))
    with pytest.raises(UsageError, match="512"):
        check_grid(long)
