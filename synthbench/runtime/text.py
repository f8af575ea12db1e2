"""Text for terminals and logs: nothing in it is taken for a command, and every locale can show it.

Names of files, of participants, of entries and of plugins are not trusted: they can hold control
characters, which a terminal obeys, and lines that a build's log takes for commands.
"""

from __future__ import annotations

import codecs
import logging
import re
import sys
import unicodedata

_INVISIBLE = {"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"}

_WORDS = {
    "²": "^2", "¹": "(1)", "±": "+/-", "×": "x", "–": "-", "—": "-", "−": "-", "→": "->",
    "↓": "(lower)", "↑": "(higher)", "†": "(+)", "‡": "(++)", "…": "...", "≥": ">=", "≤": "<=",
    "≈": "~", "µ": "u", "μ": "u", "°": " deg", "·": "*", "•": "*", "’": "'", "“": '"', "”": '"',
    "─": "-", "━": "-", "│": "|", "┃": "|",
}  # fmt: skip
"""Characters of synthbench's own output in ASCII."""

_ERRORS = "synthbench.words"
"""The name of the rule for characters that an encoding lacks."""

_COMMAND = re.compile(r"^([^\S\n]*)::", re.MULTILINE)


def visible(text: str, *, kept: str = "\n") -> str:
    r"""Return text with invisible characters written out as escapes.

    Control characters can command a terminal, and marks that change the reading direction can
    make the name of a file look like another one.

    Parameters
    ----------
    text
        Any text.
    kept
        Characters that stay as they are.

    >>> visible("a\u202eb\x1b")
    'a\\u202eb\\u001b'
    """
    return "".join(
        c if c in kept or unicodedata.category(c) not in _INVISIBLE else f"\\u{ord(c):04x}"
        for c in text
    )


def one_line(text: str) -> str:
    r"""Return text as one visible line; line breaks and tabs are written out.

    >>> one_line("a\n# b")
    'a\\n# b'
    """
    return visible(text.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t"))


def printed(text: str) -> str:
    r"""Return lines for a terminal or a log: visible, and none a command of a workflow's runner.

    Runners of GitHub Actions obey lines that start with two colons, and ``##[`` anywhere.

    >>> print(printed("found:\n::error::a file"))
    found:
    \::error::a file
    """
    return without_commands(visible(text, kept="\n\t"))


def without_commands(text: str) -> str:
    """Return text of which a workflow's runner obeys no line; a backslash marks the change."""
    return _COMMAND.sub(r"\1\\::", text).replace("##[", r"##\[")


def in_figure(text: str) -> str:
    r"""Return text for a figure of matplotlib, in which dollars would enclose mathematics.

    >>> print(in_figure("$x"))
    \$x
    """
    return visible(text).replace("$", r"\$")


def for_every_locale() -> None:
    """Let standard output and standard error write what their encoding lacks in other words.

    A scoring of hours must not end in a traceback because a terminal has no ² or →.
    """
    codecs.register_error(_ERRORS, _in_words)
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Printed())
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors=_ERRORS)


class _Printed(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printed(super().format(record))


def _in_words(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    words = "".join(
        _WORDS.get(c) or c.encode("ascii", "backslashreplace").decode("ascii") for c in lacking
    )
    return words, error.end
