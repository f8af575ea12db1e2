"""A scoring whose features, and whose sums over pairs, are computed by Slurm arrays.

The scoring itself is a task too: features depend on the kind of device, and the tasks have one
kind, which the machine that submits often has not.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from synthbench.errors import RunError
from synthbench.runtime.callbacks import Log, Progress
from synthbench.runtime.lock import only_writer
from synthbench.runtime.part import Part
from synthbench.runtime.slurm import Settings, Task, run_array
from synthbench.scoring.cache.pairs import PairSums

ROUNDS = 12
"""Arrays over pairs, at most: a pass needs the result of at most four others."""


def score_on_slurm(
    part: Sequence[str],
    whole: Sequence[str],
    out: Path,
    jobs: int,
    settings: Settings,
    *,
    pairs: Path | None,
    progress: Progress,
    log: Log,
) -> None:
    """Submit the parts of a scoring and wait for them, and then submit the scoring.

    Parameters
    ----------
    part, whole
        What is typed after `synthbench` for a part and for the scoring, without --shard,
        --features, --feature-parts and --pairs.
    out
        The scorecard. The parts lie beside it, in OUT-parts.
    jobs
        The number of parts.
    pairs
        The folder of the sums over pairs, which are divided too; None: they are not.
    settings, progress, log
        As in `synthbench.runtime.slurm.run_array`, which also says what is raised.
    """
    parts = out.absolute().with_name(f"{out.name}-parts")
    features = parts / "features"
    features.mkdir(parents=True, exist_ok=True, mode=0o700)
    given = ["--feature-parts", str(features)]
    with only_writer(parts):
        files = {number: features / f"{number}.npz" for number in range(1, jobs + 1)}
        tasks = {
            number: Task(
                (*part, "--features", str(file), "--shard", str(Part(number, jobs))), features
            )
            for number, file in files.items()
        }
        finished = [number for number, file in files.items() if file.exists()]
        run_array(tasks, parts / "features-array", settings, finished=finished,
                  progress=progress, log=log)  # fmt: skip
        if pairs is not None:
            given += ["--pairs", str(pairs.absolute())]
            _add_pairs([*part, *given], parts, pairs, jobs, settings, progress, log)
        task = Task((*whole, *given, "--out", str(out.absolute())), features)
        run_array({1: task}, parts / "score-array", settings, progress=progress, log=log)


def _add_pairs(
    words: Sequence[str], parts: Path, pairs: Path, jobs: int, settings: Settings,
    progress: Progress, log: Log,
) -> None:  # fmt: skip
    """Submit arrays over pairs until none of their tasks has to wait for another one."""
    tasks = {
        number: Task((*words, "--shard", str(Part(number, jobs))), parts / "features")
        for number in range(1, jobs + 1)
    }
    for number in range(1, ROUNDS + 1):
        if PairSums(pairs).waiting(jobs) == 0:
            return
        log(f"sums over pairs, round {number}")
        folder = parts / f"pairs-array-{number}"
        run_array(tasks, folder, settings, progress=progress, log=log)
    if waiting := PairSums(pairs).waiting(jobs):
        raise RunError(
            f"{pairs}: after {ROUNDS} arrays {waiting} passes over pairs still lack sections. "
            "Repeat the command."
        )
