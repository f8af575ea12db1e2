"""What metrics measure of volumes, from the cache where an earlier run measured it.

A metric says what its measures depend on (`synthbench.metrics.metric.Reuse`):

"volume"  a row depends on one volume: one file per volume;
"pair"    a value depends on two volumes: one file per volume, with its values in the columns of
          pair matrices, so that a volume that is added costs only its own pairs;
"set"     a matrix depends on all its volumes, because sums over blocks round differently for
          other blocks: one file per matrix.

Measures without such a word, as those of plugins may be, are computed every time. So are those of
volumes without an identity, as of damaged ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from synthbench.cohorts.cohort import MASK_RULE, Volumes, majority_mask
from synthbench.metrics.metric import CrossMetric, Reuse, VolumeMetric
from synthbench.scoring.cache.keys import measure_key, rule_key
from synthbench.scoring.cache.store import Cache
from synthbench.volumes.sets import Readable, identity_of

MASK = "mask"
"""The name of the masks of real cohorts in the cache."""

_DIGEST_BYTES = 32


def real_mask(volumes: Volumes, cache: Cache | None) -> Bool[np.ndarray, "d h w"]:
    """Return `majority_mask` of a real cohort.

    Raises
    ------
    CohortError
        The mask is empty.
    """
    rule = rule_key(MASK, {"formula": MASK_RULE})
    found = kept(cache, MASK, rule, [volumes], lambda: {"mask": majority_mask(volumes)})
    return found["mask"]


def kept(
    cache: Cache | None,
    name: str,
    rule: str,
    sets: Sequence[Readable],
    compute: Callable[[], Mapping[str, np.ndarray]],
) -> Mapping[str, np.ndarray]:
    """Return what was computed of whole sets of volumes; where the cache has it, from there.

    Parameters
    ----------
    cache
        None: it is computed.
    name
        Of the measure.
    rule
        From `rule_key`.
    sets
        The volumes.
    compute
        Returns the arrays by name.
    """
    names = [identities(volumes) for volumes in sets]
    if cache is None or None in names:
        return compute()
    key = measure_key(rule, *(some for some in names if some is not None))
    found = cache.find_measure(key, name)
    if found is None:
        found = dict(compute())
        cache.keep_measure(key, name, found)
    return found


def identities(volumes: Readable) -> list[str] | None:
    """Return the identity of each volume; None where that of one is not known."""
    found = [identity_of(volumes, index) for index in range(len(volumes))]
    known = [identity for identity in found if identity is not None]
    return known if len(known) == len(found) else None


@dataclass(frozen=True)
class Measuring:
    """A metric, all that its measures depend on except the volumes, and the cache.

    Attributes
    ----------
    metric
        The metric.
    mask
        The voxels that count.
    settings
        What the metric froze.
    cache
        None: everything is computed.
    progress
        Called with (done, total).
    """

    metric: VolumeMetric
    mask: Bool[np.ndarray, "d h w"]
    settings: Mapping[str, Any]
    cache: Cache | None = None
    progress: Callable[[int, int], None] | None = None

    def within(self, volumes: Readable) -> Float64[np.ndarray, "n _"]:
        """Return `VolumeMetric.measure` of a set.

        Raises
        ------
        MetricError
            The volumes do not fit the metric.
        """

        def compute(**known: Float64[np.ndarray, "n _"]) -> Float64[np.ndarray, "n _"]:
            measure: Callable[..., Float64[np.ndarray, "n _"]] = self.metric.measure
            return measure(volumes, self.mask, self.settings, self.progress, **known)

        names = identities(volumes)
        if names is None or self._reuse in (None, "set"):
            return self._of_sets(compute, volumes)
        if self._reuse == "volume":
            return self._of_volumes(compute, names)
        return self._of_pairs(compute, names, names)

    def across(self, real: Readable, synth: Readable) -> Float64[np.ndarray, "n m"]:
        """Return `CrossMetric.measure_across` of two sets.

        Raises
        ------
        MetricError
            The volumes do not fit the metric.
        """

        def compute(**known: Float64[np.ndarray, "n m"]) -> Float64[np.ndarray, "n m"]:
            assert isinstance(self.metric, CrossMetric)
            measure: Callable[..., Float64[np.ndarray, "n m"]] = self.metric.measure_across
            return measure(real, synth, self.mask, self.settings, self.progress, **known)

        rows, columns = identities(real), identities(synth)
        if rows is None or columns is None or self._reuse != "pair":
            return self._of_sets(compute, real, synth)
        return self._of_pairs(compute, rows, columns)

    @property
    def _reuse(self) -> Reuse | None:
        """Return what measures of earlier runs stand for; None: they are computed every time."""
        return None if self.cache is None else getattr(self.metric, "reuse", None)

    @cached_property
    def _rule(self) -> str:
        rule = {"formula": self.metric.formula, "settings": self.settings}
        return rule_key(self.metric.name, rule, self.mask)

    def _of_sets(
        self, compute: Callable[..., Float64[np.ndarray, "n _"]], *sets: Readable
    ) -> Float64[np.ndarray, "n _"]:
        if self._reuse is None:
            return compute()
        found = kept(self.cache, self.metric.name, self._rule, sets, lambda: {"values": compute()})
        return found["values"]

    def _of_volumes(
        self, compute: Callable[..., Float64[np.ndarray, "n k"]], names: Sequence[str]
    ) -> Float64[np.ndarray, "n k"]:
        """Return one row per volume: NaN marks those that `compute` has to measure."""
        found = [self._find([name]) for name in names]
        lengths = {len(arrays["row"]) for arrays in found if arrays is not None}
        if not lengths:
            rows = compute()
        else:
            known = np.full((len(names), *lengths), np.nan)
            for row, arrays in zip(known, found, strict=True):
                if arrays is not None:
                    row[:] = arrays["row"]
            rows = compute(known=known) if None in found else known
        for name, arrays, row in zip(names, found, rows, strict=True):
            if arrays is None:
                self._keep([name], {"row": row})
        return rows

    def _of_pairs(
        self,
        compute: Callable[..., Float64[np.ndarray, "n m"]],
        rows: Sequence[str],
        columns: Sequence[str],
    ) -> Float64[np.ndarray, "n m"]:
        """Return a pair matrix: NaN marks the pairs that `compute` has to measure.

        The file of a column's volume has a value for each volume that was ever in its rows. Within
        one set only the pairs above the diagonal count: a value may depend on the order of the two
        by rounding.
        """
        within = rows is columns
        partners = [hashlib.sha256(row.encode()).digest() for row in rows]
        stored = [_values_by_partner(self._find([column])) for column in columns]
        known = np.full((len(rows), len(columns)), np.nan)
        for j, values in enumerate(stored):
            for i, partner in enumerate(partners[:j] if within else partners):
                known[i, j] = values.get(partner, np.nan)
        if within:
            known = np.fmax(known, known.T)
        pairs = compute(known=known)
        new = np.isnan(known) & ~np.isnan(pairs)
        new &= ~np.tri(len(rows), dtype=np.bool_) if within else True
        for j in np.flatnonzero(new.any(axis=0)).tolist():
            values = stored[j] | {partners[i]: pairs[i, j] for i in np.flatnonzero(new[:, j])}
            self._keep([columns[j]], _by_partner(values))
        return pairs

    def _find(self, names: Sequence[str]) -> dict[str, np.ndarray] | None:
        assert self.cache is not None
        return self.cache.find_measure(measure_key(self._rule, names), self.metric.name)

    def _keep(self, names: Sequence[str], arrays: Mapping[str, np.ndarray]) -> None:
        assert self.cache is not None
        self.cache.keep_measure(measure_key(self._rule, names), self.metric.name, arrays)


def _by_partner(values: Mapping[bytes, float]) -> dict[str, np.ndarray]:
    digests = np.frombuffer(b"".join(values), dtype=np.uint8).reshape(-1, _DIGEST_BYTES)
    return {"partners": digests, "values": np.array(list(values.values()))}


def _values_by_partner(arrays: Mapping[str, np.ndarray] | None) -> dict[bytes, float]:
    if arrays is None or not {"partners", "values"} <= arrays.keys():
        return {}
    if len(arrays["partners"]) != len(arrays["values"]):
        return {}
    digests = (digest.tobytes() for digest in arrays["partners"])
    return dict(zip(digests, arrays["values"].tolist(), strict=True))
