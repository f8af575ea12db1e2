"""Two synthetic sets against one real set: did the generator change, did a metric?

The sets need not be independent: where both are of the same seeds, volumes of one seed are compared
with each other.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float64
from pydantic import Field

from synthbench.drift.causes import ROUNDING, SMALL, relative
from synthbench.errors import MetricError, UsageError
from synthbench.metrics.inference.comparison import (
    EQUIVALENCE_LEVEL,
    Comparison,
    equivalence,
    paired_difference,
)
from synthbench.metrics.inference.multiplicity import holm
from synthbench.metrics.inference.resampling import estimate, magnitude
from synthbench.metrics.kernels import median_bandwidth
from synthbench.metrics.metric import Direction, Role
from synthbench.metrics.mmd import MMD2
from synthbench.metrics.mmd_permutation import permutation_p
from synthbench.records.base import Record
from synthbench.records.keys import JobKey
from synthbench.records.reasons import reason_of, words_of
from synthbench.scoring.sample_data import SampleData

log = logging.getLogger("synthbench")

RESOLUTION = 4
"""Factor by which the smallest possible adjusted p must lie below the threshold.

Resamples are added for it. With B resamples the smallest two-sided p is 2/(B + 1), and Holm
multiplies it by the number of metrics: 1000 resamples could not show any change of 13 metrics at
0.025, however large.
"""

LEVEL = 0.95
"""Nominal coverage of the intervals that are shown."""

NO_CHANGE = "no change shown"
NO_CLOSER = "no difference shown"
"""The words of a metric whose corrected p shows nothing."""

Status = Literal["pass", "warn", "fail", "shown", "not compared"]


class GeneratorTest(Record):
    """The test whether the generator changed, in one extractor's features."""

    extractor: str
    p: float
    p_adjusted: float = Field(description="Holm over the extractors")
    paired: bool = Field(description="volumes of one seed were compared with each other")
    moved: float | None = Field(
        description="of paired volumes: root mean square change over the spread of real features"
    )
    status: Status
    words: str


class MetricDrift(Record):
    """One metric on both sides."""

    metric: str
    extractor: str | None
    label: str
    status: Status
    words: str
    baseline: float | None = None
    current: float | None = None
    relative: float | None = Field(default=None, description="change over the metric's terms")
    difference: float | None = Field(
        default=None,
        description="current minus baseline; of two generators, of distances from the best value",
    )
    low: float | None = None
    high: float | None = None
    level: float | None = None
    p: float | None = None
    p_adjusted: float | None = Field(
        default=None, description="Holm over the metrics whose change can fail"
    )
    closer: str | None = Field(default=None, description="of two generators, the better one")
    delta: float | None = Field(default=None, description="margin of equivalence")
    delta_source: Literal["given", "minimum detectable effect"] | None = None
    equivalent: bool | None = Field(default=None, description="90% interval inside +-delta")

    @property
    def name(self) -> str:
        """The label, with the extractor."""
        return self.label if self.extractor is None else f"{self.label} ({self.extractor})"


@dataclass(frozen=True)
class Requested:
    """A metric whose difference between two samples is requested.

    Attributes
    ----------
    metric, extractor, label
        Of the row.
    direction
        Which way is better.
    role
        What the metric is used for.
    delta
        Margin of equivalence; None: there is none.
    given
        True where the user chose the margin.
    """

    metric: str
    extractor: str | None
    label: str
    direction: Direction
    role: Role = "ranked"
    delta: float | None = None
    given: bool = False

    @property
    def key(self) -> str:
        """The key of the metric's sample data."""
        return str(self._key.job)

    @property
    def part(self) -> str | None:
        """The metric's part, where the row is one."""
        return self._key.part

    @property
    def gates(self) -> bool:
        """True where a change of it can fail."""
        return self.role != "descriptive"

    @property
    def _key(self) -> JobKey:
        return JobKey.parse(self.metric, self.extractor)


@dataclass(frozen=True)
class Rivals:
    """Two generators that are compared.

    Attributes
    ----------
    names
        Of the two.
    gate
        True where a difference between them fails.
    """

    names: tuple[str, str]
    gate: bool = False


@dataclass(frozen=True)
class Terms:
    """The terms on which two samples are compared.

    Attributes
    ----------
    alpha
        Probability of a false alarm: half for the generator's test and half for the metrics
        together; all for the metrics where there is no such test.
    resamples, permutations, seed
        Of the bootstrap and of the test; more are taken where p could not become small enough
        (`RESOLUTION`).
    rivals
        The names of two generators; None: both samples are of one. Two generators are not tested
        for a change, and differences are of distances from the best value.
    """

    alpha: float = 0.05
    resamples: int = 1000
    permutations: int = 1000
    seed: int = 0
    rivals: Rivals | None = None


def compare_samples(
    first: SampleData,
    second: SampleData,
    requested: Sequence[Requested],
    terms: Terms | None = None,
    *,
    extractors: Iterable[str] | None = None,
) -> tuple[list[GeneratorTest], list[MetricDrift]]:
    """Return whether the generator and the metrics changed between two synthetic sets.

    Both are compared with one real set. Where both have the same seeds, volumes of one seed are
    compared with each other.

    Parameters
    ----------
    first, second
        Sample data of the two scorings.
    requested
        The metrics.
    terms
        None: the defaults.
    extractors
        Extractors in whose features the generator is tested; None: those of the metrics.

    Raises
    ------
    MetricError
        A metric cannot be computed.
    """
    terms = terms or Terms()
    paired = share_seeds(first, second)
    if paired:
        assert first.seeds is not None
        assert second.seeds is not None
        place = {s: i for i, s in enumerate(second.seeds)}
        second = second.with_synth([place[s] for s in first.seeds])
    if extractors is None:
        extractors = dict.fromkeys(a.extractor for a in requested if a.extractor)
    extractors = () if terms.rivals else tuple(extractors)
    half = terms.alpha / 2 if extractors else terms.alpha
    gating = sum(one.gates for one in requested)
    terms = replace(
        terms,
        resamples=max(terms.resamples, math.ceil(2 * gating * RESOLUTION / half)),
        permutations=max(terms.permutations, math.ceil(len(extractors) * RESOLUTION / half)),
    )
    tests = _generator_tests(first, second, extractors, paired, half, terms)
    rows, compared = [], {}
    for one in requested:
        try:
            compared[one] = _compared(first, second, one, paired, terms)
        except (MetricError, UsageError) as error:
            # Annotations and JUnit files of a build are published; a message may name files.
            log.warning("%s: %s", one.label, error)
            rows.append(
                MetricDrift(metric=one.metric, extractor=one.extractor, label=one.label,
                            status="not compared", words=_public(error))
            )  # fmt: skip
    p_values = {one: found.wide.p for one, found in compared.items() if one.gates}
    adjusted = dict(zip(p_values, holm(list(p_values.values())).tolist(), strict=True))
    for one, found in compared.items():
        rows.append(_metric_drift(one, found, adjusted.get(one), half, terms))
    return tests, rows


def _public(error: Exception) -> str:
    reason = reason_of(error)
    if reason["code"] == "refused":
        return "cannot be computed; the command printed why"
    return words_of(**reason)


def share_seeds(first: SampleData, second: SampleData) -> bool:
    """Return True where both synthetic sets have the same seeds, as their sidecars name them."""
    if first.seeds is None or second.seeds is None:
        return False
    return sorted(first.seeds) == sorted(second.seeds)


def _generator_tests(
    first: SampleData,
    second: SampleData,
    extractors: Sequence[str],
    paired: bool,
    alpha: float,
    terms: Terms,
) -> list[GeneratorTest]:
    """Return the tests, in each extractor's features, of one distribution behind both sets."""
    values, moves = [], []
    for extractor in extractors:
        one, other, bandwidth = _features(first, second, extractor)
        subjects = {"real": first.subjects["synth"], "synth": second.subjects["synth"]}
        values.append(
            permutation_p(one, other, bandwidth, permutations=terms.permutations,
                          seed=terms.seed, subjects=subjects, paired=paired)
        )  # fmt: skip
        # The bandwidth is the median distance of two independent draws, so it measures the spread.
        moves.append(
            float(np.sqrt(((other - one) ** 2).sum(axis=1).mean())) / bandwidth if paired else None
        )
    return [
        _generator_test(extractor, p, p_adjusted, moved, alpha)
        for extractor, p, p_adjusted, moved in zip(
            extractors, values, holm(values).tolist(), moves, strict=True
        )
    ]


def _features(
    first: SampleData, second: SampleData, extractor: str
) -> tuple[Float64[np.ndarray, "n d"], Float64[np.ndarray, "m d"], float]:
    """Return both synthetic sets' features, and the kernel's bandwidth as the real set gives it."""
    key = next(k for k in first.jobs if JobKey.parse(k).extractor == extractor and k in second.jobs)
    one, other = (np.asarray(m.jobs[key].synth, np.float64) for m in (first, second))
    gaussian = str(JobKey(MMD2.name, extractor=extractor))
    frozen = first.protocol.settings.get(gaussian, {}).get("bandwidth")
    real = np.asarray(first.jobs[key].real, np.float64)
    bandwidth = frozen or median_bandwidth(real, first.subjects["real"])
    return one, other, float(bandwidth)


def _generator_test(
    extractor: str, p: float, p_adjusted: float, moved: float | None, alpha: float
) -> GeneratorTest:
    status: Status = "fail" if p_adjusted <= alpha else "pass"
    words = "the generator changed" if status == "fail" else "no change shown"
    if moved is not None:
        apart = f"volumes of one seed are {moved:.2g} of a typical distance apart"
        if status == "fail" and moved <= SMALL:
            status = "pass" if moved <= ROUNDING else "warn"
            words = "rounding" if status == "pass" else "more than rounding"
        words = f"{words}; {apart}"
    return GeneratorTest(
        extractor=extractor, p=p, p_adjusted=p_adjusted, paired=moved is not None, moved=moved,
        status=status, words=words,
    )  # fmt: skip


@dataclass(frozen=True)
class _Compared:
    """The paired difference, also at 90% where there is a margin, and the two values.

    `terms` is the magnitude of the first value.
    """

    wide: Comparison
    narrow: Comparison | None
    values: tuple[float, float]
    terms: float


def _compared(
    first: SampleData, second: SampleData, requested: Requested, paired: bool, terms: Terms
) -> _Compared:
    one, other = (m.statistic(requested.key, requested.part) for m in (first, second))
    shared = [role for role in one.subjects if role == "real" or paired]
    # A gap that goes from 0.05 to -0.05 has changed, although its distance from zero has not.
    direction: Direction = requested.direction if terms.rivals else "lower"

    def difference(level: float) -> Comparison:
        return paired_difference(
            one, other, shared=shared, direction=direction, resamples=terms.resamples,
            level=level, seed=terms.seed, names=("baseline", "current"),
        )  # fmt: skip

    narrow = None if requested.delta is None else difference(EQUIVALENCE_LEVEL)
    return _Compared(difference(LEVEL), narrow, (estimate(one), estimate(other)), magnitude(one))


def _metric_drift(
    requested: Requested, compared: _Compared, adjusted: float | None, alpha: float, terms: Terms
) -> MetricDrift:
    wide = compared.wide
    share = relative(wide.difference, compared.terms)
    equivalent = None
    if requested.delta is not None and compared.narrow is not None:
        equivalent = equivalence(compared.narrow, requested.delta).equivalent
    different = adjusted is not None and adjusted <= alpha
    rounding = share <= ROUNDING
    rivals = terms.rivals
    better = None if rivals is None else _closer(wide, requested, rivals.names)
    status: Status
    if adjusted is None:
        status, words = "shown", "shown only: a smaller spread improves it"
    elif rivals is not None:
        status = "fail" if different and rivals.gate else "pass"
        words = f"{better} is closer" if different else NO_CLOSER
    elif requested.given:
        status = "pass" if equivalent else "fail"
        words = "within the margin" if equivalent else "not shown to be within the margin"
    else:
        status = "fail" if different and not rounding else "pass"
        words = NO_CHANGE if not different else "rounding" if rounding else "changed"
    return MetricDrift(
        metric=requested.metric, extractor=requested.extractor, label=requested.label,
        status=status,
        words=words, baseline=compared.values[0], current=compared.values[1], relative=share,
        difference=wide.difference, low=wide.low, high=wide.high, level=wide.level, p=wide.p,
        p_adjusted=adjusted, closer=better if different else None, delta=requested.delta,
        delta_source=None if requested.delta is None
        else "given" if requested.given else "minimum detectable effect",
        equivalent=equivalent,
    )  # fmt: skip


def excludes_zero(row: MetricDrift) -> bool:
    """Return True where the interval of the difference, of the metric alone, excludes zero."""
    return row.low is not None and row.high is not None and not row.low <= 0 <= row.high


def _closer(comparison: Comparison, requested: Requested, names: tuple[str, str]) -> str:
    """Return the name of the better one; where zero is best, differences are of distances."""
    worse_second = comparison.difference > 0
    if requested.direction == "higher":
        worse_second = not worse_second
    return names[0] if worse_second else names[1]
