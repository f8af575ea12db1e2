"""The set-up of a scoring: common grid, volumes to score, features, protocol."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool
from pydantic import ValidationError

from synthbench.cohorts.cohort import Cohort, check_intensities, overlap
from synthbench.errors import CohortError, UsageError
from synthbench.metrics.measures.morphometry import Morphometry
from synthbench.records.protocol import BackgroundRecord, Protocol
from synthbench.records.scorecard import Origin
from synthbench.runs.sidecar import Sidecar
from synthbench.runtime.callbacks import shown
from synthbench.runtime.part import Part
from synthbench.scoring.benchmark import Benchmark, settings_and_benchmark
from synthbench.scoring.cache.measures import real_mask
from synthbench.scoring.cache.parts import FeaturePart, Rows
from synthbench.scoring.features import (
    Extractors,
    add_features,
    extract,
    load_extractors,
    refused,
    row_keys,
)
from synthbench.scoring.inputs import CohortSet
from synthbench.scoring.protocol import (
    check_frozen,
    freeze_protocol,
    metrics_of,
)
from synthbench.scoring.requested import Requested, requested_of
from synthbench.scoring.settings import Context, ScoringSettings
from synthbench.scoring.statistics import Job, Sample, jobs
from synthbench.volumes.grid import Space
from synthbench.volumes.intensity import intensity_words
from synthbench.volumes.sets import Chosen


def common_space(
    cohorts: CohortSet, settings: ScoringSettings | Benchmark, origin: Origin
) -> tuple[Space, list[str]]:
    """Return the common grid, and notes on assumed grids and on cohorts that are resampled.

    Raises
    ------
    SynthbenchError
        The benchmark was frozen on another cohort, the grids differ, or intensities break the
        rule.
    """
    notes = [f"{role}: {note}" for role, cohort in cohorts.by_role.items() for note in cohort.notes]
    if isinstance(settings, Benchmark):
        settings.check_real(cohorts.real)
        target, intensity = settings.protocol.space.grid, settings.protocol.space.intensity
        settings.check_scaling(intensity_words(intensity))
    else:
        target, intensity = _target(cohorts.real, cohorts.synth, settings), settings.intensity
    if origin.intensity not in (None, intensity):
        raise UsageError(
            f"synth: its sidecars say that it was written with the intensity rule "
            f"{origin.intensity}; with '{intensity}' its unit would be lost. Add --intensity "
            f"{origin.intensity}"
        )
    for role, cohort in cohorts.by_role.items():
        if not cohort.grid.same_grid(target):
            notes.append(f"{role} resampled from {cohort.grid} to {target}{_moved(cohort, target)}")
        else:
            check_intensities(cohort, intensity, role)
    return target, notes


def _moved(cohort: Cohort, target: Space) -> str:
    """Return words for a grid that differs in its place only: its volumes are interpolated."""
    if str(cohort.grid) != str(target):
        return ""
    offset = cohort.grid.matrix[:3, 3] - target.matrix[:3, 3]
    words = ", ".join(f"{mm:+.3g}" for mm in offset)
    return (
        f", which has another place: its first voxel lies {words} mm from theirs (right, front, "
        "up). All volumes are interpolated, which blurs them: write them on this grid if you can "
        "(synthbench import --like SET, where SET lies on it)"
    )


def _target(real: Cohort, synth: Cohort, settings: ScoringSettings) -> Space:
    if isinstance(settings.space, Space):
        return settings.space
    if settings.space == "real":
        return real.grid
    if settings.space == "synth":
        return synth.grid
    if not real.grid.same_grid(synth.grid):
        raise CohortError(_of_other_grids(real, synth))
    return real.grid


def _of_other_grids(real: Cohort, synth: Cohort) -> str:
    differ = f"the grids differ: real is {real.grid}, synth is {synth.grid}"
    alike = str(real.grid) == str(synth.grid)
    if alike:
        differ += " with another origin or rotation"
    if real.stored_grid.shape == synth.stored_grid.shape and not alike:
        # Resampling would shrink or stretch the brains.
        return (
            f"{differ}. Both have the same number of voxels, so the voxel size was lost when one "
            "was written. Write the volumes with the affine of the real ones; if their voxels lie "
            "as in the real files, add --assume-grid real."
        )
    return (
        f"{differ}. Add --space synth (or --space real) to bring both to one of them, antialiased; "
        "the scorecard records it. If only the affines of the synthetic volumes are wrong, write "
        "them again with the affine of the real ones, or add --assume-grid real."
    )


def cohorts_to_score(
    cohorts: CohortSet, settings: ScoringSettings | Benchmark
) -> tuple[CohortSet, Requested | None]:
    """Return the cohorts with the volumes to score, and what was requested of each volume.

    A benchmark scores a fixed number of synthetic volumes, drawn by its seed. The second is None
    where nothing is known to have been requested.

    Raises
    ------
    SynthbenchError
        There are too few synthetic volumes, or measures without conditions.
    """
    if isinstance(settings, Benchmark):
        cohorts = cohorts.drawn(settings.protocol.n_synth, settings.protocol.seed)
    requested = requested_of(cohorts.synth, cohorts.synthbench_sidecars, cohorts.conditions)
    chosen = (
        settings.protocol.intervals if isinstance(settings, Benchmark) else metrics_of(settings)
    )
    if cohorts.measures and requested is None and Morphometry.name not in chosen:
        raise UsageError(
            "--measures: nothing uses the measures. The conditions of the synthetic volumes are "
            "not known, because they have no sidecars with conditions: name them with --conditions "
            "FILE, or compare the measures with --metric morphometry."
        )
    return cohorts, requested


def seeds(sidecars: Sequence[Sidecar]) -> tuple[int, ...] | None:
    """Return the seed of each volume; None where a sidecar names none or two share one."""
    found = [seed for sidecar in sidecars if isinstance(seed := sidecar.get("seed"), int)]
    return tuple(found) if found and len(set(found)) == len(sidecars) else None


def origin_of(sidecars: Sequence[Sidecar]) -> Origin:
    """Return what the sidecars of all volumes agree on; an empty origin without sidecars."""
    if not sidecars:
        return Origin()
    fields = [f for f in Origin.model_fields if f not in ("seconds_a_volume", "training_seeds")]
    agreed = {f: sidecars[0].get(f) for f in fields
              if all(s.get(f) == sidecars[0].get(f) for s in sidecars)}  # fmt: skip
    seconds = [s["seconds"] for s in sidecars if isinstance(s.get("seconds"), (int, float))]
    mean = round(float(np.mean(seconds)), 3) if seconds else None
    trained = {sidecar.get("weights_sha256") for sidecar in sidecars}
    seeds = None if None in trained else len(trained)
    try:
        return Origin(**agreed, seconds_a_volume=mean, training_seeds=seeds)
    except ValidationError:
        return Origin()  # another program's sidecars


@dataclass(frozen=True)
class Setup:
    """All that the rows of a scorecard are computed from.

    Attributes
    ----------
    cohorts
        Those that are scored, without volumes that an extractor refused.
    samples
        By role, with features.
    reference
        The real sample, followed by the hold-out where there is one; floors are taken within it.
    mask
        Voxels that metrics of volumes compare.
    extractors
        Those that are loaded, and those that are missing.
    todo
        The jobs of the metrics, in the order of the rows.
    protocol
        The frozen settings.
    benchmark
        The benchmark whose protocol it is; None: the protocol was frozen by this scoring.
    context
        The cache and the progress of the work.
    notes
        What the rows have to say; it goes into the scorecard.
    """

    cohorts: CohortSet
    samples: Mapping[str, Sample]
    reference: Sample
    mask: Bool[np.ndarray, "d h w"]
    extractors: Extractors
    todo: Sequence[Job]
    protocol: Protocol
    benchmark: Benchmark | None
    context: Context
    notes: list[str] = field(default_factory=list)


def set_up(
    cohorts: CohortSet, target: Space, settings: ScoringSettings | Benchmark, context: Context
) -> Setup:
    """Extract the features, and freeze the protocol or check it against the benchmark's.

    Where failures are counted, a synthetic volume that an extractor refuses is one.

    Raises
    ------
    UsageError
        `context.parts` are not those of this scoring.
    CohortError
        Too few synthetic volumes did not fail.
    """
    own, frozen = settings_and_benchmark(settings)
    samples, mask, extractors = _samples(cohorts, target, settings, context)
    if context.parts is not None:
        context.parts.check(call_of(samples, extractors))
    counted = _counted(cohorts)
    add_features(samples.values(), extractors, context, may_refuse=counted)
    for role in counted:
        lost = refused(samples[role])
        if lost:
            cohorts = cohorts.without_refused(lost)
            samples[role] = samples[role].without(lost)
    todo = jobs(metrics_of(own), extractors.names)
    if frozen is None:
        protocol = freeze_protocol(
            own, samples["real"], target, mask, todo, extractors, len(samples["synth"])
        )
    else:
        check_frozen(frozen, mask, extractors)
        protocol = frozen.protocol
    reference = samples["real"]
    # A benchmark's floors are those of its real cohort alone, so that all entries share them.
    holdout = cohorts.holdout if frozen is None else None
    if holdout is not None and not overlap(holdout, cohorts.real):
        reference = reference.joined(samples["holdout"])
    return Setup(cohorts, samples, reference, mask, extractors, todo, protocol, frozen, context)


def _counted(cohorts: CohortSet) -> tuple[str, ...]:
    """Return the roles whose failures are counted."""
    return ("synth",) if cohorts.synth.failed is not None else ()


def _samples(
    cohorts: CohortSet, target: Space, settings: ScoringSettings | Benchmark, context: Context
) -> tuple[dict[str, Sample], Bool[np.ndarray, "d h w"], Extractors]:
    """Return the samples, still without features, the mask, and the extractors."""
    own, frozen = settings_and_benchmark(settings)
    volumes = {
        role: cohort.volumes(target, own.intensity, context.workers, role=role)
        for role, cohort in cohorts.by_role.items()
    }
    mask = None if frozen is None else frozen.mask
    if mask is None:
        mask = real_mask(volumes["real"], context.cache)
    threshold = BackgroundRecord.threshold_of(own.background, mask, target)
    samples = {
        role: Sample(role, volumes[role], cohort.subjects, threshold)
        for role, cohort in cohorts.by_role.items()
    }
    allowed = None if frozen is None else context.networks
    extractors = load_extractors(own.extractors, context.log, allowed, context.progress)
    return samples, mask, extractors


def feature_part(
    cohorts: CohortSet, settings: ScoringSettings | Benchmark, context: Context, part: Part
) -> FeaturePart:
    """Return the features of a part of the volumes: one job of several.

    The volumes of all cohorts are divided together, in the order of their hashes.

    Raises
    ------
    SynthbenchError
        A cohort cannot be used, or an extractor refuses a volume.
    """
    target, _ = common_space(cohorts, settings, origin_of(cohorts.synthbench_sidecars))
    scored, _ = cohorts_to_score(cohorts, settings)
    samples, _, extractors = _samples(scored, target, settings, context)
    own: dict[str, list[int]] = {}
    for role, index in part.chosen([(r, i) for r, s in samples.items() for i in range(len(s))]):
        own.setdefault(role, []).append(index)
    rows: dict[str, Rows] = {}
    for name, extractor in extractors.loaded.items():
        for role, indices in own.items():
            chosen = Chosen(samples[role].inputs, indices)
            found = extract(
                extractor, chosen, context.batch_size, shown(f"{name}, {role}", context.progress),
                cache=context.cache, workers=context.workers, may_refuse=role in _counted(scored),
            )  # fmt: skip
            rows.setdefault(name, {}).update(zip(row_keys(extractor, chosen), found, strict=True))
    return FeaturePart(part, call_of(samples, extractors), rows)


def call_of(samples: Mapping[str, Sample], extractors: Extractors) -> str:
    """Return the sha256 of everything that the features of a scoring depend on."""
    keys = [
        [name, role, row_keys(extractor, sample.inputs)]
        for name, extractor in extractors.loaded.items()
        for role, sample in samples.items()
    ]
    return hashlib.sha256(json.dumps(keys).encode()).hexdigest()
