"""What readers saw, in words, and whether metrics order generators as readers do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from synthbench.errors import MetricError
from synthbench.metrics.inference.rank_correlation import FEWEST, spearman
from synthbench.records.readers import (
    Estimated,
    ReaderCorrelation,
    ReaderRating,
    ReaderResult,
    ReaderVerdict,
)
from synthbench.records.scorecard import Scorecard
from synthbench.records.values import Value
from synthbench.report.standing import headline

VERDICTS: Mapping[ReaderVerdict, str] = {
    "told": "told from real",
    "reversed": "taken for real more often than real ones",
    "equivalent": "not told: equivalent to chance",
    "unsure": "not sure: more readers or cases",
}
CONTROL_WORDS = {
    "blurred": "blurred real (control)",
    "memorizer": "memorizer (control)",
    "real": "real against real (control)",
}
"""The controls of a study, as tables name them."""

FOUND = 0.75
"""Above this share of a control found, too few pairs are the likelier cause of a wide interval."""

ACCURACY = "accuracy"
READING = (
    "Spearman's rank correlation over generators, with an interval of 95% for new generators: 1 "
    "where the metric is worse for generators that readers told more often, or rated lower. "
    "Several trainings of one method count once. Of many correlations, one in twenty excludes "
    "zero by chance, and few readers draw all of them to zero."
)


def estimate_text(
    found: Estimated | None, *, scale: float = 1.0, sign: str = "", digits: int = 2
) -> str:
    """Return a value with its interval as text.

    >>> estimate_text(Estimated(value=0.512, low=0.45, high=0.57), scale=100, digits=0)
    '51 [45, 57]'
    """
    if found is None:
        return "-"
    value = f"{scale * found.value:{sign}.{digits}f}"
    if found.low is None or found.high is None:
        return f"{value} [too few]"
    low, high = (f"{scale * end:{sign}.{digits}f}" for end in (found.low, found.high))
    return f"{value} [{low}, {high}]"


def share_text(found: Estimated | None) -> str:
    """Return a share with its interval as text, in percent."""
    return estimate_text(found, scale=100, digits=0)


def comparison_sentence(
    accuracy: Estimated, verdict: ReaderVerdict, margin: float, *, who: str = "readers"
) -> str:
    """Return how often readers found the real one, and what that says, without a full stop."""
    what = f"{who} found the real one in {share_text(accuracy)}% of the pairs"
    if verdict == "told":
        return f"{what}: they can tell these volumes from real ones"
    if verdict == "reversed":
        return f"{what}: they took these volumes for real more often than real ones"
    if verdict == "equivalent":
        return f"{what}: they cannot tell them, within 50 +- {100 * margin:.0f} points"
    return f"{what}: too uncertain to say whether they can tell"


def control_sentence(name: str, accuracy: Estimated) -> str:
    """Return what is wrong with a control, without a full stop; empty where nothing is."""
    low, high = accuracy.low, accuracy.high
    if name == "blurred" and (low is None or low <= 0.5) and accuracy.value >= FOUND:
        return (
            f"Readers found {share_text(accuracy)}% of the blurred controls, which are too few to "
            "be sure that they looked"
        )
    if name == "blurred" and (low is None or low <= 0.5):
        return (
            "Readers did not find the blurred control: they did not look closely, or could not "
            "(small pictures, a coarse grid). What they did not see elsewhere means little"
        )
    if name == "real" and low is not None and high is not None and not low <= 0.5 <= high:
        return "Real against real is off 50%: chance, or the procedure tells. Look into it"
    return ""


def result_sentences(found: ReaderResult) -> list[str]:
    """Return what the readers of a study saw of the volumes of a scorecard, in sentences."""
    lines = []
    one = found.comparison
    if one is not None:
        who = "1 reader" if one.readers == 1 else f"{one.readers} readers"
        said = comparison_sentence(one.accuracy, one.verdict, one.margin, who=who)
        lines.append(f"{said} ({one.cases} pairs).")
    lines += [
        f"{said}." for name, own in found.controls.items() if (said := control_sentence(name, own))
    ]
    if found.ratings:
        rated = ", ".join(rating_words(one) for one in found.ratings)
        lines.append(f"Mean ratings by {found.readers} readers: {rated}.")
    return lines


def rating_words(one: ReaderRating) -> str:
    """Return the mean level of an item, and that of real volumes.

    >>> mean = Estimated(value=2.12, low=None, high=None)
    >>> rating_words(ReaderRating(item="slices", question="?", levels=("no", "yes"), mean=mean,
    ...                           real=mean, alpha=None, ac2=None))
    'slices 2.1 of 2 (real 2.1)'
    """
    real = "" if one.real is None else f" (real {one.real.value:.1f})"
    return f"{one.item} {one.mean.value:.1f} of {len(one.levels)}{real}"


def verdict_cell(found: ReaderResult) -> str:
    """Return what readers saw as the cell of a table."""
    one = found.comparison
    if one is None:
        return f"rated only ({found.readers} readers)"
    return f"{VERDICTS[one.verdict]}: {share_text(one.accuracy)}% ({one.readers} readers)"


# ---------------------------------------------------------------- metrics beside readers


def correlations(cards: Sequence[Scorecard]) -> list[ReaderCorrelation]:
    """Return the rank correlation of each metric with each thing that readers saw.

    Parameters
    ----------
    cards
        Scorecards of one protocol and one real cohort. Those that readers did not see are left
        out. Those of one method (equal settings of training, cohort and sampler) count once, by
        the mean of their values.

    Returns
    -------
    In the order of the rows of the scorecards; empty where fewer than two methods were seen.
    """
    methods: dict[tuple[str | int | None, ...], list[Scorecard]] = {}
    for number, card in enumerate(cards):
        if card.readers is not None:
            origin = card.origin
            method = (origin.method, origin.training_cohort, origin.drawing)
            key = (number,) if origin.method is None else method
            methods.setdefault(key, []).append(card)
    if len(methods) < 2:
        return []
    seen = [card for own in methods.values() for card in own]
    rows = list(dict.fromkeys(
        (row.metric, row.extractor) for card in seen for row in card.values
        if row.key.part is None and row.value is not None
    ))  # fmt: skip
    what = list(dict.fromkeys(key for card in seen for key in _seen(card)))
    return [_correlation(list(methods.values()), row, key) for row in rows for key in what]


def _correlation(
    methods: Sequence[Sequence[Scorecard]],
    row: tuple[str, str | None],
    what: tuple[str, tuple[str, ...]],
) -> ReaderCorrelation:
    found, label = [], ""
    for cards in methods:
        pairs = []
        for card in cards:
            value, seen = card.row(*row), _seen(card).get(what)
            if value is not None and seen is not None and (loss := _loss(value)) is not None:
                pairs.append((loss, seen))
                label = value.label
        if pairs:
            found.append(np.mean(pairs, axis=0))
    rho = None
    if found:
        try:
            middle, low, high = spearman(*np.array(found, dtype=np.float64).T)
            rho = Estimated(value=middle, low=low, high=high)
        except MetricError:  # too few, or all are equal: the record says so with None
            pass
    return ReaderCorrelation(
        metric=row[0], label=label or row[0], extractor=row[1], seen=what[0],
        generators=len(found), rho=rho,
    )  # fmt: skip


def _loss(row: Value) -> float | None:
    head = headline(row)
    if head is None:
        return None
    return {"lower": head.value, "zero": abs(head.value), "higher": -head.value}[row.direction]


def _seen(card: Scorecard) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return how bad the volumes are to readers, by what was asked; ratings by their levels too."""
    found = card.readers
    if found is None:
        return {}
    seen = {(one.item, one.levels): -one.mean.value for one in found.ratings}
    if found.comparison is None:
        return seen
    return {(ACCURACY, ()): found.comparison.accuracy.value, **seen}


def correlation_table(
    found: Sequence[ReaderCorrelation],
) -> tuple[list[str], list[list[str]]]:
    """Return the heads and the rows of the table of correlations; both empty where none is known.

    >>> correlation_table([])
    ([], [])
    """
    if all(one.rho is None for one in found):
        return [], []
    several = len({one.extractor for one in found if one.extractor}) > 1
    seen = list(dict.fromkeys(one.seen for one in found))
    rows: dict[str, dict[str, str]] = {}
    for one in found:
        label = f"{one.label} {one.extractor}" if several and one.extractor else one.label
        rows.setdefault(label, {})[one.seen] = estimate_text(one.rho, sign="+")
    heads = ["metric", *(f"with {name}" if name == ACCURACY else name for name in seen)]
    return heads, [[label, *(own.get(name, "-") for name in seen)] for label, own in rows.items()]


def correlation_note(found: Sequence[ReaderCorrelation]) -> str:
    """Return what the table of correlations says, or why there is none; empty without any."""
    if not found:
        return ""
    n = max(one.generators for one in found)
    if n < FEWEST:
        return (
            f"Whether a metric orders generators as readers do cannot be told from {n} generators: "
            f"at least {FEWEST} are needed, and 10 to see a strong relation with any certainty."
        )
    if all(one.rho is None for one in found):
        return (
            f"Whether a metric orders generators as readers do cannot be told: readers saw all {n} "
            "generators alike."
        )
    return f"{n} generators. {READING}"
