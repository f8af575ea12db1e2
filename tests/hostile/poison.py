"""Names that a stranger could choose, and what no output may do with them."""

from __future__ import annotations

import unicodedata

POISON = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"onmouseover=alert(1) x="',
    "' onfocus=alert(1) autofocus '",
    "</title><script>x</script>",
    "</style><svg onload=alert(1)>",
    "| a | b |",
    "a\\|b",
    "[x](javascript:alert(1))",
    "![x](http://evil.example/t.png)",
    "[x]: http://evil.example",
    "`",
    "``` x",
    "\n\n# H1\n",
    "\r\nb",
    "=====\n",
    "\n::error::pwn\n",
    "::stop-commands::x",
    "  ::add-mask::x",
    "##[error]x",
    "%0A::error::x",
    "\x1b]0;title\x07\x1b[31mRED\x1b[0m",
    "\x9b31mRED",
    "\x08\x08\x08\x7f",
    "\x00",
    "\ufffe",
    "[link=file:///etc/passwd]x[/link][bold]",
    "sub-z[final]",
    "[/]",
    ":smile:",
    "\\input{/etc/passwd}",
    "\\write18{id}",
    "%",
    "$x$",
    "$\\frac$",
    "^^5cinput",
    "\u202e",
    "\u2028x\u2029",
    "\u200bx\ufeff",
    "]]>",
    "<![CDATA[x",
    "&lt;",
    "&#x0a;",
    "{{7*7}}",
    "{% include x %}",
    "http://evil.example/auto",
    "www.evil.example",
    "a@evil.example",
    "@someone",
    "#1",
    "~~~",
    "~~x~~",
    "<!-- ",
    "--> ",
    "---\nlicense: mit",
    "!!python/object/apply:os.system [id]",
    "=cmd|' /C calc'!A0",
    "@SUM(1)",
    "+HYPERLINK(1)",
    "-2+cmd|x",
    "\t=1",
)


def commands(text: str) -> list[str]:
    """The characters and lines of a text that a terminal or a workflow's runner would obey."""
    found = [f"U+{ord(c):04X}" for c in text if obeyed(c)]
    # The runner trims a line before it looks for "::", and finds "##[" anywhere.
    found += [line for line in text.splitlines() if line.strip().startswith("::")]
    return found + (["##["] if "##[" in text else [])


def obeyed(c: str) -> bool:
    """Return whether a character commands a terminal, or changes the direction of writing."""
    return c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cf", "Cn", "Zl", "Zp")
