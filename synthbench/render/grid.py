"""A grid of ranks as SVG: one row per choice, one column per entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from synthbench.render.svg import EDGE, ROW, element, picture, text

LABEL, CELL, LINE = 330, 46, 18
"""Widths of a choice's name and of a cell, and the height of a line below the grid, in pixels."""


def rank_grid(title: str, ranks: Mapping[str, Sequence[int]], names: Sequence[str]) -> str:
    """Return an SVG of every entry's rank under every choice; better ranks are darker.

    Parameters
    ----------
    title
        Above the grid.
    ranks
        The rank of each entry, by choice.
    names
        Of the entries, in order. A name begins with the entry's number, which is the head of its
        column.
    """
    top = 48
    bottom = top + ROW * len(ranks)
    parts = [text(title, EDGE, 20, class_="title")]
    for k in range(len(names)):
        x = LABEL + CELL * k + CELL / 2
        parts.append(text(str(k + 1), x, top - 8, text_anchor="middle"))
    for i, (choice, row) in enumerate(ranks.items()):
        y = top + ROW * i
        parts.append(text(choice, EDGE, y + 15))
        for k, rank in enumerate(row):
            parts += _square(rank, len(names), LABEL + CELL * k, y)
    for k, name in enumerate(names):
        parts.append(text(name, EDGE, bottom + LINE * (k + 1), class_="tick"))
    width, height = LABEL + CELL * len(names) + EDGE, bottom + LINE * len(names) + 2 * EDGE
    return picture(title, width, height, parts)


def _square(rank: int, worst: int, x: float, y: float) -> list[str]:
    opacity = 0.55 * (worst - rank) / max(worst - 1, 1)
    return [
        element("rect", class_="cell", x=x, y=y, width=CELL - 2, height=ROW - 2,
                opacity=f"{opacity:.2f}"),
        text(str(rank), x + CELL / 2 - 1, y + 15, text_anchor="middle"),
    ]  # fmt: skip
