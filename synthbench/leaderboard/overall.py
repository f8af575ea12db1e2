"""The overall order of entries: their mean rank over metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64
from pydantic import Field

from synthbench.metrics.inference.comparison import Ranking, loss
from synthbench.records.base import Record


class OverallPlace(Record):
    """An entry's place by its mean rank over metrics, and how stable it is."""

    entry: str
    mean_rank: float
    place: int
    low: int = Field(description="2.5th percentile over resamples")
    high: int = Field(description="97.5th percentile")
    kept: float = Field(description="share of resamples in which it has this place")
    without_one: tuple[int, int] = Field(
        description="range of its places when any one metric is left out"
    )


class Overall(Record):
    """An order over all metrics with equal weights, which is a choice and not a test."""

    metrics: tuple[str, ...]
    kept: float = Field(description="share of resamples that give the same order")
    places: tuple[OverallPlace, ...]
    incomplete: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="entries without a place, and the metrics that they have no value of",
    )
    not_counted: tuple[str, ...] = Field(
        default=(), description="metrics that most entries have no value of"
    )


def overall_order(
    by_metric: Mapping[str, Ranking], entries: Sequence[str] | None = None
) -> Overall | None:
    """Return entries ordered by their mean rank over metrics, with the order's stability.

    Every metric has the same weight. In each resample (the same for every metric) the entries are
    ranked under each metric by their recentred values, and the mean ranks are ordered again.

    An entry without a value of a metric gets no place: a metric that was left out for its sake
    would change the places of all others. Only a metric that half of the entries or more have no
    value of is not counted.

    Parameters
    ----------
    by_metric
        Rankings with one seed and number of resamples.
    entries
        All entries; None: those of the rankings.

    Returns
    -------
    None where fewer than two metrics count, or fewer than two entries have values of all of them.
    """
    ranked = {key: {s.name for s in r.standings} for key, r in by_metric.items()}
    everyone = sorted(set(entries or ()).union(*ranked.values()))
    counted = [key for key, names in ranked.items() if 2 * len(names) > len(everyone)]
    lacking = {name: tuple(key for key in counted if name not in ranked[key]) for name in everyone}
    names = [name for name in everyone if not lacking[name]]
    if len(counted) < 2 or len(names) < 2:
        return None
    rankings = [by_metric[key] for key in counted]
    observed = np.stack([_ranks_of_estimates(r, names) for r in rankings])
    resampled = np.stack([_ranks_of_resamples(r, names) for r in rankings])
    usable = np.isfinite(resampled).all(axis=(0, 2))
    places = order_of(observed.mean(axis=0)[None])[0]
    drawn = order_of(resampled[:, usable].mean(axis=0))
    left_out = np.stack(
        [order_of(np.delete(observed, i, axis=0).mean(axis=0)[None])[0]
         for i in range(len(rankings))]
    )  # fmt: skip
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0, method="inverted_cdf")
    listed = [
        OverallPlace(
            entry=name, mean_rank=float(observed[:, k].mean()), place=int(places[k]),
            low=int(low[k]), high=int(high[k]), kept=float((drawn[:, k] == places[k]).mean()),
            without_one=(int(left_out[:, k].min()), int(left_out[:, k].max())),
        )
        for k, name in enumerate(names)
    ]  # fmt: skip
    return Overall(
        metrics=tuple(counted),
        kept=float((drawn == places).all(axis=1).mean()),
        places=tuple(sorted(listed, key=lambda found: (found.place, found.entry))),
        incomplete={name: keys for name, keys in lacking.items() if keys},
        not_counted=tuple(key for key in by_metric if key not in counted),
    )


def order_of(scores: Float64[np.ndarray, "b k"]) -> Float64[np.ndarray, "b k"]:
    """Return the place of each entry, 1 for the smallest score; equal scores share the best one.

    >>> order_of(np.array([[2.0, 1.0, 2.0, 3.0]])).tolist()
    [[2.0, 1.0, 2.0, 4.0]]
    """
    smaller = (scores[:, None, :] < scores[:, :, None]).sum(axis=2)
    places: Float64[np.ndarray, "b k"] = 1.0 + smaller
    return places


def _ranks_of_estimates(ranking: Ranking, names: Sequence[str]) -> Float64[np.ndarray, " k"]:
    values = {standing.name: standing.value for standing in ranking.standings}
    row = np.array([[values[name] for name in names]])
    ranks: Float64[np.ndarray, " k"] = _middle_ranks(loss(row, ranking.direction))[0]
    return ranks


def _ranks_of_resamples(ranking: Ranking, names: Sequence[str]) -> Float64[np.ndarray, "b k"]:
    column = {standing.name: i for i, standing in enumerate(ranking.standings)}
    values = ranking.resampled[:, [column[name] for name in names]]
    ranks = _middle_ranks(loss(values, ranking.direction))
    return np.where(np.isfinite(values), ranks, np.nan)


def _middle_ranks(losses: Float64[np.ndarray, "b k"]) -> Float64[np.ndarray, "b k"]:
    """Return ranks from 1 in each row; equal values share the mean of their ranks."""
    smaller = (losses[:, None, :] < losses[:, :, None]).sum(axis=2)
    equal = (losses[:, None, :] == losses[:, :, None]).sum(axis=2)
    ranks: Float64[np.ndarray, "b k"] = smaller + (equal + 1) / 2
    return ranks
