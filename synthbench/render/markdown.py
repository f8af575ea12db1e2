"""Markdown: text that cannot be anything but text, and tables."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence


def escaped(text: object, longest: int | None = None) -> str:
    r"""Return text as one line of markdown that cannot start markup or end a cell of a table.

    Line breaks, control characters and marks that turn the direction of writing become blanks.

    Parameters
    ----------
    text
        Names in records are not trusted: anything.
    longest
        Characters that are kept; None keeps all.

    >>> print(escaped("<b>|a_1|\n# big"))
    &lt;b&gt;\|a\_1\| \# big
    """
    visible = "".join(c if c.isprintable() else " " for c in str(text))
    words = " ".join(visible.split())
    if longest is not None and len(words) > longest:
        words = words[: longest - 1] + "…"
    safe = re.sub(r"([\\`*_\[\]|~$#!])", r"\\\1", html.escape(words, quote=False))
    # Hubs of models and data sets turn an @ into a mention of somebody.
    return safe.replace("@", "&#64;")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 1) -> str:
    """Return a table of cells that are markdown already.

    Parameters
    ----------
    head, rows
        As many cells in each row as in the head.
    words
        So many columns, from the first, are aligned to the left; the others to the right.
    """
    lines = [head, ["---"] * words + ["---:"] * (len(head) - words), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
