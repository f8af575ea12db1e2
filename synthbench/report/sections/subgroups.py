"""The section on subgroups of the real cohort: aggregates, with small cells hidden."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from synthbench.cohorts.cohort import Cohort
from synthbench.cohorts.disclosure import hidden_words, subgroup_names, subgroups
from synthbench.errors import MetricError
from synthbench.metrics.inference import intervals, resampling, subgroup
from synthbench.metrics.metric import Statistic
from synthbench.metrics.mmd import MMD2
from synthbench.records.scorecard import Scorecard
from synthbench.report.album.at_hand import FeatureSpace
from synthbench.report.sections.section import Page, Section


def _build(page: Page) -> Mapping[str, Any] | None:
    tables = [
        (page.names[index], _subgroup_words(at_hand.card, at_hand.features), rows,
         _hidden(at_hand.cohorts.real))
        for index, at_hand in page.at_hand.items()
        if not isinstance(at_hand.features, str)
        and ((rows := _rows(at_hand.card, at_hand.cohorts.real, at_hand.features))
             or _hidden(at_hand.cohorts.real))
    ]  # fmt: skip
    return {"cards": tables, "several": page.several} if tables else None


@dataclass(frozen=True)
class SubgroupRow:
    """MMD^2 between the synthetic volumes and one subgroup of the real ones; aggregates only.

    Attributes
    ----------
    column, name
        The covariate, and the subgroup.
    count
        Subjects, or text where the count is hidden.
    value, interval
        MMD^2 of the synthetic set and this subgroup; None where it is hidden or not computed.
    others
        MMD^2 of this subgroup and the other real volumes, for comparison.
    """

    column: str
    name: str
    count: int | str
    value: float | None = None
    interval: tuple[float, float] | None = None
    others: float | None = None


def _hidden(real: Cohort) -> list[str]:
    """Return which subgroups are hidden, and why, one line per column."""
    lines = (hidden_words(column, counts) for column, counts in subgroups(real).items())
    return [line for line in lines if line]


def _rows(card: Scorecard, real: Cohort, space: FeatureSpace) -> tuple[SubgroupRow, ...]:
    """Return one row per band of age, sex, site and diagnosis, with small cells hidden."""
    rows, index = space.rows(space.real), space.real.subjects
    statistic = MMD2().prepare(
        rows, space.rows(space.synth), bandwidth=space.bandwidth,
        subjects={"real": index, "synth": space.synth.subjects},
    )  # fmt: skip
    found = []
    for column, counts in subgroups(real).items():
        bands = _bands(real, column)
        for name, count in counts.items():
            row = SubgroupRow(column, name, count)
            inside = bands == name
            # The value of a hidden cell, or of one whose count is coarse to hide another cell,
            # would disclose something about few people.
            if isinstance(count, int) and count < len(set(index.tolist())):
                others = MMD2().prepare(
                    rows[inside], rows[~inside], bandwidth=space.bandwidth,
                    subjects={"real": index[inside], "synth": index[~inside]},
                )  # fmt: skip
                row = _scored(row, subgroup.subgroup(statistic, {"real": inside}), others, card)
            found.append(row)
    return tuple(found)


def _scored(
    row: SubgroupRow, statistic: Statistic, others: Statistic, card: Scorecard
) -> SubgroupRow:
    protocol = card.protocol
    try:
        computed = intervals.interval(
            statistic, "studentized", resamples=protocol.resamples, level=protocol.level,
            seed=protocol.seed,
        )  # fmt: skip
        interval = (computed.low, computed.high) if computed.low < computed.high else None
        return SubgroupRow(
            row.column, row.name, row.count, resampling.estimate(statistic), interval,
            resampling.estimate(others),
        )  # fmt: skip
    except MetricError:
        return row


def _bands(real: Cohort, column: str) -> np.ndarray:
    """Return the name of each volume's subgroup, as `synthbench.cohorts.disclosure` names them."""
    values: pd.Series[Any] = real.participants[column].reindex([e.subject for e in real.entries])
    return np.array(subgroup_names(values))


def _subgroup_words(card: Scorecard, space: FeatureSpace) -> str:
    return (
        f"MMD² in the features of {space.extractor} between all synthetic volumes and the real "
        f"ones of each subgroup, with {card.protocol.level:.0%} intervals. Beside it the same of "
        "the other real volumes: how unlike them the subgroup is anyway. Several looks at one set "
        "of data: no row is a test."
    )


SECTION = Section("subgroups", "Subgroups", "Subgroups of the real cohort", 80, _build)
