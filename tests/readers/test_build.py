"""The folder of a study: complete, reproducible, and silent about what is real."""

from __future__ import annotations

import stat
from collections import Counter
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from synthbench.errors import ScorecardError, UsageError
from synthbench.readers import study as folders
from synthbench.readers.build import Making, blurred, build
from synthbench.readers.design import Settings
from synthbench.readers.scales import read_scales
from tests.readers.small import SHAPE, arrays, cohorts, study


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "study"
    study(folder)
    return folder


def test_copies_differ_in_their_voxels_only(made):
    files = list((made / "cases").iterdir())
    contents = [file.read_bytes() for file in files]
    assert len({content[: folders.VOXEL_OFFSET] for content in contents}) == 1
    assert {len(c) for c in contents} == {folders.VOXEL_OFFSET + np.prod(SHAPE)}
    for what in ("st_size", "st_mtime_ns", "st_mode", "st_uid"):
        assert len({getattr(file.stat(), what) for file in files}) == 1, what
    assert {file.suffix for file in files} == {".nii"}


def test_names_and_plan_tell_nothing(made):
    plan = folders.study_file(made).read_text(encoding="utf-8")
    key = folders.Key.load(folders.key_file(made))
    assert key.seed == 7
    for word in ("alpha", "beta", "blurred", "real", "synth", "seed"):
        assert word not in plan
    assert {file.stem for file in (made / "cases").iterdir()} == set(key.cases)
    assert not [file for file in made.rglob("*") if "key" in file.name]
    assert stat.S_IMODE(folders.key_file(made).stat().st_mode) == 0o600


def test_the_key_says_what_each_copy_is(made):
    key = folders.Key.load(folders.key_file(made))
    expected = {
        np.round(255 * np.clip(volume / np.percentile(volume[volume > 0], 99.9), 0, 1))
        .astype(np.uint8).tobytes(): group
        for group, seed, n in (("real", 1, 20), ("alpha", 2, 6), ("beta", 3, 6))
        for volume in arrays(n, seed)
    }  # fmt: skip
    for name, case in key.cases.items():
        voxels = np.asarray(nib.load(folders.case_file(made, name)).dataobj)
        if case.group != "blurred":
            assert expected[voxels.astype(np.uint8).tobytes()] == case.group
    assert Counter(pair.group for pair in key.pairs) == {
        "alpha": 5, "beta": 5, "blurred": 2, "real": 2,
    }  # fmt: skip


def test_each_reader_has_every_pair_once_and_some_again_with_sides_exchanged(made):
    plan, _ = folders.read_study(made)
    key = folders.read_key(made, plan)
    pairs = {frozenset((pair.right, pair.other)) for pair in key.pairs}
    for trials in plan.readers.values():
        assert [t.practice for t in trials] == sorted((t.practice for t in trials), reverse=True)
        kinds = [t.kind for t in trials if not t.practice]
        assert kinds == sorted(kinds, reverse=True)  # ratings first
        compared = [t.cases for t in trials if t.kind == "2afc" and not t.practice]
        seen = Counter(frozenset(cases) for cases in compared)
        assert set(seen) == pairs
        assert sorted(seen.values()) == [1] * 11 + [2] * 3  # 15% of 14, rounded up
        assert all(compared.count(cases) == 1 for cases in compared)


def test_the_same_seed_makes_the_same_study(made, tmp_path):
    study(tmp_path / "again")
    for file in sorted(made.rglob("*.*")):
        if file.is_file():
            assert (tmp_path / "again" / file.relative_to(made)).read_bytes() == file.read_bytes()
    study(tmp_path / "other", seed=8)
    names = [sorted(f.name for f in (d / "cases").iterdir()) for d in (made, tmp_path / "other")]
    assert not set(names[0]) & set(names[1])


def test_without_a_seed_nobody_can_draw_the_key_again(tmp_path):
    seeds = set()
    for name in ("a", "b"):
        study(tmp_path / name, seed=None)
        seeds.add(folders.Key.load(folders.key_file(tmp_path / name)).seed)
    assert len(seeds) == 2


def test_a_person_with_several_scans_is_shown_once(tmp_path):
    """Who comes twice would be known to be real."""
    there = cohorts(real=24)
    entries = tuple(
        replace(entry, subject=f"s{i // 2}") for i, entry in enumerate(there.real.entries)
    )
    several = replace(there, real=replace(there.real, entries=entries))
    said: list[str] = []
    settings = Settings(readers=1, cases=2, controls=1, practice=1)
    build(tmp_path / "study", several, Making(settings, 0), log=said.append)
    key = folders.Key.load(folders.key_file(tmp_path / "study"))
    subject = {entry.name: entry.subject for entry in entries}
    shown = [subject[c.volume] for c in key.cases.values() if c.group in ("real", "blurred")]
    assert len(shown) == len(set(shown)) == 10
    assert "24 scans of 12 persons" in " ".join(said)


def test_a_study_is_not_written_over(made):
    with pytest.raises(UsageError, match="already there"):
        study(made)


def test_a_key_that_was_changed_is_refused(made, tmp_path):
    plan, _ = folders.read_study(made)
    other = tmp_path / "key.json"
    text = folders.key_file(made).read_text(encoding="utf-8")
    other.write_text(text.replace('"blurred"', '"alpha"', 1), encoding="utf-8")
    with pytest.raises(UsageError, match="not the key"):
        folders.read_key(made, plan, other)


def test_a_folder_without_a_study_says_how_to_make_one(tmp_path):
    with pytest.raises(UsageError, match="synthbench readers init"):
        folders.read_study(tmp_path)
    folders.study_file(tmp_path).write_text("{}", encoding="utf-8")
    with pytest.raises(ScorecardError, match="schema_version"):
        folders.read_study(tmp_path)


def test_the_blurred_control_keeps_its_brightness_and_loses_its_detail():
    (volume,) = arrays(1, 0)
    found = blurred(volume, (4.0, 4.0, 4.0))
    inside = tuple(slice(4, -4) for _ in range(3))
    assert found[inside].std() < 0.5 * volume[inside].std()
    assert found.sum() == pytest.approx(volume.sum(), rel=0.1)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("scales: []", "scales"),
        ("scales: [{key: a, question: q, levels: [x]}]", "levels"),
        ("scales: [{key: a, question: q, levels: [x, x]}]", "same words"),
        ("scales: [{key: A b, question: q, levels: [x, y]}]", "key"),
        ("scales: [{key: a, question: q, levels: [x, y], colour: red}]", "colour"),
        ("scales: [{key: a, question: q, levels: [x, y]}, {key: a, question: q, levels: [x, y]}]",
         "same key"),
        ("scales: [{key: a, question: q, levels: ['1','2','3','4','5','6','7','8','9','10']}]",
         "levels"),
    ],
)  # fmt: skip
def test_scales_that_cannot_be_used_are_refused_with_their_field(tmp_path, text, problem):
    file = tmp_path / "scales.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=problem):
        read_scales(file)


def test_the_default_scales_ask_about_each_region(made):
    _, scales = folders.read_study(made)
    keys = [item.key for item in scales.items()]
    assert keys[:3] == ["appearance", "slices", "anatomy.cortex"]
    assert len(keys) == 6
    assert all(len(item.levels) == 4 for item in scales.items())


def test_a_study_that_cannot_be_made_leaves_nothing_in_the_way(tmp_path):
    """The same folder can be named again."""
    folder = tmp_path / "study"
    with pytest.raises(UsageError, match="volumes are needed"):
        study(folder, cases=99)
    wrong = tmp_path / "scales.yaml"
    wrong.write_text("scales: 1", encoding="utf-8")
    with pytest.raises(UsageError, match="scales"):
        build(folder, cohorts(), Making(Settings(readers=2), scales=wrong))
    study(folder)
