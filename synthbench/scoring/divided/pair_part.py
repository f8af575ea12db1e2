"""One job of several that compute the sums over the pairs of a scoring."""

from __future__ import annotations

from synthbench.metrics.fid import MomentFrechet
from synthbench.metrics.inference.contracts import Blocked
from synthbench.metrics.inference.sections import Unfinished, kept_by
from synthbench.scoring.benchmark import Benchmark
from synthbench.scoring.inputs import CohortSet
from synthbench.scoring.protocol import frozen_settings
from synthbench.scoring.rows import rows_of_job
from synthbench.scoring.settings import Context, ScoringSettings
from synthbench.scoring.setup import Setup, cohorts_to_score, common_space, origin_of, set_up
from synthbench.scoring.statistics import Job, prepared


def pair_part(
    cohorts: CohortSet, settings: ScoringSettings | Benchmark, context: Context
) -> list[str]:
    """Compute the sections that belong to this job (`context.pairs`), as far as it can.

    A pass may need the result of another one: the kernel its bandwidth, the balls their radii.
    Where other jobs have not computed their part of the first one, the second one has to wait.

    Returns
    -------
    What has to wait; empty where the sums of all passes are there.

    Raises
    ------
    SynthbenchError
        A cohort cannot be used, or an extractor refuses a volume.
    """
    target, _ = common_space(cohorts, settings, origin_of(cohorts.synthbench_sidecars))
    scored, _ = cohorts_to_score(cohorts, settings)
    waiting = []
    with kept_by(context.pairs):
        try:
            setup = set_up(scored, target, settings, context)
        except Unfinished as error:
            return [str(error)]
        for job in setup.todo:
            if job.extractor not in setup.extractors.loaded or not _has_sections(job, setup):
                continue
            try:
                rows_of_job(job, setup)
            except Unfinished as error:
                waiting.append(f"{job.key}: {error}")
    return waiting


def _has_sections(job: Job, setup: Setup) -> bool:
    """Return whether the job's statistic is computed in sections."""
    of = {role: setup.samples[role] for role in ("real", "synth")}
    subjects = {role: sample.subjects for role, sample in of.items()}
    settings = frozen_settings(job.metric, job.key, setup.protocol)
    real, synth = (job.material(of[role]) for role in ("real", "synth"))
    return isinstance(prepared(job, real, synth, subjects, settings), Blocked | MomentFrechet)
