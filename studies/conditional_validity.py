"""Validity study: are the numbers of adherence to conditions and of effect replication right?

Usage: python studies/conditional_validity.py intervals --reps 400
       python studies/conditional_validity.py prediction --reps 200
       python studies/conditional_validity.py words --reps 400
       python studies/conditional_validity.py volumes --folder DIR

Each prints a table in markdown. The first three simulate numbers. `intervals` gives the coverage of
the intervals. `prediction` predicts covariates by nested cross-validation, and shows how often a
synthetic set from the real distribution differs from its ceiling. `words` counts how often the word
for an effect is wrong. `volumes` scores embedded subjects as if a generator had made them, so that
the right result is known. Set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from synthbench.metrics.conditional import adherence, effects
from synthbench.metrics.conditional.prediction import predict, wrong
from synthbench.metrics.inference.influence import Estimate, Quantity, difference, estimated
from synthbench.records.conditional import ComparedRecord, EstimateRecord
from synthbench.records.scorecard import Scorecard
from synthbench.scoring.inputs import CohortSet
from synthbench.scoring.scoring import score_cohorts
from synthbench.scoring.settings import ScoringSettings
from synthbench.simulation.cohort import atlas_cohort

LEVEL = 0.95
LARGE = 200_000
SHAPE = (36, 44, 36)

Draw = Callable[[int, np.random.Generator], list[Quantity]]


Table = tuple[Sequence[str], Iterable[Sequence[object]]]


def show(table: Table) -> None:
    """Print a table in markdown, each row as soon as it is computed."""
    head, rows = table
    for line in (head, ["---"] * len(head)):
        print("| " + " | ".join(line) + " |")
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |", flush=True)


def share(hits: int, of: int) -> str:
    """Return a share with its exact 95% interval as text."""
    low, high = binomtest(hits, of).proportion_ci()
    return f"{hits / of:.1%} [{low:.1%}, {high:.1%}]" if of else "-"


# ---------------------------------------------------------------- intervals


def normal(n: int, rng: np.random.Generator) -> list[Quantity]:
    """Asked uniformly, measured with normal noise of equal size: r = 0.8."""
    requested = rng.uniform(0, 1, n)
    return adherence.numeric_adherence(requested, requested + 0.05 + rng.normal(0, 0.2165, n))


def ventricles(n: int, rng: np.random.Generator) -> list[Quantity]:
    """Asked log-normally, with errors that grow as the volume does, and slope 1.1."""
    requested = 20 * np.exp(0.5 * rng.normal(size=n))
    return adherence.numeric_adherence(
        requested, 1.1 * requested - 1 + 0.1 * requested * rng.normal(size=n)
    )


def outliers(n: int, rng: np.random.Generator) -> list[Quantity]:
    """Asked uniformly, measured with errors of Student's t with 4 degrees of freedom: r = 0.5."""
    requested = rng.uniform(20, 80, n)
    return adherence.numeric_adherence(requested, requested + 21.2 * rng.standard_t(4, n))


def classes(n: int, rng: np.random.Generator) -> list[Quantity]:
    """Two classes asked at random, scores 1.5 standard deviations apart: AUC 0.86."""
    requested = rng.random(n) < 0.5
    scores = rng.normal(size=n) + 1.5 * requested
    return adherence.binary_adherence(requested, scores, (scores > 0.75) == requested)


def others(n: int, rng: np.random.Generator) -> list[Quantity]:
    """Leakage of 0.2 among correlated conditions, Cohen's d of 0.8, and parity."""
    age = rng.normal(size=n)
    ventricle = 0.5 * age + rng.normal(size=n)
    sex = rng.random(n) < 0.5
    measured = ventricle + 0.2 * age + 0.5 * rng.normal(size=n)
    error = rng.normal(size=n) * (1 + 0.5 * sex)
    leaks = adherence.leakage({"age": age, "ventricle": ventricle}, measured)
    apart = effects.sex_difference(rng.normal(size=n) + 0.8 * sex + 0.3 * age, sex, age)
    parity = adherence.parity(error, sex, signed=True)
    return [Quantity("leakage", "leakage", leaks["age"].function), apart,
            *(Quantity(f"parity {q.key}", q.label, q.function) for q in parity)]  # fmt: skip


def intervals(reps: int, seed: int) -> Table:
    """Return the coverage of each interval, and of the difference of two sets' values."""
    head = ["regime", "n", "quantity", "truth", "covers", "difference covers 0"]
    return head, _covered(reps, seed)


def _covered(reps: int, seed: int) -> Iterator[list[object]]:
    draws: list[Draw] = [normal, ventricles, outliers, classes, others]
    for draw in draws:
        truth = {q.key: _value(q, LARGE) for q in draw(LARGE, np.random.default_rng(seed))}
        for n in (30, 86):
            hits, of_difference, made = Counter[str](), Counter[str](), Counter[str]()
            for rep in range(reps):
                rng = np.random.default_rng([seed, rep, n])
                first, second = draw(n, rng), draw(71, rng)
                for a, b in zip(first, second, strict=True):
                    found = _estimated(a, n, rep), _estimated(b, 71, rep + reps)
                    if any(e is None or e.low is None for e in found):
                        continue
                    one, other = (e for e in found if e is not None)
                    made[a.key] += 1
                    hits[a.key] += _holds(one, truth[a.key])
                    of_difference[a.key] += _holds(difference(one, other), 0.0)
            regime = (draw.__doc__ or "").split(":")[0].rstrip(".")
            for key, value in truth.items():
                yield [regime, n, key, f"{value:.3g}", share(hits[key], made[key]),
                       share(of_difference[key], made[key])]  # fmt: skip


def _value(quantity: Quantity, n: int) -> float:
    return quantity.back(float(quantity.function(np.ones((1, n)))[0][0]))


def _estimated(quantity: Quantity, n: int, seed: int) -> Estimate | None:
    return estimated(quantity, np.arange(n), resamples=500, level=LEVEL, seed=seed)


def _holds(estimate: Estimate, truth: float) -> bool:
    return estimate.low is not None and estimate.high is not None and (
        estimate.low <= truth <= estimate.high
    )  # fmt: skip


# ---------------------------------------------------------------- predicted covariates


def prediction(reps: int, seed: int, n: int = 70, m: int = 86) -> Table:
    """Return how often the difference from the ceiling contains zero, for equal distributions.

    Age is a noisy sum of five of thirty features, and sex moves five others.
    """
    made, hits = Counter[str](), Counter[str]()
    values: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for rep in range(reps):
        rng = np.random.default_rng([seed, rep])
        features = rng.normal(size=(n + m, 30))
        sex = rng.random(n + m) < 0.5
        features[:, 5:10] += 0.8 * sex[:, None]
        age = 50 + 6 * features[:, :5].sum(axis=1) + 10 * rng.normal(size=n + m)
        x, z = {"features": features[:n]}, {"features": features[n:]}
        ages = predict(x, z, age[:n].tolist(), np.arange(n), seed=rep)
        words = np.where(sex, "M", "F").tolist()
        sexes = predict(x, z, words[:n], np.arange(n), seed=rep)
        real = _predicted_quantities(age[:n], ages.real, sex[:n], sexes.real, words[:n])
        synth = _predicted_quantities(age[n:], ages.others, sex[n:], sexes.others, words[n:])
        for a, b in zip(synth, real, strict=True):
            one, other = _estimated(a, m, rep), _estimated(b, n, rep + reps)
            if one is None or other is None or one.low is None or other.low is None:
                continue
            made[a.key] += 1
            hits[a.key] += _holds(difference(one, other), 0.0)
            values[a.key].append((one.value, other.value))
    rows: list[list[object]] = []
    for key, pairs in values.items():
        of_synth, of_real = np.mean(pairs, axis=0)
        rows.append([key, f"{of_synth:.3g}", f"{of_real:.3g}", share(hits[key], made[key])])
    return ["quantity", "mean, synth", "mean, real", "difference covers 0"], rows


def _predicted_quantities(
    age: np.ndarray, ages: np.ndarray, sex: np.ndarray, sexes: np.ndarray, words: Sequence[str]
) -> list[Quantity]:
    correct = ~wrong(sexes, ("F", "M"), words)
    leaks = adherence.leakage({"age": age / age.std(), "sex": sex * 1.0}, sexes[:, 1])
    return [
        *adherence.numeric_adherence(age, ages),
        *adherence.binary_adherence(sex, sexes[:, 1], correct),
        Quantity("leakage, age to sex", "", leaks["age"].function),
    ]


# ---------------------------------------------------------------- words of effects


class Effect(NamedTuple):
    """An effect with its true size in both sets.

    Attributes
    ----------
    name
        What it is.
    draw
        A function from the size, n and a generator to the effect's quantity of n random rows.
    real, synth
        The true sizes.
    sizes
        Numbers of volumes per side.
    """

    name: str
    draw: Callable[[float, int, np.random.Generator], Quantity]
    real: float
    synth: float
    sizes: tuple[int, ...]


def slope(size: float, n: int, rng: np.random.Generator) -> Quantity:
    """Return an age slope, adjusted for sex, with r = 0.6 at size 1."""
    age = rng.uniform(20, 80, n)
    sex = rng.random(n) < 0.5
    region = size * age / 17.3 + 0.5 * sex + 1.333 * rng.normal(size=n)
    return effects.age_slope(region, age, sex)


def correlation(size: float, n: int, rng: np.random.Generator) -> Quantity:
    """Return the correlation of two Gaussian regions."""
    first, noise = rng.normal(size=(2, n))
    return effects.region_correlation(first, size * first + np.sqrt(1 - size**2) * noise)


EFFECTS = (
    Effect("age slope", slope, 1, 1, (15, 86, 400)),
    Effect("age slope", slope, 1, 2, (15, 86, 400)),
    Effect("age slope", slope, 1, 0.5, (15, 86)),
    Effect("age slope", slope, 1, 0, (15, 86)),
    Effect("age slope", slope, 1, -1, (86,)),
    Effect("age slope", slope, 0, 0, (15, 86)),
    Effect("correlation", correlation, 0.5, 0.5, (20, 86, 300)),
    Effect("correlation", correlation, 0.5, 0.7, (20, 86, 300)),
    Effect("correlation", correlation, 0.9, 0.7, (20, 86)),
    Effect("correlation", correlation, 0.9, 0.9, (20, 86)),
    Effect("correlation", correlation, 0, 0, (20, 86)),
)
"""The margins are half and twice the real slope, and 0.2 away from the real correlation."""

_WORDS = ("replicated", "weaker", "stronger", "reversed", "cannot tell")


def words(reps: int, seed: int, only: str = "") -> Table:
    """Return how often each effect gets each word, and how often its real interval covers."""
    head = ["effect", "real, synthetic", "n per side", *_WORDS, "covers, real"]
    return head, _worded(reps, seed, only)


def _worded(reps: int, seed: int, only: str) -> Iterator[list[object]]:
    for effect in EFFECTS:
        for n in effect.sizes:
            name = [effect.name, f"{effect.real:g}, {effect.synth:g}", n]
            if only not in " ".join(map(str, name)):
                continue
            counts, covered = Counter[str](), 0
            # A slope is per decade.
            truth = effect.real * (10 / 17.3 if effect.draw is slope else 1)
            for rep in range(reps):
                rng = np.random.default_rng([seed, rep, n])
                real, synth = effect.draw(effect.real, n, rng), effect.draw(effect.synth, n, rng)
                index = np.arange(n)
                found = effects.compare(real, synth, index, index, resamples=500, seed=rep)
                counts[found.word] += 1
                covered += found.real is not None and _holds(found.real, truth)
            shares = (share(counts[word], reps) for word in _WORDS)
            yield [*name, *shares, share(covered, reps)]


# ---------------------------------------------------------------- volumes


LEAK = 0.5


def volumes(folder: Path, n: int) -> Table:
    """Return scores of embedded subjects, as if they had been generated for some conditions.

    "true": the conditions are their own covariates, so that adherence is at its ceiling.
    "shuffled": those of another subject. "leaky": the requested ventricle volume is smaller than
    the subject's, by `LEAK` standard deviations per standard deviation of age, as if a request for
    age had added them.
    """
    for name, seed in (("real", 1), ("synth", 2)):
        if not (folder / name / "participants.tsv").is_file():
            atlas_cohort(n, folder / name, seed, SHAPE)
    people = pd.read_csv(folder / "synth" / "participants.tsv", sep="\t")
    real = pd.read_csv(folder / "real" / "participants.tsv", sep="\t")
    rows: list[list[object]] = []
    for case, requested in _requested(people, real):
        file = folder / f"{case}.tsv"
        requested.to_csv(file, sep="\t", index=False)
        card = score_cohorts(
            CohortSet.read(folder / "real", folder / "synth", conditions=file),
            ScoringSettings(extractors=("anatomy",), metrics=("mmd2",), intensity="unit"),
        ).card
        card.save(folder / f"{case}.json")
        rows += _rows(case, card)
    return ["case", "quantity", "synthetic", "real (ceiling)", "difference"], rows


def _requested(people: pd.DataFrame, real: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    yield "true", people
    shuffled = people.copy()
    order = np.random.default_rng(0).permutation(len(people))
    shuffled[people.columns[1:]] = people[people.columns[1:]].to_numpy()[order]
    yield "shuffled", shuffled
    leaky = people.copy()
    years = (people["age"] - people["age"].mean()) / real["age"].std()
    leaky["ventricle_volume"] -= LEAK * years * real["ventricle_volume"].std()
    yield "leaky", leaky


def _rows(case: str, card: Scorecard) -> Iterator[list[object]]:
    assert card.adherence is not None
    for condition in card.adherence.conditions:
        for found in condition.statistics:
            if found.key in ("correlation", "slope", "auc"):
                yield [case, f"{condition.name}, {found.label}", *map(_text, found_of(found))]
    for leak in card.adherence.leakage:
        if leak.measured == "ventricle_volume" or (leak.requested, leak.measured) == ("age", "sex"):
            what = f"leakage {leak.requested} → {leak.measured} ({leak.unit})"
            yield [case, what, *map(_text, found_of(leak.effect))]


def found_of(compared: ComparedRecord) -> tuple[EstimateRecord | None, ...]:
    """Return the three estimates of a comparison."""
    return compared.synth, compared.real, compared.difference


def _text(estimate: EstimateRecord | None) -> str:
    if estimate is None:
        return "-"
    if estimate.low is None:
        return f"{estimate.value:.2f}"
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the studies, and print its table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", choices=("intervals", "prediction", "words", "volumes"))
    parser.add_argument("--reps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="words: text in the first cells of a row")
    parser.add_argument("--folder", type=Path, help="volumes: folder of the cohorts")
    parser.add_argument("--n", type=int, default=60, help="volumes: subjects per side")
    options = parser.parse_args(arguments)
    if options.study == "volumes":
        if options.folder is None:
            parser.error("volumes needs --folder")
        options.folder.mkdir(parents=True, exist_ok=True)
        show(volumes(options.folder, options.n))
    else:
        studies = {
            "intervals": intervals, "prediction": prediction,
            "words": partial(words, only=options.only),
        }  # fmt: skip
        show(studies[options.study](options.reps, options.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
