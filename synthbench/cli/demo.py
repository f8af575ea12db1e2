"""The verb `demo`: train, sample, score, rank and look, on the embedded cohort."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synthbench.cli.console import answer, as_progress, log, progress_bar
from synthbench.errors import UsageError
from synthbench.runtime.callbacks import Log, no_progress, to_logger

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float32

    from synthbench.cohorts.cohort import Volumes

SHAPE = (48, 56, 48)
SUBJECTS = 32  # for training, and as many for reference
VOLUMES = 16  # that each generator samples
INIT = Path("atlas")  # the run of the package that ddpm3d starts from
DDPM_STEPS = 100
SAMPLER_STEPS = 8
PICTURED = 4
GENERATORS = ("ddpm3d", "pca-gaussian", "memorizer", "noise")
PARTS = ("training", "reference", "runs", "synth", "leaderboard")  # folders that it makes
MONTAGE = "montage.png"
METRICS = ("mmd2", "fid", "coverage", "ms_ssim", "spectrum", "memorization")


def demo(
    out: Annotated[Path, typer.Option("--out", help="Where everything goes.")] = Path("demo"),
) -> None:
    """Train, sample, score and rank on the embedded cohort, in minutes on two cores."""
    from rich.console import Group

    from synthbench.report.text import COLUMNS

    with progress_bar("demo") as advance:
        tables = run_demo(out, progress=advance, log=log)
    entries = sorted((out / "leaderboard" / "entries").glob("*.json"))
    answer(
        {"folder": str(out), "scorecards": [str(file) for file in entries],
         "page": str(out / "leaderboard" / "README.md"), "picture": str(out / MONTAGE)},
        lambda: Group(*tables),
        columns=COLUMNS,
    )  # fmt: skip
    log(f"Look at {out / MONTAGE} and {out / 'leaderboard' / 'README.md'}. Next, your own volumes: "
        "synthbench score --real DIR --synth DIR")  # fmt: skip


def run_demo(
    out: Path,
    *,
    steps: int = DDPM_STEPS,
    shape: tuple[int, int, int] = SHAPE,
    overrides: Sequence[str] = (),
    progress: Callable[[int, int, str], None] | None = None,
    log: Log = to_logger,
) -> list[Any]:
    """Run the demo into a new folder and return its tables as Rich renderables.

    Parameters
    ----------
    out
        A folder that is absent or empty.
    steps
        Optimizer steps of ddpm3d, from the run in the package.
    shape
        The grid of everything.
    overrides
        More settings of ddpm3d.
    progress
        Called with (done, total, words) while generators are trained and volumes drawn and scored.
    log
        Called with sentences for the user.

    Raises
    ------
    UsageError
        The folder is not empty.
    """
    from synthbench.runtime.lock import only_writer

    with only_writer(out) as taken_over:
        _clear(out, taken_over)
        return _demo(out, steps, shape, overrides, progress, log)


def _clear(out: Path, killed: bool) -> None:
    """Raise where the folder is not empty; where a demo was killed in it, remove what it wrote."""
    from synthbench.runtime.lock import content_of

    found = content_of(out)
    if killed and found <= {*PARTS, MONTAGE}:
        for part in PARTS:
            rmtree(out / part, ignore_errors=True)
        (out / MONTAGE).unlink(missing_ok=True)
    elif found:
        raise UsageError(f"--out {out}: already there and not empty. Name a new folder.")


def _demo(
    out: Path,
    steps: int,
    shape: tuple[int, int, int],
    overrides: Sequence[str],
    progress: Callable[[int, int, str], None] | None,
    log: Log,
) -> list[Any]:
    """Run the demo into an empty folder, as the only writer; return its tables."""
    from synthbench.cohorts.reading import read_cohort
    from synthbench.leaderboard.page import write_leaderboard
    from synthbench.leaderboard.ranking import compare
    from synthbench.render.montage import montage
    from synthbench.report.text import scorecard_table
    from synthbench.sampling.sampling import sample
    from synthbench.scoring.cache.store import Cache
    from synthbench.scoring.freeze import freeze
    from synthbench.scoring.scoring import score
    from synthbench.scoring.settings import Context, ScoringSettings
    from synthbench.simulation.cohort import atlas_cohort
    from synthbench.training.training import train

    log(f"1. Two simulated cohorts of {SUBJECTS} subjects: one to train on, one as reference.")
    training = atlas_cohort(SUBJECTS, out / "training", seed=1, shape=shape)
    reference = atlas_cohort(SUBJECTS, out / "reference", seed=2, shape=shape)

    log("2. Four generators, trained and sampled.")
    for generator in GENERATORS:
        extra = []
        if generator == "ddpm3d":
            # The network knows brains already; at the preset's rate it would begin by forgetting.
            extra = [
                f"steps={steps}", "learning_rate=2.0e-4", f"sampler_steps={SAMPLER_STEPS}",
                *overrides,
            ]  # fmt: skip
        run = train(
            generator,
            out=out / "runs" / generator,
            real=training,
            preset="tiny" if generator == "ddpm3d" else None,
            init=INIT if generator == "ddpm3d" else None,
            overrides=[f"space.shape={list(shape)}", *extra],
            progress=progress,
            log=log,
        )
        sample(run, VOLUMES, out / "synth" / generator, progress=progress)

    log("3. A benchmark frozen on the reference, and every generator scored on it.")
    real = read_cohort(reference, role="real")
    board = out / "leaderboard"
    settings = ScoringSettings(extractors=("random-resnet10",), metrics=METRICS)
    context = Context(
        cache=Cache(log=log),
        progress=as_progress(progress) if progress else no_progress,
        log=log,
    )
    frozen = freeze(real, "demo", settings, context, n_synth=VOLUMES)
    frozen.save(board)
    (board / "entries").mkdir()
    tables = []
    trained_on = read_cohort(training, role="train")
    for generator in GENERATORS:
        synth = out / "synth" / generator
        card = score(real, synth, train=trained_on, benchmark=frozen, context=context)
        card.save(board / "entries" / f"{generator}.json")
        tables.append(scorecard_table(card))
    compare(board, progress=context.progress).save(board)
    page = write_leaderboard(board)

    rows = {"reference (simulated)": _first(real.volumes())}
    for generator in GENERATORS:
        cohort = read_cohort(out / "synth" / generator)
        rows[f"{generator} (synthetic)"] = _first(cohort.volumes(intensity="unit"))
    montage(rows, real.grid, out / MONTAGE)
    log(f"4. Written: {page} and {out / MONTAGE}.")
    return tables


def _first(volumes: Volumes) -> list[Float32[np.ndarray, "d h w"]]:
    return [volumes[i] for i in range(min(PICTURED, len(volumes)))]
