"""Compare a scorecard of this board with one whose cohorts were simulated on another processor.

Usage: python leaderboards/atlas/overlap.py COMMITTED REBUILT

On another processor the simulated volumes differ in their last digits, and so the samples of a
generator may be other draws. `synthbench drift` compares values against one real cohort, so it
refuses such a pair. Here two values agree where their 95% intervals overlap. The exit status is 1
where two do not, or where one card lacks a value.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

Key = tuple[str, str | None]


def apart(committed: dict[str, Any], rebuilt: dict[str, Any]) -> list[str]:
    """Return a line for each value whose intervals do not overlap, or that only one card has.

    Parameters
    ----------
    committed, rebuilt
        Scorecards, as they were read from JSON.
    """
    one, other = _intervals(committed), _intervals(rebuilt)
    lines = []
    for label, extractor in sorted({*one, *other}, key=str):
        name = label if extractor is None else f"{label} | {extractor}"
        first, second = one.get((label, extractor)), other.get((label, extractor))
        if first is None or second is None:
            lines.append(f"{name}: one of the scorecards has no interval of it")
        elif first[0] > second[1] or second[0] > first[1]:
            lines.append(f"{name}: committed {_shown(first)}, rebuilt {_shown(second)}")
    return lines


def _intervals(card: dict[str, Any]) -> dict[Key, tuple[float, float]]:
    return {
        (value["label"], value["extractor"]): (value["interval"]["low"], value["interval"]["high"])
        for value in card["values"]
        if value["interval"] is not None
    }


def _shown(interval: tuple[float, float]) -> str:
    return f"[{interval[0]:.4g}, {interval[1]:.4g}]"


def main(committed: str, rebuilt: str) -> int:
    """Print what does not agree; return the exit status."""
    cards = [json.loads(Path(file).read_text(encoding="utf-8")) for file in (committed, rebuilt)]
    lines = apart(*cards)
    if lines:
        print("these values do not agree:", *lines, sep="\n  ")
        return 1
    print(f"{cards[1]['name']}: the intervals of all {len(_intervals(cards[0]))} values overlap")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
