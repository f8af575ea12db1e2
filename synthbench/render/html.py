"""Text in HTML and SVG: invisible characters are written out, and markup is escaped."""

from __future__ import annotations

import html

from synthbench.runtime.text import visible


def escaped(text: str) -> str:
    """Return text that neither HTML nor SVG takes for markup, in content or in an attribute.

    >>> escaped("a & <b>")
    'a &amp; &lt;b&gt;'
    """
    return html.escape(visible(text))
