"""Volumes that are nearly the same image."""

from __future__ import annotations

import numpy as np
import pytest

from synthbench.cohorts.preflight.check import findings_between, findings_within
from synthbench.cohorts.preflight.near_identity import MIN_CORRELATION, alike, near_copies
from synthbench.cohorts.preflight.survey import Survey
from synthbench.cohorts.reading import read_cohort
from synthbench.runtime.memory import VARIABLE
from synthbench.volumes.grid import Space, resample
from tests.cohorts.preflight.sets import SPACING, moved, save


def noisy(volume, seed, sd=0.02):
    rng = np.random.default_rng(seed)
    return np.clip(volume + sd * rng.standard_normal(volume.shape) * (volume > 0), 0, None)


COPIES = {
    "divided": lambda v, i: v / 255,
    "offset": lambda v, i: 0.3 * v + 7,
    "gamma": lambda v, i: v**1.3,
    "noise": lambda v, i: noisy(v, i, 0.005),
    "mirrored": lambda v, i: v[::-1],
    "8 bits": lambda v, i: np.round(v * 190),
}


def near(findings):
    return [f for f in findings if f.rule.startswith("near-identical")]


@pytest.mark.parametrize("name", COPIES)
def test_copies_are_found_between_real_sets_and_refused(real, changed, name):
    train = changed(COPIES[name])
    (found,) = near(findings_between({"real": real, "train": train}))
    assert (found.rule, found.severity, found.role) == ("near-identical-across", "error", "real")
    assert len(found.volumes) == len(real)
    assert ("mirrored, r" in found.message) == (name == "mirrored")


def test_a_moved_origin_makes_no_other_image(real, brains, tmp_path):
    volumes, affine = brains(0)
    train = read_cohort(save(volumes, moved(affine, 2e-5), tmp_path / "t"))
    assert {e.digest for e in train.entries}.isdisjoint(e.digest for e in real.entries)
    assert len(near(findings_between({"real": real, "train": train}))[0].volumes) == len(real)


def test_a_wrong_folder_is_refused_and_a_copying_generator_is_not(real, brains, changed):
    others, _ = brains(1)
    wrong = changed(lambda v, i: v / 255)
    (found,) = near(findings_between({"real": real, "synth": wrong}))
    assert (found.severity, found.role) == ("error", "synth")
    few = changed(lambda v, i: v / 255 if i < 2 else others[i])
    (found,) = near(findings_between({"real": real, "synth": few}))
    assert (found.severity, len(found.volumes)) == ("warning", 2)
    apart = changed(lambda v, i: others[i])
    found = near(findings_between({"real": apart, "synth": wrong, "train": real}))
    assert {f.severity for f in found} == {"warning"}


def test_other_people_are_not_alike(real, changed):
    others = changed(lambda v, i: v, seed=1)
    inspections = [*Survey(real.entries).inspections, *Survey(others.entries).inspections]
    assert alike(inspections, least=0.9) == []


def grid(affine, shape, spacing=SPACING, offset=(0.0, 0.0, 0.0)):
    """A grid with the same centre and about the same field of view, offset by millimetres."""
    source = Space.of(shape, affine)
    target = source.regrid(spacing=spacing)
    matrix = target.matrix
    matrix[:3, 3] += offset
    return source, Space.of(target.shape, matrix)


@pytest.mark.parametrize(
    ("name", "spacing", "offset"),
    [("divided", 4, (0, 0, 0)), ("gamma", 6, (0, 0, 0)), ("mirrored", 4, (1, 2, 0)),
     ("noise", 5, (2.5, 2.5, 2.5)), ("offset", 5, (0, -1.5, 2))],
)  # fmt: skip
def test_copies_on_another_grid_are_found_and_other_people_are_not(
    real, brains, tmp_path, name, spacing, offset
):
    """Resampled linearly, as by any tool: the files share no voxel and no shape or place."""
    for seed, expected in ((0, len(real)), (1, 0)):
        volumes, affine = brains(seed)
        source, target = grid(affine, volumes[0].shape, spacing, offset)
        resampled = [
            resample(COPIES[name](volume, i).astype(np.float32), source, target)
            for i, volume in enumerate(volumes)
        ]
        train = read_cohort(save(resampled, target.matrix, tmp_path / f"train{seed}"))
        found = near(findings_between({"real": real, "train": train}))
        assert sum(len(f.volumes) for f in found) == expected
        if name == "mirrored" and found:
            assert "mirrored, r" in found[0].message


def test_near_copies_are_named(real, brains, changed):
    others, _ = brains(1)
    test = changed(lambda v, i: v / 255 if i == 2 else others[i])
    names = [entry.name for entry in test.entries if entry.name.endswith("02.nii")]
    assert near_copies(test.entries, real.entries) == names


def test_an_image_twice_in_a_set(brains, changed):
    first, _ = brains(0)
    twice = changed(lambda v, i: 2 * first[0] if i == 1 else v)
    (found,) = near(findings_within(twice, "real"))
    assert (found.rule, found.severity, len(found.volumes)) == ("near-identical", "error", 1)
    (found,) = near(findings_within(twice, "synth"))
    assert found.severity == "warning"


def test_the_correlation_is_pearsons_of_smoothed_ranks(real):
    """Derived anew for one pair: of a volume and itself it is 1, and pairs are in order."""
    inspections = [*Survey(real.entries).inspections] * 2
    pairs = alike(inspections)
    n = len(real)
    assert [(p.first, p.second) for p in pairs] == [(i, i + n) for i in range(n)]
    assert all(p.correlation == pytest.approx(1, abs=1e-6) for p in pairs)
    assert MIN_CORRELATION < 1


def test_findings_are_the_same_where_the_copies_lie_on_the_disk(brains, changed, monkeypatch):
    """The limit leaves no room for the copies of nine volumes in memory."""
    first, _ = brains(0)
    sets = {
        "real": changed(lambda v, i: 2 * first[0] if i == 1 else v),
        "synth": changed(lambda v, i: v[::-1] if i < 3 else np.roll(v, 2, 1), seed=1),
    }
    found = []
    for limit in ("1GiB", "4MiB"):
        monkeypatch.setenv(VARIABLE, limit)
        read = {role: read_cohort(one.entries[0].path.parent) for role, one in sets.items()}
        within = [findings_within(cohort, role) for role, cohort in read.items()]
        found.append([*within, findings_between(read)])
    assert found[0] == found[1]
    assert len(found[0][0]) > 1
