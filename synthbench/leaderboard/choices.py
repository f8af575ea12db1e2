"""The page's section on ranks under other choices of extractor, kernel and preset."""

from __future__ import annotations

from synthbench.leaderboard.board import Board, entry_title, sentence, stale_words, usual_folder
from synthbench.leaderboard.multiverse import Swap
from synthbench.leaderboard.pictures import GRID
from synthbench.leaderboard.ranks import MATRIX
from synthbench.render.markdown import escaped, table


def choices(board: Board) -> str:
    """Return the section in markdown; empty where no multiverse was computed."""
    found = board.multiverse
    if found is None:
        if "multiverse" not in board.stale:
            return ""
        words = stale_words(board, "multiverse", usual_folder(board))
        return f"## Under other choices\n\n{sentence(words)}"
    names = [name for name in board.ordered if name in found.entries]
    later = ", ".join(entry_title(name, board) for name in board.ordered if name not in names)
    # Among several training seeds, the order of the rows may not be that of the values.
    swaps = {pair: s for s in found.swaps for pair in ((s.ahead, s.behind), (s.behind, s.ahead))}
    swaps = {(a, b): s for (a, b), s in swaps.items() if names.index(a) < names.index(b)}
    if len(names) > MATRIX:
        pairs = [[entry_title(s.ahead, board), entry_title(s.behind, board), _swap_words(s)]
                 for s in found.swaps if s.probability > 0]  # fmt: skip
        changes = table(["ahead here", "behind here", "change places"], pairs, words=2)
    else:
        rows = [
            [entry_title(a, board), *(_swap_words(swaps[a, b]) if (a, b) in swaps else ""
             for b in names[1:])]
            for a in names[:-1]
        ]  # fmt: skip
        changes = table(["", *(board.tag(name) for name in names[1:])], rows)
    absent = "; ".join(escaped(words) for words in found.absent)
    return (
        f"## Under other choices\n\n![Ranks under every choice]({GRID})\n\n{changes}\n\n"
        f"Over {len(found.universes)} choices of extractor, kernel and preset: the probability "
        "that the two rows change places (the mean over choices of the share of paired resamples "
        "that reverse them), and in brackets the share of choices whose estimates reverse them. "
        "Each choice has the same weight: this describes the family of choices and is not a test."
        + (f" Not computed: {absent}." if absent else "")
        + (f" Added later, so not in it: {later}." if later else "")
    )


def _swap_words(swap: Swap) -> str:
    return f"{swap.probability:.0%} ({swap.universes:.0%})"
