"""The rules on one set."""

from __future__ import annotations

import shutil

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from synthbench.cohorts.preflight.check import (
    findings_within,
)
from synthbench.cohorts.reading import PREPARE, read_cohort
from tests.cohorts.preflight.sets import only, save, serious, with_scalp


def test_a_sound_cohort_is_only_told_that_it_is_small(real):
    assert [(f.rule, f.severity) for f in findings_within(real, "real")] == [("few", "warning")]


DAMAGE = {
    "front-back": (lambda v: v[:, ::-1], "flip", "error"),
    "up-down": (lambda v: v[:, :, ::-1], "flip", "error"),
    "left-right": (lambda v: v[::-1], "flip", "error"),
    "two axes": (lambda v: v[::-1, ::-1], "flip", "error"),
    "shift": (lambda v: np.roll(v, 2, axis=2), "shift", "error"),
    "dim": (lambda v: 0.2 * v, "scale", "warning"),
    "small": (
        lambda v: ndimage.affine_transform(
            v, np.eye(3) / 0.85, np.array(v.shape) / 2 * (1 - 1 / 0.85), order=1
        ),
        "size",
        "warning",
    ),
    "head": (with_scalp, "skull", "error"),
    "elsewhere": (lambda v: np.roll(v, 7, axis=1), "registered", "error"),
    "wrong origin": (lambda v: np.roll(v, (4, 4), (1, 2)), "shift", "error"),
    "noise": (
        lambda v: v + np.abs(np.random.default_rng(0).normal(0, 0.03, v.shape)),
        "background",
        "warning",
    ),
    "cut off": (lambda v: np.minimum(v, 0.8), "clipped", "warning"),
    "centred": (lambda v: 2 * v - 1, "negative", "error"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_one_damaged_volume_is_named(changed, damage):
    function, rule, severity = DAMAGE[damage]
    found = {f.rule: f for f in findings_within(changed(only(function)), "real")}
    assert found[rule].severity == severity
    assert len(found[rule].volumes) == 1
    assert found[rule].volumes[0].endswith("03.nii")
    assert found[rule].volumes[0] in found[rule].message
    assert found[rule].volumes[0] not in found[rule].summary
    assert (PREPARE in found[rule].message) == (rule in ("skull", "registered"))
    also = {
        "up-down": {"registered"}, "elsewhere": {"shift"}, "wrong origin": {"registered"},
    }.get(damage, set())  # fmt: skip
    assert {f.rule for f in found.values() if f.severity == "error"} <= {rule, *also}


def test_a_generators_odd_volumes_are_warnings(changed):
    cohort = changed(only(lambda v: v[:, ::-1]))
    found = serious(findings_within(cohort, "synth"))
    assert {(f.rule, f.severity) for f in found} == {("flip", "warning")}


@pytest.mark.parametrize("role", ["real", "synth"])
def test_only_real_scans_can_be_converted_again(changed, role):
    cut = changed(only(lambda v: np.minimum(v, 0.8)))
    (found,) = [f for f in findings_within(cut, role) if f.rule == "clipped"]
    assert ("from the original" in found.message) == (role == "real")


def test_a_whole_set_that_is_mirrored_against_its_affine_is_found_by_the_template(changed):
    found = serious(findings_within(changed(lambda v, i: v[:, ::-1]), "real"))
    assert [(f.rule, f.severity, f.volumes) for f in found] == [("flip", "error", ())]


def test_whole_heads_that_lie_anywhere_are_sent_to_preparation(changed):
    found = findings_within(changed(lambda v, i: np.roll(with_scalp(v), 7, axis=1)), "real")
    messages = {f.rule: f.message for f in found}
    assert PREPARE in messages["registered"]
    assert PREPARE in messages["skull"]


def test_too_few_subjects_and_small_sets(changed):
    found = findings_within(changed(lambda v, i: v, n=3), "real")
    assert [(f.rule, f.severity) for f in found] == [("few", "error")]
    found = findings_within(changed(only(lambda v: v[:, ::-1]), n=5), "real")
    assert "cannot be compared" in found[0].message


def test_axes_stored_in_another_order_are_a_note_and_no_flip(real, brains, tmp_path):
    volumes, affine = brains(0)
    folder = save(volumes, affine, tmp_path / "mixed")
    file = folder / "sub-mixed03.nii"
    turned = nib.load(file, mmap=False).as_reoriented(np.array([[1, 1], [2, -1], [0, 1]]))
    nib.save(turned, file)
    cohort = read_cohort(folder)
    found = serious(findings_within(cohort, "real"))
    assert [(f.rule, f.severity, f.volumes) for f in found] == [
        ("orientation", "note", ("sub-mixed03.nii",))
    ]


def test_identical_volumes_are_named_with_their_twins(brains, tmp_path):
    volumes, affine = brains(0)
    folder = save(volumes, affine, tmp_path / "twins")
    shutil.copy(folder / "sub-twins01.nii", folder / "sub-twins99.nii")
    cohort = read_cohort(folder)
    for role, severity in (("real", "error"), ("synth", "warning")):
        (found,) = serious(findings_within(cohort, role))
        assert (found.rule, found.severity) == ("identical", severity)
        assert found.volumes == ("sub-twins01.nii", "sub-twins99.nii")
