"""The conditions that a user requests: options, tables, and the rows made from them."""

from __future__ import annotations

import pytest
from scipy import stats

from synthbench.cohorts.conditions import Conditions
from synthbench.cohorts.requests import (
    Among,
    Between,
    parse_choices,
    parse_condition,
    read_conditions,
    rows_for,
)
from synthbench.errors import UsageError

MANY = Conditions.fit(
    [{"age": 20 + 60 * i / 199, "sex": "FMM"[i % 3], "site": "ABAB"[i % 4]} for i in range(200)],
    ["age", "sex", "site"],
)


def test_options_are_ranges_values_or_missing():
    assert parse_condition("age=20:80", MANY) == ("age", Between(20.0, 80.0))
    assert parse_condition("age = -5", MANY) == ("age", Among((-5.0,)))
    assert parse_condition("sex=M,F", MANY) == ("sex", Among(("M", "F")))
    assert parse_condition("age=n/a", MANY) == ("age", Among((None,)))


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["age"], "write it as name=value"),
        (["age=80:20"], "the lower one first"),
        (["age=1:2:3"], "a range is two numbers"),
        (["age=old"], "age: a finite number"),
        (["sexx=F"], "did you mean 'sex'"),
        (["sex=X"], "Its levels: F, M"),
        (["age=30", "age=40"], "asked for twice"),
    ],
)
def test_options_that_cannot_be_read_are_refused(texts, words):
    with pytest.raises(UsageError, match=words):
        parse_choices(texts, MANY)


def test_a_row_depends_on_its_seed_alone():
    choices = parse_choices(["age=30:40"], MANY)
    rows = rows_for(MANY, range(50), choices=choices)
    assert rows_for(MANY, [17], choices=choices) == [rows[17]]
    ages = [row["age"] for row in rows]
    assert all(isinstance(age, float) and 30 <= age <= 40 for age in ages)
    assert len(set(ages)) == 50
    # Another condition that is asked for leaves this one's draws alone.
    other = rows_for(MANY, range(50), choices=parse_choices(["age=30:40", "sex=F"], MANY))
    assert [row["age"] for row in other] == ages


def test_what_is_not_asked_for_follows_the_training_marginals():
    """Of 2000 draws: uniform ages in [20, 80] (Kolmogorov and Smirnov), a third F (binomial)."""
    rows = rows_for(MANY, range(2000))
    ages = [row["age"] for row in rows]
    assert stats.kstest(ages, stats.uniform(20, 60).cdf).pvalue > 0.01
    women = sum(row["sex"] == "F" for row in rows)
    assert stats.binomtest(women, 2000, 67 / 200).pvalue > 0.01
    assert abs(stats.pearsonr(ages, [row["sex"] == "F" for row in rows])[0]) < 0.06
    assert all(not MANY.extrapolated(row) for row in rows)
    assert MANY["age"].typical() == pytest.approx(50, abs=0.2)


def test_several_values_are_taken_in_turn_and_of_several_conditions_all_combinations():
    choices = parse_choices(["site=A,B", "sex=F,M"], MANY)
    rows = rows_for(MANY, range(8), choices=choices)
    pairs = [(row["sex"], row["site"]) for row in rows]
    assert len(set(pairs[:4])) == 4
    assert pairs[:4] == pairs[4:]


def test_tables_are_read_by_row(tmp_path):
    """Empty cells and n/a are missing; a column that is not there is not asked for."""
    file = tmp_path / "wanted.csv"
    file.write_text("participant_id, age, sex\ns1, 30, F\ns2, , M\ns3, 95, n/a\n", encoding="utf-8")
    rows = read_conditions(file, MANY)
    assert rows == [
        {"age": 30.0, "sex": "F"}, {"age": None, "sex": "M"}, {"age": 95.0, "sex": None},
    ]  # fmt: skip
    complete = rows_for(MANY, [4, 5, 6], table=rows)
    assert [row["age"] for row in complete] == [30.0, None, 95.0]
    assert [row["site"] for row in complete] == [MANY["site"].draw(s) for s in (4, 5, 6)]
    tabs = tmp_path / "wanted.tsv"
    tabs.write_text("sex\tage\nF\t30\n", encoding="utf-8")
    assert read_conditions(tabs, MANY) == [{"sex": "F", "age": 30.0}]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("age,sexx\n30,F\n", "no condition 'sexx': did you mean 'sex'"),
        ("age,sex\n30,F\n31,X\n", "row 2: sex: there is no level 'X'.*F, M"),
        ("age\nold\n", "row 1: age: a finite number"),
        ("age\n", "has no rows"),
        ("path\na.nii\n", "no column of a condition"),
        ("", "cannot be read as a table"),
    ],
)
def test_tables_that_cannot_be_read_are_refused(tmp_path, content, words):
    file = tmp_path / "wanted.csv"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=words):
        read_conditions(file, MANY)


def test_a_table_that_is_not_there_is_said_in_words(tmp_path):
    with pytest.raises(UsageError, match=r"wanted.csv: cannot be read: No such file or"):
        read_conditions(tmp_path / "wanted.csv", MANY)


def test_a_table_and_what_else_is_asked_for_must_agree():
    rows = [{"age": 30.0}, {"age": 40.0}]
    with pytest.raises(UsageError, match=r"2 rows, .* 3 volumes"):
        rows_for(MANY, range(3), table=rows)
    with pytest.raises(UsageError, match="age: asked for by --condition and by --conditions"):
        rows_for(MANY, range(2), table=rows, choices=parse_choices(["age=3"], MANY))
    with pytest.raises(UsageError, match="all rows must name the same conditions"):
        rows_for(MANY, range(2), table=[{"age": 30.0}, {"sex": "F"}])
