from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from synthbench.cli.app import app
from synthbench.cohorts.reading import read_cohort
from synthbench.cohorts.split import draw, split, split_repeatedly
from synthbench.errors import CohortError, UsageError


def people(n, seed=0):
    """Subjects of two sites of unequal size, two sexes, and ages from 20 to 80."""
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "site": random.choice(["Guys", "HH"], n, p=[0.7, 0.3]),
            "sex": random.choice(["F", "M"], n),
            "age": random.uniform(20, 80, n),
        },
        index=[f"sub-{i:03d}" for i in range(n)],
    )


def test_all_scans_of_a_subject_stay_together(cohort, tmp_path):
    parts = split(cohort, {"train": 5, "reference": 3}, tmp_path / "split").manifests
    read = {name: read_cohort(file) for name, file in parts.items()}
    owners = {name: {e.subject for e in c.entries} for name, c in read.items()}
    assert {name: len(o) for name, o in owners.items()} == {"train": 5, "reference": 3}
    assert not owners["train"] & owners["reference"]
    assert sum(len(c) for c in read.values()) == 12
    assert read["train"].participants["age"].between(20, 27).all()


def test_the_split_depends_on_the_seed_alone(cohort, tmp_path):
    texts = [
        split(cohort, {"train": 4}, tmp_path / name, seed=seed)
        .manifests["train"]
        .read_text(encoding="utf-8")
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_impossible_sizes_and_existing_splits_are_refused(cohort, tmp_path):
    with pytest.raises(UsageError, match="at most 8"):
        split(cohort, {"train": 5, "reference": 4}, tmp_path / "s")
    with pytest.raises(UsageError, match="at least one subject"):
        split(cohort, {"train": 0.01, "reference": 4}, tmp_path / "s")
    split(cohort, {"train": 5}, tmp_path / "s")
    with pytest.raises(UsageError, match="not overwritten"):
        split(cohort, {"train": 5}, tmp_path / "s")


def test_shares_use_every_subject(cohort, tmp_path):
    """60%, 10% and 30% of 8 are 4.8, 0.8 and 2.4: 5, 1 and 2, which are all 8."""
    drawn = split(cohort, None, tmp_path / "s")
    assert drawn.balance()["subjects"].to_dict() == {"train": 5, "validation": 1, "holdout": 2}
    assert drawn.stratified_by == ("age",)


def test_an_unknown_column_is_refused_with_the_nearest(cohort, tmp_path):
    with pytest.raises(UsageError, match="did you mean 'age'"):
        split(cohort, None, tmp_path / "s", by=["agee"])


def test_parts_are_alike_in_site_sex_and_age():
    """Against plain random splits of the same people, whose imbalance is sampling error.

    A part of 50 of 100 holds half of every stratum to within one subject a stratum (4 strata),
    and its mean age differs from the other's by less than a third of the standard error of a
    random split, 2 sd / sqrt(100) = 3.5 years.
    """
    table = people(100)
    for seed in range(20):
        parts = draw(table, {"a": 50, "b": 50}, np.random.default_rng(seed))
        of = table.assign(part=pd.Series(parts))
        counts = of.groupby(["site", "sex"])["part"].value_counts().unstack()
        assert (counts["a"] - counts["b"]).abs().max() <= 3
        ages = of.groupby("part")["age"].mean()
        assert abs(ages["a"] - ages["b"]) < 3.5 / 3


@pytest.mark.slow
def test_every_subject_lands_on_every_side_about_as_often_as_its_share():
    """500 draws of 40%: a binomial share of 0.4 has a standard error of 0.022; 5 of them."""
    table = people(30)
    inside = pd.Series(0, index=table.index)
    for seed in range(500):
        parts = draw(table, {"a": 12}, np.random.default_rng(seed))
        assert len(parts) == 12
        inside[list(parts)] += 1
    assert inside.div(500).between(0.4 - 0.11, 0.4 + 0.11).all()


def test_subjects_without_covariates_are_dealt_too():
    table = people(40)
    table.loc[table.index[:7], ["sex", "age"]] = np.nan
    parts = draw(table, {"a": 20, "b": 20}, np.random.default_rng(0))
    assert pd.Series(parts).value_counts().to_dict() == {"a": 20, "b": 20}
    unknown = [parts[name] for name in table.index[:7]]
    assert 2 <= unknown.count("a") <= 5


def test_one_volume_under_two_names_is_not_split(tmp_path, make_cohort):
    folder = make_cohort("c", n=6)
    (folder / "sub-900.nii.gz").write_bytes((folder / "sub-001.nii.gz").read_bytes())
    with pytest.raises(CohortError, match="same volume under two subjects"):
        split(folder, {"train": 3}, tmp_path / "s")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../esc", "letters, digits, dots"),
        ("a/b", "letters, digits, dots"),
        (".hidden", "begins with a letter"),
        ("", "letters, digits, dots"),
        ("split", "name of the record"),
        ("Train", "named twice"),
    ],
)
def test_a_part_needs_a_plain_name_of_its_own(name, words, tmp_path):
    """Refused before the cohort is read: there is none here."""
    with pytest.raises(UsageError, match=words):
        split(tmp_path / "nowhere", {"train": 3, name: 2}, tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_subjects_in_no_part_are_counted(cohort, tmp_path):
    assert split(cohort, {"train": 5}, tmp_path / "a").left_out == 3
    assert split(cohort, None, tmp_path / "b").left_out == 0


def test_ages_of_a_few_subjects_are_a_mean(tmp_path, make_cohort):
    """Four people of 20, 30, 40 and 50; their sex, in codes, is counted."""
    folder = make_cohort("c", n=4)
    table = "participant_id\tage\tsex\n"
    table += "".join(f"sub-00{i}\t{20 + 10 * i}\t{1 + i % 2}\n" for i in range(4))
    (folder / "participants.tsv").write_text(table, encoding="utf-8")
    (row,) = split(folder, {"all": 4}, tmp_path / "s").balance().to_dict("records")
    assert row == {"subjects": 4, "sex": "1 2, 2 2", "age": "35.0 ± 12.9"}


def run(*arguments):
    return CliRunner().invoke(app, ["data", "split", *map(str, arguments)])


def test_the_verb_refuses_a_part_that_is_given_twice(cohort, tmp_path):
    done = run(cohort, "--out", tmp_path / "s", "--part", "train=50%", "--part", "train=50%")
    assert isinstance(done.exception, UsageError)
    assert "--part train: named twice" in str(done.exception)


def test_the_verb_says_who_is_in_no_part(cohort, tmp_path):
    done = run(cohort, "--out", tmp_path / "s", "--part", "train=5")
    assert "3 of 8 subjects are in no part" in done.stderr


def test_several_splits_have_the_seeds_that_their_table_says(cohort, tmp_path):
    """Each is the split that its seed alone draws; each manifest verifies against its record."""
    out, parts = tmp_path / "splits", {"train": 4, "reference": 4}
    drawn = split_repeatedly(cohort, parts, out, 3, seed=5)
    table = pd.read_csv(out / "splits.tsv", sep="\t")
    assert table.to_dict("list") == {
        "folder": ["split-1", "split-2", "split-3"], "seed": [5, 6, 7],
    }  # fmt: skip
    alone = split(cohort, parts, tmp_path / "alone", seed=6)
    assert drawn[1].subjects.equals(alone.subjects)
    trained = [tuple(one.subjects.index[one.subjects["part"] == "train"]) for one in drawn]
    assert len(set(trained)) == 3
    assert len(read_cohort(out / "split-3" / "reference.tsv").entries) == 6
    with pytest.raises(UsageError, match="not overwritten"):
        split_repeatedly(cohort, parts, out, 2)
    with pytest.raises(UsageError, match="at most 8"):
        split_repeatedly(cohort, {"train": 9}, tmp_path / "impossible", 2)
    assert not (tmp_path / "impossible").exists()


def test_repeat_on_the_command_line(cohort, tmp_path):
    out = tmp_path / "splits"
    arguments = ["data", "split", str(cohort), "--out", str(out), "--repeat", "2", "--part", "a=4"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert sorted(file.name for file in out.iterdir()) == ["split-1", "split-2", "splits.tsv"]
