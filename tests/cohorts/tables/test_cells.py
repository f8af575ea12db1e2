"""Cells of tables as numbers and words."""

from __future__ import annotations

import pytest

from synthbench.cohorts.tables.cells import column_of

AGES = ["20", "31", "42", "53", "64"]


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("89+", 89.0),
        (">89", 89.0),
        (">= 90", 90.0),
        ("20,5", 20.5),
        ("034Y", 34.0),
        ("34 years", 34.0),
        ("999", None),
        ("-1", None),
        ("0", None),
        ("121", None),
        ("abc", None),
        ("1,234", None),
        ("?", None),
    ],
)
def test_a_cell_never_makes_words_of_numbers(cell, value):
    found = column_of("age", [*AGES, cell])
    assert found.values == [20.0, 31.0, 42.0, 53.0, 64.0, value]
    assert len(found.notes) == 1
    assert f"'{cell}'" in found.notes[0]
    assert "row 6" in found.notes[0]


def test_plain_columns_have_no_notes():
    found = column_of("age", [*AGES, "n/a", ""])
    assert found.values == [20.0, 31.0, 42.0, 53.0, 64.0, None, None]
    assert found.notes == ()


def test_newborns_may_be_0_years_old():
    assert column_of("age", ["0", "0.1", "1", "0"]).values == [0.0, 0.1, 1.0, 0.0]


def test_a_code_is_a_number_far_from_the_others():
    """-1 is further from 20..30 than their range; between -2 and 2 it is a value."""
    assert column_of("mmse", ["20", "25", "30", "-1"]).values[-1] is None
    assert column_of("z", ["-2", "0.5", "2", "-1"]).values[-1] == -1.0


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["Male ", "male", "M", "F"], ["M", "M", "M", "F"]),
        (["female", "male", "other"], ["F", "M", "O"]),
        (["M", "F", "1"], ["M", "F", None]),
        (["1", "2", "1"], [1.0, 2.0, 1.0]),
    ],
)
def test_sexes(cells, values):
    assert column_of("sex", cells).values == values


def test_spellings_of_one_word_become_the_most_frequent_one():
    found = column_of("diagnosis", ["CN", "cn ", "AD", "CN"])
    assert found.values == ["CN", "CN", "AD", "CN"]
    assert len(found.notes) == 1


def test_words_with_a_few_numbers_stay_words():
    assert column_of("site", ["A1", "B2", "3"]).values == ["A1", "B2", "3"]
