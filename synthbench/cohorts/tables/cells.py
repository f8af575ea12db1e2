"""Cells of tables as numbers and words, by stated rules; what a rule changes, a note says.

A column whose cells are mostly numbers is a column of numbers. A cell in it that is not a number is
missing, and never makes words of the others. Words are kept as they are, but spellings of one word
become one.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

ABSENT = frozenset(
    {"", "n/a", "N/A", "NA", "#N/A", "#N/A N/A", "#NA", "<NA>", "nan", "NaN", "-nan", "-NaN",
     "NULL", "null", "None"}
)  # fmt: skip
"""Cells of a missing value: "n/a" is what BIDS writes, the others are those of other programs."""

_UNKNOWN = frozenset({"?", "-", "--", ".", "unknown", "missing", "none", "na", "not known"})
"""Cells of a missing value in a column of numbers; in a column of words they are words."""

AGES = ("age", "age_at_scan", "age_at_session", "age_years", "age_at_visit", "age_at_entry")
OLDEST = 120.0
"""No person is older, in years."""

CHILD = 10.0
"""Where the median age is above, an age of 0 is no newborn, but a code for "not known"."""

SEXES: Mapping[str, str] = {
    **dict.fromkeys(("m", "male", "man", "boy"), "M"),
    **dict.fromkeys(("f", "female", "woman", "girl", "w"), "F"),
}
_OTHER_SEX = ("o", "other")
CODES = (-1.0, -9.0, -99.0, -999.0, -9999.0, 999.0, 9999.0, 99999.0)
"""Numbers that are in use for "not known"."""

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_COMMA = re.compile(r"([+-]?\d+),(\d+)")
_CAPPED = re.compile(rf"(?:>=?|≥)\s*({_NUMBER})|({_NUMBER})\s*\+")
_YEARS = re.compile(rf"({_NUMBER})\s*(?:y|yr|yrs|year|years)\.?", re.IGNORECASE)


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes
    ----------
    values
        Numbers, or words; None where missing.
    notes
        What was changed or left out, with the first cell's place; for people, not for a scorecard.
    """

    values: list[float | str | None]
    notes: tuple[str, ...] = ()

    @property
    def numeric(self) -> bool:
        """True where there is a value, and all are numbers."""
        present = [value for value in self.values if value is not None]
        return bool(present) and all(isinstance(value, float) for value in present)


def as_number(cell: str) -> float | None:
    """Return the plain number that a cell holds, with a decimal point; None where it is not one.

    >>> as_number("20.5"), as_number("20,5"), as_number("1_0"), as_number("inf")
    (20.5, None, None, None)
    """
    if not re.fullmatch(_NUMBER, cell):
        return None
    number = float(cell)
    return number if math.isfinite(number) else None


def column_of(name: str, cells: Sequence[str], places: Sequence[str] = ()) -> Column:
    """Return a column's cells as numbers or as words.

    Parameters
    ----------
    name
        The column's name: ages and sexes have rules of their own.
    cells
        Its cells as text.
    places
        For each cell, words for its place in a message; empty: the row is counted from 1.

    Notes
    -----
    In a column of numbers, "20,5" is 20.5, "89+" (as BIDS caps ages), ">89" and "89 years" are 89.
    A cell that is no number is missing. So is a code for "not known": one of `CODES` that lies
    further from the other values than their whole range, and for an age what is negative, above
    120 years, or 0 where the median is above 10. The column "sex" gets M and F, and so does
    "gender" where it has two words for one. In a column of
    words, spellings that differ in capitals or spaces become the most frequent one.
    """
    rows = places or [f"row {i}" for i in range(1, len(cells) + 1)]
    tidy = [" ".join(cell.split()) for cell in cells]
    present = [cell for cell in tidy if cell not in ABSENT]
    if not present:
        return Column([None] * len(tidy))
    reader = _Numbers(name, rows)
    numbers = [None if cell in ABSENT else reader.read(i, cell) for i, cell in enumerate(tidy)]
    count = sum(number is not None for number in numbers)
    known = [cell for cell in present if cell.lower() not in _UNKNOWN]
    if 2 * count <= len(known) and not (name.lower() in AGES and count):
        return _words(name, tidy, rows)
    for i, (cell, number) in enumerate(zip(tidy, numbers, strict=True)):
        if number is None and cell not in ABSENT:
            reader.note(i, cell, "missing")
    values = _without_codes(name, numbers, tidy, reader)
    return Column([*values], reader.notes())


@dataclass
class _Numbers:
    """Reads numbers of a column, and keeps which cells a rule changed."""

    name: str
    places: Sequence[str]
    changed: dict[str, list[tuple[int, str]]] = field(default_factory=dict)

    def read(self, row: int, cell: str) -> float | None:
        plain = as_number(cell)
        if plain is not None:
            return plain
        comma = _COMMA.fullmatch(cell)
        # Three digits after a comma may be thousands: such a cell is not understood.
        if comma and len(comma[2]) != 3:
            return self._as(row, cell, float(f"{comma[1]}.{comma[2]}"))
        for form in (_CAPPED, _YEARS):
            if found := form.fullmatch(cell):
                return self._as(row, cell, float(next(part for part in found.groups() if part)))
        return None

    def _as(self, row: int, cell: str, number: float) -> float:
        self.note(row, cell, f"{number:g}")
        return number

    def note(self, row: int, cell: str, meaning: str) -> None:
        self.changed.setdefault(meaning, []).append((row, cell))

    def notes(self) -> tuple[str, ...]:
        return tuple(
            f"column '{self.name}': {_several(cells)} read as {meaning} "
            f"({self.places[cells[0][0]]})"
            for meaning, cells in self.changed.items()
        )


def _several(cells: Sequence[tuple[int, str]]) -> str:
    shown = ", ".join(f"'{cell}'" for cell in dict.fromkeys(cell for _, cell in cells[:50]))
    verb = "was" if len(cells) == 1 else "were"
    return f"{shown} {verb}" if len(cells) == 1 else f"{len(cells)} cells ({shown}) {verb}"


def _without_codes(
    name: str, numbers: Sequence[float | None], cells: Sequence[str], reader: _Numbers
) -> list[float | None]:
    """Return the numbers, without codes for "not known"."""
    known = [number for number in numbers if number is not None]
    coded = {number for number in set(known) if _is_code(name, number, known)}
    for row, (number, cell) in enumerate(zip(numbers, cells, strict=True)):
        if number in coded:
            reader.note(row, cell, "missing")
    return [None if number in coded else number for number in numbers]


def _is_code(name: str, number: float, known: Sequence[float]) -> bool:
    if name.lower() in AGES:
        if number < 0 or number > OLDEST:
            return True
        if number == 0:
            others = [other for other in known if other != number]
            return bool(others) and median(others) > CHILD
    if number not in CODES:  # nearly all: the other values are looked at for codes alone
        return False
    rest = [other for other in known if other not in CODES]
    if len(rest) < 3:
        return False
    # Further from the others than their whole range.
    low, high = min(rest), max(rest)
    return number < low - (high - low) or number > high + (high - low)


def _words(name: str, cells: Sequence[str], places: Sequence[str]) -> Column:
    words: list[str | None] = [None if cell in ABSENT else cell for cell in cells]
    meanings = {
        word.lower(): SEXES[word.lower()] for word in words if word and word.lower() in SEXES
    }
    mixed = name.lower() == "gender" and len(meanings) > len(set(meanings.values()))
    if name.lower() == "sex" or mixed:
        return _sexes(name, words, places)
    spellings: dict[str, Counter[str]] = {}
    for word in words:
        if word is not None:
            spellings.setdefault(word.casefold(), Counter())[word] += 1
    chosen = {key: min(found, key=lambda w: (-found[w], w)) for key, found in spellings.items()}
    notes = tuple(
        f"column '{name}': {', '.join(map(repr, sorted(found)))} were read as '{chosen[key]}'"
        for key, found in spellings.items()
        if len(found) > 1
    )
    return Column([None if word is None else chosen[word.casefold()] for word in words], notes)


def _sexes(name: str, words: Sequence[str | None], places: Sequence[str]) -> Column:
    """Return M and F; other words are kept where no word is known, and are else missing."""
    known = [word for word in words if word is not None and word.lower() in SEXES]
    if not known:
        return Column([*words])
    values: list[float | str | None] = []
    strange = []
    for word, place in zip(words, places, strict=True):
        value = None if word is None else SEXES.get(word.lower())
        if word is not None and value is None:
            if word.lower() in _OTHER_SEX:
                value = "O"
            elif word.lower() not in _UNKNOWN:
                strange.append((place, word))
        values.append(value)
    notes = []
    odd = sorted({word for word in known if word not in ("M", "F")})
    if odd:
        notes.append(f"column '{name}': {', '.join(map(repr, odd))} were read as M and F")
    if strange:
        notes.append(
            f"column '{name}': {len(strange)} cells are neither M nor F and were read as missing "
            f"(first: '{strange[0][1]}', {strange[0][0]})"
        )
    return Column(values, tuple(notes))
