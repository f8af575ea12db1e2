"""A scorecard in six tiles: what a reader looks at first, in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from synthbench.records.scorecard import Scorecard
from synthbench.records.values import Value
from synthbench.render.numbers import number, p_text
from synthbench.report.failures import failures_line, share_words
from synthbench.report.memorization import CopiesFound, copies_found
from synthbench.report.opening import FEW_PER_SIDE, alike_words, blur_words
from synthbench.report.standing import (
    TEST_LEVEL,
    Standing,
    Verdict,
    headline,
    ranked_rows,
    verdict,
)
from synthbench.report.verdicts import COPIES_STANDING


@dataclass(frozen=True)
class Tile:
    """One question about the volumes, and its answer.

    Attributes
    ----------
    title
        The question's name, and the metric that answers it.
    metric
        The metric's label; empty where the answer is no metric.
    number
        The number that decides; a dash where there is none.
    floor
        What real volumes score, as a clause; empty where there is no floor.
    verdict
        The answer. Where it is not known: why, and how to get it.
    """

    title: str
    metric: str
    number: str
    floor: str
    verdict: Verdict


@dataclass(frozen=True)
class _Question:
    """A tile about a metric: the metrics that answer it, the best first, and its answers."""

    title: str
    metrics: tuple[str, ...]
    within: str
    worse: str
    other: str


_QUESTIONS = (
    _Question(
        "Distance to real", ("mmd2", "kid", "fid"),
        "as near to real as real is to itself", "further from real than real from itself",
        "nearer to real than real is to itself: look for copies",
    ),
    _Question(
        "Sharpness", ("spectrum",),
        "fine detail as in real volumes", "other fine detail than in real volumes",
        "nearer to the real spectrum than real volumes are: look for copies",
    ),
    _Question(
        "Variety", ("ms_ssim", "rke"),
        "as varied as real volumes", "another variety than real volumes",
        "another variety than real volumes",
    ),
    _Question(
        "Neighbours", (
            "coverage", "clipped_coverage", "recall", "precision", "density", "clipped_density",
        ),
        "they lie among the real volumes as other real volumes do",
        "parts of the real set have no synthetic volume near",
        "more evenly among the real volumes than real ones are: look for copies",
    ),
)  # fmt: skip


_OF_SYNTH = ("precision", "density", "clipped_density")
"""Metrics that ask whether synthetic volumes have real ones near; the others ask the reverse."""


def tiles(card: Scorecard) -> list[Tile]:
    """Return the six tiles: four questions about distances, then copies, then cautions."""
    rows = ranked_rows(card)
    return [*(_of_metric(card, rows, q) for q in _QUESTIONS), _of_copies(card), _cautions(card)]


def _of_metric(card: Scorecard, rows: list[Value], question: _Question) -> Tile:
    found = [row for name in question.metrics for row in rows if row.key.metric == name]
    scored = [row for row in found if headline(row) is not None]
    if not scored:
        return Tile(question.title, "", "–", "", Verdict("missing", _why_not(found, question)))
    row = scored[0]
    stands = verdict(row)
    decisive = headline(row)
    assert decisive is not None
    floor = ""
    if row.floor is not None:
        low, high = number(row.floor.low), number(row.floor.high)
        floor = f"real against real: {number(row.floor.mean)} ({low} to {high})"
    if question.title == "Sharpness" and not row.equivalents:
        floor += "; the same as a blur in mm: score with --sensitivity"
    words = _answer(card, row, stands, question)
    return Tile(question.title, row.label, decisive.text, floor, Verdict(stands.standing, words))


def _why_not(found: list[Value], question: _Question) -> str:
    if not found:
        return (
            f"not known: no such metric was scored. Score again with --metric {question.metrics[0]}"
        )
    missing = found[0].missing
    return f"not known: {found[0].label} has no value" + (f" ({missing.text})" if missing else "")


def _answer(card: Scorecard, row: Value, stands: Verdict, question: _Question) -> str:
    if stands.standing == "no floor":
        return (
            "not known: there is no floor to compare with. Score against more real volumes, so "
            "that their halves can be compared"
        )
    if stands.standing == "within":
        if row.p is None or row.p > TEST_LEVEL:
            return question.within
        p = p_text(row.p)
        p = p if p.startswith("<") else f"= {p}"
        return f"{question.within} at this n, but a test of all volumes finds a difference (p {p})"
    if row.of_variety:
        alike = stands.words == "too alike"
        return f"{'less' if alike else 'more'} varied than real volumes"
    words = question.worse if stands.standing == "worse" else question.other
    if stands.standing == "worse" and row.key.metric in _OF_SYNTH:
        words = "synthetic volumes lie where no real ones are"
    blur = blur_words(row) if question.title == "Sharpness" else ""
    return f"{words}: {blur}" if blur and stands.standing == "worse" else words


_COPIES: Mapping[Standing, str] = {
    "worse": "exact or near copies of training volumes",
    "no floor": "cannot be told: training and hold-out volumes differ",
    "other side": "no copies, but nearer to training than to unseen volumes",
    "within": "no copies of whole volumes found",
}


def _of_copies(card: Scorecard) -> Tile:
    """Return the tile on copies of whole volumes and of parts."""
    whole, parts = copies_found(card), card.local_copying
    standing = COPIES_STANDING[whole.verdict]
    if whole.verdict is None:
        reason = (card.not_assessed or "it was not tested").removeprefix("not assessed: ")
        hint = ". Score again with --train (the training volumes) and --holdout (unseen ones)"
        hint = "" if "--train" in reason else hint
        words = f"not known{alike_words(card)}: {reason}{hint}"
    else:
        words = _COPIES[standing]
    if parts is not None:
        words += f"; parts: {parts.text}"
        if parts.verdict == "copies":
            standing = "worse"
    elif whole.verdict is not None:
        words += "; parts were not tested (add --metric local_copying)"
    floor = ""
    if whole.verdict == "none":
        floor = (
            "too few volumes to find any share of copies" if whole.share is None
            else f"{whole.share:.0%} of copies or more would have been found"
        )  # fmt: skip
    return Tile("Copies", "", _copies_figure(card, whole), floor, Verdict(standing, words))


def _copies_figure(card: Scorecard, whole: CopiesFound) -> str:
    """Return the number behind the verdict: of the test that decided, in its space."""
    if whole.verdict != "none":
        return whole.details or "–"
    tests = [t for record in card.memorization for t in (record.plain, record.flipped) if t]
    return f"smallest p {p_text(min(t.p if t.near_p is None else t.near_p for t in tests))}"


def _cautions(card: Scorecard) -> Tile:
    """Return the tile on volumes that failed, and on what weakens the other numbers."""
    cautions = []
    if card.scored_on_training:
        cautions.append("the real volumes are those of the training: this flatters the generator")
    accepted = sum(found.accepted for found in card.preflight)
    warned = len(card.preflight) - accepted
    if accepted:
        cautions.append(f"{accepted} faults of the volumes were accepted (--accept)")
    if warned:
        cautions.append(f"{warned} warnings of preflight")
    counts = [row.floor.n for row in ranked_rows(card) if row.floor]
    if counts and min(counts) < FEW_PER_SIDE:
        cautions.append(f"{min(counts)} volumes per side show large differences only")
    if card.untrained_extractors:
        cautions.append("the features were never trained on an image")
    if card.synth.failed is None:
        shown, failed = "not counted", "score --count-failures counts them"
    else:
        shown = f"{share_words(card.synth) or '0'} failed"
        failed = "" if card.synth.failed else "no volume failed"
    grave = card.scored_on_training or accepted or bool(card.synth.failed)
    words = "; ".join([*([failed] if failed else []), *cautions])
    standing: Standing = "worse" if grave else "no floor" if cautions else "within"
    return Tile(
        "Failures and cautions", "", shown, "",
        Verdict(standing, words or failures_line(card)),
    )  # fmt: skip
