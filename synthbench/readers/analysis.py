"""The analysis of a study: what readers told from real, how they rated, and how sure that is."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from scipy.stats import binomtest, norm, ttest_1samp

from synthbench.errors import MetricError, UsageError
from synthbench.metrics.inference.multiplicity import holm
from synthbench.readers import mrmc
from synthbench.readers.agreement import agreement
from synthbench.readers.answered import Answers, Given, collect
from synthbench.readers.design import CONTROLS
from synthbench.readers.power import MARGIN
from synthbench.readers.results import (
    Analysis,
    Answered,
    Bias,
    Compared,
    Difference,
    Drift,
    Rated,
    Repeated,
    Told,
)
from synthbench.readers.scales import Item, Scales
from synthbench.readers.study import Pair, read_key, read_study
from synthbench.records.readers import Estimated, ReaderVerdict

ALPHA = 0.05


def analyse(
    folder: Path, *, key: Path | None = None, margin: float = MARGIN, seed: int = 0
) -> Analysis:
    """Return what the readers of a study saw, with the answers that are there.

    Only the first answer to the same volumes counts, but for the readers' own consistency.

    Parameters
    ----------
    key
        The file of the key; None: beside the folder.
    margin
        Accuracy within 0.5 +- margin is equivalent to chance; between 0 and 0.5.
    seed
        Of the resamples of the cases, for the intervals of agreement.

    Raises
    ------
    UsageError
        There is no study or key, a file of answers is not usable, or fewer than two readers
        answered.
    """
    if not 0 < margin < 0.5:
        raise UsageError(f"--margin: between 0 and 0.5, a share of answers; found {margin}.")
    study, scales = read_study(folder)
    answers = collect(folder, study, scales, read_key(folder, study, key))
    if len(answers.readers) < mrmc.MIN_READERS:
        raise UsageError(
            f"{folder}: answers of at least two readers are needed; found "
            f"{len(answers.readers)}. Readers answer with: synthbench readers serve {folder}"
        )
    compared = tuple(_compared(answers, margin))
    rated = tuple(_rated(answers, scales, seed))
    return Analysis(
        study=study.key_sha256,
        margin=margin,
        readers={
            reader: Answered(answered=len(answers.given[reader]), asked=asked)
            for reader, asked in answers.asked.items()
        },
        compared=compared,
        bias=_bias(answers) if compared else None,
        differences=(*_accuracy_differences(answers), *_rating_differences(answers, scales)),
        rated=rated,
        repeated=tuple(_repeated(answers, scales)),
        drift=_drift(answers) if compared else None,
        told=tuple(_told(answers)),
        real_fingerprint=answers.key.real_fingerprint,
        fingerprints=answers.key.fingerprints,
    )


def _groups(answers: Answers) -> list[str]:
    """Return the generators, and the controls that the study has."""
    there = {pair.group for pair in answers.key.pairs}
    return [*answers.key.generators, *(name for name in CONTROLS if name in there)]


def _estimated(found: mrmc.Estimate) -> Estimated:
    low, high = found.interval()
    return Estimated(value=float(found.value), low=float(low), high=float(high))


# ---------------------------------------------------------------- comparisons


def _compared(answers: Answers, margin: float) -> Iterator[Compared]:
    for group in _groups(answers):
        right = answers.right(answers.pairs(group))
        there = ~np.isnan(right)
        if not there.any():
            continue
        per_reader = {
            reader: float(np.nanmean(row))
            for reader, row in zip(answers.readers, right, strict=True)
            if not np.isnan(row).all()
        }
        accuracy = Estimated(value=float(np.nanmean(right)), low=None, high=None)
        p, verdict = None, "unsure"
        try:
            found = mrmc.mean(right[there.any(1)], share=True)
        except MetricError:  # too few readers or pairs so far
            pass
        else:
            low, high = map(float, found.interval())
            accuracy = Estimated(value=accuracy.value, low=low, high=high)
            p = float(found.equivalence_p(0.5 - margin, 0.5 + margin))
            verdict = _verdict(low, high, p)
        yield Compared(
            group=group, control=group in CONTROLS, readers=len(per_reader),
            cases=int(there.any(0).sum()), answers=int(there.sum()), accuracy=accuracy,
            d_prime=_d_prime(accuracy, int(there.sum())), equivalence_p=p, verdict=verdict,
            per_reader=per_reader,
        )  # fmt: skip


def _verdict(low: float, high: float, p: float) -> ReaderVerdict:
    if low > 0.5:
        return "told"
    if high < 0.5:
        return "reversed"
    return "equivalent" if p < ALPHA else "unsure"


def _d_prime(accuracy: Estimated, n: int) -> Estimated:
    """Return d' of an accuracy; one of 0 or 1 is taken as half an answer from it."""

    def of(share: float) -> float:
        return float(np.sqrt(2) * norm.ppf(np.clip(share, 0.5 / n, 1 - 0.5 / n)))

    low, high = (None if end is None else of(end) for end in (accuracy.low, accuracy.high))
    return Estimated(value=of(accuracy.value), low=low, high=high)


def _bias(answers: Answers) -> Bias:
    pairs = answers.key.pairs
    column = {case: i for i, pair in enumerate(pairs) for case in (pair.right, pair.other)}
    right = {pair.right for pair in pairs}
    left = np.full((len(answers.readers), len(pairs)), np.nan)
    said = {True: [1.0, 2.0], False: [1.0, 2.0]}  # log-linear correction (Hautus 1995)
    for row, reader in enumerate(answers.readers):
        for one in answers.of(reader, "2afc"):
            value = float(one.answer.choice == "left")
            left[row, column[one.trial.cases[0]]] = value
            was_left = one.trial.cases[0] in right
            said[was_left] = [said[was_left][0] + 2 * value, said[was_left][1] + 2]
    hit, false = (norm.ppf(said[was_left][0] / said[was_left][1]) for was_left in (True, False))
    try:
        share = _estimated(mrmc.mean(left[~np.isnan(left).all(1)], share=True))
    except MetricError:
        share = Estimated(value=float(np.nanmean(left)), low=None, high=None)
    return Bias(left=share, criterion=float(-(hit + false) / 2))


def _told(answers: Answers) -> Iterator[Told]:
    """Yield the generators' pairs, those that most readers told first."""
    pairs = [pair for pair in answers.key.pairs if pair.group not in CONTROLS]
    right = answers.right(pairs)
    counted = [
        (np.nansum(right[:, i]), int((~np.isnan(right[:, i])).sum()), pair)
        for i, pair in enumerate(pairs)
    ]
    counted = [one for one in counted if one[1]]
    for found, readers, pair in sorted(counted, key=lambda one: (-one[0] / one[1], one[2].other)):
        yield Told(
            group=pair.group, volume=answers.key.cases[pair.other].volume, right=int(found),
            readers=readers, comments=tuple(_comments(answers, pair)),
        )  # fmt: skip


def _comments(answers: Answers, pair: Pair) -> Iterator[str]:
    for reader in answers.readers:
        for one in answers.given[reader]:
            if pair.other in one.trial.cases and one.answer.comment:
                yield one.answer.comment


# ---------------------------------------------------------------- differences


def _accuracy_differences(answers: Answers) -> list[Difference]:
    tables = {name: answers.right(answers.pairs(name)) for name in answers.key.generators}
    return _adjusted(_differences("accuracy", tables))


def _rating_differences(answers: Answers, scales: Scales) -> list[Difference]:
    found: list[Difference] = []
    for item in scales.items():
        tables = {
            name: answers.levels(item.key, answers.rated_cases(name))
            for name in answers.key.generators
        }
        found += _differences(item.key, tables)
    return _adjusted(found)


def _differences(what: str, tables: dict[str, Float64[np.ndarray, "r _"]]) -> list[Difference]:
    found = []
    for (first, one), (second, other) in itertools.combinations(tables.items(), 2):
        if not one.size or not other.size:
            continue
        both = ~np.isnan(one).all(1) & ~np.isnan(other).all(1)
        try:
            estimate = mrmc.difference(one[both], other[both])
        except MetricError:  # too few answers so far
            continue
        p = float(estimate.p())
        found.append(
            Difference(what=what, first=first, second=second, difference=_estimated(estimate),
                       p=p, adjusted_p=p)
        )  # fmt: skip
    return found


def _adjusted(found: Sequence[Difference]) -> list[Difference]:
    if not found:
        return []
    adjusted = holm([one.p for one in found])
    return [
        one.model_copy(update={"adjusted_p": float(p)})
        for one, p in zip(found, adjusted, strict=True)
    ]


# ---------------------------------------------------------------- ratings


def _rated(answers: Answers, scales: Scales, seed: int) -> Iterator[Rated]:
    groups = ["real", *answers.key.generators, *(name for name in CONTROLS if name != "real")]
    cases = {group: answers.rated_cases(group) for group in groups}
    if not any(cases.values()):
        return
    for item in scales.items():
        tables = {group: answers.levels(item.key, of) for group, of in cases.items() if of}
        alpha, ac2 = _agreement(np.concatenate(list(tables.values()), axis=1), item, seed)
        yield Rated(
            item=item.key, question=item.question, levels=item.levels,
            means={
                group: _mean_level(table, len(item.levels)) for group, table in tables.items()
            },
            alpha=alpha, ac2=ac2,
        )  # fmt: skip


def _mean_level(table: Float64[np.ndarray, "r c"], levels: int) -> Estimated:
    """Return the mean level; its interval is that of a share of the scale, and stays on it."""
    value = float(np.nanmean(table))
    try:
        found = mrmc.mean((table[~np.isnan(table).all(1)] - 1) / (levels - 1), share=True)
    except MetricError:  # too few answers so far
        return Estimated(value=value, low=None, high=None)
    low, high = (1 + (levels - 1) * float(end) for end in found.interval())
    return Estimated(value=value, low=low, high=high)


def _agreement(
    ratings: Float64[np.ndarray, "r c"], item: Item, seed: int
) -> tuple[Estimated | None, Estimated | None]:
    try:
        found = agreement(ratings, len(item.levels), seed=seed)
    except MetricError:  # too few answers so far
        return None, None
    alpha, ac2 = (
        Estimated(value=one.value, low=one.low, high=one.high)
        if np.isfinite([one.value, one.low, one.high]).all()
        else None  # all ratings are equal
        for one in (found["alpha"], found["ac2"])
    )
    return alpha, ac2


# ---------------------------------------------------------------- readers themselves


def _repeated(answers: Answers, scales: Scales) -> Iterator[Repeated]:
    chosen: list[bool] = []
    levels: dict[str, list[bool]] = {item.key: [] for item in scales.items()}
    for reader in answers.readers:
        for first, second in _twice(answers, reader, "2afc"):
            chosen.append(first.chosen == second.chosen)
        for first, second in _twice(answers, reader, "rating"):
            before, after = first.answer.levels or {}, second.answer.levels or {}
            for key, same in levels.items():
                same.append(before[key] == after[key])
    for kind, same in {"2afc": chosen, **levels}.items():
        if same:
            ends = binomtest(sum(same), len(same)).proportion_ci(method="wilson")
            value = Estimated(
                value=float(np.mean(same)), low=float(ends.low), high=float(ends.high)
            )
            yield Repeated(kind=kind, trials=len(same), same=value)


def _twice(answers: Answers, reader: str, kind: str) -> Iterator[tuple[Given, Given]]:
    first = {frozenset(one.trial.cases): one for one in answers.of(reader, kind)}
    for second in answers.of(reader, kind, again=True):
        before = first.get(frozenset(second.trial.cases))
        if before is not None:
            yield before, second


def _drift(answers: Answers) -> Drift:
    right = {pair.right for pair in answers.key.pairs if pair.group not in CONTROLS}
    other = {pair.other for pair in answers.key.pairs if pair.group not in CONTROLS}
    changes = []
    seconds: list[list[float]] = [[], []]
    for reader in answers.readers:
        halves: list[list[float]] = [[], []]
        found = list(answers.of(reader, "2afc"))
        for i, one in enumerate(found):
            half = int(2 * i >= len(found))
            seconds[half].append(one.answer.seconds)
            if one.chosen in right | other:
                halves[half].append(float(one.chosen in right))
        if all(halves):
            changes.append(float(np.mean(halves[1]) - np.mean(halves[0])))
    accuracy = None
    if len(changes) >= mrmc.MIN_READERS:
        middle = float(np.mean(changes))
        accuracy = Estimated(value=middle, low=None, high=None)
        if np.std(changes):  # without, it cannot be told how readers differ
            ends = ttest_1samp(changes, 0).confidence_interval(mrmc.LEVEL)
            low, high = max(-1.0, float(ends.low)), min(1.0, float(ends.high))
            accuracy = Estimated(value=middle, low=low, high=high)
    medians = [float(np.median(half)) if half else 0.0 for half in seconds]
    return Drift(accuracy=accuracy, seconds=(medians[0], medians[1]))
