"""The rules for volumes made elsewhere: places, scales, and what cannot be read."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from synthbench.cohorts.foreign.rules import Scaling, Statement, padded_or_cropped, position
from synthbench.errors import CohortError, UsageError
from synthbench.volumes.grid import Space, resample

RNG = np.random.default_rng(0)
LIKE = Space.of(
    (10, 12, 9), np.array([[4, 0, 0, -18], [0, 4, 0, -25], [0, 0, 5, -20], [0, 0, 0, 1]])
)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAR", "IPL", "ASR"])
def test_stated_axes_put_each_voxel_where_nibabel_puts_it(codes):
    """The volume is written in these axes by nibabel, its header is dropped, and it comes back."""
    volume = RNG.random(LIKE.shape).astype(np.float32)
    to = nib.orientations.axcodes2ornt(codes)
    start = nib.orientations.axcodes2ornt("RAS")
    stored = nib.apply_orientation(volume, nib.orientations.ornt_transform(start, to))
    place = position(stored.shape, None, Statement(orientation=codes), LIKE)
    assert place.grid == LIKE
    assert np.array_equal(place(stored, 0), volume)


def test_a_padded_array_with_the_real_voxel_size_is_cropped_to_the_real_grid():
    volume = RNG.random(LIKE.shape).astype(np.float32)
    padded = np.pad(volume, [(3, 3), (0, 1), (2, 3)], constant_values=-1)
    for stated in (Statement(orientation="RAS", spacing="real"),):
        place = position(padded.shape, None, stated, LIKE)
        assert place.grid == LIKE
        assert np.array_equal(place(padded, -1), volume)
    smaller = volume[2:-2, 1:-2]
    again = position(smaller.shape, None, Statement(orientation="RAS", spacing="real"), LIKE)
    assert np.array_equal(again(smaller, -1)[2:-2, 1:-2], smaller)
    assert (again(smaller, -1)[:2] == -1).all()


def test_another_voxel_size_keeps_the_middle_of_the_real_grid():
    """A volume of half the size, made by averaging, lies where the original does."""
    fine = Space.of(
        (24, 28, 24), np.array([[2, 0, 0, -23], [0, 2, 0, -27], [0, 0, 2, -23], [0, 0, 0, 1]])
    )
    coarse = np.zeros((12, 14, 12), np.float32)
    coarse[5:8, 4:7, 6:9] = RNG.random((3, 3, 3))
    place = position(coarse.shape, None, Statement(orientation="RAS", spacing=4.0), fine)
    assert place.grid.spacing == (4.0, 4.0, 4.0)
    first = place.grid.matrix @ [0, 0, 0, 1]
    assert np.allclose(first[:3], [-22, -26, -22])  # the middle of eight voxels of 2 mm
    assert np.array_equal(place(coarse, 0), coarse)
    moved = resample(coarse, place.grid, fine)
    weights = [np.average(np.arange(n), weights=moved.sum(axis=tuple({0, 1, 2} - {a})))
               for a, n in enumerate(fine.shape)]  # fmt: skip
    expected = [2 * np.average(np.arange(n), weights=coarse.sum(axis=tuple({0, 1, 2} - {a}))) + 0.5
                for a, n in enumerate(coarse.shape)]  # fmt: skip
    assert np.allclose(weights, expected, atol=0.02)


def test_a_header_gives_voxel_sizes_in_the_stated_axes_and_its_own_place_without_any():
    affine = np.diag([2.0, 3, 4, 1])
    affine[:3, 3] = 7
    own = position((5, 6, 7), affine, Statement(), None)
    assert own.grid == Space.of((5, 6, 7), affine)
    stated = position((5, 6, 7), affine, Statement(orientation="SAR"), None)
    assert stated.grid.shape == (7, 6, 5)
    assert stated.grid.spacing == (4.0, 3.0, 2.0)
    middle = stated.grid.matrix @ [3, 2.5, 2, 1]
    assert np.allclose(middle[:3], 0)


@pytest.mark.parametrize(
    ("stated", "like"),
    [
        (Statement(), LIKE),
        (Statement(orientation="RAS"), None),
        (Statement(orientation="RAS"), LIKE),
        (Statement(orientation="RAS", spacing="real"), None),
    ],
)
def test_what_is_not_stated_is_not_guessed(stated, like):
    with pytest.raises(CohortError):
        position((11, 12, 13), None, stated, like)


def test_values_are_scaled_by_the_stated_range_or_kept():
    values = np.array([[[-1.2, -1, 0, 0.5, 1, 1.3]]], np.float32)
    found = Scaling.of(Statement(value_range=(-1, 1)), 1.3)
    assert np.allclose(found(values), [[[0, 0, 0.5, 0.75, 1, 1]]])
    assert found.scale == 1
    kept = Scaling.of(Statement(), 1000.0)
    assert np.allclose(
        kept(np.array([-3, 0, 250, 1000], np.float32)) * kept.scale, [0, 0, 250, 1000]
    )


@pytest.mark.parametrize(
    "options",
    [("1:-1", None, None), ("1", None, None), ("0:nan", None, None), (None, "RAP", None),
     (None, "RA", None), (None, "RASX", None), (None, None, "0"), (None, None, "thin")],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(options):
    with pytest.raises(UsageError):
        Statement.parse(*options)


def test_a_statement_is_typed_as_its_options():
    stated = Statement.parse("-1:1", "lps", "1.5")
    assert stated.options == ["--range", "-1:1", "--orientation", "LPS", "--spacing", "1.5"]
    assert Statement.parse(None, None, "real").options == ["--spacing", "real"]


def test_padding_and_cropping_agree_with_each_other():
    for n, m in ((5, 8), (8, 5), (4, 4), (7, 2)):
        line = np.arange(1.0, n + 1).reshape(n, 1, 1)
        there = padded_or_cropped(line, (m, 1, 1), 0)
        back = padded_or_cropped(there, (n, 1, 1), 0)
        assert np.array_equal(back[back > 0], there[there > 0])
        assert np.array_equal(np.flatnonzero(back), np.flatnonzero(np.isin(line, there)))
