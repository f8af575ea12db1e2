"""The causes of a change between two scorings: images, protocol, software, origin.

A scorecard records everything that can change a number, so two of them show why a number changed.
The sample data (`synthbench.scoring.sample_data`) show, to the bit, which images two cohorts share.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field

from synthbench.records.base import Record
from synthbench.records.keys import JobKey
from synthbench.records.protocol import ABSENT, Protocol, differing
from synthbench.records.scorecard import Scorecard
from synthbench.records.values import Value
from synthbench.scoring.sample_data import SampleData

ROUNDING = 1e-5
"""Share of a metric's terms up to which a change is rounding: another order of summation in float32
changes features by about 1e-6 of their spread, and metrics of features by far less."""

SMALL = 1e-3
"""Share up to which a change is more than rounding but only a warning: features that are larger by
1e-4 change the Fréchet distance by 1e-4 of its terms."""

CauseKind = Literal["images", "protocol", "software", "origin", "preflight"]
Scope = Literal["all", "volumes", "features", "extractor", "job", "size", "none"]


class Cause(Record):
    """One thing in which two scorings differ."""

    kind: CauseKind
    field: str
    baseline: str
    current: str
    scope: Scope = Field(
        default="none", description="rows that are another quantity for this reason"
    )
    of: str | None = Field(default=None, description="the extractor or the job of that scope")
    small: bool = Field(default=False, description="a frozen number that changed by little")

    @property
    def words(self) -> str:
        """The cause as one line."""
        return f"{self.kind}: {self.field}: {_short(self.baseline)} -> {_short(self.current)}"

    def touches(self, row: Value) -> bool:
        """Return True where a row is another quantity on the two sides for this reason."""
        return self.touches_job(row.key.job) or (self.scope == "size" and row.target == "floor")

    def touches_job(self, job: JobKey) -> bool:
        """Return True where a job's numbers of single volumes are other ones for this reason."""
        return {
            "all": True,
            "volumes": job.extractor is None,
            "features": job.extractor is not None,
            "extractor": job.extractor is not None and job.extractor == self.of,
            "job": str(job) == self.of,
            "size": False,
            "none": False,
        }[self.scope]


def relative(difference: float, terms: float) -> float:
    """Return the size of a difference as a share of the terms; 0 for no difference."""
    if difference == 0:
        return 0.0
    return abs(difference) / terms if terms > 0 else math.inf


def differences(baseline: Scorecard, current: Scorecard) -> tuple[Cause, ...]:
    """Return everything recorded in which two scorings differ, except their values.

    Numbers that a protocol froze on the real cohort, such as a bandwidth, are results themselves.
    Those that changed by no more than `ROUNDING` are left out; up to `SMALL` they are marked.
    """
    return (
        *_image_causes(baseline, current),
        *_protocol_causes(baseline.protocol, current.protocol),
        *_field_causes("software", baseline.software, current.software),
        *_origin_causes(baseline, current),
        *_field_causes("preflight", _found_by_preflight(baseline), _found_by_preflight(current)),
    )


def _image_causes(baseline: Scorecard, current: Scorecard) -> Iterator[Cause]:
    for role in ("real", "synth", "train", "holdout"):
        one, other = getattr(baseline, role), getattr(current, role)
        words = [
            "none" if record is None else f"{record.fingerprint[:12]} (n = {record.n})"
            for record in (one, other)
        ]
        if words[0] != words[1]:
            yield Cause(
                kind="images", field=role, baseline=words[0], current=words[1],
                scope="all" if role == "real" else "none",
            )  # fmt: skip


def _protocol_causes(baseline: Protocol, current: Protocol) -> Iterator[Cause]:
    unmatched = set(baseline.settings) ^ set(current.settings)
    for key in (key for key in (baseline.settings | current.settings) if key in unmatched):
        yield _one_sided(key, key in baseline.settings)
    # A metric that only one side was scored with gives one line, not one for each setting.
    metrics = [
        {JobKey.parse(key).metric for key in protocol.settings} for protocol in (baseline, current)
    ]
    alone = {("settings", key) for key in unmatched}
    alone |= {("intervals", metric) for metric in metrics[0] ^ metrics[1]}
    for path, (before, after) in differing(baseline, current).items():
        if path[:2] in alone:
            continue
        moved = _relative_move(before, after) if path[0] == "settings" else math.inf
        if moved <= ROUNDING:
            continue
        scope, of = _scope(path)
        yield Cause(
            kind="protocol", field=" / ".join(path), baseline=_text(before), current=_text(after),
            scope="none" if moved <= SMALL else scope, of=of, small=moved <= SMALL,
        )  # fmt: skip


def _one_sided(key: str, first: bool) -> Cause:
    before, after = ("there", ABSENT) if first else (ABSENT, "there")
    return Cause(kind="protocol", field=f"settings / {key}", baseline=before, current=after,
                 scope="job", of=key)  # fmt: skip


def _relative_move(before: Any, after: Any) -> float:
    """Return the difference of two numbers over the larger; infinite for anything else."""
    if not all(isinstance(x, float) for x in (before, after)):
        return math.inf
    return relative(float(after) - float(before), max(abs(before), abs(after)))


def _scope(path: tuple[str, ...]) -> tuple[Scope, str | None]:
    """Return the rows that become another quantity where a field of the protocol differs.

    Only intervals, floors and p depend on the other fields (resamples, level, seed, interval
    methods).
    """
    scopes: dict[str, Scope] = {
        "space": "all", "n_real": "all", "version": "all", "mask": "volumes",
        "extractors": "extractor", "settings": "job", "n_synth": "size",
        "background": "features",
    }  # fmt: skip
    scope = scopes.get(path[0], "none")
    return scope, path[1] if scope in ("extractor", "job") else None


def _field_causes(
    kind: CauseKind, baseline: Mapping[str, str], current: Mapping[str, str]
) -> Iterator[Cause]:
    for field in dict.fromkeys([*baseline, *current]):
        before, after = baseline.get(field, ABSENT), current.get(field, ABSENT)
        if before != after:
            yield Cause(kind=kind, field=field, baseline=before, current=after)


def _origin_causes(baseline: Scorecard, current: Scorecard) -> Iterator[Cause]:
    fields = (
        "generator", "weights_sha256", "sampler", "steps", "guidance", "precision", "cleaned",
        "training_cohort", "intensity",
    )  # fmt: skip
    of_each = [
        {field: str(getattr(card.origin, field)) for field in fields}
        for card in (baseline, current)
    ]
    return _field_causes("origin", *of_each)


def _found_by_preflight(card: Scorecard) -> dict[str, str]:
    return {f"{found.rule} ({found.role})": f"{found.severity}, {found.volumes} volumes"
            for found in card.preflight}  # fmt: skip


def images_in_common(
    first: SampleData, second: SampleData, role: Literal["real", "synth"]
) -> int | None:
    """Return how many images of the second set have rows that equal rows of the first to the bit.

    None where it is not known, because no job of both has one row per image. 0 is not certain: a
    library that rounds differently gives other rows for the same image.
    """
    for key in first.jobs:
        if key in second.jobs and first.has_rows(key):
            one, other = (getattr(m.jobs[key], role) for m in (first, second))
            known = {row.tobytes() for row in np.ascontiguousarray(one)}
            return sum(row.tobytes() in known for row in np.ascontiguousarray(other))
    return None


def moved_reals(
    first: SampleData, second: SampleData, causes: Sequence[Cause] = ()
) -> Iterator[Cause]:
    """Yield the extractors and metrics that give other numbers for the same real volumes.

    Software causes such a change, not the samples. Where `causes` already say why the numbers are
    others, such as another grid, nothing can be said of the software.
    """
    seen = set()
    for key in first.jobs:
        named = JobKey.parse(key)
        source = named.source
        if key not in second.jobs or source in seen:
            continue
        if any(cause.touches_job(named.job) for cause in causes):
            continue
        seen.add(source)
        moved = _moved(first.jobs[key].real, second.jobs[key].real)
        if moved > ROUNDING:
            features = named.extractor is not None
            yield Cause(
                kind="software", field=f"{source} of the same real volumes", baseline="0",
                current=_moved_words(moved),
                scope="none" if moved <= SMALL else "extractor" if features else "job",
                of=source, small=moved <= SMALL,
            )  # fmt: skip


def _moved_words(moved: float) -> str:
    return f"moved by {moved:.2g} of its spread" if math.isfinite(moved) else "of another size"


def _moved(before: Float[np.ndarray, "n _"], after: Float[np.ndarray, "n _"]) -> float:
    if before.shape != after.shape:
        return math.inf
    # Pairs of images that were not computed are NaN on both sides.
    one, other = (np.nan_to_num(np.asarray(x, np.float64)) for x in (before, after))
    return relative(float(np.linalg.norm(other - one)), float(np.linalg.norm(one - one.mean(0))))


def _text(value: Any) -> str:
    return f"{value:.8g}" if isinstance(value, float) else str(value)


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
