"""The cohorts of one scoring: reading them, and drawing the volumes that a benchmark scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from synthbench.cohorts.choice import CohortFiles
from synthbench.cohorts.cohort import Cohort
from synthbench.cohorts.reading import read_cohort
from synthbench.cohorts.volume_table import VolumeTable
from synthbench.errors import CohortError
from synthbench.records.cohort import CohortRecord
from synthbench.runs.sidecar import Sidecar, found_sidecars
from synthbench.runtime.callbacks import Progress, checking, no_progress
from synthbench.scoring.condition_measures import read_tables
from synthbench.volumes.grid import Space

FEWEST_SUBJECTS = 4
"""Subjects that each cohort needs at least."""

Source = Path | str | CohortFiles | Cohort
"""A cohort that was read, or a path that `read_cohort` reads."""


@dataclass(frozen=True)
class CohortSet:
    """The cohorts of one scoring, and the tables and sidecars that belong to them.

    Attributes
    ----------
    real, synth
        The volumes that are compared.
    train
        The generator's training volumes. Memorization is assessed where they are named.
    holdout
        Real volumes that the generator never saw and that are not in `real`. Floors are then
        taken between disjoint sides of both sets together, which reaches a larger n than halves
        of `real`. Memorization compares with the hold-out; without one it compares with `real`,
        where that is disjoint from `train`.
    sidecars
        The sidecar of each synthetic volume; an empty one where a volume has none.
    conditions
        The user's table of what was requested of each synthetic volume, one column per condition.
        None: the sidecars say it, or a `conditions.tsv` beside the volumes.
    measures
        The user's tables of measures that other programs wrote.
    """

    real: Cohort
    synth: Cohort
    train: Cohort | None = None
    holdout: Cohort | None = None
    sidecars: tuple[Sidecar, ...] = ()
    conditions: Path | None = None
    measures: tuple[VolumeTable, ...] = ()

    @classmethod
    def read(
        cls,
        real: Source,
        synth: Source,
        *,
        train: Source | None = None,
        holdout: Source | None = None,
        assume_grid: Literal["real"] | float | None = None,
        conditions: Path | None = None,
        measures: Sequence[Path] = (),
        progress: Progress = no_progress,
    ) -> CohortSet:
        """Read the tables of measures first, then the volumes and their sidecars.

        Parameters
        ----------
        real, synth, train, holdout
            Cohorts, or what `read_cohort` reads.
        assume_grid
            Geometry of arrays without one: "real" (the grid of the real files as they are
            stored), or an isotropic voxel size in mm.
        conditions
            The user's table of what was requested of each synthetic volume.
        measures
            Tables of measures by volume. A column with the name of a condition replaces
            synthbench's own measure of it.
        progress
            Called with (what, done, total) while files are checked.

        Raises
        ------
        SynthbenchError
            A table or a cohort cannot be read, or a cohort has fewer than 4 subjects.
        """
        tables = read_tables(measures)
        sources = {"real": real, "synth": synth, "train": train, "holdout": holdout}
        cohorts = _read(sources, assume_grid, progress)
        return cls(
            cohorts["real"], cohorts["synth"], cohorts.get("train"), cohorts.get("holdout"),
            sidecars=tuple(found_sidecars(entry.path for entry in cohorts["synth"].entries)),
            conditions=conditions, measures=tables,
        )  # fmt: skip

    @property
    def by_role(self) -> dict[str, Cohort]:
        """The cohorts that are there, the real one first."""
        roles = ("real", "synth", "train", "holdout")
        return {role: cohort for role in roles if (cohort := getattr(self, role)) is not None}

    @property
    def synthbench_sidecars(self) -> tuple[Sidecar, ...]:
        """The sidecars, where every synthetic volume has one of synthbench; else none.

        What only some of the sidecars state is not known of the set.
        """
        return self.sidecars if all(s.get("synthetic") for s in self.sidecars) else ()

    def drawn(self, n: int, seed: int) -> CohortSet:
        """Return the set with the n synthetic volumes that a benchmark scores.

        Raises
        ------
        CohortError
            There are fewer than n.
        """
        if len(self.synth) < n:
            raise CohortError(
                f"synth: the benchmark scores {n} volumes; found {len(self.synth)}. "
                f"Sample {n - len(self.synth)} more."
            )
        chosen = draw(len(self.synth), n, seed)
        sidecars = tuple(self.sidecars[i] for i in chosen) if self.sidecars else ()
        return replace(self, synth=self.synth.subset(chosen), sidecars=sidecars)


def draw(available: int, n: int, seed: int) -> list[int]:
    """Return which n of the available synthetic volumes a benchmark scores: sorted indices."""
    order = np.random.default_rng(seed).permutation(available)
    return [int(i) for i in np.sort(order[:n])]


def scored_cohort(cohort: Cohort, record: CohortRecord, role: str, seed: int) -> Cohort | None:
    """Return the volumes of a cohort that a scorecard is about; None where they are others.

    Parameters
    ----------
    cohort
        The cohort as it was read from its folder.
    record
        The scorecard's record of it.
    role
        Of synthetic volumes ("synth") a benchmark may score fewer than there are.
    seed
        The protocol's, by which a benchmark draws them.
    """
    if cohort.fingerprint == record.fingerprint:
        return cohort
    if role == "synth" and len(cohort) == record.available > record.n:
        chosen = cohort.subset(draw(len(cohort), record.n, seed))
        return chosen if chosen.fingerprint == record.fingerprint else None
    return None


def _read(
    sources: Mapping[str, Source | None],
    assume_grid: Literal["real"] | float | None,
    progress: Progress,
) -> dict[str, Cohort]:
    """Return the cohorts that were named, the real one first: others may need its grid."""
    cohorts: dict[str, Cohort] = {}
    for role, source in sources.items():
        if source is None:
            continue
        if isinstance(source, Cohort):
            cohorts[role] = source
            continue
        grid: Space | float | None = None
        if isinstance(assume_grid, float):
            grid = assume_grid
        elif assume_grid == "real" and role != "real":
            grid = cohorts["real"].stored_grid
        cohorts[role] = read_cohort(
            source, role=role, assume_grid=grid, progress=checking(role, progress)
        )
    for role, cohort in cohorts.items():
        found = len(set(cohort.subjects))
        if found < FEWEST_SUBJECTS:
            purpose = {
                "train": "to compare them with a hold-out",
                "holdout": "to represent volumes that the generator never saw",
            }.get(role, "for a value with an interval and a floor")
            raise CohortError(
                f"{role}: at least {FEWEST_SUBJECTS} subjects are needed {purpose}; found {found}."
            )
    return cohorts
