"""The distances between spectra and between seam profiles of two sets."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy.ndimage import fourier_shift, gaussian_filter

from synthbench.errors import MetricError
from synthbench.metrics.inference import intervals, resampling
from synthbench.metrics.intensity import Stack
from synthbench.metrics.metric import Composite, Studentized, VolumeMetric, ones
from synthbench.metrics.radial_spectrum import radial_profile
from synthbench.metrics.seams import seam_profiles
from synthbench.metrics.spectrum import Spectrum, seam_energy, spectrum_distance
from tests.metrics.simulated_volumes import SHAPE, SPACING, ball, heads


def distances(x, y):
    spectrum = spectrum_distance(x, y, ball(), spacing=SPACING)
    return {"spectrum": spectrum, **seam_energy(x, y, ball(), spacing=SPACING)}


def jittered(volumes, axis, rng, sd=0.05):
    """Every slice along an axis times its own 1 + N(0, sd)."""
    sides = [1, 1, 1, 1]
    sides[0], sides[1 + axis] = len(volumes), volumes.shape[1 + axis]
    return (volumes * (1 + rng.normal(0, sd, sides))).clip(0, 1).astype(np.float32)


def misaligned(volumes, rng, sd=0.3):
    """Every slice along z shifted within its plane by a random part of a voxel."""
    moved = np.empty_like(volumes)
    for volume, out in zip(volumes, moved, strict=True):
        for k in range(volume.shape[2]):
            spectrum = fourier_shift(np.fft.fft2(volume[:, :, k]), rng.normal(0, sd, 2))
            out[:, :, k] = np.fft.ifft2(spectrum).real
    return moved.clip(0, 1)


@pytest.fixture(scope="module")
def sets():
    return heads(16, 0), heads(16, 1)


@pytest.fixture(scope="module")
def baseline(sets):
    return distances(*sets)


def test_the_metric_is_of_its_protocol():
    metric = Spectrum()
    assert isinstance(metric, VolumeMetric)
    assert not metric.pairs


def test_a_louder_set_differs_by_its_gain_at_every_frequency():
    """Deviations half as large have 20 log10(2) = 6.02 dB less power everywhere (more exactly:
    less near the floor), which is 36.2 dB^2. Seams do not move: all axes did alike.
    """
    x = heads(8, 2)
    apart = distances(x, 0.5 * x + 0.25)
    same = distances(x, x)
    assert apart["spectrum"] - same["spectrum"] == pytest.approx(36.2, abs=1.5)
    for axis in "xyz":
        assert apart[axis] - same[axis] == pytest.approx(0, abs=0.2)


def test_it_is_the_unbiased_squared_distance_of_mean_profiles():
    """|mean a - mean b|^2 less tr(S_a)/n and tr(S_b)/m, each in means over bins: the plug-in
    estimate less its expected excess under sampling.
    """
    x, y = heads(5, 0), heads(6, 1)
    a, b = (
        np.stack([radial_profile(v, ball(), SPACING)[1] for v in volumes]) for volumes in (x, y)
    )
    plug_in = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).mean()
    excess = sum(p.var(axis=0, ddof=1).mean() / len(p) for p in (a, b))
    found = spectrum_distance(x, y, ball(), spacing=SPACING)
    assert found == pytest.approx(plug_in - excess, abs=1e-9)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_seam_row_is_the_unbiased_distance_of_relative_profiles(axis):
    """As for the spectrum, from `seam_profiles` less the mean level along that of the other axes
    whose mean rose less from x to y: never the jittered one.
    """
    x, y = heads(5, 0), jittered(heads(6, 1), 2, np.random.default_rng(0))
    profiles = [[seam_profiles(v, ball(), SPACING) for v in volumes] for volumes in (x, y)]
    level = [[np.mean([p[a].mean() for p in side]) for a in range(3)] for side in profiles]
    rise = [level[1][a] - level[0][a] for a in range(3)]
    other = min((a for a in range(3) if a != axis), key=lambda a: rise[a])
    assert other != 2
    a, b = (np.stack([p[axis] - p[other].mean() for p in side]) for side in profiles)
    plug_in = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).mean()
    excess = sum(p.var(axis=0, ddof=1).mean() / len(p) for p in (a, b))
    found = seam_energy(x, y, ball(), spacing=SPACING)
    assert found["xyz"[axis]] == pytest.approx(plug_in - excess, abs=1e-9)


def test_a_seam_rows_choice_of_axis_follows_the_weights():
    """One synthetic volume is jittered along y, one along z: with all weight on the others and
    one of them, the row of x is that of these volumes alone.
    """
    metric, settings = Spectrum(), {"spacing": list(SPACING)}
    rng = np.random.default_rng(0)
    real, synth = heads(4, 0), heads(6, 1)
    synth[:1], synth[1:2] = jittered(synth[:1], 1, rng), jittered(synth[1:2], 2, rng)
    rows = [metric.measure(Stack(volumes), ball(), settings) for volumes in (real, synth)]
    seam = metric.prepare(*rows).seams["x"]
    for kept in ([0, 2, 3], [1, 2, 3]):
        weights = {"real": np.ones((1, 4)), "synth": np.zeros((1, 6))}
        weights["synth"][0, kept] = 1
        alone = metric.prepare(rows[0], rows[1][kept]).seams["x"]
        assert seam.value(weights)[0] == pytest.approx(resampling.estimate(alone))
        assert seam.variance(weights)[0] == pytest.approx(alone.variance(ones(alone))[0])
        terms = seam.contributions(weights)["synth"][0, kept]
        np.testing.assert_allclose(terms, alone.contributions(ones(alone))["synth"][0])


def test_equal_distributions_are_within_noise_of_zero(sets):
    metric = Spectrum()
    settings = metric.freeze(None, None, spacing=SPACING)
    rows = [metric.measure(Stack(volumes), ball(), settings) for volumes in sets]
    statistic = metric.prepare(*rows, **settings)
    for inner in (statistic, *(part.statistic for part in statistic.parts().values())):
        assert isinstance(inner, Studentized)
        interval = intervals.studentized_interval(inner, resamples=500, seed=0)
        assert interval.low < 0 < interval.high


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slice_jitter_moves_the_row_of_its_axis(sets, axis):
    real, synth = sets
    found = distances(real, jittered(synth, axis, np.random.default_rng(2)))
    right = found["xyz"[axis]]
    others = [abs(found[name]) for name in "xyz" if name != "xyz"[axis]]
    assert right > 5
    assert right > 20 * max(others)


def test_misaligned_slices_move_the_row_of_their_axis(sets):
    real, synth = sets
    found = distances(real, misaligned(synth, np.random.default_rng(2)))
    assert found["z"] > 1
    assert found["z"] > 10 * max(abs(found["x"]), abs(found["y"]))


@pytest.mark.parametrize("axis", [0, 1])
def test_a_tile_border_moves_the_row_across_it(sets, baseline, axis):
    """Halves of the volume with gains 5% apart."""
    real, synth = sets
    tiled = synth.copy()
    half = [slice(None)] * 4
    half[1 + axis] = slice(12, None)
    tiled[tuple(half)] *= 1.05
    found = distances(real, tiled.clip(0, 1))
    moved = {name: found[name] - baseline[name] for name in "xyz"}
    right = moved.pop("xyz"[axis])
    assert right > 0.1
    assert right > 3 * max(abs(v) for v in moved.values())


def test_blur_moves_the_spectrum_more_than_any_seam(sets):
    real, synth = sets
    values = []
    for sigma in (0.4, 0.6, 0.9):
        blurred = np.stack([gaussian_filter(v, sigma) for v in synth])
        found = distances(real, blurred)
        values.append(found.pop("spectrum"))
        assert values[-1] > 5 * max(found.values())
    assert values == sorted(values)
    assert values[0] > 0.5


def test_settings_are_json_and_parts_have_rows():
    metric = Spectrum()
    settings = metric.freeze(None, None, spacing=SPACING)
    assert json.loads(json.dumps(settings)) == settings == {"spacing": [4.0, 4.0, 4.0]}
    x = heads(3, 0)
    rows = metric.measure(Stack(x), ball(), settings)
    statistic = metric.prepare(rows, rows, **settings)
    assert isinstance(statistic, Composite)
    assert isinstance(statistic, Studentized)
    assert list(statistic.parts()) == ["seam_x", "seam_y", "seam_z"]
    for _, part, *_ in statistic.parts().values():
        assert isinstance(part, Studentized)
        assert part.variance(ones(part)).shape == (1,)


def test_padding_depends_on_the_mask_alone():
    """Rows of two sets measured apart are of one length, whatever the axes' lengths."""
    metric = Spectrum()
    settings = {"spacing": [4.0, 4.0, 4.0]}
    mask = np.zeros(SHAPE, dtype=bool)
    mask[2:26, 3:12, 5:25] = True
    a, b = (metric.measure(Stack(heads(2, seed)), mask, settings) for seed in (0, 1))
    assert a.shape == b.shape


def test_tensors_are_taken_as_arrays_are():
    x, y = heads(3, 0), heads(3, 1)
    assert distances(torch.from_numpy(x), torch.from_numpy(y)) == distances(x, y)


def test_constant_volumes_are_alike():
    """Both lie at the floor of 8-bit rounding."""
    x = np.full((2, *SHAPE), 0.5, dtype=np.float32)
    found = distances(x, 0.5 * x)
    assert all(abs(v) < 1e-6 for v in found.values())


def spoiled():
    x = heads(2, 0)
    x[0, 5, 5, 5] = np.inf
    return x


def small_mask():
    mask = np.zeros(SHAPE, dtype=bool)
    mask[:7, :20, :20] = True
    return mask


def diagonal_mask():
    mask = np.zeros(SHAPE, dtype=bool)
    k = np.arange(20)
    mask[k, k, k] = True
    return mask


@pytest.mark.parametrize(
    ("volumes", "mask", "spacing", "message"),
    [
        (heads(1, 0), ball(), SPACING, "spectrum: a set needs at least 2 volumes; found 1"),
        (heads(2, 0), ball() & False, SPACING, "at least one voxel; found none"),
        (heads(2, 0), ball()[1:], SPACING, r"found volume 0 of shape \(28, 32, 30\)"),
        (spoiled(), ball(), SPACING, "volume 0 holds NaN or infinity"),
        (heads(2, 0), small_mask(), SPACING, "at least 8 voxels along each axis; found 7x20x20"),
        (heads(2, 0), diagonal_mask(), SPACING, "3 voxels thick along x.*solid mask"),
        (heads(2, 0), ball(), (4.0, 0.0, 4.0), r"three positive numbers of mm; found \(4.0, 0.0"),
        (heads(2, 0), ball(), (1.0, 1.0, 40.0), "at least 2 frequencies.*isotropic voxels"),
        (heads(2, 0), ball(), None, "found None. Pass spacing"),
    ],
)
def test_bad_input_is_named(volumes, mask, spacing, message):
    with pytest.raises(MetricError, match=message):
        spectrum_distance(volumes, volumes, mask, spacing=spacing)


def test_rows_of_another_origin_are_refused():
    rows = np.zeros((3, 10))
    with pytest.raises(MetricError, match="4 blocks of one length; found 10 columns"):
        Spectrum().prepare(rows, rows)


@pytest.mark.parametrize("spacing", [4, (4, 4), (4, 4, 0), None])
def test_a_spacing_that_is_no_three_sizes_is_refused(spacing):
    x = np.ones((2, 24, 24, 24), dtype=np.float32)
    with pytest.raises(MetricError, match=r"spacing: .* three positive numbers of mm"):
        seam_energy(x, x, np.ones((24, 24, 24), dtype=bool), spacing=spacing)
