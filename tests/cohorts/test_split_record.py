"""The comparison of a manifest with the record of its split."""

from __future__ import annotations

import pytest

from synthbench.cohorts.reading import read_cohort
from synthbench.cohorts.split import split
from synthbench.cohorts.split_record import RECORD
from synthbench.errors import CohortError


def drawn_in(tmp_path, cohort):
    manifests = split(cohort, {"train": 5, "reference": 3}, tmp_path / "split").manifests
    return manifests["train"], manifests["reference"], tmp_path / "split" / RECORD


def test_a_subject_that_was_moved_to_another_side_is_found(tmp_path, cohort):
    train, reference, _ = drawn_in(tmp_path, cohort)
    moved = reference.read_text(encoding="utf-8").splitlines()[1]
    train.write_text(train.read_text(encoding="utf-8") + moved + "\n", encoding="utf-8")
    with pytest.raises(CohortError, match="is on another side of the split: reference"):
        read_cohort(train)


def test_a_renamed_subject_is_found(tmp_path, cohort):
    train, reference, _ = drawn_in(tmp_path, cohort)
    other = reference.read_text(encoding="utf-8").splitlines()[1].split("\t")[0]
    lines = train.read_text(encoding="utf-8").splitlines()
    lines[1] = "\t".join([other, *lines[1].split("\t")[1:]])
    train.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(CohortError, match="another side"):
        read_cohort(train)


def test_a_changed_volume_is_found(tmp_path, cohort, make_cohort):
    train, _, _ = drawn_in(tmp_path, cohort)
    make_cohort("other", n=12, seed=9)
    for file in (tmp_path / "c").iterdir():
        file.write_bytes((tmp_path / "other" / file.name).read_bytes())
    with pytest.raises(CohortError, match="has changed since it was drawn"):
        read_cohort(train)


def test_a_volume_left_out_is_found(tmp_path, cohort):
    train, _, _ = drawn_in(tmp_path, cohort)
    lines = train.read_text(encoding="utf-8").splitlines()
    train.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    subject, path = lines[-1].split("\t")[:2]
    with pytest.raises(CohortError, match="the split gave 'train'") as caught:
        read_cohort(train)
    assert f"missing: {subject} ({path})" in str(caught.value)
    smaller = train.with_name("some.tsv")
    smaller.write_text(train.read_text(encoding="utf-8"), encoding="utf-8")
    assert len(read_cohort(smaller)) == len(lines) - 2


def test_a_record_with_a_subject_on_two_sides_is_refused(tmp_path, cohort):
    train, _, record = drawn_in(tmp_path, cohort)
    text = record.read_text(encoding="utf-8").splitlines()
    text.append(text[1].replace("\treference\t", "\ttrain\t"))
    record.write_text("\n".join(text) + "\n", encoding="utf-8")
    with pytest.raises(CohortError, match="on two sides"):
        read_cohort(train)


def test_a_volume_that_stands_twice_is_named(tmp_path, cohort):
    train, _, _ = drawn_in(tmp_path, cohort)
    lines = train.read_text(encoding="utf-8").splitlines()
    subject, path, *rest = lines[1].split("\t")
    copy = train.with_name("copy.nii.gz")
    copy.write_bytes((train.parent / path).read_bytes())
    train.write_text(
        "\n".join([*lines, "\t".join([subject, copy.name, *rest])]) + "\n", encoding="utf-8"
    )
    with pytest.raises(CohortError, match="more often than in the split: p"):
        read_cohort(train)
