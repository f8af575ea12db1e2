"""Each step on data whose answer is known."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from synthbench.cohorts.preparation.bias import bias_field
from synthbench.cohorts.preparation.brain import checked_volume_ml
from synthbench.cohorts.preparation.denoising import denoised, diagonal_haar, noise_sd
from synthbench.cohorts.preparation.image import Image, read_image
from synthbench.cohorts.preparation.registration import brain_centre, search
from synthbench.cohorts.preparation.settings import BiasCorrection, Denoising, TissueScale
from synthbench.cohorts.preparation.template import signed_distance, working_grid
from synthbench.cohorts.preparation.tissues import Tissues, scaled, tissue_intensities
from synthbench.errors import CohortError
from synthbench.volumes.grid import PAPER_GRID, Space
from tests.cohorts.preparation.heads import COARSE, bias

CUBE = Space.of((40, 40, 40), np.diag([4.0, 4.0, 4.0, 1.0]))


def ball(radius: float, side: int = 40) -> np.ndarray:
    grid = np.indices((side,) * 3) - (side - 1) / 2
    return np.asarray((grid**2).sum(axis=0) < radius**2)


def rician(signal: np.ndarray, sd: float, seed: int = 0) -> np.ndarray:
    real, imaginary = np.random.default_rng(seed).normal(0, sd, (2, *signal.shape))
    return np.asarray(np.sqrt((signal + real) ** 2 + imaginary**2), dtype=np.float32)


# ---------------------------------------------------------------- reading


def test_axes_are_turned_to_ras_whatever_the_file_says(tmp_path):
    """The one bright voxel lies 3 to the right, 5 to the front, 7 up, whichever axes are stored."""
    volume = np.zeros((10, 12, 14), np.float32)
    volume[3, 5, 7] = 1
    image = nib.Nifti1Image(volume, np.diag([2.0, 2.0, 2.0, 1.0]))
    lsp = nib.orientations.axcodes2ornt(("L", "S", "P"))
    now = nib.orientations.io_orientation(image.affine)
    nib.save(image.as_reoriented(nib.orientations.ornt_transform(now, lsp)), tmp_path / "a.nii.gz")
    read = read_image(tmp_path / "a.nii.gz")
    assert np.array_equal(read.volume, volume)
    assert read.space.same_grid(Space.of(volume.shape, image.affine))


def test_axes_that_no_header_can_say_are_taken_from_the_layout(tmp_path):
    """ANALYZE stores voxel sizes only. ASL: the stored axes run to the front, the top, the left."""
    stored = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    image = nib.AnalyzeImage(stored, np.diag([1.0, 2.0, 3.0, 1.0]))
    nib.save(image, tmp_path / "a.hdr")
    read = read_image(tmp_path / "a.hdr", "ASL")
    assert np.array_equal(read.volume, stored.transpose(2, 0, 1)[::-1])
    assert read.space.spacing == pytest.approx((3, 1, 2))
    with pytest.raises(CohortError, match="axes"):
        read_image(tmp_path / "a.hdr")


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        (np.zeros((4, 4, 4)), "not all equal"),
        (np.full((4, 4, 4), np.nan), "64 of 64 voxels of NaN"),
        (np.ones((4, 4, 4, 2)), "one 3-D volume"),
    ],
    ids=["constant", "nan", "4-D"],
)
def test_what_is_no_scan_is_refused(volume, words, tmp_path):
    nib.save(nib.Nifti1Image(volume.astype(np.float32), np.diag([2, 2, 2, 1])), tmp_path / "a.nii")
    with pytest.raises(CohortError, match=words):
        read_image(tmp_path / "a.nii")


# ---------------------------------------------------------------- noise


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


# ---------------------------------------------------------------- bias


def test_the_bias_field_is_found_up_to_its_mean_and_on_any_number_of_threads():
    """A uniform ball with some texture under a known field: N4 gives the field's shape back."""
    inside = ball(16)
    texture = 100 + 2 * np.random.default_rng(0).standard_normal(CUBE.shape)
    image = Image((inside * texture * bias(CUBE)).astype(np.float32), CUBE)
    settings = BiasCorrection(iterations=(30, 30))
    field = bias_field(image, inside, 8.0, settings)
    left = np.log(field[inside] / bias(CUBE)[inside])
    assert left.std() < 0.02
    assert np.log(field[inside]).mean() == pytest.approx(0, abs=1e-5)
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    try:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(3)
        again = bias_field(image, inside, 8.0, settings)
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    assert np.array_equal(again, field)


# ---------------------------------------------------------------- registration


def test_a_neck_does_not_move_the_brains_centre():
    """A ball of radius 80 mm with a long thin neck: the guess stays within 15 mm of its middle."""
    volume = np.zeros((44, 44, 80), np.float32)
    volume[2:42, 2:42, 38:78] = ball(20)
    volume[17:27, 17:27, :40] = 1
    head = Image(volume, Space.of(volume.shape, np.diag([4.0, 4.0, 4.0, 1.0])))
    middle = 4 * np.array([21.5, 21.5, 57.5])
    assert np.abs(brain_centre(head) - middle).max() < 15


def test_the_pose_of_a_whole_head_is_recovered(template_head):
    """The template, turned by 12, 4 and 6 degrees, moved and stretched, with skull and neck.

    Points throughout the brain come out within 3 mm, one voxel of this scan, of where they are.
    """
    found = search(template_head.scan, COARSE.registration)
    points = np.array(
        [(x, y, z, 1) for x in (-40, 0, 40) for y in (-70, -18, 40) for z in (-30, 8, 50)]
    )
    apart = (found.matrix - template_head.pose) @ points.T
    assert np.linalg.norm(apart, axis=0).max() < 3
    assert found.correlation > 0.7


def test_what_is_no_head_is_refused():
    noise = np.random.default_rng(0).random((40, 40, 40)).astype(np.float32)
    with pytest.raises(CohortError, match="correlation with the MNI152 template is"):
        search(Image(noise, CUBE), COARSE.registration)


# ---------------------------------------------------------------- template, brain and tissues


def test_the_working_grid_covers_the_paper_grid_and_9_mm_around():
    grid = working_grid(1.5)
    low, high = grid.matrix[:3, 3] - 0.75, grid.matrix[:3, 3] + 1.5 * np.array(grid.shape) - 0.75
    voxel = np.array(PAPER_GRID.spacing)
    first = PAPER_GRID.matrix[:3, 3] - voxel / 2
    last = first + voxel * np.array(PAPER_GRID.shape)
    assert (low <= first - 9 + 1e-6).all()
    assert (high >= last + 9 - 1e-6).all()


def test_signed_distance_by_hand():
    """Three voxels of 2 mm in a row of seven: 2 and 4 mm deep, and 2, 4 mm outside."""
    row = np.array([0, 0, 1, 1, 1, 0, 0], dtype=bool)[:, None, None]
    assert signed_distance(row, 2.0).ravel() == pytest.approx([-4, -2, 2, 4, 2, -2, -4])


def test_a_brain_of_an_impossible_size_counts_as_failed():
    """1000 voxels of 4 mm are 64 mL."""
    mask = np.zeros(CUBE.shape, np.float32)
    mask[:10, :10, :10] = 1
    assert checked_volume_ml(Image(mask, CUBE), (60, 70)) == 64
    with pytest.raises(CohortError, match="holds 64 mL; 600 to 2600 are possible"):
        checked_volume_ml(Image(mask, CUBE), (600, 2600))


def test_tissue_means_are_those_the_values_were_drawn_from():
    """A third of each tissue; the priors favour the true one 8:1:1."""
    rng = np.random.default_rng(0)
    tissue = rng.integers(3, size=30_000)
    values = rng.normal(np.array([200, 500, 700])[tissue], np.array([60, 50, 30])[tissue])
    odds = np.where(np.arange(3)[:, None] == tissue, 0.8, 0.1).astype(np.float32)
    found = tissue_intensities(values.astype(np.float32), odds)
    assert (found.fluid, found.grey, found.white) == pytest.approx((200, 500, 700), abs=4)
    assert found.white_sd == pytest.approx(30, abs=2)
    with pytest.raises(CohortError, match="T1-weighted"):
        tissue_intensities((1000 - values).astype(np.float32), odds)


def test_tissues_are_mapped_to_their_intensities_and_the_rest_in_between():
    """By hand: 500 to 0.55, 700 to 0.8; half of 500 to half of 0.55; 860 and beyond to 1."""
    values = np.array([[[0, 250, 500, 600, 700, 780, 860, 2000]]], np.float32)
    mapped = scaled(values, Tissues(200, 500, 700, 30), TissueScale(grey=0.55, white=0.8))
    assert mapped.ravel() == pytest.approx([0, 0.275, 0.55, 0.675, 0.8, 0.9, 1, 1])
