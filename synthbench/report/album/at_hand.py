"""The cohorts of a scorecard that are at hand, and what several sections need of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Float64

from synthbench.cohorts.cohort import Cohort, majority_mask
from synthbench.cohorts.file_names import without_folders
from synthbench.cohorts.pseudonyms import Pseudonyms
from synthbench.errors import ScorecardError, UsageError
from synthbench.metrics.kernels import median_bandwidth
from synthbench.metrics.mmd import MMD2
from synthbench.records.keys import JobKey
from synthbench.records.scorecard import Scorecard
from synthbench.runtime.callbacks import Log, Progress, no_progress, to_logger
from synthbench.scoring.cache.store import Cache
from synthbench.scoring.features import Extractors, add_features, load_extractors
from synthbench.scoring.inputs import scored_cohort
from synthbench.scoring.settings import Context
from synthbench.scoring.statistics import Sample

RealVolumes: TypeAlias = Literal["unnamed", "named", "hidden"]
"""How real and training volumes are shown: under pseudonyms, named by their files, or not."""


@dataclass(frozen=True)
class Cohorts:
    """The cohorts of one scorecard: the volumes that were scored."""

    real: Cohort
    synth: Cohort
    train: Cohort | None = None


def cohorts_of(
    card: Scorecard, real: Cohort, synths: Sequence[Cohort], train: Cohort | None
) -> Cohorts | None:
    """Return the cohorts that a scorecard is about, found by their fingerprints.

    Returns
    -------
    None where the scorecard is about none of `synths`.

    Raises
    ------
    ScorecardError
        The real or the training cohort is not the one that was scored.
    """
    seed = card.protocol.seed
    candidates = (scored_cohort(synth, card.synth, "synth", seed) for synth in synths)
    synth = next((cohort for cohort in candidates if cohort is not None), None)
    if synth is None:
        return None
    for role, cohort, record in (("real", real, card.real), ("train", train, card.train)):
        if cohort is None or record is None or cohort.fingerprint == record.fingerprint:
            continue
        raise ScorecardError(
            f"--{role}: the scorecard of {card.name} is about another cohort: its fingerprint is "
            f"{record.fingerprint[:12]}... (n = {record.n}), this one's is "
            f"{cohort.fingerprint[:12]}... (n = {len(cohort)}). Name the folder that was scored, "
            f"or leave out --{role}."
        )
    return Cohorts(real, synth, train)


@dataclass(frozen=True)
class FeatureSpace:
    """The features in which typicality and subgroups are computed, and the kernel's bandwidth.

    Attributes
    ----------
    extractor
        Its name.
    bandwidth
        Of the Gaussian kernel, in the units of the features.
    real, synth
        The two sets, with their features.
    """

    extractor: str
    bandwidth: float
    real: Sample
    synth: Sample

    def rows(self, sample: Sample) -> Float64[np.ndarray, "n d"]:
        """Return a sample's features in float64, one row per volume."""
        return np.asarray(sample.features[self.extractor], dtype=np.float64)


def _features(
    card: Scorecard,
    samples: Mapping[str, Sample],
    cache: Cache | None,
    progress: Progress | None,
    log: Log,
) -> FeatureSpace | str:
    """Return the features of the protocol's first extractor, or why there are none."""
    if not card.protocol.extractors:
        return "the protocol has no extractor."
    record = card.protocol.extractors[0]
    try:
        loaded: Extractors = load_extractors([record.name], log, allowed=frozenset())
    except UsageError:
        return f"the extractor {record.name} is not installed here, or is a network of a file."
    if loaded.missing:
        return str(loaded.missing[record.name])
    if loaded.records[0] != record:
        return (
            f"{record.name} of this version differs from the one that was scored with: use the "
            "version of synthbench that wrote the scorecard."
        )
    real, synth = samples["real"], samples["synth"]
    add_features([real, synth], loaded, Context(cache=cache, progress=progress or no_progress))
    settings = card.protocol.settings.get(str(JobKey(MMD2.name, extractor=record.name)), {})
    rows = np.asarray(real.features[record.name], dtype=np.float64)
    bandwidth = settings.get("bandwidth") or median_bandwidth(rows, real.subjects)
    return FeatureSpace(record.name, float(bandwidth), real, synth)


@dataclass(frozen=True)
class AtHand:
    """One scorecard's cohorts, and how they may be shown.

    Attributes
    ----------
    card, cohorts
        The scorecard, and the cohorts that it is about.
    budget
        Characters that its pictures may take.
    real_volumes
        How real and training volumes are shown: under pseudonyms, named by their files, or hidden.
    names
        What the volumes of the page are called.
    seed
        Seed for choosing the volumes that are pictured as examples.
    cache
        Where features of the scoring are kept.
    progress
        Called with (what, done, total).
    log
        Called with one sentence for the user.
    """

    card: Scorecard
    cohorts: Cohorts
    budget: int
    real_volumes: RealVolumes = "unnamed"
    names: Pseudonyms = field(default_factory=Pseudonyms)
    seed: int = 0
    cache: Cache | None = None
    progress: Progress | None = None
    log: Log = to_logger

    @property
    def sides(self) -> Mapping[str, Cohort]:
        """The cohorts by role; training only where it was named."""
        sides = {"real": self.cohorts.real, "synth": self.cohorts.synth}
        return sides if self.cohorts.train is None else {**sides, "train": self.cohorts.train}

    @property
    def shows_real(self) -> bool:
        """True where real and training volumes may be pictured."""
        return self.real_volumes != "hidden"

    def title(self, role: str, index: int) -> str:
        """Return what a volume is called on the page; a file, without its folders."""
        name = self.sides[role].entries[index].name
        called = self.names.of(role, name)
        return self._files[role][name] if called == name else called

    @cached_property
    def _files(self) -> Mapping[str, Mapping[str, str]]:
        return {
            role: without_folders(entry.name for entry in cohort.entries)
            for role, cohort in self.sides.items()
        }

    @cached_property
    def samples(self) -> Mapping[str, Sample]:
        """The volumes of each role on the grid of the protocol."""
        space, rule = self.card.protocol.space, self.card.protocol.background
        # The mask needs all real volumes: it is not read where there is no rule.
        threshold = None if rule is None else rule.threshold(self.mask, space.grid)
        return {
            role: Sample(role, cohort.volumes(space.grid, space.intensity, role=role),
                         cohort.subjects, threshold)
            for role, cohort in self.sides.items()
        }  # fmt: skip

    @cached_property
    def mask(self) -> Bool[np.ndarray, "d h w"]:
        """The mask: voxels that are compared."""
        space = self.card.protocol.space
        return majority_mask(self.cohorts.real.volumes(space.grid, space.intensity))

    @cached_property
    def features(self) -> FeatureSpace | str:
        """The features of the protocol's first extractor, or why there are none."""
        return _features(self.card, self.samples, self.cache, self.progress, self.log)
