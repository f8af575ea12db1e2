"""A scorecard's findings in sentences: how it stands, tests, copies, and the numbers' limits."""

from __future__ import annotations

from synthbench.metrics.nearest.verdict import CopyVerdict
from synthbench.records.scorecard import Scorecard
from synthbench.records.values import Value
from synthbench.render.numbers import p_text
from synthbench.report.local_copying import parts_lines
from synthbench.report.memorization import copies_found, copies_lines
from synthbench.report.opening import opening
from synthbench.report.standing import (
    TEST_LEVEL,
    Standing,
    Verdict,
    ranked_rows,
    verdict,
)
from synthbench.report.text import preflight_lines, seen_line

FEW_SEEDS = 3
"""With fewer training seeds, values describe the volumes but not the method that made them."""

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


def summary(card: Scorecard) -> list[str]:
    """Return a scorecard's findings in a few sentences, with missing values and accepted errors.

    The first is the one to repeat (`opening`).
    """
    rows = ranked_rows(card)
    seen = seen_line(card)
    sentences = [opening(card), *([f"{seen[0].upper()}{seen[1:]}."] if seen else [])]
    sentences += [sentence for row in rows if (sentence := _test_words(row))]
    sentences += [sentence for row in rows if (sentence := _variety_words(row))]
    sentences += [
        f"{line[0].upper()}{line[1:]}." for line in (*copies_lines(card), *parts_lines(card))
    ]
    missing = [row.label for row in rows if verdict(row).standing == "missing"]
    if missing:
        sentences.append(f"Not computed: {', '.join(missing)}.")
    sentences += [f"{line[0].upper()}{line[1:]}." for line in preflight_lines(card)]
    return sentences


def _test_words(row: Value) -> str | None:
    if row.p is None:
        return None
    by = f" by {row.extractor}" if row.extractor else ""
    found = "finds a difference" if row.p <= TEST_LEVEL else "finds no difference"
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
    if (card.origin.training_seeds or 1) < FEW_SEEDS and not card.origin.fixed_fit:
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
