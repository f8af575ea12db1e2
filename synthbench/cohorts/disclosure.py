"""Counts by age and sex that can be published: small cells are suppressed."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd

from synthbench.cohorts.cohort import Cohort

SMALL_CELL = 5
"""Smaller groups are not published: so few people could be identified. Counts below it are hidden;
an interval between quantiles holds at least as many subjects (`synthbench.cohorts.conditions`)."""

UNKNOWN = "not known"
SUPPRESSED, _COARSENED = f"<{SMALL_CELL}", f"{SMALL_CELL} or more"
_OLDEST_BAND = 90  # ages from here on are one band (as in HIPAA's Safe Harbor)


def subgroups(cohort: Cohort) -> dict[str, dict[str, int | str]]:
    """Return a cohort's counts by age band, sex, site and diagnosis, with small cells hidden.

    A count below `SMALL_CELL` is given as "<5". Where there is one, the smallest other counts are
    given as "5 or more", until nobody can calculate the hidden ones from the number of subjects
    (secondary suppression; Hundepool et al. 2012, "Statistical Disclosure Control").

    Parameters
    ----------
    cohort
        Its participants table may have the columns `age` (years), `sex`, `site`, `diagnosis`.

    Returns
    -------
    For each of these columns in the table, the count of each value, with "not known" for subjects
    without one; a column is empty where nothing can be published.
    """
    people = sorted({entry.subject for entry in cohort.entries})
    table = cohort.participants.reindex(people)
    counts = {}
    for column in ("age", "sex", "site", "diagnosis"):
        if column in table:
            counts[column] = _hidden(Counter(subgroup_names(table[column])))
    return counts


def hidden_words(column: str, counts: Mapping[str, int | str]) -> str:
    """Return which subgroups of a column are hidden, by name, and why; empty where none is.

    >>> print(hidden_words("sex", {"F": 33, "M": 38, "other": "<5"}))
    sex: other is hidden (fewer than 5 subjects)
    """
    if not counts:
        return (
            f"{column}: all subgroups are hidden: one has fewer than {SMALL_CELL} subjects and "
            "could be calculated from the others"
        )
    small = [name for name, count in counts.items() if count == SUPPRESSED]
    others = [name for name, count in counts.items() if count == _COARSENED]
    if not small:
        return ""
    are = "is" if len(small) == 1 else "are"
    words = f"{column}: {', '.join(small)} {are} hidden (fewer than {SMALL_CELL} subjects)"
    if others:
        are = "is" if len(others) == 1 else "are"
        words += f"; {', '.join(others)} {are} hidden, as {small[0]} could be calculated from "
        words += "it" if len(others) == 1 else "them"
    return words


def subgroup_names(values: pd.Series[Any]) -> list[str]:
    """Return the subgroup of each row of a column: a band of ten years of `age`, else the value.

    >>> subgroup_names(pd.Series([43.5, None, 95], name="age"))
    ['40 to 49', 'not known', '90 and over']
    >>> subgroup_names(pd.Series(["F", None], name="sex"))
    ['F', 'not known']
    """
    if values.name == "age":
        return [_age_band(float(age)) for age in pd.to_numeric(values, errors="coerce")]
    return [UNKNOWN if pd.isna(value) else str(value) for value in values]


def _age_band(age: float) -> str:
    if not (math.isfinite(age) and age >= 0):
        return UNKNOWN
    decade = int(age // 10) * 10
    if decade >= _OLDEST_BAND:
        return f"{_OLDEST_BAND} and over"
    return f"{decade} to {decade + 9}" if decade else "under 10"


def _hidden(counts: Mapping[str, int]) -> dict[str, int | str]:
    """Return the counts with small ones hidden, in order: bands by age, words by letter."""
    given: dict[str, int | str] = {name: counts[name] for name in sorted(counts, key=_place)}
    small = [name for name in given if counts[name] < SMALL_CELL]
    large = sorted(set(given) - set(small), key=lambda name: (counts[name], name))
    if not small:
        return given
    given |= dict.fromkeys(small, SUPPRESSED)
    hidden = sum(counts[name] for name in small)
    for coarsened, name in enumerate(large, 1):
        given[name] = _COARSENED
        hidden += counts[name]
        most = counts[large[coarsened]] if coarsened < len(large) else math.inf
        if _undetermined(hidden, len(small), coarsened, most):
            return given
    return {}


def _undetermined(total: int, small: int, coarsened: int, most: float) -> bool:
    """Return True where each small count may be anything from 1 to 4, for all that a reader knows.

    A reader knows the sum of the hidden counts, and that the coarsened ones are 5 to `most`.
    """
    largest = SMALL_CELL - 1
    at_its_largest = largest + (small - 1) + SMALL_CELL * coarsened
    at_its_least = 1 + largest * (small - 1) + most * coarsened
    return at_its_largest <= total <= at_its_least


def _place(name: str) -> tuple[bool, int, str]:
    """Return a sort key: bands from young to old, and "not known" last."""
    first = re.match(r"\d+", name)
    return name == UNKNOWN, int(first.group()) if first else 0, name
