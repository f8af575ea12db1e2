"""Two synthetic sets against one real set: did the generator change, did a metric?

The sets need not be independent: where both are of the same seeds, volumes of one seed are compared
with each other.
"""

from __future__ import annotations

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
from synthbench.scoring.sample_data import SampleData

RESOLUTION = 4
"""By how much the smallest adjusted p must lie below the threshold: resamples are added for it.

Of B resamples the smallest two-sided p is 2/(B + 1), and Holm multiplies it by the number of
metrics: 1000 resamples could not find any change of 13 metrics at 0.025, however large.
"""

LEVEL = 0.95
"""Nominal coverage of the intervals that are shown."""

Status = Literal["pass", "warn", "fail", "shown", "not compared"]


class GeneratorTest(Record):
    """Whether the generator changed, in one extractor's features."""

    extractor: str
    p: float
    p_adjusted: float = Field(description="Holm over the extractors")
    paired: bool = Field(description="volumes of one seed were compared with each other")
    moved: float | None = Field(
        description="of paired volumes: root mean square move over the spread of the real features"
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
        default=None, description="current less baseline; side by side, of distances from the best"
    )
    low: float | None = None
    high: float | None = None
    level: float | None = None
    p: float | None = None
    p_adjusted: float | None = Field(default=None, description="Holm over the metrics that gate")
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
    """A metric whose difference between two samples is asked for.

    Attributes
    ----------
    metric, extractor, label
        The row.
    direction
        Which way is better.
    role
        What the metric is used for.
    delta
        Margin of equivalence; None: there is none.
    given
        Whether the user gave it.
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
        """Whether a change of it fails."""
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
        What to call the two.
    gate
        Whether a difference between them fails.
    """

    names: tuple[str, str]
    gate: bool = False


@dataclass(frozen=True)
class Terms:
    """The terms on which two samples are compared.

    Attributes
    ----------
    alpha
        Of the generator's test and the metrics together, half for each; all for the metrics
        where the former is not asked.
    resamples, permutations, seed
        Of the bootstrap and of the test; more are taken where p could not become small enough
        (`RESOLUTION`).
    rivals
        Where these are two generators. Whether they differ is then not asked, and differences
        are of distances from the best value.
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
    """Ask of two synthetic sets against one real set whether generator and metrics changed.

    Where both sets are of the same seeds, volumes of one seed are compared with each other.

    Parameters
    ----------
    first, second
        Sample data of the two scorings.
    asked
        The metrics.
    terms
        None: the usual ones.
    extractors
        In whose features to test whether the generator changed; None: those of the metrics.

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
            rows.append(
                MetricDrift(metric=one.metric, extractor=one.extractor, label=one.label,
                            status="not compared", words=str(error))
            )  # fmt: skip
    p_values = {one: found.wide.p for one, found in compared.items() if one.gates}
    adjusted = dict(zip(p_values, holm(list(p_values.values())).tolist(), strict=True))
    for one, found in compared.items():
        rows.append(_metric_drift(one, found, adjusted.get(one), half, terms))
    return tests, rows


def share_seeds(first: SampleData, second: SampleData) -> bool:
    """Whether both synthetic sets are of the same seeds, which sidecars must name."""
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
    """Test, in each extractor's features, that both synthetic sets are of one distribution."""
    values, moves = [], []
    for extractor in extractors:
        one, other, bandwidth = _features(first, second, extractor)
        subjects = {"real": first.subjects["synth"], "synth": second.subjects["synth"]}
        values.append(
            permutation_p(one, other, bandwidth, permutations=terms.permutations,
                          seed=terms.seed, subjects=subjects, paired=paired)
        )  # fmt: skip
        # Two independent draws are l apart in the median, so that l is the spread.
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
    """Both synthetic sets' features, and the bandwidth of their kernel, frozen on the real set."""
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
    """The paired difference, at 90% too where there is a margin, and the values it is of.

    `terms` is the magnitude of the first.
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
    # A change of a gap from 0.05 to -0.05 is one, although its distance from zero is not.
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
        status, words = "shown", "fails nothing: it rewards shrunk spread"
    elif rivals is not None:
        status = "fail" if different and rivals.gate else "pass"
        words = f"{better} is closer" if different else "no difference shown"
    elif requested.given:
        status = "pass" if equivalent else "fail"
        words = "within the margin" if equivalent else "not shown to be within the margin"
    else:
        status = "fail" if different and not rounding else "pass"
        words = "no change shown" if not different else "rounding" if rounding else "changed"
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


def _closer(comparison: Comparison, requested: Requested, names: tuple[str, str]) -> str:
    """The one with the smaller loss: differences are of distances from zero where zero is best."""
    worse_second = comparison.difference > 0
    if requested.direction == "higher":
        worse_second = not worse_second
    return names[0] if worse_second else names[1]
