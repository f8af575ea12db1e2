"""Text in HTML and SVG: invisible characters are written out, and markup is escaped."""

from __future__ import annotations

import html
import unicodedata

_INVISIBLE = {"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"}


def visible(text: str) -> str:
    r"""Return text with invisible characters written out as escapes.

    Control characters and marks that change the reading direction can make the name of a file
    look like another one; escaping of markup alone does not change them.

    >>> visible("a\u202eb")
    'a\\u202eb'
    """
    return "".join(
        f"\\u{ord(c):04x}" if unicodedata.category(c) in _INVISIBLE and c != "\n" else c
        for c in text
    )


def escaped(text: str) -> str:
    """Return text that neither HTML nor SVG takes for markup, in content or in an attribute.

    >>> escaped("a & <b>")
    'a &amp; &lt;b&gt;'
    """
    return html.escape(visible(text))
