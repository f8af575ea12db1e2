"""Text in HTML and SVG: what a reader cannot see is written out, what is markup is escaped."""

from __future__ import annotations

import html
import unicodedata

_INVISIBLE = {"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"}


def visible(text: str) -> str:
    r"""Return text with what a reader cannot see written out as escapes.

    Controls and marks that turn the reading direction let the name of a file pass for another
    one; escaping of markup leaves them as they are.

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
