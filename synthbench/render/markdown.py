"""Markdown: escaped text, and tables."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from urllib.parse import quote


def escaped(text: object, longest: int | None = None) -> str:
    r"""Return text as one line of markdown that cannot start markup or end a cell of a table.

    Line breaks, control characters and marks that change the direction of writing become blanks.

    Parameters
    ----------
    text
        Any text: names in records are not trusted.
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
    # Websites turn an @ into a mention of a person and an address into a link, and make pages of
    # templates in braces.
    for sign, entity in _ENTITIES.items():
        safe = safe.replace(sign, entity)
    return safe


_ENTITIES = {
    "@": "&#64;", "://": ":&#47;&#47;", "www.": "www&#46;", "{{": "&#123;&#123;", "{%": "&#123;%",
}  # fmt: skip


def code(text: object) -> str:
    r"""Return text that is set as code, in a table or outside.

    >>> print(code("resnet10@48 x 56"), code("a`|b"))
    `resnet10@48 x 56` <code>a\`\|b</code>
    """
    words = str(text)
    plain = re.fullmatch(r"[\w.:,;/@+=() -]+", words) and words.isprintable()
    return f"`{words}`" if plain else f"<code>{escaped(words)}</code>"


def target(path: str) -> str:
    """Return the path of a file as the target of a link or a picture.

    >>> target("entries/a b(1).png")
    'entries/a%20b%281%29.png'
    """
    return quote(path, safe="/")


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    words: int = 1,
    prose: Sequence[int] = (),
) -> str:
    """Return a table; its cells are inserted as they are.

    Parameters
    ----------
    head, rows
        Cells in markdown, as many in each row as in the head.
    words
        Number of columns, from the first, that are aligned to the left; the others are aligned
        to the right.
    prose
        Indices of other columns that are aligned to the left.
    """
    left = {*range(words), *prose}
    lines = [head, ["---" if i in left else "---:" for i in range(len(head))], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
