"""The cohorts of one scoring: reading them, and drawing the volumes that a benchmark scores."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from synthbench.cohorts.choice import CohortFiles
from synthbench.cohorts.cohort import Cohort
from synthbench.cohorts.foreign.diagnosis import Diagnosis, diagnose
from synthbench.cohorts.foreign.rules import Statement
from synthbench.cohorts.listing import is_path
from synthbench.cohorts.reading import read_cohort
from synthbench.cohorts.volume_table import VolumeTable
from synthbench.errors import CohortError
from synthbench.records.cohort import CohortRecord, public_name
from synthbench.runs.sidecar import Sidecar, found_sidecars
from synthbench.runtime.callbacks import Progress, checking, no_progress
from synthbench.scoring.condition_measures import read_tables
from synthbench.volumes.grid import Space
from synthbench.volumes.in_memory import Held

FEWEST_SUBJECTS = 4
"""Subjects that each cohort needs at least."""

OPTIONAL = ("train", "holdout")
"""The roles that need no cohort."""

Source: TypeAlias = Path | str | CohortFiles | Cohort | Held
"""A cohort that was read, or what `read_cohort` reads: a path, or volumes that a program holds."""


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
    sources
        By role, what the cohorts were read from; empty where they were given.
    spacing
        The voxel size in mm that the user stated for files without geometry; None: not stated.
    """

    real: Cohort
    synth: Cohort
    train: Cohort | None = None
    holdout: Cohort | None = None
    sidecars: tuple[Sidecar, ...] = field(default=(), repr=False)
    conditions: Path | None = None
    measures: tuple[VolumeTable, ...] = ()
    sources: Mapping[str, Source] = field(default_factory=dict, repr=False)
    spacing: float | None = None

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
        count_failures: bool = False,
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
        count_failures
            True: synthetic volumes that cannot be used are counted, and the others are scored.
        progress
            Called with (what, done, total) while files are checked.

        Raises
        ------
        SynthbenchError
            A table or a cohort cannot be read, or a cohort has fewer than 4 subjects.
        """
        tables = read_tables(measures)
        sources = {"real": real, "synth": synth, "train": train, "holdout": holdout}
        cohorts = _read(sources, assume_grid, progress, count_failures)
        return cls(
            cohorts["real"], cohorts["synth"], cohorts.get("train"), cohorts.get("holdout"),
            sidecars=tuple(found_sidecars(entry.path for entry in cohorts["synth"].entries)),
            conditions=conditions, measures=tables,
            sources={role: source for role, source in sources.items() if source is not None},
            spacing=assume_grid if isinstance(assume_grid, float) else None,
        )  # fmt: skip

    def explained(self, error: CohortError) -> CohortError:
        """Return an error about these volumes, with the command that brings in foreign ones."""
        advice = _foreign(self.sources, self.real, self.spacing)
        return error if advice is None else CohortError(f"{error}\n{advice.message}")

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

        Where failures are counted, the n are drawn among all volumes. Those among them that
        failed are counted, and the others are scored.

        Raises
        ------
        CohortError
            There are fewer than n, or too few of the n did not fail.
        """
        if self.synth.available < n:
            raise CohortError(
                f"synth: the benchmark scores {n} volumes; found {self.synth.available}. "
                f"Sample {n - self.synth.available} more."
            )
        return self._of(self.synth.drawn(draw(self.synth.available, n, seed)))

    def without_refused(self, indices: Collection[int]) -> CohortSet:
        """Return the set in which these synthetic volumes, which an extractor refused, have failed.

        Raises
        ------
        CohortError
            Too few are left.
        """
        return self._of(self.synth.with_failed(indices, "refused"))

    def _of(self, synth: Cohort) -> CohortSet:
        """Return the set with some of its synthetic volumes, and their sidecars."""
        _check_enough("synth", synth)
        sidecars: tuple[Sidecar, ...] = ()
        if self.sidecars:
            paths = [entry.path for entry in self.synth.entries]
            by_path = dict(zip(paths, self.sidecars, strict=True))
            sidecars = tuple(by_path[entry.path] for entry in synth.entries)
        return replace(self, synth=synth, sidecars=sidecars)


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
    chosen = cohort
    if role == "synth" and cohort.available == record.available > record.drawn:
        chosen = cohort.drawn(draw(cohort.available, record.drawn, seed))
    refused = {failed.file for failed in record.failed or () if failed.reason == "refused"}
    if refused:
        names = [public_name(entry.name, entry.digest) for entry in chosen.entries]
        there = [i for i, name in enumerate(names) if name in refused]
        chosen = chosen.with_failed(there, "refused")
    return chosen if chosen.fingerprint == record.fingerprint else None


def _read(
    sources: Mapping[str, Source | None],
    assume_grid: Literal["real"] | float | None,
    progress: Progress,
    count_failures: bool,
) -> dict[str, Cohort]:
    """Return the cohorts that were named, the real one first: others may need its grid."""
    cohorts: dict[str, Cohort] = {}
    for role, source in sources.items():
        if source is None and role in OPTIONAL:
            continue
        if isinstance(source, Cohort):
            cohorts[role] = source
            continue
        grid: Space | float | None = None
        if isinstance(assume_grid, (int, float)):
            grid = assume_grid
        elif assume_grid == "real" and role != "real":
            grid = cohorts["real"].stored_grid
        try:
            cohorts[role] = read_cohort(
                source, role=role, assume_grid=grid, progress=checking(role, progress),
                count_failures=count_failures and role == "synth",
            )  # fmt: skip
        except CohortError as error:
            spacing = grid if isinstance(grid, float) else None
            advice = _foreign(sources, cohorts.get("real"), spacing) if role == "synth" else None
            if advice is None:
                raise
            # What is said of damaged files (a failure can be counted) stays.
            first = f"{error}\n" if advice.damaged else f"{role}: "
            raise CohortError(f"{first}{advice.message}") from error
    for role, cohort in cohorts.items():
        _check_enough(role, cohort)
    return cohorts


def _foreign(
    sources: Mapping[str, Source | None], real: Cohort | None, spacing: float | None
) -> Diagnosis | None:
    """Return what is wrong with volumes that were made elsewhere, with the command to type.

    None where nothing can be told by reading the synthetic volumes again: they are not foreign.
    """
    synth, given = sources.get("synth"), sources.get("real")
    if real is None or not is_path(synth) or not is_path(given):
        return None
    try:
        found = diagnose(synth, Statement(spacing=spacing), real=real, like=Path(str(given)))
    except CohortError:
        return None  # no volumes: nothing to bring in
    return found if found.is_foreign else None


def _check_enough(role: str, cohort: Cohort) -> None:
    found = len(set(cohort.subjects))
    if found >= FEWEST_SUBJECTS:
        return
    purpose = {
        "train": "to compare them with a hold-out",
        "holdout": "to represent volumes that the generator never saw",
    }.get(role, "for a value with an interval and a floor")
    failed = f", and {len(cohort.failed)} volumes failed" if cohort.failed else ""
    raise CohortError(
        f"{role}: at least {FEWEST_SUBJECTS} subjects are needed {purpose}; found {found}{failed}."
    )
