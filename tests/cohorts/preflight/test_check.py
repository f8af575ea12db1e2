from __future__ import annotations

import gzip
import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from nilearn import datasets
from scipy import ndimage

from synthbench.cohorts.preflight.check import (
    RULES,
    check,
    findings_between,
    findings_within,
    report,
)
from synthbench.cohorts.preflight.table import as_json, properties
from synthbench.cohorts.reading import PREPARE, read_cohort
from synthbench.errors import CohortError, UsageError
from tests.command_line import run

N = 9
SPACING = 5


@pytest.fixture(scope="module")
def template():
    image = nib.as_closest_canonical(datasets.load_mni152_template(resolution=SPACING))
    volume = np.clip(image.get_fdata(dtype=np.float32), 0, None)
    return np.where(volume > 0.15 * volume.max(), volume / volume.max(), 0), image.affine


@pytest.fixture(scope="module")
def brains(template):
    """The template in persons: tissue of their own, and a right frontal lobe that is brighter.

    The template is symmetric; the lobe is the asymmetry that real brains have.
    """
    volume, affine = template
    x, y, _ = nib.affines.apply_affine(affine, np.moveaxis(np.indices(volume.shape), 0, -1)).T
    lobe = 0.2 * ((x > 10) & (y > 10)).T

    def draw(seed, n=N):
        rng = np.random.default_rng(seed)
        made = []
        for _ in range(n):
            field = ndimage.gaussian_filter(rng.standard_normal(volume.shape), 2.5)
            field *= 0.05 / field.std()
            made.append(np.where(volume > 0, np.clip(volume * (1 + field + lobe), 0.02, 1.3), 0))
        return made, affine.copy()

    return draw


def moved(affine, millimetres):
    """The same axes with an origin further to the right."""
    there = affine.copy()
    there[0, 3] += millimetres
    return there


def save(volumes, affine, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for i, volume in enumerate(volumes):
        image = nib.Nifti1Image(volume.astype(np.float32), affine)
        nib.save(image, folder / f"sub-{folder.name}{i:02d}.nii")
    return folder


@pytest.fixture(scope="module")
def real(brains, tmp_path_factory):
    volumes, affine = brains(0)
    folder = save(volumes, affine, tmp_path_factory.mktemp("sets") / "real")
    return read_cohort(folder)


@pytest.fixture(scope="module")
def changed(brains, tmp_path_factory):
    """Return a function that writes a set, changed by a function of volume and index."""
    root = tmp_path_factory.mktemp("changed")

    def change(function, seed=0, n=N):
        folder = root / f"set{len(list(root.iterdir()))}"
        volumes, affine = brains(seed, n)
        volumes = [function(volume, i) for i, volume in enumerate(volumes)]
        return read_cohort(save(volumes, affine, folder))

    return change


def only(third):
    """Change the volume of index 3 alone."""
    return lambda volume, i: third(volume) if i == 3 else volume


def with_scalp(volume):
    distance = ndimage.distance_transform_edt(volume == 0, sampling=SPACING)
    return volume + 0.7 * ((distance > 12) & (distance < 22))


def serious(findings):
    return [f for f in findings if f.rule != "few"]


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
    also = {"up-down": {"registered"}, "elsewhere": {"shift"}}.get(damage, set())
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


def test_sets_of_one_kind_have_no_mismatch(real, changed):
    assert findings_between({"real": real, "synth": changed(lambda v, i: v, seed=1)}) == []


MISMATCHES = {
    "front-back": (lambda v: v[:, ::-1], "flip-mismatch", "mirrored front-back"),
    "left-right": (lambda v: v[::-1], "flip-mismatch", "mirrored left-right"),
    "half turn": (lambda v: v[::-1, ::-1], "flip-mismatch", "left-right and front-back"),
    "shift": (lambda v: np.roll(v, 2, axis=1), "shift-mismatch", "lies"),
    "centred": (lambda v: 2 * v - 1, "range-mismatch", "-1 to"),
    "head": (with_scalp, "skull-mismatch", "not skull-stripped"),
    "elsewhere": (lambda v: np.roll(v, 7, axis=1), "registered-mismatch", "MNI152"),
    "offset": (lambda v: 0.2 + v, "background-mismatch", "offset"),
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_a_set_that_was_prepared_otherwise_is_refused(real, changed, name):
    function, rule, words = MISMATCHES[name]
    synth = changed(lambda v, i: function(v), seed=1)
    found = findings_between({"real": real, "synth": synth})
    assert [f.rule for f in found if f.severity == "error"] == [rule]
    assert words in found[0].message
    assert found[0].volumes == ()
    assert (PREPARE in found[0].message) == (rule in ("skull-mismatch", "registered-mismatch"))


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


def test_a_factor_between_the_sets_is_a_note(real, changed):
    (found,) = findings_between({"real": real, "synth": changed(lambda v, i: 255 * v, seed=1)})
    assert (found.rule, found.severity) == ("range-mismatch", "note")


def test_shared_volumes_and_persons(brains, tmp_path):
    """Persons of one dataset: two of the hold-out are of the training set, one by content too."""
    volumes, affine = brains(0)
    (tmp_path / "dataset_description.json").write_text("{}")
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


def test_a_few_copies_are_a_result_and_a_copied_set_is_a_mistake(real, changed):
    few = changed(lambda v, i: v if i < 2 else v * 1.01)
    (found,) = findings_between({"real": real, "synth": few})
    assert (found.rule, found.severity) == ("identical-across", "warning")
    assert len(found.volumes) == 2
    (found,) = findings_between({"real": real, "synth": real})
    assert found.severity == "error"


def test_check_lists_all_errors_and_what_to_type(changed):
    cohort = changed(lambda v, i: v[:, ::-1] if i == 3 else np.roll(v, 7, 1) if i == 4 else v)
    with pytest.raises(CohortError) as refused:
        check({"real": cohort})
    message = str(refused.value)
    assert "flip (real)" in message
    assert message.startswith("preflight: 3 findings would make numbers wrong:")
    assert "registered (real)" in message
    assert "--accept flip" in message
    assert "--accept registered" in message
    rules = {f.rule for f in findings_within(cohort, "real") if f.severity == "error"}
    said: list[str] = []
    kept = check({"real": cohort}, rules, said.append)
    assert {f.rule for f in kept if f.severity == "error"} == rules
    assert any(line.startswith("error (accepted): real:") for line in said)


def test_one_finding_is_one(changed):
    with pytest.raises(CohortError, match="preflight: 1 finding would make numbers wrong"):
        check({"real": changed(lambda v, i: v, n=3)})


def test_check_keeps_warnings_and_says_notes(real, changed):
    said: list[str] = []
    synth = changed(lambda v, i: 255 * v, seed=1)
    kept = check({"real": real, "synth": synth}, log=said.append)
    assert {f.rule for f in kept} == {"few"}
    assert any(line.startswith("note: synth:") for line in said)


def test_a_rule_that_is_none_cannot_be_accepted(real):
    with pytest.raises(UsageError, match="--accept flipp: no such rule; did you mean 'flip'"):
        check({"real": real}, ["flipp"])


def test_every_rule_has_a_sentence_in_the_docs(request):
    page = (request.config.rootpath / "docs" / "preflight.md").read_text()
    missing = [rule for rule in RULES if f"`{rule}`" not in page]
    assert not missing


@pytest.fixture(scope="module")
def rubbish(brains, tmp_path_factory):
    """A cohort with a duplicate, a flip, and one of each kind of unusable file."""
    volumes, affine = brains(0)
    volumes[3] = volumes[3][:, ::-1]
    folder = save(volumes, affine, tmp_path_factory.mktemp("rubbish") / "x")
    nib.save(nib.Nifti1Image(np.stack(volumes[:2], -1), affine), folder / "four.nii")
    nib.save(nib.Nifti1Image(np.full((8, 8, 8), 2.0, np.float32), affine), folder / "constant.nii")
    holes = np.where(volumes[0] > 0.5, np.nan, volumes[0])
    nib.save(nib.Nifti1Image(holes, affine), folder / "holes.nii")
    nib.save(nib.Nifti1Image(volumes[0], moved(affine, 10)), folder / "moved.nii")
    np.save(folder / "array.npy", volumes[0])
    whole = gzip.compress((folder / "sub-x00.nii").read_bytes())
    (folder / "half.nii.gz").write_bytes(whole[: len(whole) // 2])
    table = "participant_id\tage\tsex\nsub-x00\t30\tF\nsub-x01\tn/a\tM\n"
    (folder / "participants.tsv").write_text(table)
    return folder


def test_a_report_stops_at_nothing_and_names_all(rubbish):
    found = report(rubbish)
    assert found.failed
    words = {
        "four.nii": "4-D", "constant.nii": "every voxel is 2", "holes.nii": "NaN",
        "moved.nii": "another origin", "array.npy": "no geometry", "half.nii.gz": "truncated",
    }  # fmt: skip
    assert found.unusable.keys() == words.keys()
    for name, part in words.items():
        assert part in found.unusable[name]
    assert found.odd() == {"sub-x03.nii": ["flip"]}
    assert (found.listed, len(found.entries)) == (N + 6, N)


def test_scans_on_grids_of_their_own_are_usable_but_warned(brains, tmp_path):
    volumes, affine = brains(0, 6)
    for i, volume in enumerate(volumes):
        save([volume], moved(affine, i), tmp_path / f"{i}")
    found = report(tmp_path)
    assert not found.failed
    assert {"grid", "few"} == {f.rule for f in found.findings}
    assert PREPARE in next(f for f in found.findings if f.rule == "grid").message
    assert len(found.entries) == 6


def test_info_prints_a_report_writes_figures_and_fails(rubbish, tmp_path):
    done = run("data", "info", rubbish, "--out", tmp_path / "pictures")
    assert done.returncode == 1, done.stderr
    assert "6 unusable files, 1 findings" in done.stderr
    for line in ("skull-stripped", "registered to MNI152", "four.nii", "mirrored front-back"):
        assert line in done.stdout
    assert "2 of 9 subjects; age 30 to 30, n/a for 8; sex F (1), M (1), n/a for 7" in done.stdout
    for name in ("montage.png", "histograms.png"):
        assert (tmp_path / "pictures" / name).read_bytes().startswith(b"\x89PNG")


def test_a_sound_cohort_in_json(real):
    found = json.loads(json.dumps(as_json(report(real.entries[0].path.parent))))
    assert found["failed"] is False
    assert found["properties"]["skull-stripped"] == "yes"
    assert found["properties"]["registered to MNI152"] == "yes"
    assert found["properties"]["stored axes"] == "RAS"
    assert [f["rule"] for f in found["findings"]] == ["few"]
    assert len(found["volumes"]) == N


def test_where_nothing_is_usable_the_report_says_why(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 4)))
    found = report(tmp_path)
    assert found.failed
    assert properties(found) == {}
    assert as_json(found)["unusable"].keys() == {"a.npy"}
