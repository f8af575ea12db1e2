"""The share of synthetic volumes that failed, as text."""

from __future__ import annotations

from collections import Counter

from scipy import stats

from synthbench.records.cohort import CohortRecord
from synthbench.records.scorecard import Scorecard

LEVEL = 0.95
"""Nominal coverage of the interval of the share."""


def share_words(record: CohortRecord) -> str:
    """Return the share that failed and its counts, such as "8.3% (1 of 12)"; empty: not counted."""
    share = record.failed_share
    if share is None or record.failed is None:
        return ""
    return f"{_percent(share)} ({len(record.failed)} of {record.drawn})"


def failures_line(card: Scorecard) -> str:
    """Return the sentence on volumes that failed; empty where they were not counted.

    The interval is Clopper and Pearson's exact one (1934).
    """
    record = card.synth
    if record.failed is None:
        return ""
    k, m = len(record.failed), record.drawn
    found = stats.binomtest(k, m).proportion_ci(LEVEL, method="exact")
    reasons = Counter(failure.reason for failure in record.failed)
    why = "".join(f"; {reason}: {count}" for reason, count in sorted(reasons.items()))
    return (
        f"failed: {k} of {m} synthetic volumes ({_percent(k / m)}, {LEVEL:.0%} interval "
        f"{_percent(found.low)} to {_percent(found.high)}){why}. The values are of the other "
        f"{record.n}."
    )


def _percent(share: float) -> str:
    return f"{share:.0%}" if share in (0, 1) else f"{share:.1%}"
