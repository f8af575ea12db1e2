"""A scorecard in one sentence that a person can repeat: the first line of each page about it."""

from __future__ import annotations

from synthbench.records.scorecard import Scorecard
from synthbench.records.values import EquivalentRecord, Value
from synthbench.report.failures import share_words
from synthbench.report.memorization import copies_found
from synthbench.report.standing import (
    families,
    families_words,
    family_of,
    ranked_rows,
    verdict,
)
from synthbench.sensitivity.curve import short

BLURRED = ("spectrum", "kid", "fid", "mmd2")
"""Metrics whose blur is named, the first that was read back: the spectrum measures sharpness."""

FEW_PER_SIDE = 15
"""With fewer volumes per side than this, the sentence says how little they show: preflight calls
fewer than 30 subjects few, and a floor takes half of them."""

_DOSES = {"at": "", "at least": "at least ", "beyond": "more than "}


def opening(card: Scorecard) -> str:
    """Return what a scorecard found in one sentence: against the floor, as blur, on copies."""
    against = families_words(card)
    clauses = [
        against or "no value has a floor to compare with",
        _parts_words(card),
        _missing_words(card),
        _few_words(card),
        _blurred(card),
        _copies_words(card),
        "scored against the volumes of its own training" if card.scored_on_training else "",
        f"{share_words(card.synth)} of the volumes failed" if card.synth.failed else "",
    ]
    sentence = "; ".join(clause for clause in clauses if clause)
    return f"{sentence[0].upper()}{sentence[1:]}."


def _missing_words(card: Scorecard) -> str:
    """Return which families of metrics have no value: the others alone may look well."""
    rows = ranked_rows(card)
    there = {family_of(row) for row in rows if not row.missing}
    lacking = list(dict.fromkeys(family_of(row) for row in rows if row.missing))
    lacking = [family for family in lacking if family not in there]
    return f"not known: {', '.join(lacking)}" if lacking else ""


def _parts_words(card: Scorecard) -> str:
    """Return the parts that are too far, of families that are not: seams beside a good spectrum."""
    far = {name for name, standing in families(ranked_rows(card)).items() if standing == "worse"}
    told = {row.metric for row in ranked_rows(card) if family_of(row) in far}
    parts = [
        row.label.partition(" (")[0] for row in card.values
        if row.key.part is not None and row.role != "for_papers" and row.direction != "zero"
        and row.key.metric not in told and verdict(row).standing == "worse"
    ]  # fmt: skip
    return f"but worse than real in {', '.join(dict.fromkeys(parts))}" if parts else ""


def _few_words(card: Scorecard) -> str:
    counts = [row.floor.n for row in ranked_rows(card) if row.floor]
    if not counts or min(counts) >= FEW_PER_SIDE:
        return ""
    return f"only large differences show at {min(counts)} volumes per side"


def blur_of(value: Value) -> EquivalentRecord | None:
    """Return the blur at which real volumes would score the same; None where it is not known."""
    return next((e for e in value.equivalents if e.corruption == "blur"), None)


def blur_cell(value: Value) -> str:
    """Return the blur in mm at which real volumes would score the same, for a narrow column."""
    found = blur_of(value)
    if found is None:
        return ""
    if found.relation == "within the floor":
        return "none seen" if found.high is None else f"< {short(found.high)}"
    if found.relation == "other side":
        return "-"
    return found.text.replace(f" {found.unit}", "")


def _blurred(card: Scorecard) -> str:
    rows = [row for row in ranked_rows(card) if (b := blur_of(row)) and b.relation in _DOSES]
    place = {metric: i for i, metric in enumerate(BLURRED)}
    rows.sort(key=lambda row: place.get(row.metric, len(BLURRED)))
    if not rows:
        return ""
    return f"{blur_words(rows[0])} ({family_of(rows[0])})"


def blur_words(value: Value) -> str:
    """Return the blur at which real volumes would score the same, as a clause; empty: not known."""
    found = blur_of(value)
    if found is None or found.relation not in _DOSES:
        return ""
    return f"as real brains blurred by {_DOSES[found.relation]}{short(found.dose)} mm"


def _copies_words(card: Scorecard) -> str:
    found = copies_found(card)
    if found.verdict is None:
        words = f"copying was not tested{alike_words(card)}"
    elif found.verdict == "copies":
        words = "exact or near copies of training images found"
    elif found.verdict == "sides_differ":
        words = f"copying {found.words}"
    elif found.verdict == "nearer":
        words = f"no copying found, but the volumes are {found.words}"
    elif found.share is None:
        words = "no copying found, but at this n the test is too weak to find it"
    else:
        words = f"no copying found ({found.share:.0%} or more would have been)"
    parts = card.local_copying
    return f"{words}; copied parts found" if parts and parts.verdict == "copies" else words


def alike_words(card: Scorecard) -> str:
    """Return how many synthetic volumes preflight took for others: copying, whoever tests it."""
    counts = [
        one.volumes for one in card.preflight
        if one.role == "synth" and one.rule in ("near-identical-across", "identical-across")
    ]  # fmt: skip
    if not counts:
        return ""
    # One volume may be like several others: the findings are not added.
    return f", but {max(counts)} of {card.synth.n} volumes are nearly identical to others"
