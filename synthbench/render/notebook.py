"""What a notebook shows of a record: one line, a table, a data frame, a figure.

A notebook of Jupyter's calls `_repr_html_` of the last value of a cell, and other shells `repr`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from synthbench.render.html import escaped
from synthbench.render.numbers import number
from synthbench.runtime.text import in_figure, one_line

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

SHOWN_ROWS = 40
"""The most rows of a table in a notebook; a data frame has them all."""

MARK, INTERVAL, BAND = "#1b4f72", "#5d8aa8", "0.88"
"""Colours of values, of their intervals and of floors or margins."""


class Shown(ABC):
    """The base of records that a notebook shows; a subclass says what."""

    @property
    @abstractmethod
    def title(self) -> str:
        """The record in one line."""

    @abstractmethod
    def to_frame(self) -> pd.DataFrame:
        """Return the record's numbers, one row per value."""

    @abstractmethod
    def plot(self, *, ax: Axes | None = None) -> Axes:
        """Draw the record and return the axes; None: into a new figure."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {one_line(self.title)}>"

    def _repr_html_(self) -> str:
        frame = self.to_frame()
        left = len(frame) - SHOWN_ROWS
        more = "" if left <= 0 else f"<p>and {left} more rows: to_frame() has all of them</p>"
        # Names are no formulas: MathJax passes over these classes.
        return (
            f'<div class="tex2jax_ignore mathjax_ignore"><p><b>{escaped(self.title)}</b></p>'
            f"{html_table(frame[:SHOWN_ROWS])}{more}</div>"
        )


def html_table(frame: pd.DataFrame) -> str:
    """Return a data frame as a table of HTML, without columns that are empty."""
    kept = frame.dropna(axis=1, how="all")
    titles = "".join(f"<th>{escaped(str(column))}</th>" for column in kept)
    rows = "".join(
        f"<tr>{''.join(f'<td>{escaped(_cell(value))}</td>' for value in row)}</tr>"
        for row in kept.itertuples(index=False)
    )
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table>"


def _cell(value: Any) -> str:
    if value is None or value != value:  # NaN
        return ""
    return number(value) if isinstance(value, float) else str(value)


def new_axes(ax: Axes | None, rows: int = 0) -> Axes:
    """Return these axes, or those of a new figure of pyplot's that has room for rows."""
    if ax is not None:
        return ax
    from matplotlib import pyplot

    height = 1.6 + 0.3 * rows if rows else 4.0
    _, ax = pyplot.subplots(figsize=(7.0, height), layout="constrained")
    return ax


def name_rows(ax: Axes, names: Sequence[str]) -> None:
    """Name the rows of a figure, the first at its top."""
    ax.set_yticks(range(len(names)), [in_figure(name) for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)


def draw_row(ax: Axes, at: float, value: float, interval: tuple[float, float] | None) -> None:
    """Draw a value as a mark and its interval as a line, in the row `at`."""
    if interval is not None:
        ax.plot(interval, (at, at), color=INTERVAL, lw=2, solid_capstyle="butt")
    ax.plot([value], [at], "o", color=MARK, ms=5)
