"""The data of a training: cohorts, conditions, the perceptual distance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from synthbench import registry
from synthbench.cohorts.choice import Choice, CohortFiles
from synthbench.cohorts.cohort import Cohort, Volumes
from synthbench.cohorts.conditions import Conditions, Row, rows_of
from synthbench.cohorts.preflight import check
from synthbench.cohorts.reading import read_cohort
from synthbench.generators.generator import GridRule, Settings, conditions_named, perceptual_named
from synthbench.runs.configuration import ATLAS_SHAPE, RunSettings
from synthbench.runs.folder import Run
from synthbench.runtime.callbacks import Log
from synthbench.training.changes import Change
from synthbench.volumes.grid import Space

ATLAS_SUBJECTS = 64


@dataclass(frozen=True)
class Job:
    """A training.

    Attributes
    ----------
    run
        Its folder.
    settings, own
        The common settings, and the generator's own.
    plugin
        The generator.
    resume
        True where a run is continued.
    changes
        The settings that are changed when it is continued.
    """

    run: Run
    settings: RunSettings
    own: BaseModel
    plugin: Any
    resume: bool
    changes: Sequence[Change] = ()


@dataclass(frozen=True)
class Data:
    """The data of a training.

    `rows` holds the covariates by role ("train", "validation"); it is empty where the settings name
    no conditions. `accepted` lists the preflight rules whose errors the user accepted.
    """

    cohorts: Mapping[str, Cohort]
    volumes: Volumes
    rows: Mapping[str, list[Row]]
    conditions: Conditions | None
    perceptual: Any
    accepted: list[str]


def read_data(job: Job, accept: Sequence[str], log: Log) -> Data:
    """Return the cohorts and all that belongs to them; raise before anything is written."""
    check_stated_grid(job.settings, job.own)
    cohorts = _cohorts(job, log)
    # A resumed run passed these checks before; its record names the accepted rules.
    findings = [] if job.resume else check.check(cohorts, accept, log)
    # A resumed run stays on its grid, whatever rule chose it.
    space = job.run.space if job.resume else None
    volumes = training_volumes(cohorts["train"], job.settings, space)
    if isinstance(job.own, GridRule):
        job.own.check_grid(volumes.space.shape)
    rows, conditions = _conditions(job.own, cohorts)
    perceptual = _perceptual(job.own, volumes.space)
    accepted = sorted({f.rule for f in findings if f.severity == "error"})
    return Data(cohorts, volumes, rows, conditions, perceptual, accepted)


def check_stated_grid(settings: RunSettings, own: BaseModel) -> None:
    """Check the grid that the settings state, which needs no scan: reading scans takes time.

    Raises
    ------
    UsageError
        The generator cannot train on it.
    """
    if settings.space.shape is not None and isinstance(own, GridRule):
        own.check_grid(settings.space.shape)


def _cohorts(job: Job, log: Log) -> dict[str, Cohort]:
    train, settings = _training_cohort(job, log), job.settings
    if settings.validation is None:
        return {"train": train}
    validation = read_cohort(
        _files(settings.validation, settings), role="validation", assume_grid=settings.assume_grid
    )
    return {"train": train, "validation": validation}


def _files(path: str, settings: RunSettings) -> CohortFiles:
    return CohortFiles(Path(path), Choice.parse(settings.suffix, settings.filters))


def _training_cohort(job: Job, log: Log) -> Cohort:
    settings = job.settings
    if settings.real is not None:
        files = _files(settings.real, settings)
        return read_cohort(files, role="real", assume_grid=settings.assume_grid)
    from synthbench.runtime.processes import processes

    state, folder = processes(), job.run.folder / "atlas"
    shape = settings.space.shape or ATLAS_SHAPE
    log(
        f"no --real: training on {ATLAS_SUBJECTS} simulated subjects of the embedded atlas "
        f"cohort, {shape[0]} x {shape[1]} x {shape[2]}, written to {folder}"
    )
    if state.is_main_process and not (folder / "participants.tsv").is_file():
        from synthbench.simulation.cohort import atlas_cohort

        seed = job.own.seed if isinstance(job.own, Settings) else 0
        atlas_cohort(ATLAS_SUBJECTS, folder, seed=seed, shape=shape)
    state.wait_for_everyone()
    return read_cohort(folder, role="atlas")


def training_volumes(cohort: Cohort, settings: RunSettings, space: Space | None = None) -> Volumes:
    """Return a cohort's volumes on the grid and the intensity scale that the settings name.

    `space` is a grid that was chosen before. Voxels of the cohort's own size are its voxels: a grid
    half a voxel away would blur them.
    """
    if space is None:
        shape, spacing = settings.space.shape, settings.space.spacing
        centre = cohort.brain_centre() if shape and spacing else None
        space = cohort.grid.regrid(shape, spacing, centre).on_voxels_of(cohort.grid)
    return cohort.volumes(space, settings.intensity)


def _conditions(
    own: BaseModel, cohorts: Mapping[str, Cohort]
) -> tuple[dict[str, list[Row]], Conditions | None]:
    """Return the covariates that the settings name, by role, and their ranges and levels."""
    names = conditions_named(own)
    if not names:
        return {}, None
    rows = {role: rows_of(cohort, names) for role, cohort in cohorts.items()}
    conditions = Conditions.fit(rows["train"], names)
    for of_role in rows.values():
        conditions.encode(of_role)  # raises for a value that training did not see
    return rows, conditions


def _perceptual(own: BaseModel, space: Space) -> Any:
    """Return the perceptual distance that the settings name, or None."""
    name = perceptual_named(own)
    if name is None:
        return None
    from synthbench.metrics.extractors.perceptual import perceptual_distance

    return perceptual_distance(name, registry.load("extractors", name)(), space)


def cohort_record(cohort: Cohort, **more: Any) -> dict[str, Any]:
    """Return a cohort's fingerprint and sizes, for the run's record."""
    return {
        "fingerprint": cohort.fingerprint,
        "n": len(cohort),
        "subjects": len(set(cohort.subjects)),
        **more,
    }
