"""A scorecard's numbers in sentences: how values compare with the floor, and their limits.

A verdict compares the mean of n synthetic against n real volumes with the floor, which is what
disjoint halves of the real volumes, n per side, score against each other. It describes these
volumes and is not a test; tests are named as such.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from synthbench.metrics.nearest.verdict import CopyVerdict
from synthbench.records.scorecard import Scorecard
from synthbench.records.values import Value
from synthbench.render.numbers import number, p_text
from synthbench.report.local_copying import parts_lines
from synthbench.report.memorization import copies_found, copies_lines
from synthbench.report.text import SATURATED, preflight_lines, seen_line

FEW_SEEDS = 3
"""With fewer training seeds, values describe the volumes but not the method that made them."""

Standing = Literal["within", "worse", "other side", "no floor", "missing"]

SIGNS: dict[Standing, str] = {
    "within": "=",
    "worse": "✗",
    "other side": "≠",
    "no floor": "·",
    "missing": "–",
}
"""One sign per standing, so that readers do not depend on colour."""


@dataclass(frozen=True)
class Verdict:
    """How a value compares with its floor.

    Attributes
    ----------
    standing
        "within": in the floor's central 95%. "worse": outside, on the worse side. "other side":
        outside, on the better side. "no floor": nothing to compare with. "missing": no value.
    words
        A clause for a table.
    """

    standing: Standing
    words: str

    @property
    def sign(self) -> str:
        """The standing's sign."""
        return SIGNS[self.standing]


def verdict(value: Value) -> Verdict:
    """Return how a row compares with its floor.

    Examples
    --------
    >>> from synthbench.records.values import FloorRecord
    >>> floor = FloorRecord(n=35, mean=0.74, low=0.69, high=0.85, synth_mean=21.5)
    >>> verdict(Value(metric="fid", label="FID", direction="lower", value=21.3, floor=floor)).words
    'further from real than real from real'
    """
    if value.missing is not None or value.value is None:
        return Verdict("missing", "no value" if value.missing is None else value.missing.text)
    floor = value.floor
    if floor is None:
        return Verdict("no floor", "no floor to compare with")
    if floor.low <= floor.synth_mean <= floor.high:
        return Verdict("within", "as real against real")
    above = floor.synth_mean > floor.high
    if value.direction == "lower":
        if above:
            return Verdict("worse", "further from real than real from real")
        return Verdict("other side", "nearer to real than real to real: copies?")
    side = "above" if above else "below"
    worse = value.direction == "zero" or not above
    return Verdict("worse" if worse else "other side", f"{side} real against real")


COPIES_STANDING: dict[CopyVerdict | None, Standing] = {
    "copies": "worse",
    "sides_differ": "no floor",
    "nearer": "other side",
    "none": "within",
    None: "missing",
}
"""The sign of each verdict on copies; None is no test."""


def copies(card: Scorecard) -> Verdict:
    """Return the verdict on copies of training images, as a verdict of a table."""
    found = copies_found(card)
    return Verdict(COPIES_STANDING[found.verdict], found.text)


def copied_parts(card: Scorecard) -> Verdict:
    """Return whether copied parts were found, as a verdict of a table."""
    record = card.local_copying
    if record is None:
        return Verdict("missing", "not assessed")
    return Verdict(COPIES_STANDING[record.verdict], record.text)


def ranked_rows(card: Scorecard) -> list[Value]:
    """Return the metrics' own rows, without their parts and without metrics for papers."""
    return [v for v in card.values if v.key.part is None and v.role != "for_papers"]


def summary(card: Scorecard) -> list[str]:
    """Return a scorecard's findings in a few sentences, with missing values and accepted errors."""
    rows = ranked_rows(card)
    found = [verdict(row) for row in rows]
    compared = [v for v in found if v.standing in ("within", "worse", "other side")]
    seen = seen_line(card)
    sentences = [f"{seen[0].upper()}{seen[1:]}."] if seen else []
    if compared:
        outside = sum(v.standing != "within" for v in compared)
        sentences.append(
            f"Outside the range that real volumes score against each other: {outside or 'none'} of "
            f"{len(compared)} values."
        )
    sentences += [sentence for row in rows if (sentence := _test_words(row))]
    sentences += [sentence for row in rows if (sentence := _variety_words(row))]
    sentences += [
        f"{line[0].upper()}{line[1:]}." for line in (*copies_lines(card), *parts_lines(card))
    ]
    missing = [row.label for row, v in zip(rows, found, strict=True) if v.standing == "missing"]
    if missing:
        sentences.append(f"Not computed: {', '.join(missing)}.")
    sentences += [f"{line[0].upper()}{line[1:]}." for line in preflight_lines(card)]
    return sentences


def _test_words(row: Value) -> str | None:
    if row.p is None:
        return None
    by = f" by {row.extractor}" if row.extractor else ""
    found = "finds a difference" if row.p <= 0.05 else "finds no difference"
    return (
        f"A permutation test on {row.label}{by} {found} between the two sets at the 5% level "
        f"(p {p_text(row.p) if row.p < 0.001 else f'= {p_text(row.p)}'})."
    )


def _variety_words(row: Value) -> str | None:
    if not row.of_variety or row.interval is None:
        return None
    if row.interval.low > 0:
        return f"The synthetic volumes are more alike than the real ones ({row.label} above zero)."
    if row.interval.high < 0:
        return f"The synthetic volumes differ more than the real ones do ({row.label} below zero)."
    return f"No difference in variety is shown (the interval of the {row.label} contains zero)."


def read_back_words(value: Value) -> str:
    """Return the blur that would score the same; empty where the scorecard does not have it."""
    blurs = (e.text for e in value.equivalents if e.corruption == "blur")
    return next(blurs, "")


def limits(card: Scorecard) -> list[str]:
    """Return the limits of the numbers in sentences, the general ones first."""
    n = [v.floor.n for v in card.values if v.floor]
    known = [v.floor.minimum_detectable_effect for v in ranked_rows(card) if v.floor]
    lines = [
        "A value within the floor does not prove equality: this many volumes show no "
        "difference" + (f" (n = {min(n)} per side)." if n else "."),
        "A metric sees only what its features see. No value here is about a diagnosis"
        f"{_unstudied(card)}.",
        "Values depend on n and on the whole protocol: compare equal protocols only.",
        "The Fréchet distance (FID) is biased upward at these n, and may reward lost variety: its "
        "interval is the sampling variability at this n and excludes the bias.",
        "A test that finds no copies does not guarantee privacy.",
    ]
    if (card.origin.training_seeds or 1) < FEW_SEEDS:
        lines.append(
            "These volumes come from fewer than three trainings: the values describe them and not "
            "the method, which may score differently with another seed."
        )
    if any(d is not None for d in known):
        lines[0] += (
            " The minimum detectable effect is the smallest excess over the floor that is seen in "
            "four of five cases, if the volumes differ by a shift."
        )
    untrained = card.untrained_extractors
    if untrained:
        lines.append(
            f"The features of {', '.join(untrained)} were never trained on an image: they see "
            "intensity and coarse shape, and less of anatomy than trained ones."
        )
    saturated = [v.label for v in card.values if v.saturated]
    if saturated:
        lines.append(
            f"{', '.join(saturated)}: near the kernel's ceiling. The value only says 'far' and "
            "gives no order."
        )
    if card.train is not None:
        lines.append(
            "Before samples of a model trained on few scans are published, look at their nearest "
            "training volumes."
        )
    return lines


def _unstudied(card: Scorecard) -> str:
    """Return what was not studied on these volumes, as the end of a sentence."""
    clauses = []
    if card.replication is None:
        clauses.append(
            "about whether a study on these volumes would have the result that it has on real ones"
        )
    if card.utility is None:
        clauses.append(
            "about whether these volumes help a model that is used on real people (synthbench "
            "utility studies this)"
        )
    return "".join(f", or {clause}" for clause in clauses)


def value_words(value: Value) -> str:
    """Return a value as text, marked where it is saturated; a dash where there is none."""
    if value.value is None:
        return "–"
    return f"{number(value.value)} {SATURATED}" if value.saturated else number(value.value)
