"""Text tables as other programs write them: encoding, separator, header and rows.

Every table that a user gives is read here: participants and sessions tables, manifests, tables of
conditions and measures, and the tables of public cohorts. What cannot be read for certain is
refused with the row that shows it.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from synthbench.errors import CohortError, near_miss
from synthbench.runtime.files import check_is_file

_SEPARATORS = {"\t": "tabs", ";": "semicolons", ",": "commas"}
_MARKS = (  # the longer marks first: that of UTF-32 begins as that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
MAX_CELLS = 2_500_000
"""The most cells of a table: the largest of public cohorts has two million."""

MAX_COLUMNS = 5_000
"""The most columns of a table: they take about six seconds."""

MAX_BYTES = 128 * 2**20
"""The most bytes of a table."""

_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")


@dataclass(frozen=True)
class TextTable:
    """A table of text.

    Attributes
    ----------
    file
        Its name in messages.
    cells
        One row per row of the file, all columns as text without spaces around it; "" where empty.
    lines
        The line of the file in which each row ends; the header is line 1.
    notes
        How the file was read, where that is not as its name says.
    """

    file: str
    cells: pd.DataFrame
    lines: tuple[int, ...]
    notes: tuple[str, ...] = ()

    def require(self, *columns: str) -> None:
        """Check that there are columns.

        Raises
        ------
        CohortError
            One is missing; the nearest is named.
        """
        for column in columns:
            if column not in self.cells:
                raise CohortError(
                    f"{self.file}: a column '{column}' is needed; "
                    f"{near_miss(column, self.cells.columns)}"
                )

    def place(self, row: int, column: str) -> str:
        """Return the words for a cell in a message, by the number of its row from 0."""
        return f"line {self.lines[row]}, column '{column}'"


def read_text_table(file: Path | str, named: Iterable[str] = ()) -> TextTable:
    """Return the table of a CSV or TSV file.

    The text may be UTF-8, UTF-16 or UTF-32 with a byte order mark, or UTF-8 without one; other
    text is taken for Windows-1252 (of which Latin-1 is nearly a part), and a note says so. The
    separator is the one of tab, semicolon and comma that the header has; with several of them,
    the one that divides all rows alike.

    Parameters
    ----------
    file
        Any text file.
    named
        Columns that are needed by name. A header that writes one with capitals, spaces or dashes
        ("Participant ID") gets the name.

    Raises
    ------
    CohortError
        The file cannot be opened or is no text, has no header, has a column twice, or a row has
        another number of cells than the header.
    """
    file = Path(file)
    text, notes = decoded(file)
    separator = separator_of(text)
    if text.count(separator or "\n") + text.count("\n") > MAX_CELLS:
        raise CohortError(
            f"{file}: has more than {MAX_CELLS} cells, the most that is read. Leave out columns or "
            "rows that are not needed."
        )
    rows = _rows(text, separator, file)
    if not rows:
        raise CohortError(
            f"{file}: cannot be read as a table: it is empty. A header with names of columns is "
            "needed."
        )
    header = [name.strip() or f"Unnamed: {i}" for i, name in enumerate(rows[0][1])]
    header = _renamed(header, named)
    _check_header(header, file)
    if len(header) > MAX_COLUMNS:
        raise CohortError(
            f"{file}: has {len(header)} columns; at most {MAX_COLUMNS} are read. Leave out those "
            "that are not needed."
        )
    body = [(line, _fitted(cells, len(header), line, file)) for line, cells in rows[1:]]
    expected = "\t" if file.suffix.lower() == ".tsv" else None
    if expected and separator not in (expected, None):
        notes = (*notes, f"{file.name}: has {_SEPARATORS[separator]} between columns, not tabs")
    cells = pd.DataFrame([cells for _, cells in body], columns=pd.Index(header), dtype=object)
    return TextTable(str(file), cells, tuple(line for line, _ in body), notes)


def header_of(file: Path) -> set[str]:
    """Return the names of a table's columns; the rows are not looked at.

    Raises
    ------
    CohortError
        It cannot be opened, or is no text.
    """
    text, _ = decoded(file)
    line = next((line for line in text.splitlines() if line.strip()), "")
    cells = next(csv.reader([line], delimiter=separator_of(line) or "\t"), [])
    return {name.strip() for name in cells}


def decoded(file: Path) -> tuple[str, tuple[str, ...]]:
    """Return the text of a file, and a note where its encoding is a guess.

    Raises
    ------
    CohortError
        It cannot be opened, is a workbook of a spreadsheet, or is no text.
    """
    try:
        check_is_file(file)
        with file.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        why = getattr(error, "strerror", None) or error
        raise CohortError(f"{file}: cannot be read: {why}.") from error
    if len(content) > MAX_BYTES:
        raise CohortError(
            f"{file}: has more than {MAX_BYTES // 2**20} MiB, the most that is read of a table. "
            "Leave out columns or rows that are not needed."
        )
    if content.startswith(_WORKBOOKS):
        raise CohortError(
            f"{file}: is a workbook of a spreadsheet (Excel, LibreOffice), not text. Save the "
            "sheet as CSV in UTF-8."
        )
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), None)
    notes: tuple[str, ...] = ()
    try:
        if encoding is not None:
            text = content.decode(encoding)
        else:
            try:
                text = content.decode("utf-8")
            except UnicodeDecodeError:
                text = content.decode("cp1252")
                notes = (f"{file.name}: is not UTF-8, and was read as Windows-1252 (Latin-1)",)
    except UnicodeDecodeError as error:
        raise CohortError(f"{file}: is no text: {error}. Save it as CSV in UTF-8.") from error
    if "\0" in text:
        raise CohortError(
            f"{file}: is no text, or UTF-16 without a byte order mark. Save it as CSV in UTF-8."
        )
    return text, notes


def separator_of(text: str) -> str | None:
    """Return the separator of a table's columns; None where it has one column."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    # Without what stands in quotes: a name may hold a comma.
    plain = "".join(part for i, part in enumerate(header.split('"')) if i % 2 == 0)
    present = [separator for separator in _SEPARATORS if separator in plain]
    if len(present) < 2:
        return present[0] if present else None
    return min(present, key=lambda s: (_uneven(text, s), present.index(s)))


def _uneven(text: str, separator: str) -> int:
    """Return the number of rows that a separator divides in another number of cells."""
    try:
        counts = [len(row) for row in csv.reader(io.StringIO(text), delimiter=separator) if row]
    except csv.Error:
        return len(text)
    return sum(count != counts[0] for count in counts)


def _rows(text: str, separator: str | None, file: Path) -> list[tuple[int, list[str]]]:
    """Return the rows with the line that each ends in; empty lines are skipped."""
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator or "\t", skipinitialspace=True,
        strict=True,
    )  # fmt: skip
    try:
        return [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise CohortError(
            f"{file}: cannot be read as a table: line {reader.line_num}: {error}. A quotation mark "
            "has no partner, or stands within a cell."
        ) from error


def _renamed(header: list[str], named: Iterable[str]) -> list[str]:
    wanted = {_bare(name): name for name in named}
    return [
        wanted.get(_bare(name), name) if wanted.get(_bare(name)) not in header else name
        for name in header
    ]


def _bare(name: str) -> str:
    return name.lower().replace(" ", "_").replace("-", "_").strip("_#")


def _check_header(header: list[str], file: Path) -> None:
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise CohortError(
            f"{file}: the header names a column twice: {', '.join(twice[:5])}. Rename or remove "
            "one."
        )


def _fitted(cells: list[str], width: int, line: int, file: Path) -> list[str]:
    """Return the cells of a row, without empty ones beyond the header."""
    while len(cells) > width and not cells[-1].strip():
        cells = cells[:-1]
    if len(cells) != width:
        raise CohortError(
            f"{file}: line {line} has {len(cells)} cells, but the header has {width}. Add what is "
            "missing (n/a where a value is not known). Quote a cell that holds the separator, as "
            'in "20,5".'
        )
    return [cell.strip() for cell in cells]
