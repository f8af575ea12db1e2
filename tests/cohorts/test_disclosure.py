"""Counts of subgroups: nobody can be singled out."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pandas as pd
import pytest

from synthbench.cohorts import disclosure
from synthbench.cohorts.reading import read_cohort

# ---------------------------------------------------------------- counts and terms of a cohort


def cohort_of(make_cohort, **columns):
    """A cohort of as many one-volume subjects as the columns are long."""
    n = len(next(iter(columns.values())))
    cohort = read_cohort(make_cohort("people", n=n, shape=(8, 8, 8)))
    people = sorted(entry.subject for entry in cohort.entries)
    return replace(cohort, participants=pd.DataFrame(columns, index=people))


def test_subjects_are_counted_once_by_age_band_sex_and_site(make_cohort):
    """Twelve people: five in their twenties, seven from ninety on."""
    cohort = cohort_of(
        make_cohort,
        age=[20, 21, 25, 29, 29.9, 90, 91, 95, 99, 100, 101, 102],
        sex=["F"] * 6 + ["M"] * 6,
        site=["A"] * 7 + [None] * 5,
        income=range(12),
    )
    assert disclosure.subgroups(cohort) == {
        "age": {"20 to 29": 5, "90 and over": 7},
        "sex": {"F": 6, "M": 6},
        "site": {"A": 7, "not known": 5},
    }
    twice = replace(cohort, entries=cohort.entries * 2)
    assert disclosure.subgroups(twice) == disclosure.subgroups(cohort)


def test_a_cohort_without_a_table_has_no_counts(make_cohort):
    assert disclosure.subgroups(read_cohort(make_cohort("people", n=2, shape=(8, 8, 8)))) == {}


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        ({"F": 40, "M": 30}, {"F": 40, "M": 30}),
        # 72 - 70 would give the two away: the next smallest count is hidden too.
        ({"A": 40, "B": 30, "C": 2}, {"A": 40, "B": "5 or more", "C": "<5"}),
        # Of 6 in all, "5 or more" and "<5" can only be 5 and 1: nothing is shown.
        ({"F": 5, "M": 1}, {}),
        # With B alone hidden, C would have to be 1 as well; with A too, it need not.
        ({"A": 20, "B": 5, "C": 1}, {"A": "5 or more", "B": "5 or more", "C": "<5"}),
        # The least of the coarsened is known to be at most 5: C would be 4.
        ({"A": 5, "B": 5, "C": 4}, {"A": "5 or more", "B": "5 or more", "C": "<5"}),
        ({"A": 1, "B": 1}, {}),
    ],
)
def test_nobody_can_be_singled_out(counts, shown):
    assert disclosure._hidden(counts) == shown


def test_what_is_hidden_could_be_anything():
    """Whoever knows the total and the rule still finds each small count possible from 1 to 4.

    For all triples of counts up to 12, every way to fill the hidden ones is enumerated: the small
    with 1 to 4, the coarsened with 5 to the least that is told, the sum as the total leaves it.
    """
    for triple in itertools.product(range(1, 13), repeat=3):
        given = disclosure._hidden(dict(zip("abc", triple, strict=True))).values()
        hidden = [cell for cell in given if isinstance(cell, str)]
        shown = [cell for cell in given if isinstance(cell, int)]
        most = min(shown, default=sum(triple))
        values = [range(1, 5) if cell == "<5" else range(5, most + 1) for cell in hidden]
        left = sum(triple) - sum(shown)
        fillings = [filling for filling in itertools.product(*values) if sum(filling) == left]
        for place, cell in enumerate(hidden):
            if cell == "<5":
                assert {filling[place] for filling in fillings} == {1, 2, 3, 4}, triple


def test_hidden_subgroups_are_named_with_the_reason():
    """One of 33 is hidden as well, where one of 2 could be calculated from it."""
    given = disclosure.hidden_words("sex", {"F": "5 or more", "M": 38, "not known": "<5"})
    assert given == (
        "sex: not known is hidden (fewer than 5 subjects); F is hidden, as not known could be "
        "calculated from it"
    )
    assert disclosure.hidden_words("sex", {"F": 33, "M": 38}) == ""
    assert disclosure.hidden_words("site", {}).startswith("site: all subgroups are hidden")
    both = disclosure.hidden_words(
        "age", {"a": "<5", "b": "<5", "c": "5 or more", "d": "5 or more"}
    )
    assert both.startswith("age: a, b are hidden (fewer than 5 subjects); c, d are hidden")
