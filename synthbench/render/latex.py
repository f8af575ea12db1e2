r"""LaTeX: text that it prints as it is, numbers, and tables.

Only commands of plain LaTeX are used, and only ASCII is written: the text compiles under every
engine, with no package. Names are not trusted: LaTeX commands in them are escaped.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from synthbench.render.numbers import number

DAGGER = r"\textdagger{}"

_SIGNS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # At the start of a row LaTeX would take a bracket for an option of the line break before.
    "[": "{[}",
    "]": "{]}",
    "`": r"\textasciigrave{}",
    "²": r"\textsuperscript{2}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "–": r"\textendash{}",
    "→": r"$\rightarrow$",
    "†": DAGGER,
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "µ": r"$\mu$",
    "μ": r"$\mu$",
    "’": "'",
    '"': "''",
}

_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
}
"""Combining marks, and the command of each."""


def escaped(text: str) -> str:
    r"""Return text that LaTeX prints as it is: one line of ASCII, no command, no comment.

    Letters with accents become accent commands. A letter that plain LaTeX has no sign for, such as
    a Chinese one, is written as its number.

    >>> print(escaped("50% of A_1 & B^2"), escaped("Fréchet"), escaped("数"))
    50\% of A\_1 \& B\textasciicircum{}2 Fr\'{e}chet (U+6570)
    """
    visible = "".join(c for c in text if c.isspace() or unicodedata.category(c)[0] != "C")
    signs = "".join(map(_sign, unicodedata.normalize("NFC", " ".join(visible.split()))))
    return re.sub("-(?=-)", "-{}", signs)  # two hyphens would become one dash


def _sign(c: str) -> str:
    if c in _SIGNS:
        return _SIGNS[c]
    if c.isascii():
        return c
    parts = unicodedata.normalize("NFD", c)
    letter, marks = parts[0], parts[1:]
    if letter.isascii() and letter.isalpha() and len(marks) == 1 and marks in _ACCENTS:
        return f"\\{_ACCENTS[marks]}{{{letter}}}"
    return f"(U+{ord(c):04X})"


def code(text: str) -> str:
    r"""Return escaped text in the type of a program.

    >>> print(code("ms_ssim"))
    \texttt{ms\_ssim}
    """
    return rf"\texttt{{{escaped(text)}}}"


def numeric(x: float, digits: int | None = None) -> str:
    """Return a number, its minus sign in mathematics.

    Parameters
    ----------
    digits
        Significant digits; None: as tables of synthbench show it (`number`).

    >>> numeric(-0.0361234), numeric(1.348781, 6)
    ('$-$0.0361', '1.34878')
    """
    text = number(x) if digits is None else f"{x:.{digits}g}"
    return f"$-${text[1:]}" if text.startswith("-") else text


def comment(text: str) -> str:
    r"""Return lines that LaTeX passes over.

    >>> print(comment("a\n\nb"))
    % a
    %
    % b
    """
    return "\n".join(f"% {line}".rstrip() for line in text.splitlines())


def table(
    titles: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str, label: str, notes: str
) -> str:
    r"""Return a floating table with a header row, its first column to the left.

    Parameters
    ----------
    titles, rows
        Cells in LaTeX.
    caption, label
        The caption in LaTeX, and the name for ``\ref``.
    notes
        Text in LaTeX below the table; empty: none.
    """
    lines = [" & ".join(titles) + r" \\", r"\hline"]
    lines += [" & ".join(row) + r" \\" for row in rows]
    below = [rf"\par\smallskip {notes}"] if notes else []
    return "\n".join([
        r"\begin{table}",
        r"\centering\small",
        rf"\caption{{{caption}}}",
        rf"\label{{{label}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(titles) - 1)}}}",
        r"\hline",
        *lines,
        r"\hline",
        r"\end{tabular}",
        *below,
        r"\end{table}",
    ])  # fmt: skip
