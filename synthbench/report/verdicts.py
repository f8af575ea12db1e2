"""A scorecard's numbers in plain words: where a value stands, and what it does not say.

A verdict compares the mean of n synthetic against n real volumes with the floor: what disjoint
halves of the real volumes, n per side, score against each other. It is a description of these
volumes, not a test; tests are named as such.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from synthbench.records.scorecard import Scorecard
from synthbench.records.values import Value
from synthbench.render.numbers import number, p_text
from synthbench.report.memorization import CopiesVerdict, copies_found, copies_lines
from synthbench.report.text import SATURATED, preflight_lines

FEW_SEEDS = 3
"""With fewer training seeds a row is of its volumes, not of the method that made them."""

Standing = Literal["within", "worse", "other side", "no floor", "missing"]

SIGNS: dict[Standing, str] = {
    "within": "=",
    "worse": "✗",
    "other side": "≠",
    "no floor": "·",
    "missing": "–",
}
"""A sign a standing, so that none is told by its colour alone."""


@dataclass(frozen=True)
class Verdict:
    """Where a value stands, in words.

    Attributes
    ----------
    standing
        "within" the floor's central 95%; "worse": outside, on the side that the metric calls
        worse; "other side"; "no floor" to compare with; "missing".
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
    """Say where a row stands against its floor.

    Examples
    --------
    >>> from synthbench.records.scorecard import FloorRecord
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


def copies(card: Scorecard) -> Verdict:
    """Return whether copies of training images were detected, as a verdict of a table."""
    found = copies_found(card)
    standing: dict[CopiesVerdict, Standing] = {
        "detected": "worse",
        "none detected": "within",
        "not assessed": "missing",
    }
    return Verdict(standing[found.verdict], found.text)


def ranked_rows(card: Scorecard) -> list[Value]:
    """Return the metrics' own rows, without their parts and what is printed for papers only."""
    return [v for v in card.values if v.key.part is None and v.role != "for_papers"]


def summary(card: Scorecard) -> list[str]:
    """Say in a few sentences what a scorecard found, accepted errors and gaps among it."""
    rows = ranked_rows(card)
    found = [verdict(row) for row in rows]
    compared = [v for v in found if v.standing in ("within", "worse", "other side")]
    sentences = []
    if compared:
        outside = sum(v.standing != "within" for v in compared)
        sentences.append(
            f"Outside what real volumes score among themselves: {outside or 'none'} of "
            f"{len(compared)} values."
        )
    sentences += [sentence for row in rows if (sentence := _test_words(row))]
    sentences += [sentence for row in rows if (sentence := _variety_words(row))]
    sentences += [f"{line[0].upper()}{line[1:]}." for line in copies_lines(card)]
    missing = [row.label for row, v in zip(rows, found, strict=True) if v.standing == "missing"]
    if missing:
        sentences.append(f"Not computed: {', '.join(missing)}.")
    sentences += [f"{line[0].upper()}{line[1:]}." for line in preflight_lines(card)]
    return sentences


def _test_words(row: Value) -> str | None:
    if row.p is None:
        return None
    by = f" by {row.extractor}" if row.extractor else ""
    given = "tells" if row.p <= 0.05 else "does not tell"
    return (
        f"A permutation test on {row.label}{by} {given} the two sets apart at the 5% level "
        f"(p {p_text(row.p) if row.p < 0.001 else f'= {p_text(row.p)}'})."
    )


def _variety_words(row: Value) -> str | None:
    if not row.of_variety or row.interval is None:
        return None
    if row.interval.low > 0:
        return f"The synthetic volumes are more alike than the real ones ({row.label} above zero)."
    if row.interval.high < 0:
        return f"The synthetic volumes differ more than the real ones do ({row.label} below zero)."
    return f"No difference in variety shows (the interval of the {row.label} holds zero)."


def read_back_words(value: Value) -> str:
    """Return the blur that would score the same, where the scorecard holds it."""
    blurs = (e.text for e in value.equivalents if e.corruption == "blur")
    return next(blurs, "")


def limits(card: Scorecard) -> list[str]:
    """Say what the numbers do not say, the general caveats first."""
    n = [v.floor.n for v in card.values if v.floor]
    known = [v.floor.minimum_detectable_effect for v in ranked_rows(card) if v.floor]
    said = [
        "Within the floor is no proof of equality: it says that this many volumes show no "
        "difference" + (f" (n = {min(n)} per side)." if n else "."),
        "A metric sees what its features see. No value here speaks of a diagnosis"
        f"{_unstudied(card)}.",
        "Values depend on n and on the whole protocol: compare equal protocols only.",
        "The Fréchet distance (FID) is biased upward at these n, and may reward lost variety: its "
        "interval is the sampling variability at this n and excludes the bias.",
        "No copies found is no guarantee of privacy.",
    ]
    if (card.origin.training_seeds or 1) < FEW_SEEDS:
        said.append(
            "Fewer than three trainings stand behind these volumes: the values are of them, not of "
            "the method. Another seed of it may score otherwise."
        )
    if any(d is not None for d in known):
        said[0] += (
            " The minimum detectable effect is the least excess over the floor that would have "
            "been seen."
        )
    random = [e.name for e in card.protocol.extractors if e.name.startswith("random-")]
    if random:
        said.append(
            f"The features of {', '.join(random)} were never trained on an image: they see "
            "intensity and coarse shape, and less of anatomy than trained ones."
        )
    saturated = [v.label for v in card.values if v.saturated]
    if saturated:
        said.append(
            f"{', '.join(saturated)}: near the kernel's ceiling. The value says 'far', and orders "
            "nothing."
        )
    if card.train is not None:
        said.append(
            "Before samples of a model trained on few scans are published, look at their nearest "
            "training volumes."
        )
    return said


def _unstudied(card: Scorecard) -> str:
    """What nobody asked of these volumes yet, as the end of a sentence on what is not said."""
    unrequested = []
    if card.replication is None:
        unrequested.append(
            "of whether a study on these volumes would come to the result that it has on real ones"
        )
    if card.utility is None:
        unrequested.append(
            "of whether these volumes help a model that is used on real people (synthbench "
            "utility asks)"
        )
    return "".join(f", or {words}" for words in unrequested)


def value_words(value: Value) -> str:
    """Format a value, marked where it is saturated, or the dash that stands for none."""
    if value.value is None:
        return "–"
    return f"{number(value.value)} {SATURATED}" if value.saturated else number(value.value)
