"""Tables of text with one separator: every cell is one line, and none is a formula."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from synthbench.runtime.text import one_line

if TYPE_CHECKING:
    import pandas as pd

# A spreadsheet computes a cell that starts with one of these; "-" and "+5" alone are values.
_FORMULA = re.compile(r"[=@]|[+-].*[A-Za-z(|!]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)", re.IGNORECASE)


def safe(cell: Any) -> Any:
    r"""Return a cell that no spreadsheet computes and no terminal obeys; numbers stay as they are.

    >>> safe("=cmd|' /C calc'!A0"), safe("-0.5e-3"), safe("-"), safe("a\nb")
    ("'=cmd|' /C calc'!A0", '-0.5e-3', '-', 'a\\nb')
    """
    if not isinstance(cell, str):
        return cell
    text = one_line(cell)
    formula = _FORMULA.match(text) is not None and _NUMBER.fullmatch(text) is None
    return f"'{text}" if formula else text


def lines(rows: Iterable[Sequence[Any]], separator: str = "\t") -> str:
    """Return rows as delimited text; cells with the separator or a quotation mark are quoted."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    writer.writerows([safe(cell) for cell in row] for row in rows)
    return text.getvalue()


def table_text(table: pd.DataFrame, separator: str = "\t") -> str:
    """Return a table without its index as delimited text; missing values are ``n/a``."""
    shown = table.rename(columns=safe)
    for place, kind in enumerate(shown.dtypes):
        if not hasattr(kind, "kind") or kind.kind not in "biuf":
            shown.isetitem(place, shown.iloc[:, place].map(safe).to_numpy())
    text: str = shown.to_csv(sep=separator, index=False, na_rep="n/a", lineterminator="\n")
    return text
