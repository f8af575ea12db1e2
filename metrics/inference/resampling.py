"""Weights of resamples, and the values of a statistic under many of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from jaxtyping import Bool, Float64, Int64

from synthbench.errors import MetricError
from synthbench.metrics.inference.contracts import Blocked
from synthbench.metrics.metric import Statistic, Summed, Weights, ones
from synthbench.metrics.subjects import n_subjects
from synthbench.runtime.memory import memory_limit

MAX_EXCLUDED = 0.05
"""Largest share of degenerate resamples with which an interval is still computed."""

RELATIVE_ZERO = 1e-12
"""A resample's variance below this share of the sample's is zero up to rounding."""

CHUNK_NUMBERS = 2**24
"""Weights are evaluated in chunks whose n x n matrices hold at most this many numbers."""

NUMBERS_PER_IMAGE = 16
"""Numbers that `JointlyStudentized.value_and_variance` may hold per image and row of weights."""

LARGE_SET = 2000
"""Above this many images in a role, statistics hold no matrix over pairs of images and are
`Blocked`, and the jackknife leaves out groups of subjects. Three kernel matrices of 2,000 images
take 96 MB."""

JACKKNIFE_GROUPS = 200
"""The groups of subjects that the jackknife of a large set leaves out in turn."""

GROUP_ROWS = 64
"""A `Blocked` statistic multiplies this many rows of weights at a time. The number is fixed, so
that products round alike whatever the memory."""

SHARE_OF_MEMORY = 4
"""The rows of weights of one pass of a `Blocked` statistic take at most one part in so many of
`--max-memory`."""

DRAWS = 4
"""Draws of equally many images of each subject over which a test's p is combined.

Each of them has this many times as many labellings as the test was asked for: one small p among
k others counts as k p.
"""


def bootstrap_weights(
    subjects: Mapping[str, Int64[np.ndarray, " n"]], b: int, rng: np.random.Generator
) -> dict[str, Float64[np.ndarray, "b n"]]:
    """Draw `b` bootstrap resamples of subjects, as counts on the images.

    One 63-bit key is drawn from `rng`. The counts of a role come from
    ``default_rng([key, *role.encode()])``, row after row. So they depend on the seed, the role's
    name and its number of subjects only: two synthetic sets scored with one seed share their
    resamples of the real set, and the first 100 of 1000 resamples are the same as 100 resamples.

    Parameters
    ----------
    subjects
        For each role, the subject index of each image.
    b
        Number of resamples.
    rng
        Random generator of the key.

    Returns
    -------
    For each role, multinomial counts of its subjects, repeated for their images.
    """
    return next(bootstrap_chunks(subjects, b, rng, b))


def bootstrap_chunks(
    subjects: Mapping[str, Int64[np.ndarray, " n"]], b: int, rng: np.random.Generator, rows: int
) -> Iterator[dict[str, Float64[np.ndarray, "k n"]]]:
    """Yield the resamples of `bootstrap_weights` in order, at most `rows` of them at a time."""
    key = int(rng.integers(2**63))
    streams = {role: np.random.default_rng([key, *role.encode()]) for role in subjects}
    for start in range(0, max(b, 1), max(rows, 1)):
        weights = {}
        for role, index in subjects.items():
            n, size = n_subjects(index), min(rows, b - start)
            counts = streams[role].multinomial(n, np.full(n, 1 / n), size=size).astype(np.float64)
            alone = np.array_equal(index, np.arange(n))
            weights[role] = counts if alone else counts[:, index]
        yield weights


def jackknife_units(index: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Return the number of the unit of each image that a jackknife leaves out at once.

    It is the image's subject. Where there are more than `LARGE_SET` subjects, it is one of
    `JACKKNIFE_GROUPS` random groups of equally many subjects, up to one: the delete-a-group
    jackknife (Kott 2001, "The delete-a-group jackknife", J. Official Statistics 17). With G groups
    in place of subjects the formulas stay as they are. A standard error from 200 groups has a
    relative standard deviation of about 1 / sqrt(2 (G - 1)), 5%.
    """
    subjects = n_subjects(index)
    if subjects <= LARGE_SET:
        return index
    group = np.random.default_rng(0).permutation(subjects) % JACKKNIFE_GROUPS
    units: Int64[np.ndarray, " n"] = group.astype(np.int64)[index]
    return units


def leave_one_out_weights(
    subjects: Mapping[str, Int64[np.ndarray, " n"]], role: str
) -> dict[str, Float64[np.ndarray, "s n"]]:
    """Return indicator weights that leave out each unit of `role` in turn, one per row."""
    return count_one_weights(subjects, role, 0)


def count_one_weights(
    subjects: Mapping[str, Int64[np.ndarray, " n"]], role: str, count: int
) -> dict[str, Float64[np.ndarray, "s n"]]:
    """Return weights that count each unit of `role` in turn `count` times, all others once.

    A unit is a subject, or in a large set a group of subjects (`jackknife_units`).
    """
    units = jackknife_units(subjects[role])
    rows = n_subjects(units)
    weights = {other: np.ones((rows, len(index))) for other, index in subjects.items()}
    chosen = units[None, :] == np.arange(rows)[:, None]
    weights[role] = np.where(chosen, float(count), 1.0)
    return weights


def evaluate(
    function: Callable[[Weights], Float64[np.ndarray, " b"]],
    weights: Weights,
    *,
    numbers_per_row: int | None = None,
) -> Float64[np.ndarray, " b"]:
    """Return a statistic's `value` or `variance`, computed in chunks of rows to bound the memory.

    `numbers_per_row` is how many numbers the function holds per row of weights; None is n^2.
    """
    rows = len(next(iter(weights.values())))
    widest = max(w.shape[1] for w in weights.values())
    step = max(1, CHUNK_NUMBERS // (numbers_per_row or widest**2))
    chunks = [
        function({role: w[start : start + step] for role, w in weights.items()})
        for start in range(0, rows, step)
    ]
    return np.concatenate(chunks)


def rows_at_once(statistic: Statistic) -> int:
    """Return how many rows of weights of a large set are in memory at a time.

    Each pass of a blocked statistic computes all its blocks again, so there are as many rows as
    `SHARE_OF_MEMORY` allows.
    """
    if isinstance(statistic, Blocked):
        numbers = statistic.numbers_per_row
    else:
        numbers = 2 * sum(len(index) for index in statistic.subjects.values())
    rows = memory_limit() // SHARE_OF_MEMORY // (8 * numbers)
    return rows // GROUP_ROWS * GROUP_ROWS if rows >= GROUP_ROWS else max(1, rows)


def is_large(statistic: Statistic) -> bool:
    """Return True where a role has more than `LARGE_SET` images."""
    return max(len(index) for index in statistic.subjects.values()) > LARGE_SET


def values_of(statistic: Statistic, weights: Weights) -> Float64[np.ndarray, " b"]:
    """Return the statistic's value under each row of weights, in chunks that bound the memory."""
    if not isinstance(statistic, Blocked):
        return evaluate(statistic.value, weights)
    rows, step = len(next(iter(weights.values()))), rows_at_once(statistic)
    chunks = [
        statistic.value({role: w[start : start + step] for role, w in weights.items()})
        for start in range(0, rows, step)
    ]
    return np.concatenate(chunks)


def estimate(statistic: Statistic) -> float:
    """Return the statistic with every image counted once.

    Raises
    ------
    MetricError
        The value is undefined, as with fewer than two subjects in a role.
    """
    value = float(statistic.value(ones(statistic))[0])
    if not np.isfinite(value):
        raise MetricError(
            "the statistic is undefined on these images (its value is not finite); found "
            f"{count_subjects(statistic)}. Give every role at least 2 subjects.",
            "undefined",
            found=fewest(statistic),
        )
    return value


def magnitude(statistic: Statistic) -> float:
    """Return the size of the terms of the estimate, or of the estimate where it has no terms.

    A change of the estimate is small or large compared with this number (`Summed`).
    """
    if isinstance(statistic, Summed):
        return float(statistic.magnitude(ones(statistic))[0])
    return abs(estimate(statistic))


def leave_one_out_values(statistic: Statistic, role: str) -> Float64[np.ndarray, " s"]:
    """Return the statistic without each subject of `role` in turn; groups of them in a large set.

    Raises
    ------
    MetricError
        Leaving one subject out makes the statistic undefined.
    """
    values = values_of(statistic, leave_one_out_weights(statistic.subjects, role))
    if not np.isfinite(values).all():
        raise MetricError(
            f"jackknife: the statistic is undefined without one subject of {role}; found "
            f"{count_subjects(statistic)}. Give every role at least 3 subjects.",
            "too few subjects",
            needed=3,
            found=fewest(statistic),
        )
    return values


def one_set(statistic: Statistic, what: str, prepare_with: str) -> Int64[np.ndarray, " n"]:
    """Return the subject index of the one set that is in both roles.

    Raises
    ------
    MetricError
        The roles do not hold one set. The message starts with `what`, and ends with the sets that
        the statistic must be prepared with, `prepare_with`.
    """
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
    """Return random permutations of 0, ..., n - 1, one per row."""
    return rng.permuted(np.tile(np.arange(n), (repeats, 1)), axis=1)


def drawn_images(
    index: Int64[np.ndarray, " n"],
    counts: int | Int64[np.ndarray, " s"],
    repeats: int,
    rng: np.random.Generator,
) -> Float64[np.ndarray, "r n"]:
    """Return indicators of images that are drawn at random, the same number of each subject.

    Two sets whose subjects have different numbers of images are not exchangeable, and are not at
    one number of images. With equally many drawn of each subject they are.

    Parameters
    ----------
    index
        The subject of each image.
    counts
        The images to draw of each subject: one number, or one for each subject.
    repeats
        The number of draws, one per row.
    rng
        Random generator; nothing is drawn from it where every image is kept.
    """
    held = np.bincount(index)
    wanted = np.broadcast_to(counts, held.shape)
    if np.array_equal(held, wanted):
        return np.ones((repeats, len(index)))
    keys = rng.random((repeats, len(index)))
    # A subject's images stand next to each other, in a random order: the first ones are kept.
    order = np.lexsort((keys, np.broadcast_to(index, keys.shape)))
    place = np.arange(len(index)) - np.repeat(np.cumsum(held) - held, held)
    first = np.broadcast_to(place < np.repeat(wanted, held), keys.shape)
    drawn = np.zeros(keys.shape)
    np.put_along_axis(drawn, order, first.astype(np.float64), axis=1)
    return drawn


def equal_draws(
    index: Int64[np.ndarray, " n"],
    counts: int | Int64[np.ndarray, " s"],
    rng: np.random.Generator,
) -> Float64[np.ndarray, "r n"]:
    """Return indicators of `DRAWS` draws by `drawn_images`; of one where it keeps every image."""
    every = np.array_equal(np.bincount(index), np.broadcast_to(counts, index.max() + 1))
    return drawn_images(index, counts, 1 if every else DRAWS, rng)


def count_excluded(usable: Bool[np.ndarray, " b"], statistic: Statistic) -> int:
    """Return the number of degenerate resamples.

    Raises
    ------
    MetricError
        More than a share `MAX_EXCLUDED` is degenerate.
    """
    excluded = int((~usable).sum())
    if excluded > MAX_EXCLUDED * len(usable):
        raise MetricError(
            f"bootstrap: {excluded} of {len(usable)} resamples hold too few distinct subjects "
            f"(at most {MAX_EXCLUDED:.0%} may); found {count_subjects(statistic)}. "
            "Score more subjects, or use --ci jackknife.",
            "few resamples",
            found=fewest(statistic),
        )
    return excluded


def check_level(level: float) -> None:
    """Raise a MetricError unless `level` is a share."""
    if not 0 < level < 1:
        raise MetricError(f"level must lie between 0 and 1; found {level}. Use 0.95 for 95%.")


def fewest(statistic: Statistic) -> int:
    """Return the number of subjects of the role that has the fewest."""
    return min(n_subjects(index) for index in statistic.subjects.values())


def count_subjects(statistic: Statistic) -> str:
    """Return the number of subjects of each role, for an error message: "9 real, 7 synth"."""
    return ", ".join(f"{n_subjects(index)} {role}" for role, index in statistic.subjects.items())
