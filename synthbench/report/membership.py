"""A scorecard's finding on membership inference, worded once for all pages."""

from __future__ import annotations

from collections.abc import Mapping

from synthbench.records.scorecard import Scorecard
from synthbench.render.numbers import number
from synthbench.report.standing import Standing, Verdict

STANDING: Mapping[str, Standing] = {
    "told": "worse", "cannot be told": "no floor", "not told": "within",
}  # fmt: skip
"""The standing of each verdict, the gravest first: the gravest of all extractors counts."""


def membership_lines(card: Scorecard) -> list[str]:
    """Return one line per extractor with the attack's AUC, its control and the interval."""
    return [
        f"membership ({one.extractor}): {one.text}; AUC {number(one.auc)}, control "
        f"{number(one.control)} ({number(one.control_low)} to {number(one.control_high)}), "
        f"difference {number(one.difference)} [{number(one.low)}, {number(one.high)}]; "
        f"{one.tpr:.0%} of {one.n_train} training subjects told at 5% false positives"
        for one in card.membership
    ]


def membership_verdict(card: Scorecard) -> Verdict:
    """Return whether training subjects were told from others, as a verdict of a table."""
    for verdict, standing in STANDING.items():
        for one in card.membership:
            if one.verdict == verdict:
                return Verdict(standing, one.text)
    return Verdict("missing", "not assessed")
