"""The page's pictures: a forest plot per metric, ranks under every choice, conditions."""

from __future__ import annotations

from synthbench.leaderboard.board import (
    ARROWS,
    Board,
    Key,
    floor_of,
    key_title,
    plain_title,
    ranked_keys,
)
from synthbench.render.forest import Floor, Row, forest_plot
from synthbench.render.grid import rank_grid
from synthbench.report.adherence import requested_measured
from synthbench.report.standing import depends_on_n, headline

GRID = "multiverse.svg"
ASKED = "requested-measured.svg"


def pictures(board: Board) -> dict[str, str]:
    """Return the page's pictures as SVG, by file name.

    One forest plot per metric; the grid of the multiverse, and requested against measured
    conditions, where there are any.
    """
    if not board.ordered:
        return {}
    drawn = {forest_file(key, board): _forest(key, board) for key in ranked_keys(board)}
    names = {name: plain_title(board, name) for name in board.ordered}
    if board.multiverse is not None:
        known = [name for name in names if name in board.multiverse.entries]
        ranks = {
            universe.words: [universe.ranks[name] for name in known]
            for universe in board.multiverse.universes
        }
        shown = [names[name] for name in known]
        drawn[GRID] = rank_grid("Rank under every choice", ranks, shown)
    requested = requested_measured({
        names[name]: card.adherence
        for name, card in board.ordered.items()
        if card.adherence is not None
    })  # fmt: skip
    if requested:
        drawn[ASKED] = requested
    return drawn


def _forest(key: Key, board: Board) -> str:
    floor = floor_of(key, board)
    rows = []
    for name, card in board.ordered.items():
        row = key.of(card)
        found = headline(row) if row else None
        low, high = (found and (found.interval or found.spread)) or (None, None)
        rows.append(
            Row(
                name=plain_title(board, name),
                value=found.value if found else None,
                low=low,
                high=high,
                whole=row.value if row and row.floor and depends_on_n(row) else None,
            )
        )
    level = f"{board.benchmark.protocol.level:.0%} intervals"
    shaded = Floor(floor.low, floor.high, floor.n) if floor else None
    title = f"{key_title(key, board, n=False)} {ARROWS[key.direction]}"
    return forest_plot(title, rows, shaded, note=level)


def forest_file(key: Key, board: Board) -> str:
    """Return the name of the file of a metric's forest plot."""
    several = len({k.extractor for k in ranked_keys(board) if k.metric == key.metric}) > 1
    words = f"{key.metric}-{key.extractor}" if several and key.extractor else key.metric
    return f"forest-{''.join(c if c.isalnum() else '-' for c in words)}.svg"
