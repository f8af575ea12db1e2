"""Freezing a benchmark's protocol on a real cohort."""

from __future__ import annotations

from pathlib import Path

from synthbench.cohorts.choice import CohortFiles
from synthbench.cohorts.cohort import Cohort
from synthbench.cohorts.reading import read_cohort
from synthbench.errors import UsageError, WeightsError
from synthbench.records.keys import JobKey
from synthbench.records.protocol import BackgroundRecord
from synthbench.records.scorecard import software
from synthbench.runtime.callbacks import checking
from synthbench.runtime.processes import is_main
from synthbench.scoring.benchmark import Benchmark, packed_mask, real_floors
from synthbench.scoring.cache.measures import real_mask
from synthbench.scoring.features import add_features, load_extractors
from synthbench.scoring.protocol import (
    check_metric_name,
    check_names,
    freeze_protocol,
    metrics_of,
)
from synthbench.scoring.scoring import PACKAGES
from synthbench.scoring.settings import Context, ScoringSettings
from synthbench.scoring.statistics import Sample, jobs


def freeze(
    real: Path | str | CohortFiles | Cohort,
    name: str,
    settings: ScoringSettings | None = None,
    context: Context | None = None,
    *,
    n_synth: int,
    primary: str = "mmd2",
    assume_grid: float | None = None,
) -> Benchmark:
    """Return a benchmark: space, mask, extractors, bandwidths, floors, n and m, frozen.

    Parameters
    ----------
    real
        The reference cohort.
    name
        Of the benchmark.
    settings
        The settings that entries are scored with; None: the defaults.
    context
        Workers, cache, progress and log; no number depends on it.
    n_synth
        m: the number of synthetic volumes that an entry is scored with.
    primary
        The row that the leaderboard is ordered by: "kid", or "kid | qiu2022" for one extractor of
        several.
    assume_grid
        Isotropic voxel size in mm of arrays without geometry.

    Raises
    ------
    SynthbenchError
        The cohort cannot be used, or an extractor's weights cannot be fetched.
    """
    settings, context = settings or ScoringSettings(), context or Context()
    if n_synth < 2:
        raise UsageError(f"--m: at least 2 synthetic volumes are needed; found {n_synth}.")
    check_names(settings)
    _check_primary(primary, settings)
    if not isinstance(real, Cohort):
        real = read_cohort(real, role="real", assume_grid=assume_grid,
                           progress=checking("real", context.progress))  # fmt: skip
    for remark in real.remarks:
        context.log(f"{remark.severity}: real: {remark.message}")
    grid = settings.grid(real.grid)
    volumes = real.volumes(grid, settings.intensity, context.workers, role="real")
    mask = real_mask(volumes, context.cache)
    threshold = BackgroundRecord.threshold_of(settings.background, mask, grid)
    sample = Sample("real", volumes, real.subjects, threshold)
    loaded = load_extractors(settings.extractors, context.log, progress=context.progress)
    if loaded.missing:
        raise WeightsError("; ".join(map(str, loaded.missing.values())))
    add_features([sample], loaded, context)
    todo = jobs(metrics_of(settings), loaded.names)
    protocol = freeze_protocol(settings, sample, grid, mask, todo, loaded, n_synth)
    floors = tuple(real_floors(todo, sample, mask, protocol, context))
    if context.cache is not None and is_main():
        context.cache.trim()
    return Benchmark(
        name=name, primary=primary, real_fingerprint=real.fingerprint,
        real_subjects=len(set(real.subjects)), protocol=protocol,
        stored_mask=packed_mask(mask),
        floors=floors,
        software=software(*PACKAGES),
    )  # fmt: skip


def _check_primary(primary: str, settings: ScoringSettings) -> None:
    metrics, key = metrics_of(settings), JobKey.parse(primary)
    if key.row not in metrics:
        check_metric_name(key.row, "--primary")
        raise UsageError(
            f"--primary {primary}: not among the chosen metrics ({', '.join(metrics)}). Add "
            f"--metric {key.row}, or choose one of them: --primary {metrics[0]}."
        )
    if key.extractor is None:
        return
    keys = [job.key for job in jobs([key.metric], settings.extractors)]
    if primary not in keys:
        raise UsageError(
            f"--primary {primary!r}: there is no such row. Choose one of: "
            f"{', '.join(map(repr, keys))}."
        )
