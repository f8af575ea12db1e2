"""The embedded atlas cohort: reproducible, within range, and true to what it says of itself."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from nibabel.affines import apply_affine
from scipy import interpolate, stats

from synthbench.errors import UsageError
from synthbench.simulation import cohort as cohort_module
from synthbench.simulation import deformation, template
from synthbench.simulation import subject as subject_module

SHAPE = (32, 40, 32)
FINER_SHAPE = (64, 76, 64)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Volumes this small draw faster on one thread, above all where tests run in parallel."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def subject() -> subject_module.Subject:
    return subject_module.draw(3, 1, SHAPE)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cohort_module.atlas_cohort(2, tmp_path_factory.mktemp("atlas") / "cohort", 3, SHAPE)


def contents(folder: Path) -> dict[Path, bytes]:
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def rendered(shape: tuple[int, int, int] = SHAPE, **traits: object) -> subject_module.Subject:
    """Subject 1 of seed 3 with some traits replaced: another life of the same person."""
    changed = replace(subject_module._draw_traits(3, 1), **traits)  # type: ignore[arg-type]
    return subject_module._render(changed, 3, 1, shape)


# --- subjects ---


def test_a_subject_depends_on_seed_and_index_alone(subject: subject_module.Subject) -> None:
    before = subject_module.draw(3, 0, SHAPE)
    again = subject_module.draw(3, 1, SHAPE)
    np.testing.assert_array_equal(again.volume, subject.volume)
    assert (again.ventricle_volume, again.age) == (subject.ventricle_volume, subject.age)
    assert not np.array_equal(before.volume, subject.volume)
    assert not np.array_equal(subject_module.draw(4, 1, SHAPE).volume, subject.volume)


def test_the_number_of_threads_changes_nothing(subject: subject_module.Subject) -> None:
    torch.set_num_threads(2)
    try:
        again = subject_module.draw(3, 1, SHAPE)
    finally:
        torch.set_num_threads(1)
    np.testing.assert_array_equal(again.volume, subject.volume)
    assert again.ventricle_volume == pytest.approx(subject.ventricle_volume, rel=1e-9)


def test_the_global_random_state_is_neither_read_nor_moved(subject: subject_module.Subject) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    again = subject_module.draw(3, 1, SHAPE)
    np.testing.assert_array_equal(again.volume, subject.volume)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_volume_is_ras_within_unit_range_on_a_zero_background(
    subject: subject_module.Subject,
) -> None:
    volume = subject.volume
    assert volume.shape == SHAPE
    assert volume.dtype == np.float32
    assert nib.orientations.aff2axcodes(subject.affine) == ("R", "A", "S")
    assert volume.min() == 0
    assert 0.5 < volume.max() <= 1
    # The brain fills a third of the box at most, and touches no side face.
    assert 0.15 < (volume > 0).mean() < 0.35
    for face in (volume[0], volume[-1], volume[:, 0], volume[:, -1], volume[..., -1]):
        assert not face.any()


@pytest.mark.parametrize("shape", [(181, 217, 181), (84, 128, 84), SHAPE])
def test_every_shape_covers_the_classic_box(shape: tuple[int, int, int]) -> None:
    """Voxel faces lie at -90.5..90.5, -126.5..90.5 and -72.5..108.5 mm, whatever the shape."""
    affine = deformation.box_affine(shape)
    low = apply_affine(affine, (-0.5, -0.5, -0.5))
    high = apply_affine(affine, np.array(shape) - 0.5)
    np.testing.assert_allclose(low, (-90.5, -126.5, -72.5))
    np.testing.assert_allclose(high, (90.5, 90.5, 108.5))


def test_the_anatomy_is_the_same_at_another_shape(subject: subject_module.Subject) -> None:
    finer = subject_module.draw(3, 1, FINER_SHAPE)
    assert (finer.age, finer.sex) == (subject.age, subject.sex)
    assert finer.brain_volume == pytest.approx(subject.brain_volume, rel=0.03)
    assert finer.ventricle_volume == pytest.approx(subject.ventricle_volume, rel=0.1)


def test_ages_are_uniform_and_sexes_balanced() -> None:
    traits = [subject_module._draw_traits(0, index) for index in range(300)]
    ages = [t.age for t in traits]
    assert stats.kstest(ages, "uniform", args=(20, 65)).pvalue > 0.01
    assert sum(t.sex == "F" for t in traits) == 150
    assert sum(t.sex == "F" for t in traits[::2]) not in (0, 150)


def test_volumes_are_in_the_range_of_healthy_adults() -> None:
    subjects = [subject_module.draw(0, index, SHAPE) for index in range(6)]
    assert all(4e3 < s.ventricle_volume < 65e3 for s in subjects)
    assert all(0.9e6 < s.brain_volume < 1.7e6 for s in subjects)


def test_age_widens_the_ventricles_and_shrinks_the_brain() -> None:
    lives = [rendered(age=age) for age in (22.0, 43.0, 64.0, 84.0)]
    assert np.all(np.diff([s.ventricle_volume for s in lives]) > 0)
    assert np.all(np.diff([s.brain_volume for s in lives]) < 0)
    # The targets differ by exp(1.2 * (0.985^1.3 - 0.031^1.3)), a factor of 3.2.
    assert 2 < lives[-1].ventricle_volume / lives[0].ventricle_volume < 4.5


def test_male_brains_are_a_tenth_larger() -> None:
    """Head volumes are in the ratio 1.54 / 1.40, and a pose scales every tissue alike."""
    ratio = rendered(sex="M").brain_volume / rendered(sex="F").brain_volume
    assert ratio == pytest.approx(1.10, abs=0.02)


def test_true_ventricle_volume_is_what_turns_dark_in_the_image() -> None:
    """Only the ventricles differ between the two images, so dark voxels count their growth."""
    small, large = (rendered(FINER_SHAPE, ventricle_z=z, noise_sd=0.0) for z in (-2.0, 2.0))
    grey, _, fluid, _ = subject_module._draw_traits(3, 1).intensities
    midpoint = (grey + fluid) / 2
    dark = [((s.volume > 0) & (s.volume < midpoint)).sum() for s in (small, large)]
    counted = (dark[1] - dark[0]) * np.prod(small.affine.diagonal()[:3])
    assert counted == pytest.approx(large.ventricle_volume - small.ventricle_volume, rel=0.15)


def test_true_brain_volume_is_what_is_bright_in_the_image() -> None:
    subject = rendered(FINER_SHAPE, noise_sd=0.0)
    grey, _, fluid, _ = subject_module._draw_traits(3, 1).intensities
    bright = (subject.volume > (grey + fluid) / 2).sum() * np.prod(subject.affine.diagonal()[:3])
    assert bright == pytest.approx(subject.brain_volume, rel=0.1)


# --- deformation ---


@pytest.mark.parametrize("ventricle_z", [-2.0, 2.0])
@pytest.mark.parametrize("age", [20.0, 85.0])
def test_deformations_do_not_fold(age: float, ventricle_z: float) -> None:
    traits = replace(subject_module._draw_traits(0, 0), age=age, ventricle_z=ventricle_z)
    for seed in range(3):
        displacement = subject_module._backward_displacement(traits, np.random.default_rng(seed))
        points = deformation.grid_points(deformation.DEFORMATION_SHAPE) + displacement.movedim(
            0, -1
        )
        z, y, x = points.double().movedim(-1, 0).numpy()
        spacing = [2 / side for side in deformation.DEFORMATION_SHAPE]
        gradients = [np.stack(np.gradient(component, *spacing)) for component in (x, y, z)]
        jacobian = np.linalg.det(np.moveaxis(np.stack(gradients), (0, 1), (-2, -1)))
        assert jacobian.min() > 0


def test_random_displacements_are_several_millimetres() -> None:
    velocity = subject_module._random_velocity(np.random.default_rng(0))
    displacement = deformation.exponential(velocity).flip(0).movedim(0, -1)
    millimetres = displacement * torch.tensor(deformation.EXTENT_MM) / 2
    brain = template.template_anatomy().mobility > 0.5
    assert 2 < float(millimetres.norm(dim=-1)[brain].median()) < 8


def test_the_exponential_of_a_shrinking_field_is_known() -> None:
    """dx/dt = -x / 2 takes x to x exp(-1/2) at time 1; each squaring step errs by second order."""
    points = deformation.grid_points(deformation.DEFORMATION_SHAPE)
    displacement = deformation.exponential(-0.5 * points.movedim(-1, 0))
    expected = points.movedim(-1, 0) * (math.exp(-0.5) - 1)
    np.testing.assert_allclose(displacement, expected, atol=3e-3)


def test_the_gradient_field_has_the_divergence_asked_for() -> None:
    """For phi = cos(kx), the divergence is -k^2 cos(kx) and the field -k sin(kx) along x."""
    x = np.arange(16) * 2.0
    k = 2 * np.pi / 32
    divergence = np.broadcast_to((-(k**2) * np.cos(k * x))[:, None, None], (16, 8, 8))
    field = deformation.gradient_field(divergence, np.full(3, 2.0))
    expected = np.broadcast_to((-k * np.sin(k * x))[:, None, None], (16, 8, 8))
    np.testing.assert_allclose(field[0], expected, atol=1e-12)
    np.testing.assert_allclose(field[1:], 0, atol=1e-12)


def test_spline_bases_are_those_of_scipy() -> None:
    """Uniform cubic B-splines, knots at the integers; the first is centred one cell outside."""
    basis = deformation.spline_basis(side=10, cells=5.0, count=8)
    position = (np.arange(10) + 0.5) / 2
    for j in range(8):
        element = interpolate.BSpline.basis_element(np.arange(j - 3, j + 2), extrapolate=False)
        np.testing.assert_allclose(basis[:, j], np.nan_to_num(element(position)), atol=1e-12)


def test_spline_fields_have_unit_variance_on_average() -> None:
    """Some 9,000 coefficients: the standard error of the variance is near 0.03."""
    field = deformation.spline_field(np.random.default_rng(0), 10.0, (48, 56, 48))
    assert float(field.var()) == pytest.approx(1, abs=0.1)


def test_noise_is_rician() -> None:
    """The Rice distribution of scipy with b = signal / sd, by Kolmogorov and Smirnov."""
    noisy = subject_module.rician(torch.full((16, 16, 16), 0.06), 0.03, np.random.default_rng(0))
    values = noisy.flatten().double().numpy()
    assert stats.kstest(values, stats.rice(b=2.0, scale=0.03).cdf).pvalue > 0.01


# --- files ---


def test_files_load_as_the_drawn_subjects(cohort: Path) -> None:
    table = pd.read_csv(cohort / "participants.tsv", sep="\t")
    assert list(table) == ["participant_id", "age", "sex", "ventricle_volume", "brain_volume"]
    assert list(table.participant_id) == ["sub-0000", "sub-0001"]
    for index, row in table.iterrows():
        drawn = subject_module.draw(3, int(str(index)), SHAPE)
        name = f"{drawn.participant_id}_space-MNI152_desc-brain_T1w.nii.gz"
        image: Any = nib.load(cohort / drawn.participant_id / "anat" / name)
        loaded = image.get_fdata()
        np.testing.assert_allclose(loaded, drawn.volume, atol=1e-7)
        np.testing.assert_array_equal(loaded > 0, drawn.volume > 0)
        assert loaded.max() <= 1
        assert image.get_data_dtype() == np.uint8
        assert image.get_qform(coded=True)[1] == image.get_sform(coded=True)[1] == 4
        np.testing.assert_allclose(image.get_qform(), drawn.affine, atol=1e-4)
        np.testing.assert_allclose(image.affine, drawn.affine, atol=1e-4)
        assert b"simulated" in bytes(image.header["descrip"])
        assert (row.age, row.sex) == (drawn.age, drawn.sex)
        assert row.ventricle_volume == pytest.approx(drawn.ventricle_volume, abs=0.051)
        assert row.brain_volume == pytest.approx(drawn.brain_volume, abs=0.051)


def test_the_description_says_that_it_is_simulated_and_how(cohort: Path) -> None:
    description = json.loads((cohort / "dataset_description.json").read_text())
    generator = description["GeneratedBy"][0]
    assert description["DatasetType"] == "derivative"
    assert "simulated" in description["Name"]
    assert "MNI152" in generator["Description"]
    assert generator["Parameters"] == {"seed": 3, "shape": list(SHAPE)}


def test_a_larger_cohort_holds_the_same_subjects_and_can_extend_one(
    cohort: Path, tmp_path: Path
) -> None:
    first = contents(cohort_module.atlas_cohort(1, tmp_path / "grown", 3, SHAPE))
    written: list[int] = []
    grown = contents(
        cohort_module.atlas_cohort(2, tmp_path / "grown", 3, SHAPE, progress=written.append)
    )
    assert written == [1, 2]
    assert grown == contents(cohort)
    del first[Path("participants.tsv")]
    assert first.items() <= grown.items()


def test_an_interrupted_cohort_has_no_table_and_can_be_resumed(
    cohort: Path, tmp_path: Path
) -> None:
    def interrupt(written: int) -> None:
        raise KeyboardInterrupt

    out = cohort_module.atlas_cohort(1, tmp_path / "cut", 3, SHAPE)
    with pytest.raises(KeyboardInterrupt):
        cohort_module.atlas_cohort(2, out, 3, SHAPE, progress=interrupt)
    assert not (out / "participants.tsv").exists()
    assert contents(cohort_module.atlas_cohort(2, out, 3, SHAPE)) == contents(cohort)


def test_other_files_in_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.txt"):
        cohort_module.atlas_cohort(1, tmp_path, 3, SHAPE)
    assert contents(tmp_path) == {Path("notes.txt"): b"mine"}


@pytest.mark.parametrize(("n", "seed"), [(1, 3), (2, 4)], ids=["fewer", "another seed"])
def test_another_cohort_in_the_folder_is_refused(cohort: Path, n: int, seed: int) -> None:
    before = contents(cohort)
    with pytest.raises(UsageError, match="very cohort"):
        cohort_module.atlas_cohort(n, cohort, seed, SHAPE)
    assert contents(cohort) == before


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="must be a folder"):
        cohort_module.atlas_cohort(1, tmp_path / "file", 3, SHAPE)


@pytest.mark.parametrize("n", [0, -1])
def test_a_cohort_has_at_least_one_subject(n: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"at least 1 subject; found {n}"):
        cohort_module.atlas_cohort(n, tmp_path)


@pytest.mark.parametrize("shape", [(15, 40, 32), (32, 40), (32, 40, 32, 1), (32.5, 40, 32)])
def test_an_unusable_shape_is_named(shape: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 16 voxels; found"):
        subject_module.draw(0, 0, shape)
    with pytest.raises(UsageError, match="shape"):
        cohort_module.atlas_cohort(1, tmp_path, 0, shape)


@pytest.mark.parametrize(("seed", "index", "name"), [(-1, 0, "seed"), (0, -1, "index")])
def test_seed_and_index_count_from_zero(seed: int, index: int, name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} must be 0 or more; found -1"):
        subject_module.draw(seed, index, SHAPE)
