"""One person under several spellings."""

from __future__ import annotations

import pytest

from synthbench.cohorts.tables.persons import check_spellings, matched, person_key
from synthbench.errors import CohortError


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("sub-007", "7", True),
        ("sub-01", "1.0", True),
        ("sub-PAT12", "pat_12", True),
        (" Sub 03 ", "sub-3", True),
        ("002_S_0413", "sub-002S0413", True),
        ("sub-01", "sub-10", False),
        ("A1", "B1", False),
        ("1.5", "15", True),
    ],
)
def test_the_rule(one, other, same):
    assert (person_key(one) == person_key(other)) is same


def test_an_equal_id_is_taken_before_one_that_is_equal_by_the_rule():
    found = matched(["sub-01", "sub-1"], ["1", "01"], "t.tsv")
    assert found == {"sub-01": "01", "sub-1": "1"}


@pytest.mark.parametrize(
    ("people", "rows"),
    [(["sub-1"], ["01", "001"]), (["sub-1", "sub-01"], ["001"])],
    ids=["two rows", "two persons"],
)
def test_what_is_not_certain_is_refused(people, rows):
    with pytest.raises(CohortError, match=r"t\.tsv.*equal"):
        matched(people, rows, "t.tsv")


def test_a_person_of_a_table_is_spelt_in_one_way():
    check_spellings(["1", "2", "1"], "t.tsv")
    with pytest.raises(CohortError, match="'sub-01' and '1'"):
        check_spellings(["sub-01", "1"], "t.tsv")
