"""The page's sections on other splits and other training seeds: what is not the luck of one.

`splits/NAME/ENTRY.json` holds the scorecard of the same method, trained and scored on another split
of the cohort (`synthbench data split --repeat`). `seeds/NAME/ENTRY.json` holds that of the same
method, trained with another seed and scored against the board's own real volumes. An entry is
found there by the name of its file. Neither takes part in the ranks: entries of several seeds that
are compared with all others stand in `entries/` and share a row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from synthbench.errors import ScorecardError
from synthbench.leaderboard.board import Board, entry_title, key_heading, ranked_keys
from synthbench.leaderboard.methods import method_of
from synthbench.records.protocol import Protocol
from synthbench.records.scorecard import Scorecard
from synthbench.render.markdown import escaped, table
from synthbench.render.numbers import number
from synthbench.report.memorization import copies_found
from synthbench.report.standing import verdict
from synthbench.report.verdicts import copied_parts

SPLITS, SEEDS = "splits", "seeds"
"""The two folders."""

SHOWN = 10
"""Pairs of entries whose order changes that are named at most."""


@dataclass(frozen=True)
class Repeats:
    """A way to repeat what led to the entries.

    Attributes
    ----------
    folder
        Its folder, which is also what the repetitions are called.
    one
        The word for one of them.
    title, again
        The head of the section, and what was done again; `{k}` stands for a number, `{s}` for the
        plural, `{named}` for the names.
    check
        Returns why the scorecard in a file is no such repetition of an entry.
    differs
        Returns what is another one in each repetition.
    """

    folder: str
    one: str
    title: str
    again: str
    check: Callable[[Scorecard, Scorecard | None, Board], list[str]]
    differs: Callable[[Scorecard], object]


def splits(board: Board) -> str:
    """Return the section on other splits in markdown; empty where there are none.

    Raises
    ------
    ScorecardError
        A scorecard of another split cannot be read, or was scored in another way.
    """
    return _section(board, _SPLITS)


def seeds(board: Board) -> str:
    """Return the section on other training seeds in markdown; empty where there are none.

    Raises
    ------
    ScorecardError
        A scorecard of another seed cannot be read, or is of another method or protocol.
    """
    return _section(board, _SEEDS)


def _section(board: Board, kind: Repeats) -> str:
    others = _read(board, kind)
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
            *(_in_all([words(card) for card in cards]) for words in columns.values()),
        ]
        for name, cards in by_entry.items()
    ]
    k = len(others) + 1
    named = escaped(", ".join(others))
    again = kind.again.format(k=k - 1, s="s" if k > 2 else "", named=named)
    return (
        f"## {kind.title.format(k=k)}\n\n"
        + table(["entry", escaped(key_heading(key, board)), *columns], rows, words=5)
        + f"\n\n{again}. What is bold held in all of them; the rest may be the "
        f"luck of one {kind.one}. {_order(values, board, kind)}".rstrip()
    )


def _read(board: Board, kind: Repeats) -> dict[str, dict[str, Scorecard]]:
    """Return the repeated scorecards, by repetition and entry."""
    found: dict[str, dict[str, Scorecard]] = {}
    told: dict[tuple[str, object], Path] = {}
    for file in sorted((board.folder / kind.folder).glob("*/*.json")):
        card = Scorecard.load(file)
        wrong = kind.check(card, board.cards.get(file.stem), board)
        same = told.setdefault((file.stem, kind.differs(card)), file)
        if same != file:
            wrong.append(f"no other {kind.one} than {same.relative_to(board.folder)}")
        if wrong:
            raise ScorecardError(
                f"{file}: it cannot stand beside the entries of {board.benchmark.name} "
                f"({', '.join(wrong)}). How to make it: docs/leaderboards.md."
            )
        found.setdefault(file.parent.name, {})[file.stem] = card
    return found


def _no_other_split(card: Scorecard, _: Scorecard | None, board: Board) -> list[str]:
    """Return how a scorecard differs, but in its real cohort: that must be another."""
    own = _way_of_scoring(board.benchmark.protocol)
    found = _way_of_scoring(card.protocol)
    differs = [f"{what} differ" for what, value in found.items() if value != own[what]]
    if card.real.fingerprint == board.benchmark.real_fingerprint:
        differs.append("no other split: the real cohort is the benchmark's own")
    return differs


def _no_other_seed(card: Scorecard, entry: Scorecard | None, board: Board) -> list[str]:
    """Return how a scorecard differs from the entry, but in its weights: those must be others."""
    if entry is None:
        return ["no entry has this name"]
    found = []
    if card.protocol_hash != board.benchmark.protocol.hash:
        found.append("it was scored by another protocol")
    if card.real.fingerprint != board.benchmark.real_fingerprint:
        found.append("its real cohort is not the benchmark's own")
    if method_of(card) is None or method_of(card) != method_of(entry):
        found.append("its volumes are not of the entry's method and training cohort")
    if card.origin.weights_sha256 == entry.origin.weights_sha256:
        found.append("no other seed: its weights are the entry's own")
    return found


_SPLITS = Repeats(
    SPLITS, "split", "In {k} splits",
    "The methods were trained and scored again on {k} other split{s} of the cohort ({named})",
    _no_other_split, lambda card: card.real.fingerprint,
)  # fmt: skip
_SEEDS = Repeats(
    SEEDS, "seed", "With {k} training seeds",
    "The methods were trained again with {k} other seed{s} ({named}), and scored against the same "
    "real volumes",
    _no_other_seed, lambda card: card.origin.weights_sha256,
)  # fmt: skip


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


def _in_all(found: Sequence[str]) -> str:
    """Return what was found, and in how many repetitions; bold where it is the same in all."""
    counts = Counter(found)
    if len(counts) == 1:
        return f"**{escaped(found[0])}**" if found[0] else ""
    return "; ".join(
        f"{escaped(words or 'not computed')} in {n} of {len(found)}"
        for words, n in counts.most_common()
    )


def _order(values: Mapping[str, Sequence[float | None]], board: Board, kind: Repeats) -> str:
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
    if not pairs:
        return ""
    if not changed:
        same = "The two entries have" if pairs == 1 else f"All {pairs} pairs of entries have"
        return f"{same} the same order in every {kind.one}."
    more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    return (
        f"{pairs - len(changed)} of {pairs} pairs of entries have the same order in every "
        f"{kind.one}; not so: {', '.join(changed[:SHOWN])}{more}."
    )
