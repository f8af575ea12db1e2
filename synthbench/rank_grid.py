"""A grid of ranks: choices down, entries across, as SVG, the same bytes anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from synthbench.multiverse import Multiverse

LABEL, CELL, ROW, MARGIN = 330, 46, 22, 12

_STYLE = (
    "text{font:12px sans-serif;fill:#1f2328}.title{font-weight:bold}"
    ".quiet{fill:#59636e}.cell{fill:#0550ae}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.quiet{fill:#9198a1}"
    ".cell{fill:#79c0ff}}"
)


def rank_grid(found: Multiverse, names: Mapping[str, str]) -> str:
    """Return an SVG of every entry's rank under every choice; the better, the darker.

    Parameters
    ----------
    found
        The universes.
    names
        Of the entries to show, in order; a name begins with the entry's number.
    """
    width = LABEL + CELL * len(names) + MARGIN
    top = 48
    bottom = top + ROW * len(found.universes)
    height = bottom + 18 * len(names) + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label="Ranks under every choice">',
        f"<style>{_STYLE}</style>",
        f'<text x="{MARGIN}" y="20" class="title">Rank under every choice</text>',
    ]
    for k in range(len(names)):
        x = LABEL + CELL * k + CELL / 2
        parts.append(f'<text x="{x:.0f}" y="{top - 8}" text-anchor="middle">{k + 1}</text>')
    for i, universe in enumerate(found.universes):
        y = top + ROW * i
        parts.append(f'<text x="{MARGIN}" y="{y + 15}">{escape(universe.words)}</text>')
        for k, name in enumerate(names):
            parts += _square(universe.ranks[name], len(names), LABEL + CELL * k, y)
    for k, title in enumerate(names.values()):
        y = bottom + 18 * (k + 1)
        parts.append(f'<text class="quiet" x="{MARGIN}" y="{y}">{escape(title)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _square(rank: int, worst: int, x: float, y: float) -> list[str]:
    opacity = 0.55 * (worst - rank) / max(worst - 1, 1)
    return [
        f'<rect class="cell" x="{x:.0f}" y="{y:.0f}" width="{CELL - 2}" height="{ROW - 2}" '
        f'opacity="{opacity:.2f}"/>',
        f'<text x="{x + CELL / 2 - 1:.0f}" y="{y + 15:.0f}" text-anchor="middle">{rank}</text>',
    ]
