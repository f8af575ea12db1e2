"""A scorecard's finding on membership inference, worded once for all pages."""

from __future__ import annotations

from synthbench.records.scorecard import Scorecard
from synthbench.render.numbers import number


def membership_lines(card: Scorecard) -> list[str]:
    """Return one line per extractor with the attack's AUC, its control and the interval."""
    return [
        f"membership ({one.extractor}): {one.text}; AUC {number(one.auc)}, control "
        f"{number(one.control)} ({number(one.control_low)} to {number(one.control_high)}), "
        f"difference {number(one.difference)} [{number(one.low)}, {number(one.high)}]; "
        f"{one.tpr:.0%} of {one.n_train} training subjects told at 5% false positives"
        for one in card.membership
    ]
