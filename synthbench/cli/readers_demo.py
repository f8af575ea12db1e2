"""The verb `readers demo`: a small study with simulated readers, from volumes to its analysis."""

from __future__ import annotations

from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Annotated

import typer

from synthbench.cli.console import answer, as_progress, log, progress_bar
from synthbench.errors import UsageError
from synthbench.runtime.callbacks import Log, Progress, no_progress, to_logger

if TYPE_CHECKING:
    from synthbench.readers.results import Analysis

SHAPE = (32, 36, 32)
REAL = 48
TRAINING = 16
VOLUMES = 12  # that each generator samples
READERS = 6
GENERATORS = ("pca-gaussian", "mixup", "memorizer")
TOLD = {"pca-gaussian": 1.5, "mixup": 0.3, "blurred": 3.0}
"""d' of the simulated readers; 0 for the memorizer's volumes and for real against real."""
QUALITY = {"real": 1.0, "memorizer": 1.0, "mixup": 0.3, "pca-gaussian": -0.5, "blurred": -1.0}
PARTS = ("training", "real", "runs", "synth", "study")
KEY, RESULT = "study.key.json", "analysis.json"


def readers_demo(
    out: Annotated[Path, typer.Option("--out", help="Where everything goes.")] = Path(
        "readers-demo"
    ),
) -> None:
    """Run a small study end to end on the embedded cohort, with simulated readers."""
    from synthbench.readers.table import analysis_table

    with progress_bar("readers demo") as advance:
        found = run_readers_demo(out, progress=as_progress(advance), log=log)
    answer(found, lambda: analysis_table(found))


def run_readers_demo(
    out: Path,
    *,
    shape: tuple[int, int, int] = SHAPE,
    progress: Progress = no_progress,
    log: Log = to_logger,
) -> Analysis:
    """Run the demo into a new folder and return its analysis; nothing is opened or served.

    Parameters
    ----------
    out
        A folder that is absent or empty.
    shape
        The grid of everything.

    Raises
    ------
    UsageError
        The folder is not empty.
    """
    from synthbench.runtime.lock import content_of, only_writer

    with only_writer(out) as taken_over:
        found = content_of(out)
        if taken_over and found <= {*PARTS, KEY, RESULT}:
            for part in PARTS:
                rmtree(out / part, ignore_errors=True)
            for file in (KEY, RESULT):
                (out / file).unlink(missing_ok=True)
        elif found:
            raise UsageError(f"--out {out}: already there and not empty. Name a new folder.")
        return _demo(out, shape, progress, log)


def _demo(out: Path, shape: tuple[int, int, int], progress: Progress, log: Log) -> Analysis:
    from synthbench.cohorts.reading import read_cohort
    from synthbench.readers.analysis import analyse
    from synthbench.readers.build import Cohorts, Making, build
    from synthbench.readers.design import MEMORIZER, Settings
    from synthbench.readers.simulated import IDEAL, NOISY, Truth, answer_all
    from synthbench.sampling.sampling import sample
    from synthbench.simulation.cohort import atlas_cohort
    from synthbench.training.training import train

    def advance(done: int, total: int, words: str) -> None:
        progress(words, done, total)

    log(f"1. Simulated subjects: {TRAINING} to train on, {REAL} as real ones.")
    training = atlas_cohort(TRAINING, out / "training", seed=1, shape=shape)
    real = atlas_cohort(REAL, out / "real", seed=2, shape=shape)
    log(f"2. {len(GENERATORS)} generators, trained and sampled; the memorizer is a control.")
    for generator in GENERATORS:
        run = train(
            generator, out=out / "runs" / generator, real=training,
            overrides=[f"space.shape={list(shape)}"], progress=advance, log=log,
        )  # fmt: skip
        sample(run, VOLUMES, out / "synth" / generator, progress=advance)
    log(f"3. A study of {READERS} readers: blinded copies, orders, a key.")
    cohorts = {name: read_cohort(out / "synth" / name) for name in GENERATORS}
    study = out / "study"
    build(
        study,
        Cohorts(read_cohort(real), {n: c for n, c in cohorts.items() if n != MEMORIZER},
                cohorts[MEMORIZER]),
        Making(Settings(readers=READERS), seed=0),
        progress=progress, log=log,
    )  # fmt: skip
    log("4. Simulated readers answer, ideal observers and noisy ones in turn. People do it with:")
    log(f"   synthbench readers serve {study}")
    answer_all(study, Truth(TOLD, QUALITY), [NOISY, IDEAL], seed=0)
    found = analyse(study)
    found.save(out / RESULT)
    return found
