"""Scores by the number of training subjects, from scratch and from another run's weights.

Usage: python studies/few_shot.py --out FOLDER [--sizes 25 50 100] [--steps 400]
           [--shape 48 56 48] [--real COHORT --holdout COHORT] [--init RUN]
           [--source-subjects 200] [--source-steps STEPS] [--n 50] [--preset tiny-unet]
           [--set KEY=VALUE ...] [--extractor NAME ...] [--accept RULE ...] [--seed 0]

All runs have the same number of steps; they differ only in their subjects and their start. Larger
training sets contain the smaller ones. All runs have the same grid: the field of view divided by
--shape. All are scored against the same held-out volumes by one frozen protocol. Samples of the
source itself, which saw none of the training subjects, are scored too.

Without --real, subjects are simulated (the embedded cohort), and the source is trained on others
of the same simulator. This is the best case for a source, because there is no gap between the two
domains. With --real, the gap between simulated and real scans is part of the result.

Results are kept in FOLDER: the same command continues a study that was stopped. Progress goes to
standard error, the table (markdown) to standard output.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from synthbench.cohorts.cohort import Cohort
from synthbench.cohorts.reading import read_cohort
from synthbench.generators.ddpm3d import DDPM3DSettings
from synthbench.records.scorecard import Scorecard
from synthbench.render.numbers import number
from synthbench.report.text import interval_words
from synthbench.runs.configuration import of_network, resolve
from synthbench.runs.folder import Run
from synthbench.runtime.progress import bar
from synthbench.sampling.sampling import sample
from synthbench.scoring.benchmark import Benchmark
from synthbench.scoring.freeze import freeze
from synthbench.scoring.scoring import score
from synthbench.scoring.settings import Context, ScoringSettings
from synthbench.simulation.cohort import atlas_cohort
from synthbench.training.training import train

GENERATOR = "ddpm3d"
SIZES = (25, 50, 100)
METRICS = {"kid": "KID", "mmd2": "MMD²", "fid": "FID", "ms_ssim": "MS-SSIM gap"}
# Seeds of three groups of simulated subjects without common people.
SOURCE, POOL, HELD_OUT = 101, 102, 103
HELD_OUT_SUBJECTS = 60


@dataclass(frozen=True)
class Data:
    """The training and the held-out cohort.

    Attributes
    ----------
    pool
        Training volumes; a run takes the first subjects.
    holdout
        Volumes of other subjects, to score against.
    """

    pool: Cohort
    holdout: Cohort


@dataclass(frozen=True)
class Arm:
    """One training, and how its samples score.

    Attributes
    ----------
    subjects
        Number of training subjects; 0: the source itself.
    start
        "scratch" or "source".
    """

    subjects: int
    start: str
    run: Run
    card: Scorecard


# ---------------------------------------------------------------- the data


def simulated(given: argparse.Namespace, name: str, n: int, seed: int) -> Path:
    """Return a folder of simulated subjects, which are written where they are missing."""
    folder: Path = given.out / "cohorts" / name
    if not (folder / "participants.tsv").is_file():
        print_progress(f"{n} simulated subjects: {name}")
        atlas_cohort(n, folder, seed=seed, shape=given.shape)
    return folder


def data(given: argparse.Namespace) -> Data:
    """Return both cohorts; the seed gives the order of the pool's subjects."""
    real, holdout = given.real, given.holdout
    if real is None:
        real = simulated(given, "pool", max(given.sizes), POOL)
        holdout = simulated(given, "holdout", HELD_OUT_SUBJECTS, HELD_OUT)
    pool = read_cohort(real, role="train")
    shuffled = np.random.default_rng(given.seed).permutation(pool.subjects.max() + 1)
    order = np.argsort(shuffled[pool.subjects], kind="stable")
    return Data(pool.subset(order), read_cohort(holdout, role="holdout"))


def sizes(wanted: Sequence[int], pool: Cohort) -> list[int]:
    """Return the numbers of subjects, limited by the size of the pool."""
    there = len(set(pool.subjects))
    kept = sorted({min(size, there) for size in wanted})
    if max(wanted) > there:
        print_progress(
            f"only {there} training subjects are there: sizes {kept} in place of {list(wanted)}"
        )
    return kept


def manifest(pool: Cohort, subjects: int, file: Path) -> Path:
    """Write a manifest of the volumes of the pool's first subjects, and return it."""
    chosen = list(dict.fromkeys(entry.subject for entry in pool.entries))[:subjects]
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as table:
        writer = csv.writer(table)
        writer.writerow(["path", "participant_id"])
        for entry in pool.entries:
            if entry.subject in chosen:
                writer.writerow([entry.path.resolve(), entry.subject])
    return file


def overrides(given: argparse.Namespace, steps: int) -> list[str]:
    """Return the settings of a run that differ from its preset."""
    common = [f"space.shape={list(given.shape)}", "epochs=null", f"seed={given.seed}"]
    return [*common, f"steps={steps}", *given.set]


def protocol(given: argparse.Namespace, cohorts: Data) -> Benchmark:
    """Return the protocol, frozen on the held-out volumes, on the grid of the training."""
    common, _ = resolve(GENERATOR, preset=given.preset, overrides=overrides(given, given.steps))
    settings = ScoringSettings(
        extractors=tuple(given.extractor), metrics=tuple(METRICS), intensity=common.intensity,
        space=cohorts.pool.grid.regrid(tuple(given.shape)),
    )  # fmt: skip
    return freeze(
        cohorts.holdout, "few-shot", settings, Context(log=print_progress), n_synth=given.n
    )


# ---------------------------------------------------------------- one arm


def trained(
    given: argparse.Namespace,
    name: str,
    real: Path,
    steps: int,
    init: Path | None = None,
    like: Run | None = None,
) -> Run:
    """Return a run: trained now, continued where it was stopped, or already finished.

    `like` is a run whose network it gets, so that runs differ in their first weights alone.
    """
    network = {} if like is None else of_network(like.settings(DDPM3DSettings))
    same = [f"{setting}={json.dumps(value)}" for setting, value in network.items()]
    out = given.out / "runs" / name
    with bar(name) as advance:
        if (out / "config.yaml").is_file():
            return train(out=out, resume=True, progress=advance, log=print_progress)
        shutil.rmtree(out, ignore_errors=True)  # stopped before it had a configuration
        return train(
            GENERATOR, out=out, real=real, preset=given.preset, init=init, accept=given.accept,
            overrides=[*same, *overrides(given, steps)], progress=advance, log=print_progress,
        )  # fmt: skip


def scored(
    given: argparse.Namespace, name: str, run: Run, holdout: Cohort, frozen: Benchmark
) -> Scorecard:
    """Return the scorecard of a run's samples, made where it is missing."""
    file = given.out / "scorecards" / f"{name}.json"
    if file.is_file():
        return Scorecard.load(file)
    folder = given.out / "synth" / name
    with bar(f"{name}: sampling") as advance:
        sample(run, given.n, folder, progress=advance, log=print_progress)
    card = score(
        holdout, folder, name=name, benchmark=frozen, accept=given.accept,
        context=Context(log=print_progress),
    )  # fmt: skip
    file.parent.mkdir(exist_ok=True)
    card.save(file)
    return card


def source(given: argparse.Namespace) -> Run:
    """Return the run that others start from: --init, or one on simulated subjects."""
    if given.init is not None:
        return Run.open(given.init)
    cohort = simulated(given, "source", given.source_subjects, SOURCE)
    return trained(given, "source", cohort, given.source_steps or given.steps)


def study(given: argparse.Namespace) -> Iterator[Arm]:
    """Train, sample and score every arm; yield each when it is done."""
    cohorts = data(given)
    frozen = protocol(given, cohorts)
    start_from = source(given)
    card = scored(given, "source", start_from, cohorts.holdout, frozen)
    yield Arm(0, "source", start_from, card)
    for size in sizes(given.sizes, cohorts.pool):
        real = manifest(cohorts.pool, size, given.out / "cohorts" / f"train-{size}.csv")
        for start, init in (("scratch", None), ("source", start_from.folder)):
            name = f"{size}-from-{start}"
            run = trained(given, name, real, given.steps, init, like=start_from)
            yield Arm(size, start, run, scored(given, name, run, cohorts.holdout, frozen))


# ---------------------------------------------------------------- the table


def print_progress(message: str) -> None:
    """Print to standard error: only the table goes to standard output."""
    print(message, file=sys.stderr, flush=True)


def cells(card: Scorecard, extractor: str) -> list[str]:
    """Return each metric's value and interval as text."""
    found = []
    for metric in METRICS:
        value = card.row(metric, extractor) or card.row(metric)
        absent = value is None or value.value is None
        found.append("missing" if absent else f"{number(value.value)} {interval_words(value)}")
    return found


def floors(card: Scorecard, extractor: str) -> list[str]:
    """Return each metric's floor: the value of held-out volumes against each other."""
    found = []
    for metric in METRICS:
        value = card.row(metric, extractor) or card.row(metric)
        floor = None if value is None else value.floor
        text = "-"
        if floor is not None:
            ends = f"[{number(floor.low)}, {number(floor.high)}]"
            text = f"{number(floor.mean)} {ends} (n={floor.n})"
        found.append(text)
    return found


def markdown(given: argparse.Namespace, arms: Sequence[Arm]) -> str:
    """Return one table per extractor, below a line with the settings."""
    card = arms[0].card
    who = "simulated subjects" if given.real is None else "real subjects"
    lines = [
        f"{who}, {card.protocol.space.grid}, preset {given.preset}, {given.steps} steps per arm, "
        f"{card.synth.n} samples per arm against {card.real.n} held-out volumes; one training "
        "seed, so the result is on these runs, not on the method. †: excludes bias."
    ]
    if any(note.startswith("synth resampled") for arm in arms for note in arm.card.notes):
        lines.append("The source has another grid: its samples were resampled to this one.")
    for extractor in card.protocol.extractors:
        lines += ["", f"{extractor.label}", ""]
        lines.append("| subjects | start | " + " | ".join(METRICS.values()) + " | minutes |")
        lines.append("|---|---|" + "---|" * (len(METRICS) + 1))
        for arm in arms:
            minutes = arm.run.record.get("training_seconds", 0) / 60
            row = [str(arm.subjects), arm.start, *cells(arm.card, extractor.name), f"{minutes:.1f}"]
            lines.append(f"| {' | '.join(row)} |")
        row = ["held-out", "floor", *floors(card, extractor.name), "-"]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def same_study(given: argparse.Namespace) -> None:
    """Write the options into the folder; stop where it has a study with others."""
    changeable = ("out", "sizes", "accept")
    text = json.dumps({k: v for k, v in vars(given).items() if k not in changeable}, default=str)
    file = given.out / "study.json"
    if file.is_file():
        new, old = json.loads(text), json.loads(file.read_text(encoding="utf-8"))
        differ = {key: old.get(key) for key in new if new[key] != old.get(key)}
        if differ:
            raise SystemExit(
                f"--out {given.out}: has a study with other options: {differ}. Repeat them, or "
                "name another folder."
            )
    given.out.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--shape", type=int, nargs=3, default=[48, 56, 48])
    parser.add_argument("--real", type=Path)
    parser.add_argument("--holdout", type=Path)
    parser.add_argument("--init", type=Path)
    parser.add_argument("--source-subjects", type=int, default=200)
    parser.add_argument("--source-steps", type=int)
    parser.add_argument("--n", type=int, default=50)
    parser.add_argument("--preset", default="tiny-unet")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--extractor", nargs="+", default=["random-resnet10"])
    parser.add_argument("--accept", action="append", default=[], metavar="RULE")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    if (given.real is None) != (given.holdout is None):
        parser.error("--real and --holdout go together: subjects to train on, and others")
    if min(given.sizes) < 1 or given.n < 2:
        parser.error("--sizes: at least 1 subject; --n: at least 2 samples")
    return given


def main() -> None:
    """Run the study and print its table."""
    given = options()
    same_study(given)
    arms = []
    for arm in study(given):
        arms.append(arm)
        print_progress(f"{arm.subjects} subjects from {arm.start}: {' | '.join(METRICS.values())}: "
             f"{' | '.join(cells(arm.card, given.extractor[0]))}")  # fmt: skip
    print(markdown(given, arms))


if __name__ == "__main__":
    main()
