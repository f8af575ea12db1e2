"""Weights of resamples, and a statistic evaluated under many of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Bool, Float64, Int64

from synthbench.errors import MetricError
from synthbench.metrics.metric import Statistic, Summed, Weights, ones
from synthbench.metrics.subjects import n_subjects

MAX_EXCLUDED = 0.05
"""Largest share of degenerate resamples under which an interval is still given."""

RELATIVE_ZERO = 1e-12
"""A resample's variance below this share of the sample's is zero up to rounding."""

CHUNK_NUMBERS = 2**24
"""Weights are evaluated in chunks whose n x n matrices hold at most this many numbers."""

NUMBERS_AN_IMAGE = 16
"""What `JointlyStudentized.value_and_variance` may hold for an image and a row of weights."""


# Weights


def bootstrap_weights(
    subjects: Mapping[str, Int64[np.ndarray, " n"]], b: int, rng: np.random.Generator
) -> dict[str, Float64[np.ndarray, "b n"]]:
    """Draw `b` bootstrap resamples of subjects, as counts on the images.

    The stream: one 63-bit key is drawn from `rng`; a role's counts come from
    ``default_rng([key, *role.encode()])``, row after row. So they depend on the seed, the
    role's name and its number of subjects only: two synthetic sets scored with one seed share
    their real resamples, and the first 100 of 1000 resamples are those of 100.

    Parameters
    ----------
    subjects
        For each role, the subject index of each image.
    b
        Number of resamples.
    rng
        Source of the key.

    Returns
    -------
    For each role, multinomial counts of its subjects, repeated for their images.
    """
    key = int(rng.integers(2**63))
    weights = {}
    for role, index in subjects.items():
        stream = np.random.default_rng([key, *role.encode()])
        n = n_subjects(index)
        counts = stream.multinomial(n, np.full(n, 1 / n), size=b).astype(np.float64)
        weights[role] = counts[:, index]
    return weights


def leave_one_out_weights(
    subjects: Mapping[str, Int64[np.ndarray, " n"]], role: str
) -> dict[str, Float64[np.ndarray, "s n"]]:
    """Indicator weights that leave out each subject of `role` in turn."""
    rows = n_subjects(subjects[role])
    weights = {other: np.ones((rows, len(index))) for other, index in subjects.items()}
    weights[role] = (subjects[role][None, :] != np.arange(rows)[:, None]).astype(np.float64)
    return weights


def evaluate(
    function: Callable[[Weights], Float64[np.ndarray, " b"]],
    weights: Weights,
    *,
    numbers_a_row: int | None = None,
) -> Float64[np.ndarray, " b"]:
    """Call a statistic's `value` or `variance` on chunks of rows, so that memory is bounded.

    `numbers_a_row` is what the function holds for each row of weights; None is n^2.
    """
    rows = len(next(iter(weights.values())))
    widest = max(w.shape[1] for w in weights.values())
    step = max(1, CHUNK_NUMBERS // (numbers_a_row or widest**2))
    chunks = [
        function({role: w[start : start + step] for role, w in weights.items()})
        for start in range(0, rows, step)
    ]
    return np.concatenate(chunks)


# The estimate and its intervals


def estimate(statistic: Statistic) -> float:
    """The statistic with every image counted once.

    Raises
    ------
    MetricError
        It is undefined, as with fewer than two subjects in a role.
    """
    value = float(statistic.value(ones(statistic))[0])
    if not np.isfinite(value):
        raise MetricError(
            "the statistic is undefined on these images (its value is not finite); found "
            f"{count_subjects(statistic)}. Give every role at least 2 subjects."
        )
    return value


def magnitude(statistic: Statistic) -> float:
    """The size of the terms that the estimate is made of; its own, where it does not say.

    A change of the estimate is small or large beside this number (see `Summed`).
    """
    if isinstance(statistic, Summed):
        return float(statistic.magnitude(ones(statistic))[0])
    return abs(estimate(statistic))


def leave_one_out_values(statistic: Statistic, role: str) -> Float64[np.ndarray, " s"]:
    """The statistic without each subject of `role` in turn.

    Raises
    ------
    MetricError
        Leaving one subject out makes the statistic undefined.
    """
    values = evaluate(statistic.value, leave_one_out_weights(statistic.subjects, role))
    if not np.isfinite(values).all():
        raise MetricError(
            f"jackknife: the statistic is undefined without one subject of {role}; found "
            f"{count_subjects(statistic)}. Give every role at least 3 subjects."
        )
    return values


def one_set(statistic: Statistic, what: str, prepare_with: str) -> Int64[np.ndarray, " n"]:
    """The subject index of the one set that is in both roles."""
    subjects = statistic.subjects
    if set(subjects) != {"real", "synth"} or not np.array_equal(
        subjects["real"], subjects["synth"]
    ):
        raise MetricError(
            f"{what}: the statistic must hold one set in both roles, 'real' and 'synth'; found "
            f"{count_subjects(statistic)}. Prepare it with {prepare_with}."
        )
    return subjects["real"]


def random_ranks(n: int, repeats: int, rng: np.random.Generator) -> Int64[np.ndarray, "r n"]:
    return rng.permuted(np.tile(np.arange(n), (repeats, 1)), axis=1)


def count_excluded(usable: Bool[np.ndarray, " b"], statistic: Statistic) -> int:
    """Count the degenerate resamples.

    Raises
    ------
    MetricError
        They are more than `MAX_EXCLUDED` of all.
    """
    excluded = int((~usable).sum())
    if excluded > MAX_EXCLUDED * len(usable):
        raise MetricError(
            f"bootstrap: {excluded} of {len(usable)} resamples hold too few distinct subjects "
            f"(at most {MAX_EXCLUDED:.0%} may); found {count_subjects(statistic)}. "
            "Score more subjects, or use --ci jackknife."
        )
    return excluded


def check_level(level: float) -> None:
    """Raise a MetricError unless `level` is a share."""
    if not 0 < level < 1:
        raise MetricError(f"level must lie between 0 and 1; found {level}. Use 0.95 for 95%.")


def count_subjects(statistic: Statistic) -> str:
    return ", ".join(f"{n_subjects(index)} {role}" for role, index in statistic.subjects.items())
