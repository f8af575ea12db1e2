"""Tables and lines for a terminal: what they show is text, never markup or a control character.

They are Rich's own, but that every text is shown as it is: the name of a file such as
``sub-1[final].nii.gz`` is no markup.
"""

from __future__ import annotations

from typing import Any

import rich.table
import rich.text

from synthbench.runtime.text import one_line


class Text(rich.text.Text):
    """One line of text, with its invisible characters written out."""

    def __init__(self, text: str = "", style: str = "", **options: Any) -> None:
        super().__init__(one_line(text), style, **options)


class Table(rich.table.Table):
    """A table without lines; texts in its heads and cells are shown as they are."""

    def __init__(self, *heads: str, show_header: bool = True) -> None:
        super().__init__(box=None, pad_edge=False, header_style="bold", show_header=show_header)
        for head in heads:
            self.add_column(head)

    def add_column(self, header: Any = "", *args: Any, **options: Any) -> None:
        """Add a column with its head; see Rich."""
        super().add_column(_shown(header), *args, **options)

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Add a row of cells; see Rich."""
        super().add_row(*map(_shown, cells), **options)


def _shown(cell: Any) -> Any:
    return Text(cell) if isinstance(cell, str) else cell
