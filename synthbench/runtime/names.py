"""Names from data that become names of files: one function, so that none leaves its folder."""

from __future__ import annotations

import re

from synthbench.errors import CohortError

_LABEL = re.compile(r"[A-Za-z0-9]{1,64}")
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")


def is_folder_name(name: str) -> bool:
    """Return True for a name that is that of one folder on every system.

    Windows has devices under some names in every folder, and drops dots and spaces at the end.
    Letters are those of ASCII: others are written in two ways, which look the same.

    >>> [is_folder_name(name) for name in ("ixi-4mm", "..", "con.v2", "b.", "a b")]
    [True, False, False, False, False]
    """
    device = re.fullmatch(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", name, re.IGNORECASE)
    return bool(_FOLDER.fullmatch(name)) and not name.endswith(".") and device is None


def entity(key: str, value: str, what: str) -> str:
    """Return an id as an entity of a BIDS file name, such as "sub-01".

    A label of BIDS has letters and digits only. Nothing is dropped silently: two ids could become
    one.

    Parameters
    ----------
    key
        The entity: "sub", "ses" or "run".
    value
        The id, with the key before it or without.
    what
        What the id is, for the message.

    Raises
    ------
    CohortError
        The id has other characters, or is longer than 64.

    >>> entity("sub", "sub-01", "participant"), entity("run", "2", "run")
    ('sub-01', 'run-2')
    """
    label = value.removeprefix(f"{key}-")
    if not _LABEL.fullmatch(label):
        plain = re.sub(r"[^A-Za-z0-9]", "", label)[:64]
        advice = f" such as {key}-{plain}" if plain else ""
        raise CohortError(
            f"{what} {value!r}: cannot be the name of a file: letters and digits are needed, at "
            f"most 64. Write another id into the table{advice}."
        )
    return f"{key}-{label}"
