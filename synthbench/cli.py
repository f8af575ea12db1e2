"""The command line: each verb is a thin shell over a documented function.

Nothing heavy is imported before the verb that needs it runs: `synthbench --help` is fast.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from synthbench.cache_commands import cache
from synthbench.console import (
    AssumeGrid,
    Json,
    Seed,
    is_main,
    make_room,
    print_json,
    progress_bar,
    say,
    show,
)
from synthbench.data_commands import data
from synthbench.errors import CheckFailed, Stopped, SynthbenchError, UsageError
from synthbench.generators.samplers import samplers_in_words

app = typer.Typer(
    name="synthbench",
    help="Judge synthetic 3-D brain MRI: train, sample, score, rank.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
benchmark = typer.Typer(no_args_is_help=True, help="Protocols frozen on a real cohort.")
app.add_typer(cache, name="cache")
app.add_typer(data, name="data")
app.add_typer(benchmark, name="benchmark")

Real = Annotated[
    Path, typer.Option("--real", help="Real cohort: a folder, BIDS folder or CSV/TSV manifest.")
]
Extractors = Annotated[
    list[str] | None,
    typer.Option("--extractor", help="May be repeated. Default: medicalnet-resnet50-23dataset"),
]
Metrics = Annotated[
    list[str] | None,
    typer.Option("--metric", help="May be repeated. Default: see `synthbench list metrics`."),
]


Intensity = Annotated[
    str,
    typer.Option(
        metavar="RULE",
        help="percentile, unit, or constant:SCALE:UNIT for a quantitative map: "
        "constant:0.003:mm2/s.",
    ),
]


Accept = Annotated[
    list[str] | None,
    typer.Option(
        "--accept", help="Preflight rule whose errors are meant to be so; may be repeated."
    ),
]


Conditions = Annotated[
    list[str] | None,
    typer.Option(
        "--condition",
        metavar="NAME=VALUE",
        help="Of a conditional run: age=20:80 (a range), sex=F, sex=F,M (in turn); may be "
        "repeated.",
    ),
]


Guidance = Annotated[
    float | None,
    typer.Option(help="How strongly a conditional run follows what is asked; 1: none."),
]


class Kind(StrEnum):
    """What `list` lists."""

    generators = "generators"
    metrics = "metrics"
    extractors = "extractors"
    layouts = "layouts"


class Grid(StrEnum):
    """Which side's grid both are brought to."""

    same = "same"
    real = "real"
    synth = "synth"


class Method(StrEnum):
    """Interval methods."""

    studentized = "studentized"
    jackknife = "jackknife"
    percentile = "percentile"


# ---------------------------------------------------------------- the verbs


def train(
    generator: Annotated[
        str | None, typer.Argument(help="See `synthbench list generators`.")
    ] = None,
    real: Annotated[
        Path | None,
        typer.Option("--real", help="Training cohort. Default: the embedded atlas cohort."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Run folder. Default: runs/GENERATOR.")
    ] = None,
    validation: Annotated[
        Path | None, typer.Option(help="Volumes of other subjects, to watch the training by.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="ddpm3d: tiny, small, paper, and more. Default: tiny without CUDA."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, may be repeated.")
    ] = None,
    init: Annotated[Path | None, typer.Option(help="Run whose weights to start from.")] = None,
    pretrained: Annotated[
        str | None,
        typer.Option(help="ldm3d: monai-brain-ldm. Published weights as a run; trains nothing."),
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option("--track", help="tensorboard, wandb or mlflow, may be repeated."),
    ] = None,
    energy: Annotated[
        bool, typer.Option("--energy", help="Measure the electricity that it takes.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what it would take, and train nothing.")
    ] = False,
    assume_grid: AssumeGrid = None,
    accept: Accept = None,
    json: Json = False,
) -> None:
    """Train a generator on a cohort, into a run folder."""
    from synthbench import training

    if resume and out is None:
        raise UsageError("--resume: name the run folder with --out.")
    if generator is None and not resume:
        raise UsageError("name a generator: synthbench list generators shows them.")
    folder = out or Path("runs") / str(generator)
    if pretrained is not None:
        from synthbench.pretrained import pretrained_run

        given = (real, validation, preset, config, settings, init, track)
        if any(given) or energy or resume or dry_run:
            raise UsageError(
                "--pretrained trains nothing: beside it, only a generator and --out are given."
            )
        fetched = pretrained_run(str(generator), pretrained, folder, log=say)
        if json:
            print_json({"run": str(fetched.folder), **fetched.record})
        return
    if dry_run:
        if resume:
            raise UsageError("--dry-run is of a new run: leave out --resume.")
        from synthbench.dry_run import dry_run as planned
        from synthbench.dry_run import refusal

        plan = planned(
            str(generator), real=real, preset=preset, config=config, overrides=settings or (),
            assume_grid=assume_grid, accept=accept or (),
        )  # fmt: skip
        if json:
            print_json(plan.record())
        else:
            for name, value in plan.rows():
                print(f"{name:<18} {value}")
        if not plan.fits:
            raise CheckFailed(refusal(plan))
        return
    try:
        with progress_bar("training") as advance:
            run = training.train(
                generator,
                out=folder,
                real=real,
                validation=validation,
                preset=preset,
                config=config,
                overrides=settings or (),
                init=init,
                track=track or (),
                energy=energy,
                resume=resume,
                assume_grid=assume_grid,
                accept=accept or (),
                progress=advance,
                log=say,
            )
    except KeyboardInterrupt:
        # Before the first step or after the last, or the second Ctrl-C: the loop has not answered.
        raise Stopped(_interrupted(folder), signal.SIGINT) from None
    record = run.record
    if json:
        print_json({"run": str(run.folder), **record})
        return
    say(
        f"trained in {record['training_seconds']:.0f} s. {run.folder} holds the weights, the "
        f"configuration and preview.png.\nNext: synthbench sample {run.folder} --n 16 --out synth/"
    )


def _interrupted(folder: Path) -> str:
    if not (folder / "config.yaml").is_file():
        return "interrupted before the run began; repeat the command."
    return f"interrupted. Continue: synthbench train --resume --out {folder}"


def sample(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    out: Annotated[Path, typer.Option("--out", help="Where the volumes go.")],
    n: Annotated[
        int | None,
        typer.Option("--n", min=1, help="How many volumes. Default: one a row of --conditions."),
    ] = None,
    seed: Seed = 0,
    condition: Conditions = None,
    conditions: Annotated[
        Path | None,
        typer.Option(help="CSV/TSV of conditions: a column a covariate, a row a volume."),
    ] = None,
    guidance: Guidance = None,
    sampler: Annotated[
        str | None,
        typer.Option(help=f"Of ddpm3d and ldm3d: {samplers_in_words()}. Default: as set."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps.")] = None,
    clean: Annotated[
        bool, typer.Option("--clean", help="Set what lies outside the brain to zero.")
    ] = False,
    trajectory: Annotated[
        int | None,
        typer.Option(min=0, help="Seed whose way out of the noise to keep, in OUT-trajectory."),
    ] = None,
    json: Json = False,
) -> None:
    """Sample volumes from a run: NIfTI files with a sidecar that says they are synthetic."""
    from synthbench import sampling

    with progress_bar("sampling") as advance:
        files = sampling.sample(
            run, n, out,
            seed=seed, sampler=sampler, steps=steps, clean=clean, conditions=conditions,
            choices=condition or (), guidance=guidance, follow=trajectory, progress=advance,
            log=say,
        )  # fmt: skip
    if json:
        print_json([str(file) for file in files])
    else:
        drawn = (
            f"{len(files)} volumes, seeds {seed} to {seed + len(files) - 1}"
            if len(files) > 1
            else f"1 volume, seed {seed}"
        )
        say(f"{drawn}, in {out}")


def sweep(
    run: Annotated[Path, typer.Argument(help="A run folder of a conditional generator.")],
    vary: Annotated[
        list[str],
        typer.Option(
            "--vary",
            metavar="NAME=FROM:TO:N",
            help="N values of a condition, 0 and 1 being the ends of its training range; or "
            "NAME=a,b. Twice: a grid.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Where volumes, pictures and table go.")],
    fix: Annotated[
        list[str] | None,
        typer.Option(
            "--fix",
            metavar="NAME=VALUE",
            help="Value of another condition, in its own unit; may be repeated. Default: the "
            "training median, or the commonest level.",
        ),
    ] = None,
    natural: Annotated[
        bool, typer.Option("--natural", help="--vary is in natural units, as in participants.tsv.")
    ] = False,
    seed: Seed = 0,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, metavar="N", help="Repeat with N seeds from --seed on.")
    ] = 1,
    measure: Annotated[
        str | None,
        typer.Option(
            metavar="EXTRACTOR:FEATURE",
            help="What the curve shows. Default: anatomy's volume of the varied condition.",
        ),
    ] = None,
    sampler: Annotated[str | None, typer.Option(help="As of `sample`.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps.")] = None,
    guidance: Guidance = None,
    json: Json = False,
) -> None:
    """Vary a condition from one noise seed: the row of volumes, and what is measured of them."""
    from synthbench.sweep import sweep as swept

    with progress_bar("sweep") as advance:
        found = swept(
            run, vary, out, fix=fix or (), natural=natural, seed=seed, seeds=seeds,
            measure=measure, sampler=sampler, steps=steps, guidance=guidance, progress=advance,
            log=say,
        )  # fmt: skip
    if json:
        print_json(found.as_json())
        return
    show(found.table())
    say(f"written: {', '.join(str(file) for file in found.written)}")


def score(
    context: typer.Context,
    real: Real,
    synth: Annotated[Path, typer.Option("--synth", help="Synthetic cohort, likewise.")],
    train: Annotated[
        Path | None,
        typer.Option("--train", help="The generator's training cohort: tests for copies."),
    ] = None,
    holdout: Annotated[
        Path | None,
        typer.Option("--holdout", help="Real cohort that neither side has seen."),
    ] = None,
    extractor: Extractors = None,
    metric: Metrics = None,
    benchmark: Annotated[
        Path | None, typer.Option(help="Benchmark whose frozen protocol to use.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What tables call the volumes.")] = None,
    space: Annotated[
        Grid,
        typer.Option(
            metavar="SIDE", help="Whose grid: same (both must have it already), real or synth."
        ),
    ] = Grid.same,
    intensity: Intensity = "percentile",
    ci: Annotated[
        Method | None,
        typer.Option(
            metavar="METHOD",
            help="studentized, jackknife or percentile. Default: each metric's own.",
        ),
    ] = None,
    resamples: Annotated[
        int, typer.Option(min=100, metavar="N", help="Bootstrap resamples, 100 or more.")
    ] = 1000,
    seed: Seed = 0,
    assume_grid: Annotated[
        str | None, typer.Option(help="Arrays without geometry: 'real', or voxel size in mm.")
    ] = None,
    accept: Accept = None,
    out: Annotated[Path | None, typer.Option("--out", help="Scorecard (JSON).")] = None,
    features: Annotated[
        Path | None,
        typer.Option(help="Save features (npz), real ones too: participant-level data."),
    ] = None,
    neighbours: Annotated[
        Path | None,
        typer.Option(help="Save nearest training volumes (TSV): participant-level data."),
    ] = None,
    materials: Annotated[
        Path | None,
        typer.Option(help="Save what comparisons elsewhere need (npz): participant-level data."),
    ] = None,
    sensitivity: Annotated[
        Path | None,
        typer.Option(help="Record of `synthbench sensitivity`: reads scores back as doses."),
    ] = None,
    conditions: Annotated[
        Path | None,
        typer.Option(help="What was asked of each volume (CSV/TSV). Default: their sidecars."),
    ] = None,
    measures: Annotated[
        list[Path] | None,
        typer.Option("--measures", help="Measures by another program (CSV/TSV); may be repeated."),
    ] = None,
    cached: Annotated[
        bool,
        typer.Option("--cache/--no-cache", help="Keep features for later runs; see `cache info`."),
    ] = True,
    json: Json = False,
) -> None:
    """Score synthetic volumes against real ones: values, intervals, floors, protocol."""
    from synthbench import scoring
    from synthbench.benchmark import Benchmark
    from synthbench.dose_response import Sensitivity, read_back
    from synthbench.scorecard import verdict_in
    from synthbench.scoring_inputs import CohortSet
    from synthbench.scoring_settings import ScoringSettings

    settings: Benchmark | ScoringSettings
    if benchmark is not None:
        _refuse_frozen(context)
        settings = Benchmark.load(benchmark)
    else:
        settings = ScoringSettings(
            **_names(extractor, metric), space=space.value, intensity=intensity,
            intervals={} if ci is None else ci.value, resamples=resamples, seed=seed,
        )  # fmt: skip
    scoring.check_choices(settings, accept or ())
    if neighbours is not None and (train is None or "memorization" not in _metrics_of(settings)):
        raise UsageError(
            f"--neighbours {neighbours}: nearest training volumes are found where "
            "memorization is assessed: add --train and, with --metric, --metric memorization."
        )
    for option, file in (("--out", out), ("--features", features), ("--neighbours", neighbours),
                         ("--materials", materials)):  # fmt: skip
        if file is not None:
            make_room(option, file)
    study = None if sensitivity is None else Sensitivity.load(sensitivity)
    with progress_bar("scoring") as advance:
        how = _context(advance, cached)
        cohorts = CohortSet.read(
            real, synth, train=train, holdout=holdout, assume_grid=_assumed(assume_grid),
            conditions=conditions, measures=measures or (), progress=how.progress,
        )  # fmt: skip
        found = scoring.score_cohorts(cohorts, settings, how, accept=accept or (), name=name)
    card = found.card if study is None else read_back(found.card, study)
    if not is_main():
        return
    written = _write_sample_data(found, features, neighbours, materials)
    if out is not None:
        before = verdict_in(out)
        card.save(out)
        if before is not None:
            say(
                f"{out}: the scorecard that was here held a verdict on utility ({before.label}), "
                f"and the new one holds none: run synthbench utility ... --scorecard {out} again."
            )
    if json:
        sys.stdout.write(card.model_dump_json(indent=1) + "\n")
    else:
        from synthbench.table import scorecard_table

        show(scorecard_table(card))
    for file in ([] if out is None else [out]) + written:
        say(f"written: {file}")
    if neighbours is not None and neighbours not in written:
        say(f"{neighbours}: not written, for memorization was {card.not_assessed}")
    if advice := scoring.without_weights(card):
        say(advice)


def _write_sample_data(
    found: Any, features: Path | None, neighbours: Path | None, materials: Path | None
) -> list[Path]:
    """Write what was asked for of a scoring's participant-level data; return the files."""
    import numpy as np

    from synthbench.files import write_atomic
    from synthbench.memorization import neighbours_table

    written = []
    if features is not None:
        np.savez_compressed(features, **found.features)
        written.append(features)
    if neighbours is not None and found.neighbours:
        write_atomic(neighbours, neighbours_table(found.neighbours).encode())
        written.append(neighbours)
    if materials is not None:
        found.sample_data.save(materials)
        written.append(materials)
    return written


def sensitivity(
    context: typer.Context,
    real: Real,
    benchmark: Annotated[
        Path | None, typer.Option(help="Benchmark whose frozen protocol to use.")
    ] = None,
    extractor: Extractors = None,
    metric: Metrics = None,
    corruption: Annotated[
        list[str] | None, typer.Option("--corruption", help="May be repeated. Default: all.")
    ] = None,
    like: Annotated[
        Path | None, typer.Option(help="A run whose grid to use. Default: the real cohort's.")
    ] = None,
    intensity: Intensity = "percentile",
    seed: Seed = 0,
    assume_grid: AssumeGrid = None,
    out: Annotated[
        Path, typer.Option("--out", help="Record (JSON); the figure goes beside it (PNG).")
    ] = Path("sensitivity.json"),
    json: Json = False,
) -> None:
    """Show what the metrics see on your data: known damage to real volumes, dose by dose."""
    from synthbench import dose_response
    from synthbench import sensitivity as study
    from synthbench.benchmark import Benchmark
    from synthbench.scoring_settings import ScoringSettings

    settings: Benchmark | ScoringSettings
    if benchmark is not None:
        _refuse_frozen(context)
        settings = Benchmark.load(benchmark)
    else:
        settings = ScoringSettings(
            **_names(extractor, metric), space="same" if like is None else _grid_of(like),
            intensity=intensity, seed=seed,
        )  # fmt: skip
    make_room("--out", out)
    with progress_bar("sensitivity") as advance:
        found = study.sensitivity(
            real, settings, _context(advance), corruptions=corruption, assume_grid=assume_grid
        )
    if not is_main():
        return
    found.save(out)
    figure = out.with_suffix(".png")
    dose_response.figure(found, figure, study.pictured(found))
    if json:
        sys.stdout.write(found.model_dump_json(indent=1) + "\n")
        return
    show(dose_response.table(found))
    say(
        f"{out}, {figure}. Next: synthbench score --real {real} --synth SYNTH --sensitivity {out} "
        "reads scores back as doses."
    )


def utility(
    real: Real,
    synth: Annotated[Path, typer.Option("--synth", help="Synthetic cohort, with labels.")],
    test: Annotated[
        Path, typer.Option("--test", help="Real cohort of other subjects, to test on.")
    ],
    label: Annotated[
        str | None, typer.Option(help="A column: two classes, or numbers. Such as sex.")
    ] = None,
    synth_labels: Annotated[
        Path | None,
        typer.Option(help="Table of synthetic labels. Default: what was asked for, if known."),
    ] = None,
    model: Annotated[
        str, typer.Option(help="probe: linear, on features. cnn: a 3-D network on volumes.")
    ] = "probe",
    extractor: Annotated[
        str, typer.Option(help="Of the probe. Default: medicalnet-resnet50-23dataset")
    ] = "medicalnet-resnet50-23dataset",
    network: Annotated[str, typer.Option(help="Of cnn: resnet10 or densenet121.")] = "resnet10",
    seeds: Annotated[
        int, typer.Option(min=1, help="Trainings an arm of cnn and of --segmentation.")
    ] = 3,
    epochs: Annotated[int, typer.Option(min=1, help="Of a network, on the largest arm.")] = 20,
    batch_size: Annotated[int, typer.Option(min=2, help="Of a network.")] = 4,
    ratios: Annotated[
        str, typer.Option(help="Of the curve: synthetic volumes in multiples of the real ones.")
    ] = "0.5,1,2,5",
    splits: Annotated[
        int | None, typer.Option(min=2, help="Divide --real and --test anew, so many times.")
    ] = None,
    transfer: Annotated[
        str | None,
        typer.Option(metavar="label=NAME,data=DIR", help="Fine-tune there afterwards (cnn)."),
    ] = None,
    segmentation: Annotated[
        bool, typer.Option("--segmentation", help="Learn tissues from label maps (dseg).")
    ] = False,
    name: Annotated[str | None, typer.Option(help="What tables call the volumes.")] = None,
    intensity: Intensity = "percentile",
    seed: Seed = 0,
    assume_grid: AssumeGrid = None,
    accept: Accept = None,
    out: Annotated[Path | None, typer.Option("--out", help="Record (JSON).")] = None,
    scorecard: Annotated[
        Path | None, typer.Option(help="Scorecard of the same volumes to add the verdict to.")
    ] = None,
    cached: Annotated[
        bool,
        typer.Option("--cache/--no-cache", help="Keep features for later runs; see `cache info`."),
    ] = True,
    json: Json = False,
) -> None:
    """Train on real, synthetic and both, test on real: do the volumes help, or hurt?"""
    from synthbench.scorecard import Scorecard
    from synthbench.utility import command
    from synthbench.utility.settings import StudySettings

    if out is not None:
        make_room("--out", out)
    if scorecard is not None:
        # A wrong file should not be named only after hours of training.
        Scorecard.load(scorecard)
    with progress_bar("utility") as advance:
        record = command.run(
            real, synth, test,
            command.Choices(
                label=label, synth_labels=synth_labels, model=model, extractor=extractor,
                network=network, seeds=seeds, epochs=epochs, batch_size=batch_size, ratios=ratios,
                splits=splits, transfer=transfer, segmentation=segmentation,
            ),
            StudySettings(
                name=name, intensity=intensity, seed=seed, assume_grid=assume_grid,
                accept=accept or (),
            ),
            cache=cached,
            progress=lambda what, done, total: advance(done, total, what), log=say,
        )  # fmt: skip
    if not is_main():
        return
    if out is not None:
        record.save(out)
        say(f"written: {out}")
    if scorecard is not None:
        before = command.add_to_scorecard(record, scorecard, synth)
        replaced = "" if before is None else f", in place of: {before.sentence} ({before.label})"
        say(f"{scorecard}: the verdict was added{replaced}")
    if json:
        sys.stdout.write(record.model_dump_json(indent=1) + "\n")
        return
    from synthbench.utility.table import utility_table

    show(utility_table(record))


@benchmark.command("init")
def benchmark_init(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Becomes leaderboards/NAME.")],
    real: Real,
    m: Annotated[
        int | None, typer.Option("--m", help="Synthetic volumes an entry is scored with.")
    ] = None,
    protocol: Annotated[
        Path | None,
        typer.Option(help="Settings: a benchmark's or a scorecard's, or YAML of some of them."),
    ] = None,
    extractor: Extractors = None,
    metric: Metrics = None,
    primary: Annotated[str, typer.Option(help="Metric that entries are ordered by.")] = "mmd2",
    like: Annotated[
        Path | None, typer.Option(help="A run whose grid to use. Default: the real cohort's.")
    ] = None,
    folder: Annotated[Path, typer.Option(help="Where benchmarks are kept.")] = Path("leaderboards"),
    intensity: Intensity = "percentile",
    seed: Seed = 0,
    assume_grid: AssumeGrid = None,
) -> None:
    """Freeze a protocol on a real cohort: grid, mask, extractors, bandwidths, floors, n and m."""
    from synthbench import scoring
    from synthbench.benchmark import (
        FILE,
        BenchmarkSettings,
        protocol_differences,
    )

    if name in ("", ".", "..") or Path(name).name != name:
        raise UsageError(
            f"{name!r}: a benchmark's name is one folder's; --folder says where that folder lies."
        )
    if (folder / name / FILE).exists():
        raise UsageError(f"{folder / name / FILE}: already there. Name another benchmark.")
    chosen = BenchmarkSettings() if protocol is None else BenchmarkSettings.load(protocol)
    _refuse_chosen(context, chosen.model_fields_set, protocol)
    options = {
        **_names(extractor, metric), "m": m, "primary": primary, "intensity": intensity,
        "seed": seed, **({} if like is None else {"space": _grid_of(like)}),
    }  # fmt: skip
    settings = chosen.model_copy(
        update={name: v for name, v in options.items() if name not in chosen.model_fields_set}
    )
    if settings.m is None:
        raise UsageError("--m: say with how many synthetic volumes an entry is scored.")
    with progress_bar("freezing") as advance:
        frozen = scoring.freeze(
            real, name, settings, _context(advance), n_synth=settings.m, primary=settings.primary,
            assume_grid=assume_grid,
        )  # fmt: skip
    if not is_main():
        return
    file = frozen.save(folder / name)
    if chosen.protocol is not None:
        changed = protocol_differences(frozen.protocol, chosen.protocol)
        say(f"differs from {protocol}: {'; '.join(changed)}" if changed else f"as {protocol}")
    say(
        f"{file}: protocol {frozen.protocol.hash}. Next: synthbench score --benchmark "
        f"{folder / name} --real {real} --synth SYNTH --out {folder / name}/entries/NAME.json"
    )


def leaderboard(
    folder: Annotated[Path, typer.Argument(help="A benchmark, or a folder of benchmarks.")] = Path(
        "leaderboards"
    ),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 where a page is stale.")
    ] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Rank: all pairs, where the entries were scored.")
    ] = False,
    multiverse: Annotated[
        bool, typer.Option("--multiverse", help="Value the entries under other choices, likewise.")
    ] = False,
    materials: Annotated[
        list[Path] | None,
        typer.Option("--materials", help="Of `score --materials`; may be repeated."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Also write one benchmark as a page for a browser.")
    ] = None,
) -> None:
    """Render a benchmark's scorecards into its README.md, with ranks where they were compared."""
    from synthbench import leaderboard as pages

    if html is not None:
        _check_html(html, check, pages.benchmarks_in(folder))
    if check and (compare or multiverse):
        raise UsageError("--check writes nothing: leave out --compare and --multiverse.")
    if materials and not (compare or multiverse):
        raise UsageError("--materials is what a ranking is made of: add --compare or --multiverse.")
    stale: list[str] = []
    for found in pages.benchmarks_in(folder):
        if check:
            try:
                pages.check_leaderboard(found)
                say(f"{found / pages.PAGE} is up to date")
            except CheckFailed as error:
                stale.append(str(error))
            continue
        if compare:
            _compare(found, materials or [])
        if multiverse:
            _multiverse(found, materials or [])
        say(f"{pages.write_leaderboard(found)} written")
        if html is not None:
            from synthbench.leaderboard_html import leaderboard_report

            _write_page(html, leaderboard_report(found))
    if stale:
        raise CheckFailed("\n".join(stale))


def _compare(folder: Path, materials: list[Path]) -> None:
    from synthbench.comparisons import compare
    from synthbench.materials import load_materials

    with progress_bar("comparing") as advance:
        found = compare(
            folder,
            source=lambda card: load_materials(card, materials),
            progress=lambda what, done, total: advance(done, total, what),
        )
    say(f"{found.save(folder)} written")


def _multiverse(folder: Path, materials: list[Path]) -> None:
    from synthbench.materials import load_materials
    from synthbench.multiverse import multiverse

    with progress_bar("multiverse") as advance:
        found = multiverse(
            folder,
            source=lambda card: load_materials(card, materials),
            progress=lambda what, done, total: advance(done, total, what),
        )
    say(f"{found.save(folder)} written")


def cite(
    scorecard: Annotated[Path, typer.Argument(help="A scorecard (JSON).")],
    json: Json = False,
) -> None:
    """Print a LaTeX row, a methods paragraph and a reporting checklist of a scorecard."""
    from synthbench.citation import cite as citation
    from synthbench.scorecard import Scorecard

    found = citation(Scorecard.load(scorecard))
    if json:
        print_json({"row": found.row, "methods": found.methods, "checklist": found.checklist})
    else:
        print(found.text)


def drift(
    baseline: Annotated[Path, typer.Argument(help="A scorecard.")],
    current: Annotated[Path, typer.Argument(help="Another, to hold against it.")],
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metrics", help="A row such as fid or ms_ssim.synth; may be repeated."),
    ] = None,
    delta: Annotated[
        list[str] | None,
        typer.Option(
            "--delta",
            metavar="METRIC=VALUE",
            help="Margin that does not matter, between samples; may be repeated.",
        ),
    ] = None,
    alpha: Annotated[float, typer.Option(help="Probability of a false alarm.")] = 0.05,
    materials: Annotated[
        list[Path] | None,
        typer.Option("--materials", help="Of `score --materials`; may be repeated."),
    ] = None,
    gate: Annotated[
        bool, typer.Option("--gate", help="Exit 1 where two generators differ, too.")
    ] = False,
    junit: Annotated[Path | None, typer.Option(help="Write a JUnit file (XML).")] = None,
    json: Json = False,
) -> None:
    """Say whether two scorecards differ by more than noise: exit 0 no, 1 drift, 2 incomparable."""
    from synthbench import drift_output
    from synthbench.drift import drift as compared
    from synthbench.files import write_atomic

    if junit is not None:
        make_room("--junit", junit)
    found = compared(
        baseline, current, metrics=metrics, deltas=_margins(delta or []), alpha=alpha,
        materials=materials or (), gate=gate,
    )  # fmt: skip
    if junit is not None:
        write_atomic(junit, drift_output.junit(found))
    if json:
        print_json({**found.model_dump(mode="json"), "exit_code": found.exit_code})
    else:
        show(drift_output.drift_table(found))
    if os.environ.get("GITHUB_ACTIONS") == "true":
        for line in drift_output.workflow_commands(found):
            say(line)
    raise typer.Exit(found.exit_code)


def _margins(given: list[str]) -> dict[str, float]:
    """Read METRIC=VALUE."""
    margins = {}
    for text in given:
        name, _, value = text.partition("=")
        try:
            margins[name] = float(value)
        except ValueError:
            raise UsageError(
                f"--delta {text}: write it as METRIC=VALUE, such as mmd2=0.005."
            ) from None
    return margins


def report(
    scorecards: Annotated[
        list[Path], typer.Argument(help="Scorecards; several are shown side by side.")
    ],
    out: Annotated[Path, typer.Option("--out", help="One HTML file.")] = Path("report.html"),
    real: Annotated[
        Path | None, typer.Option("--real", help="The real cohort that was scored: adds pictures.")
    ] = None,
    synth: Annotated[
        list[Path] | None,
        typer.Option("--synth", help="Synthetic cohort that was scored; may be repeated."),
    ] = None,
    train: Annotated[
        Path | None,
        typer.Option("--train", help="The generator's training cohort: shows nearest pairs."),
    ] = None,
    sensitivity: Annotated[
        Path | None, typer.Option(help="Record of `synthbench sensitivity`: shows its curves.")
    ] = None,
    real_pictures: Annotated[
        bool,
        typer.Option(
            "--real-pictures/--no-real-pictures",
            help="Picture and name real volumes, or leave them out.",
        ),
    ] = True,
    assume_grid: Annotated[
        str | None, typer.Option(help="Arrays without geometry: 'real', or voxel size in mm.")
    ] = None,
) -> None:
    """Write scorecards as a page for a browser: verdicts, charts, pictures; needs no network."""
    from synthbench.report import report as rendered

    make_room("--out", out)
    with progress_bar("report") as advance:
        page = rendered(
            scorecards,
            real=real,
            synths=synth or (),
            train=train,
            sensitivity=sensitivity,
            real_pictures=real_pictures,
            assume_grid=_assumed(assume_grid),
            progress=lambda what, done, total: advance(done, total, what),
            log=say,
        )
    if is_main():
        _write_page(out, page)


LISTED: dict[Kind, tuple[str, ...]] = {
    Kind.generators: ("summary", "needs"),
    Kind.metrics: ("label", "needs", "direction", "target", "sees", "misses"),
    Kind.extractors: ("summary", "needs"),
    Kind.layouts: ("signs",),
}
"""The attributes of a plugin that `list` shows."""


def list_(
    kind: Annotated[Kind, typer.Argument()],
    json: Json = False,
) -> None:
    """Show what is here, and what each needs."""
    from synthbench import registry

    rows = []
    for name in registry.names(kind.value):
        try:
            plugin = registry.load(kind.value, name)()
        except SynthbenchError as error:
            rows.append({"name": name, "broken": str(error)})
            continue
        row = {"name": name, **{field: getattr(plugin, field) for field in LISTED[kind]}}
        if kind is Kind.metrics:
            row["responds to"] = ", ".join(getattr(plugin, "responds_to", ()))
        if kind is Kind.layouts:
            row["terms"] = "of each dataset" if plugin.terms is None else plugin.terms.name
        rows.append(row)
    if kind is Kind.extractors:
        rows += [
            {"name": f"{scheme}:FILE", "summary": words, "needs": "an ONNX or .pt2 file, and YAML"}
            for scheme, words in (
                ("slices", "a 2-D network of yours on slices along three planes"),
                ("net", "a 3-D network of yours"),
            )
        ]
    if json:
        print_json(rows)
        return
    show(_metrics_listed(rows) if kind is Kind.metrics else _listed(rows))


def _listed(rows: list[dict[str, str]]) -> Any:
    from rich.table import Table

    titles = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(*titles, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(row.get(title, "") for title in titles))
    return table


def _metrics_listed(rows: list[dict[str, str]]) -> Any:
    """Each metric's name and kind on a line, and its sentences below."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[Any] = []
    for row in rows:
        if "broken" in row:
            parts.append(Text(f"{row['name']}: {row['broken']}\n", style="yellow"))
            continue
        kind = f"{row['label']}; of {row['needs']}; best {row['direction']}; target {row['target']}"
        words = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
        for field in ("sees", "misses", "responds to"):
            if row[field]:
                words.add_row("  " + field, row[field])
        parts += [Text.assemble((row["name"], "bold"), "  ", kind), words]
    return Group(*parts)


def fetch(
    name: Annotated[str, typer.Argument(help="An extractor with weights.")],
    sha256: Annotated[
        str | None, typer.Option(help="The file's hash, where synthbench knows none.")
    ] = None,
) -> None:
    """Fetch the weights of an extractor or a published generator, and verify their hash."""
    from synthbench import registry
    from synthbench.metrics.extractors import weights
    from synthbench.pretrained import PUBLISHED, fetch_published

    if name in PUBLISHED:
        for path in fetch_published(name, log=say).values():
            say(f"{path}: md5 verified, sha256 recorded")
        return
    file = getattr(registry.load("extractors", name)(), "weight_file", None)
    if file is None:
        say(f"{name} has no weights to fetch: it is ready.")
        return
    path = weights.fetch(file, sha256=sha256)
    say(f"{path}: sha256 verified, licence {file.licence}")


def demo(
    out: Annotated[Path, typer.Option("--out", help="Where everything goes.")] = Path("demo"),
) -> None:
    """Run the whole story on the embedded cohort, in minutes on two cores."""
    from synthbench.demo import run_demo

    with progress_bar("demo") as advance:
        tables = run_demo(out, progress=advance, log=say)
    for table in tables:
        show(table)


# ---------------------------------------------------------------- what the verbs need


def _context(advance: Any, cached: bool = True) -> Any:
    """Return how work is done: with the user's cache, the verb's bar and the console."""
    from synthbench.feature_cache import FeatureCache
    from synthbench.scoring_settings import Context

    return Context(
        cache=FeatureCache(log=say) if cached else None,
        progress=lambda what, done, total: advance(done, total, what),
        log=say,
    )


def _names(extractor: list[str] | None, metric: list[str] | None) -> dict[str, tuple[str, ...]]:
    """Return the settings that --extractor and --metric give; those not given keep their default.

    They are named as in `ScoringSettings`.
    """
    given = {"extractors": extractor, "metrics": metric}
    return {name: tuple(names) for name, names in given.items() if names}


def _metrics_of(choice: Any) -> tuple[str, ...]:
    from synthbench.benchmark import settings_and_benchmark
    from synthbench.protocol import metrics_of

    return metrics_of(settings_and_benchmark(choice)[0])


def _assumed(text: str | None) -> Any:
    if text is None or text == "real":
        return text
    try:
        return float(text)
    except ValueError:
        raise UsageError(
            f"--assume-grid: 'real' or a voxel size in mm is needed; found '{text}'."
        ) from None


def _check_html(file: Path, check: bool, benchmarks: list[Path]) -> None:
    if check:
        raise UsageError("--check writes nothing: leave out --html.")
    if len(benchmarks) > 1:
        names = ", ".join(str(found) for found in benchmarks)
        raise UsageError(f"--html {file}: one benchmark a page; name one of {names}.")
    make_room("--html", file)


def _write_page(file: Path, page: str) -> None:
    from synthbench.files import write_atomic

    content = page.encode()
    write_atomic(file, content)
    say(f"{file}: {len(content) / 1e6:.1f} MB, opens in any browser")


def _grid_of(run: Path) -> Any:
    import numpy as np

    from synthbench.run import Run
    from synthbench.space import Space

    grid = Run.open(run).record["space"]
    return Space.of(grid["shape"], np.array(grid["affine"]).reshape(4, 4))


def _refuse_frozen(context: typer.Context) -> None:
    """Raise where an option is given that the benchmark has frozen."""
    frozen = ("extractor", "metric", "space", "intensity", "ci", "resamples", "seed", "like")
    given = [o for o in frozen if str(context.get_parameter_source(o)).endswith("COMMANDLINE")]
    if given:
        options = ", ".join(f"--{option}" for option in given)
        raise UsageError(f"--benchmark has frozen this: leave out {options}.")


def _refuse_chosen(context: typer.Context, chosen: set[str], file: Path | None) -> None:
    """Raise where an option is given that the file of --protocol has chosen."""
    options = {"m": "m", "extractor": "extractors", "metric": "metrics", "primary": "primary",
               "like": "space", "intensity": "intensity", "seed": "seed"}  # fmt: skip
    given = [
        option
        for option, setting in options.items()
        if setting in chosen and str(context.get_parameter_source(option)).endswith("COMMANDLINE")
    ]
    if given:
        named = ", ".join(f"--{option}" for option in given)
        raise UsageError(f"--protocol {file} has chosen this: leave out {named}.")


def _version(value: bool) -> None:
    if value:
        from synthbench import __version__

        print(f"synthbench {__version__}")
        raise typer.Exit


# In this order `--help` lists them.
app.command()(train)
app.command()(sample)
app.command()(sweep)
app.command()(score)
app.command()(sensitivity)
app.command()(utility)
app.command()(leaderboard)
app.command()(cite)
app.command()(drift)
app.command()(report)
app.command("list")(list_)
app.command()(fetch)
app.command()(demo)


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line: exit 0 done, 1 a check failed, 2 could not run."""
    try:
        app()
    except SynthbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as stopped:
        # Typer makes this of Ctrl-C, without a word.
        if stopped.code == 130:
            print("interrupted", file=sys.stderr)
        raise
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception:
        traceback.print_exc()
        print(
            "error: this is a defect of synthbench: please report it with the lines above.",
            file=sys.stderr,
        )
        sys.exit(2)
