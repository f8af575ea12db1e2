"""One person under several spellings: the rule by which ids are matched.

Two ids name one person if they are equal after this: spaces around them and a leading "sub-" are
dropped, letters are made small, all but letters and digits is dropped, and numbers lose leading
zeros. So "sub-007", "007", "7", "7.0" and " SUB-07" are one person, and so are "PAT_12" and
"sub-pat12". Where this makes one of two ids of one table or cohort, it is not certain, and refused.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from synthbench.errors import CohortError

RULE = "without 'sub-', capitals, signs and leading zeros"
"""The rule in a few words, for messages."""


def person_key(name: object) -> str:
    r"""Return what two spellings of one person have in common.

    >>> {person_key(name) for name in ("sub-007", "007", 7, "7.0", " SUB-07")}
    {'7'}
    >>> person_key("PAT_12") == person_key("sub-pat12")
    True
    >>> person_key("sub-e\u0301") == person_key("sub-\u00e9")
    True
    """
    # A letter with its accent is one character or two; file systems exchange these.
    text = unicodedata.normalize("NFC", str(name)).strip().lower()
    if re.fullmatch(r"\d+\.0+", text):  # a spreadsheet made a number of it
        text = text.partition(".")[0]
    text = re.sub(r"^sub[-_ ]", "", text)
    plain = re.sub(r"[^\w]|_", "", text)
    return re.sub(r"(?<!\d)0+(?=\d)", "", plain) or text


def matched(people: Iterable[str], listed: Iterable[str], where: str) -> dict[str, str]:
    """Return, for each person that a table lists, the id that the table has.

    An equal id is taken first, with or without "sub-"; else the one that is equal by the rule.

    Parameters
    ----------
    people
        The ids of a cohort.
    listed
        The ids of a table, each once.
    where
        The table, in messages.

    Raises
    ------
    CohortError
        By the rule, a person could be any of several rows, or a row any of several persons.
    """
    rows = list(listed)
    exact = {_without_prefix(row): row for row in rows}
    by_key: dict[str, list[str]] = {}
    for row in rows:
        by_key.setdefault(person_key(row), []).append(row)
    found: dict[str, str] = {}
    for person in dict.fromkeys(people):
        same = exact.get(_without_prefix(person))
        candidates = [same] if same is not None else by_key.get(person_key(person), [])
        if len(candidates) > 1:
            raise CohortError(
                f"{where}: {person} may be {' or '.join(candidates[:3])}: {RULE}, these ids are "
                "equal. Write the ids in the table as the files have them."
            )
        if candidates:
            found[person] = candidates[0]
    owners: dict[str, str] = {}
    for person, row in found.items():
        other = owners.setdefault(row, person)
        if other != person:
            raise CohortError(
                f"{where}: the row of {row} may belong to {other} or {person}: {RULE}, these ids "
                "are equal. Give each person a row with the id that the files have."
            )
    return found


def check_spellings(names: Iterable[str], where: str) -> None:
    """Check that no person of a table is spelt in two ways.

    Raises
    ------
    CohortError
        Two different ids are equal by the rule.
    """
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(person_key(name), name)
        if other != name:
            raise CohortError(
                f"{where}: '{other}' and '{name}' are one person or two: {RULE}, these ids are "
                "equal. Write one person in one way, and name two persons differently."
            )


def _without_prefix(name: str) -> str:
    return name.strip().removeprefix("sub-")
