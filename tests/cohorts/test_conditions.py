"""Conditions: how they are learnt, encoded, drawn, and asked for."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from synthbench.cohorts.cohort import Cohort, Entry
from synthbench.cohorts.conditions import Conditions, Row, rows_of
from synthbench.errors import RunError, UsageError
from synthbench.volumes.grid import Space

ROWS: list[Row] = [
    {"age": 20.0, "sex": "F", "site": "HH", "volume": 1.0},
    {"age": 60.0, "sex": "M", "site": "IOP", "volume": 2.0},
    {"age": 80.0, "sex": "F", "site": "Guys", "volume": None},
    {"age": None, "sex": "M", "site": "HH", "volume": 5.0},
]


def fitted(*names: str, rows=None) -> Conditions:
    return Conditions.fit(ROWS if rows is None else rows, names)


# ---------------------------------------------------------------- learnt and encoded


def test_numbers_are_scaled_by_the_training_range_and_words_are_coded():
    """(60 - 20)/(80 - 20) = 2/3; F and M are 0 and 1; three sites are one-hot, sorted."""
    found = fitted("age", "sex", "site")
    assert found.columns == ("age", "sex=M", "site=Guys", "site=HH", "site=IOP")
    assert found.width == 5
    assert (found["age"].low, found["age"].high, found["age"].missing) == (20.0, 80.0, 1)
    rows = [{name: row[name] for name in found.names} for row in ROWS]
    values, present = found.encode(rows)
    assert values.dtype == np.float32
    assert values.tolist()[:2] == [
        pytest.approx([0, 0, 0, 1, 0]), pytest.approx([2 / 3, 1, 0, 0, 1]),
    ]  # fmt: skip
    assert values[3].tolist() == [0, 1, 0, 1, 0]
    assert present.tolist() == [[True] * 5] * 3 + [[False, *[True] * 4]]


def test_values_beyond_the_training_range_are_encoded_and_named():
    """Age 0 lies a third of the range below it: -20/60; the ends themselves are inside."""
    found = fitted("age", "volume")
    row = {"age": 0.0, "volume": 5.0}
    assert found.encode([row]).values[0].tolist() == pytest.approx([-1 / 3, 1])
    assert found.extrapolated(row) == ("age",)
    assert found.extrapolated({"age": 80.0, "volume": None}) == ()
    assert found["age"].natural(-1 / 3) == pytest.approx(0)
    assert (found["age"].natural(0), found["age"].natural(1)) == (20.0, 80.0)


def test_a_missing_value_is_zero_and_absent_however_it_is_written():
    found = fitted("age", "sex")
    for nothing in (None, math.nan, "n/a"):
        values, present = found.encode([{"age": nothing, "sex": None}, {}])
        assert not values.any()
        assert not present.any()


def test_a_column_of_two_numbers_that_recur_is_a_code():
    """IXI codes sex as 1 and 2: a draw of 1.3 would be nobody's."""
    rows = [{"sex": code} for code in (1.0, 2.0, 2.0, 1.0)]
    found = fitted("sex", rows=rows)
    assert found["sex"].levels == ("1", "2")
    assert found.encode([{"sex": 2.0}, {"sex": "2"}]).values.tolist() == [[1], [1]]
    assert fitted("sex", rows=rows[:2])["sex"].kind == "numeric"


def test_what_a_run_keeps_comes_back_and_names_no_subject():
    """Four subjects make one interval of at least five: the range, and nothing between."""
    found = fitted("age", "sex")
    kept = json.loads(json.dumps(found.as_json()))
    assert Conditions.from_json(kept) == found
    assert Conditions.of_run({"conditions": kept}) == found
    assert Conditions.of_run({}).names == ()
    assert kept[0]["quantiles"] == [20.0, 80.0]
    with pytest.raises(RunError, match="unknown fields colour"):
        Conditions.from_json([{**kept[0], "colour": 1}])


def test_quantiles_hold_five_subjects_an_interval_and_twenty_intervals_at_most():
    for n, intervals in ((4, 1), (23, 4), (100, 20), (3000, 20)):
        found = fitted("x", rows=[{"x": float(i)} for i in range(n)])
        assert len(found["x"].quantiles) == intervals + 1


@pytest.mark.parametrize(
    ("rows", "names", "words"),
    [
        (ROWS, ["agee"], "no covariate 'agee': did you mean 'age'"),
        (ROWS, ["age", "age"], "named twice: age"),
        ([{"a": 1.0}, {"a": 1.0}], ["a"], "every training volume has 1.0"),
        ([{"a": None}, {"a": math.nan}], ["a"], "no training volume has a value"),
        ([{"a": f"s{i}"} for i in range(17)], ["a"], "17 distinct words, such as 's0'"),
        ([{"a": float(i)} for i in range(20)] + [{"a": "?"}], ["a"], "such as '\\?'.*n/a"),
    ],
    ids=["near miss", "twice", "constant", "empty", "identifiers", "a word among numbers"],
)
def test_a_covariate_that_cannot_be_a_condition_is_refused(rows, names, words):
    with pytest.raises(UsageError, match=words):
        Conditions.fit(rows, names)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"sex": "X"}, "no level 'X' in the training split. Its levels: F, M"),
        ({"ages": 3.0}, "no condition 'ages': did you mean 'age'"),
        ({"age": "old"}, r"a finite number is needed \(in training 20 to 80\)"),
        ({"age": math.inf}, "finite"),
    ],
)
def test_a_row_that_cannot_be_encoded_is_refused(row, words):
    with pytest.raises(UsageError, match=words):
        fitted("age", "sex").encode([row])


# ---------------------------------------------------------------- from a participants table


def cohort(table: pd.DataFrame) -> Cohort:
    grid = Space.of((2, 2, 2), np.eye(4))
    entries = tuple(Entry(None, f"{s}.nii", s, s) for s in ("b", "a", "a", "z"))  # type: ignore[arg-type]
    return Cohort(entries, grid, grid, table)


def test_volumes_take_the_row_of_their_subject():
    table = pd.DataFrame(
        {"age": [30, 40], "sex": ["F", None], "old": [True, False]}, index=["a", "b"]
    )
    assert rows_of(cohort(table), ["sex", "age", "old"]) == [
        {"sex": None, "age": 40.0, "old": "False"},
        {"sex": "F", "age": 30.0, "old": "True"},
        {"sex": "F", "age": 30.0, "old": "True"},
        {"sex": None, "age": None, "old": None},
    ]


def test_a_table_without_the_column_is_refused():
    table = pd.DataFrame({"age": [30]}, index=["a"])
    with pytest.raises(UsageError, match="no column 'agge': did you mean 'age'"):
        rows_of(cohort(table), ["agge"])
    with pytest.raises(UsageError, match="no participants table"):
        rows_of(cohort(pd.DataFrame()), ["age"])


def test_a_rare_level_counts_as_five():
    """One of 100 would be drawn in 1% of the volumes and single somebody out: 5 of 104 are told."""
    rows = [{"site": "A" if i else "B"} for i in range(100)]
    found = fitted("site", rows=rows)["site"]
    assert found.frequencies == pytest.approx((99 / 104, 5 / 104))
    assert found.typical() == "A"
