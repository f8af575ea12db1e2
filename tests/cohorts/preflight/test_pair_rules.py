"""The rules on two sets."""

from __future__ import annotations

import re
import shutil
from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from synthbench.cohorts.preflight.check import check, findings_between, findings_within
from synthbench.cohorts.preflight.pair_rules import DRAWN
from synthbench.cohorts.reading import PREPARE, read_cohort
from synthbench.errors import CohortError
from tests.cohorts.preflight.sets import SPACING, save, with_scalp


def test_sets_of_one_kind_have_no_mismatch(real, changed):
    assert findings_between({"real": real, "synth": changed(lambda v, i: v, seed=1)}) == []


MISMATCHES = {
    "front-back": (lambda v: v[:, ::-1], "flip-mismatch", "mirrored front-back"),
    "left-right": (lambda v: v[::-1], "flip-mismatch", "mirrored left-right"),
    "half turn": (lambda v: v[::-1, ::-1], "flip-mismatch", "left-right and front-back"),
    "shift": (lambda v: np.roll(v, 2, axis=1), "shift-mismatch", "displaced"),
    "centred": (lambda v: 2 * v - 1, "range-mismatch", "-1 to"),
    "head": (with_scalp, "skull-mismatch", "not skull-stripped"),
    "elsewhere": (lambda v: np.roll(v, 7, axis=1), "shift-mismatch", "displaced"),
    "not registered": (
        lambda v: zoomed(ndimage.rotate(v, 40, (1, 2), reshape=False, order=1)),
        "registered-mismatch",
        "MNI152",
    ),
    "offset": (lambda v: 0.2 + v, "background-mismatch", "offset"),
}


@pytest.fixture(scope="module")
def otherwise(changed):
    """Return a function that gives a set by the name of its mismatch, made once."""

    @cache
    def prepared(name):
        return changed(lambda v, i: MISMATCHES[name][0](v), seed=1)

    return prepared


@pytest.mark.parametrize("name", MISMATCHES)
def test_a_set_that_was_prepared_otherwise_is_refused(real, otherwise, name):
    _, rule, words = MISMATCHES[name]
    synth = otherwise(name)
    found = findings_between({"real": real, "synth": synth})
    assert [f.rule for f in found if f.severity == "error"] == [rule]
    assert words in found[0].message
    assert found[0].volumes == ()
    assert (PREPARE in found[0].message) == (rule in ("skull-mismatch", "registered-mismatch"))


@pytest.mark.parametrize("name", [name for name in MISMATCHES if name != "centred"])
def test_the_anatomy_of_volumes_that_synthbench_drew_is_warned_of_and_scored(real, otherwise, name):
    """The same mismatches: no header can be wrong, so there is nothing to fix or to accept."""
    _, rule, _ = MISMATCHES[name]
    synth = otherwise(name)
    said: list[str] = []
    found = check({"real": real, "synth": synth}, log=said.append, drawn=("synth",))
    (warned,) = [f for f in found if f.rule == rule]
    assert (warned.severity, warned.role) == ("warning", "synth")
    assert warned.message.endswith(DRAWN)
    assert "affine of the training data" not in warned.message
    assert PREPARE not in warned.message
    assert f"warning: synth: {warned.message}" in said


def test_the_anatomy_of_volumes_of_others_is_refused(real, otherwise):
    with pytest.raises(CohortError, match="shift-mismatch"):
        check({"real": real, "synth": otherwise("shift")})


def test_values_below_zero_are_refused_whoever_drew_them(real, otherwise):
    synth = otherwise("centred")
    with pytest.raises(CohortError, match="range-mismatch"):
        check({"real": real, "synth": synth}, drawn=("synth",))


@pytest.mark.parametrize("cells", [(0, 4, 4), (0, 5, -3), (2, -4, 4)])
def test_a_wrong_origin_is_no_flip(real, changed, cells):
    """Displaced so far, the mean brain fits better when it is also turned: the shift is cheaper.

    The message names the truth to a millimetre, and how well each explanation fits.
    """
    synth = changed(lambda v, i: np.roll(v, cells, (0, 1, 2)), seed=1)
    (found,) = [
        f for f in findings_between({"real": real, "synth": synth}) if f.severity == "error"
    ]
    assert found.rule == "shift-mismatch"
    words = re.search(r"displaced by (\S+) (\S+) (\S+) mm \(right, front, top\)", found.message)
    assert words is not None
    assert [float(mm) for mm in words.groups()] == pytest.approx(
        [SPACING * cell for cell in cells], abs=1
    )
    fits = [float(fit) for fit in re.findall(r" ([01]\.\d\d)[,)]", found.message)]
    as_it_is, shifted, turned, both = fits
    assert shifted >= 0.97 > max(as_it_is, turned, both) + 0.02
    rules = {f.rule for f in findings_within(synth, "synth")}
    assert "flip" not in rules


def zoomed(volume):
    """A brain of half the size: no shift makes it fit."""
    small = ndimage.zoom(volume, 0.5, order=1)
    pads = [((a - b) // 2, a - b - (a - b) // 2)
            for a, b in zip(volume.shape, small.shape, strict=True)]  # fmt: skip
    return np.pad(small, pads)


def test_axes_exchanged_in_a_whole_set_are_found(brains, tmp_path):
    """In a cube, the voxels of (z, y, x) lie where those of (x, y, z) should, and nothing says."""
    volumes, affine = brains(0)
    side = volumes[0].shape[1]
    before = [(side - s) // 2 for s in volumes[0].shape]
    pads = [(b, side - s - b) for b, s in zip(before, volumes[0].shape, strict=True)]
    cube = [np.pad(volume, pads) for volume in volumes]
    affine[:3, 3] -= SPACING * np.array(before)
    real = read_cohort(save(cube, affine, tmp_path / "real"))
    synth = read_cohort(save([v.transpose(2, 1, 0) for v in cube], affine, tmp_path / "synth"))
    found = findings_between({"real": real, "synth": synth})
    assert "axes 1 and 3 exchanged" in next(f for f in found if f.rule == "flip-mismatch").message


@pytest.mark.parametrize(
    "generate",
    [
        lambda v, rng: (v > 0) * rng.random(v.shape),
        lambda v, rng: rng.random(v.shape),
        lambda v, rng: ndimage.gaussian_filter(v, 2.0),
        lambda v, rng: v + np.clip(rng.normal(0, 0.1, v.shape), 0, None),
        lambda v, rng: v + 0.3 * (v > 0) * rng.standard_normal(v.shape).clip(-1, 1),
    ],
    ids=["noise in the brain", "noise everywhere", "mush", "noisy background", "grain"],
)
def test_a_poor_generator_is_scored_and_not_refused(real, changed, generate):
    rng = np.random.default_rng(0)
    synth = changed(lambda v, i: generate(v, rng).clip(0), seed=1)
    found = [*findings_between({"real": real, "synth": synth}), *findings_within(synth, "synth")]
    assert [f for f in found if f.severity == "error"] == []


def noisy(volume, seed, sd):
    noise = np.random.default_rng(seed).normal(0, sd, volume.shape)
    return np.where(volume > 0, volume, np.clip(noise, 0, None))


@pytest.mark.parametrize(
    ("sd", "noisy_volumes", "found"),
    [(0.005, 9, True), (0.02, 9, True), (0.005, 4, True), (0.001, 9, False)],
)
def test_faint_noise_in_the_background_is_a_warning(real, changed, sd, noisy_volumes, found):
    """Noise below 0.01 of the scale is set to zero by the intensity rule: 10 deviations here."""
    synth = changed(lambda v, i: noisy(v, i, sd) if i < noisy_volumes else v, seed=1)
    rules = [(f.rule, f.severity) for f in findings_between({"real": real, "synth": synth})]
    assert rules == ([("background-mismatch", "warning")] if found else [])


def test_noise_that_both_sets_have_is_no_mismatch(changed):
    cohorts = {r: changed(lambda v, i: noisy(v, i, 0.01), seed=s) for s, r in enumerate(
        ("real", "synth"))}  # fmt: skip
    assert "background-mismatch" not in {f.rule for f in findings_between(cohorts)}


def test_a_factor_between_the_sets_is_a_note(real, changed):
    (found,) = findings_between({"real": real, "synth": changed(lambda v, i: 255 * v, seed=1)})
    assert (found.rule, found.severity) == ("range-mismatch", "note")


def test_shared_volumes_and_persons(brains, tmp_path):
    """Persons of one dataset: two of the hold-out are of the training set, one by content too."""
    volumes, affine = brains(0)
    (tmp_path / "dataset_description.json").write_text("{}", encoding="utf-8")
    train = save(volumes[:6], affine, tmp_path / "train")
    held = save(volumes[6:], affine, tmp_path / "holdout")
    shutil.copy(train / "sub-train00.nii", held)
    shutil.move(held / "sub-holdout01.nii", held / "sub-train01.nii")
    cohorts = {"train": read_cohort(train), "holdout": read_cohort(held)}
    found = {f.rule: f for f in findings_between(cohorts)}
    assert found["identical-across"].volumes == ("sub-train00.nii",)
    assert found["subjects"].volumes == ("sub-train00.nii", "sub-train01.nii")
    assert {f.severity for f in found.values()} == {"error"}
    as_real = {"train": cohorts["train"], "real": cohorts["holdout"]}
    assert {f.severity for f in findings_between(as_real)} == {"error"}


def test_a_few_copies_are_a_result_and_a_copied_set_is_a_mistake(real, brains, changed):
    others, _ = brains(1)
    few = changed(lambda v, i: v if i < 2 else others[i])
    (found,) = findings_between({"real": real, "synth": few})
    assert (found.rule, found.severity) == ("identical-across", "warning")
    assert len(found.volumes) == 2
    (found,) = findings_between({"real": real, "synth": real})
    assert found.severity == "error"
