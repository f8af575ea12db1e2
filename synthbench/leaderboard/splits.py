"""The page's section on other splits: which findings do not depend on the luck of one split.

`splits/NAME/ENTRY.json` holds the scorecard of the same method, trained and scored on another split
of the cohort (`synthbench data split --repeat`). An entry is found there by the name of its file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from synthbench.errors import ScorecardError
from synthbench.leaderboard.board import Board, entry_title, key_heading, ranked_keys
from synthbench.records.protocol import Protocol
from synthbench.records.scorecard import Scorecard
from synthbench.render.markdown import escaped, table
from synthbench.render.numbers import number
from synthbench.report.memorization import copies_found
from synthbench.report.standing import verdict
from synthbench.report.verdicts import copied_parts

FOLDER = "splits"

SHOWN = 10
"""Pairs of entries whose order changes that are named at most."""


def splits(board: Board) -> str:
    """Return the section in markdown; empty where there are no other splits.

    Raises
    ------
    ScorecardError
        A scorecard of another split cannot be read, or was scored in another way.
    """
    others = read_splits(board)
    if not others:
        return ""
    key = ranked_keys(board)[0]
    by_entry = {
        name: [card, *(cards[name] for cards in others.values())]
        for name, card in board.ordered.items()
        if all(name in cards for cards in others.values())
    }
    if not by_entry:
        return ""

    def standing(card: Scorecard) -> str:
        row = key.of(card)
        return "not computed" if row is None else verdict(row).words

    columns: dict[str, Callable[[Scorecard], str]] = {
        "against its floor": standing,
        "copies of training images": lambda card: copies_found(card).words,
        "copied parts": lambda card: "" if card.local_copying is None else copied_parts(card).words,
    }
    values = {name: [_value(board, card) for card in cards] for name, cards in by_entry.items()}
    rows = [
        [
            entry_title(name, board),
            _ends(values[name]),
            *(_in_splits([words(card) for card in cards]) for words in columns.values()),
        ]
        for name, cards in by_entry.items()
    ]
    k = len(others) + 1
    return (
        f"## In {k} splits\n\n"
        + table(["entry", escaped(key_heading(key, board)), *columns], rows, words=5)
        + f"\n\nThe methods were trained and scored again on {k - 1} other "
        f"split{'s' if k > 2 else ''} of the cohort "
        f"({escaped(', '.join(others))}). What is bold held in all of them; the rest may be the "
        f"luck of one split. {_order(values, board)}"
    )


def read_splits(board: Board) -> dict[str, dict[str, Scorecard]]:
    """Return the scorecards of a benchmark's other splits, by split and entry.

    Raises
    ------
    ScorecardError
        One cannot be read, was scored in another way, or on the benchmark's own real cohort.
    """
    found: dict[str, dict[str, Scorecard]] = {}
    for file in sorted((board.folder / FOLDER).glob("*/*.json")):
        card = Scorecard.load(file)
        _check(file, card, board)
        found.setdefault(file.parent.name, {})[file.stem] = card
    return found


def _check(file: Path, card: Scorecard, board: Board) -> None:
    own = _way_of_scoring(board.benchmark.protocol)
    differs = [what for what, value in _way_of_scoring(card.protocol).items() if value != own[what]]
    if card.real.fingerprint == board.benchmark.real_fingerprint:
        differs.append("no other split: the real cohort is the benchmark's own")
    if differs:
        raise ScorecardError(
            f"{file}: it cannot stand beside the entries of {board.benchmark.name} "
            f"({', '.join(differs)}). Score it on its split's reference part with the settings of "
            f"the benchmark: synthbench benchmark init SPLIT --real REAL --protocol {board.folder}"
        )


def _way_of_scoring(protocol: Protocol) -> dict[str, Any]:
    """Return what must be equal: all but what is frozen on the real cohort and its size."""
    return {
        "grid": str(protocol.space.grid),
        "intensities": protocol.space.scaling,
        "extractors": [(e.name, e.weights_sha256) for e in protocol.extractors],
        "formulas": {key: settings.get("formula") for key, settings in protocol.settings.items()},
    }


def _value(board: Board, card: Scorecard) -> float | None:
    row = ranked_keys(board)[0].of(card)
    return None if row is None else row.value


def _ends(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{number(min(known))} to {number(max(known))}" if known else ""


def _in_splits(found: Sequence[str]) -> str:
    """Return what was found, and in how many splits; bold where it is the same in all."""
    counts = Counter(found)
    if len(counts) == 1:
        return f"**{escaped(found[0])}**" if found[0] else ""
    return "; ".join(
        f"{escaped(words or 'not computed')} in {n} of {len(found)}"
        for words, n in counts.most_common()
    )


def _order(values: Mapping[str, Sequence[float | None]], board: Board) -> str:
    """Return how many pairs of entries keep their order by the primary metric."""
    direction = ranked_keys(board)[0].direction
    pairs, changed = 0, []
    for one, other in combinations(values, 2):
        signs = set()
        for first, second in zip(values[one], values[other], strict=True):
            if first is None or second is None:
                break
            losses = [abs(v) if direction == "zero" else v for v in (first, second)]
            signs.add(losses[0] <= losses[1])
        else:
            pairs += 1
            if len(signs) > 1:
                changed.append(f"{board.tag(one)} and {board.tag(other)}")
    if not changed:
        return f"All {pairs} pairs of entries have the same order in every split."
    more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    return (
        f"{pairs - len(changed)} of {pairs} pairs of entries have the same order in every split; "
        f"not so: {', '.join(changed[:SHOWN])}{more}."
    )
