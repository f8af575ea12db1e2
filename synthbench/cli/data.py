"""The verbs of `data`: simulate, look at, select, split and prepare cohorts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synthbench.cli.common.slurm import SlurmOptions, words_of
from synthbench.cli.console import answer, log, progress_bar, writing, writing_into
from synthbench.cli.options import AssumeGrid, FileOptions, Seed
from synthbench.errors import CheckFailed, UsageError
from synthbench.registry import BUILT_IN

if TYPE_CHECKING:
    from synthbench.cohorts.choice import CohortFiles
    from synthbench.cohorts.preflight.check import Report

Layout = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        # The names only: to look for plugins would slow every help page down.
        help=f"{', '.join(BUILT_IN['layouts'])}, or one of a plugin. Default: recognised.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class ScanOptions:
    """Which scans of a download are taken."""

    files: FileOptions
    layout: Layout = None


def atlas(
    n: Annotated[int, typer.Option("--n", help="Subjects.")],
    out: Annotated[Path, typer.Option("--out", help="A new folder (BIDS derivative).")],
    seed: Seed = 0,
    shape: Annotated[
        tuple[int, int, int],
        typer.Option(metavar="X Y Z", help="Voxels to the right, front and top."),
    ] = (84, 128, 84),
    labels: Annotated[
        bool, typer.Option("--labels", help="Write true tissues too, as label maps (dseg).")
    ] = False,
) -> None:
    """Simulate a cohort from the MNI152 template, with true age, sex and volumes."""
    from synthbench.simulation.cohort import atlas_cohort

    with progress_bar("simulating") as advance:
        atlas_cohort(
            n, out,
            seed=seed, shape=shape, labels=labels, progress=lambda done: advance(done, n, ""),
        )  # fmt: skip
    log(f"{n} simulated subjects in {out}; their truth in {out / 'participants.tsv'}")
    answer({"folder": str(out), "subjects": n, "seed": seed, "shape": list(shape)})


def info(
    *,
    context: typer.Context,
    cohort: Annotated[Path, typer.Argument(help="A folder, BIDS folder or manifest.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="A folder for montage.png and histograms.png.")
    ] = None,
    files: FileOptions,
    assume_grid: AssumeGrid = None,
    identifiers: Annotated[
        bool,
        typer.Option("--identifiers", help="Print what may tell a person, not only where it is."),
    ] = False,
) -> None:
    """Look at a cohort before it is used: what it is, and what would make numbers wrong."""
    from synthbench.cohorts.preflight import check, table

    context.with_resource(writing_into(out))
    with progress_bar("reading") as advance:
        report = check.report(
            files.of(cohort),
            assume_grid,
            progress=lambda done: advance(done, 0, ""),
            identifiers=identifiers,
        )
    answer(table.as_json(report), lambda: table.as_table(report))
    if out is not None:
        from synthbench.cohorts.preflight.figures import figures

        for file in figures(report, out):
            log(f"written: {file}")
    if report.failed:
        raise CheckFailed(
            f"{cohort} cannot be used as it is: {len(report.unusable)} unusable files, "
            f"{sum(f.severity == 'error' for f in report.findings)} findings that would make "
            f"numbers wrong.{_foreign(files.of(cohort), report)}"
        )


def _foreign(source: CohortFiles, report: Report) -> str:
    """Return what is wrong with volumes that were made elsewhere, where no file can be used."""
    from synthbench.cohorts.foreign.diagnosis import diagnose

    if report.entries:
        return ""
    found = diagnose(source)
    return f"\n{found.message}" if found.is_foreign else ""


def select(
    *,
    context: typer.Context,
    source: Annotated[Path, typer.Argument(help="A cohort as downloaded, or a manifest.")],
    out: Annotated[Path | None, typer.Option("--out", help="A new .csv or .tsv.")] = None,
    where: Annotated[
        str | None, typer.Option(help="A condition: \"diagnosis == 'CN' and age > 50\".")
    ] = None,
    one_scan_per_subject: Annotated[
        bool, typer.Option("--one-scan-per-subject", help="The preferred scan of one visit.")
    ] = False,
    scan: Annotated[str, typer.Option(help="Which visit: first or last.")] = "first",
    scans: ScanOptions,
    list_: Annotated[bool, typer.Option("--list", help="Print the scans, tab-separated.")] = False,
) -> None:
    """Select scans by age, sex, diagnosis and whatever else is known, into a manifest."""
    from synthbench.cohorts.datasets.selection import (
        check_out,
        chosen_scans,
        listing,
        records,
        write_manifest,
    )

    if out is None and not list_:
        raise UsageError("name the manifest to write (--out FILE.csv), or look first (--list).")
    context.with_resource(writing(context.params, out=out))
    if out is not None:
        check_out(out)
    chosen = chosen_scans(
        scans.files.of(source), where=where, one_scan_per_subject=one_scan_per_subject, scan=scan,
        layout=scans.layout,
    )  # fmt: skip
    log("\n".join(chosen.account()))
    if out is not None:
        write_manifest(chosen, out)
        log(f"written: {out}")
    account = {"account": list(chosen.account()), "manifest": out and str(out)}
    answer(
        {**account, "scans": records(chosen.rows)} if list_ else account,
        (lambda: listing(chosen.rows)) if list_ else None,
    )


def split_(
    *,
    cohort: Annotated[Path, typer.Argument(help="A folder, BIDS folder or manifest.")],
    out: Annotated[Path, typer.Option("--out", help="Where split.tsv and the manifests go.")],
    sizes: Annotated[
        list[str] | None,
        typer.Option(
            "--part",
            help="NAME=SUBJECTS or NAME=SHARE%, repeated. "
            "Default: train=60% validation=10% holdout=30%.",
        ),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(help="Column to balance the parts on, repeated. Default: site, sex, age."),
    ] = None,
    repeat: Annotated[
        int | None,
        typer.Option(
            metavar="K", min=1, help="Draw K splits: folders split-1 to split-K, seeds from --seed."
        ),
    ] = None,
    files: FileOptions,
    seed: Seed = 0,
    assume_grid: AssumeGrid = None,
) -> None:
    """Split a cohort by subject, balanced in site, sex and age: one manifest per part."""
    from synthbench.cohorts.split import check_part_names, split, split_repeatedly

    named = [_part(text) for text in sizes or ()]
    # Here too: of two parts of one name, a dictionary keeps the last.
    check_part_names(part for part, _ in named)
    sizes_of, source = dict(named) or None, files.of(cohort)
    with progress_bar("checking") as advance:
        chosen: dict[str, Any] = {
            "by": by, "seed": seed, "assume_grid": assume_grid,
            "progress": lambda done: advance(done, 0, ""),
        }  # fmt: skip
        splits = (
            [split(source, sizes_of, out, **chosen)]
            if repeat is None
            else split_repeatedly(source, sizes_of, out, repeat, **chosen)
        )
    for remark in splits[0].remarks:
        log(remark)
    if not splits[0].stratified_by:
        log("no site, sex or age is known of these subjects: drawn at random, balanced on nothing")
    for drawn in splits:
        for part, row in drawn.balance().iterrows():
            words = "; ".join(f"{name} {value}" for name, value in row.items())
            log(f"{drawn.manifests[str(part)]}: {words}")
    if splits[0].left_out:
        log(f"{splits[0].left_out} of {len(splits[0].subjects)} subjects are in no part")
    answer([
        {
            "parts": {
                str(part): {"manifest": str(drawn.manifests[str(part)]), **row.astype(str)}
                for part, row in drawn.balance().iterrows()
            },
            "balanced_on": list(drawn.stratified_by),
            "left_out": drawn.left_out,
        }
        for drawn in splits
    ])  # fmt: skip


def _part(text: str) -> tuple[str, int | float]:
    part, _, size = text.partition("=")
    number = size.removesuffix("%")
    if not (part and number.isdigit()):
        raise UsageError(
            f"--part {text}: write it as NAME=SUBJECTS or NAME=SHARE%, for example train=70"
        )
    return part, int(number) / 100 if size.endswith("%") else int(number)


def export(
    *,
    source: Annotated[Path, typer.Argument(help="A folder of shards, or their table.")],
    out: Annotated[Path, typer.Option("--out", help="A new folder (BIDS derivative).")],
    files: FileOptions,
) -> None:
    """Write the volumes of shards as single files, in a BIDS folder."""
    from synthbench.sampling.export import export as export_cohort

    with progress_bar("exporting") as advance:
        written = export_cohort(files.of(source), out, progress=advance, log=log)
    answer({"folder": str(out), "volumes": len(written)})


@dataclass(frozen=True, kw_only=True)
class PrepareWork:
    """Which processes and machines prepare the scans."""

    jobs: Annotated[
        int,
        typer.Option(
            metavar="N", help="Scans at a time, one core each; with --slurm: parts of the cohort."
        ),
    ] = 1
    dask: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Address of a Dask scheduler, in place of --jobs."),
    ] = None
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Prepare the I-th of N parts: one job of several."),
    ] = None
    slurm: SlurmOptions


def prepare(
    *,
    context: typer.Context,
    source: Annotated[Path, typer.Argument(help="A cohort as downloaded, or a manifest.")],
    out: Annotated[Path, typer.Option("--out", help="A folder (BIDS derivative).")],
    scans: ScanOptions,
    shape: Annotated[
        tuple[int, int, int] | None,
        typer.Option(
            metavar="X Y Z", help="Voxels to the right, front and top. Default: 84 128 84."
        ),
    ] = None,
    spacing: Annotated[
        float | None,
        typer.Option(metavar="MM", help="Voxel size. Default: the MNI box over the shape."),
    ] = None,
    brain_extraction: Annotated[
        str,
        typer.Option(
            "--brain-extraction",
            "--brain",
            metavar="TOOL",
            help="builtin, deepbet (a package), or on PATH: hd-bet, synthstrip, ants.",
        ),
    ] = "builtin",
    denoise: Annotated[
        bool, typer.Option("--denoise/--no-denoise", help="Non-local means first.")
    ] = True,
    work: PrepareWork,
) -> None:
    """Prepare whole-head T1w scans: skull-stripped, in MNI152 space, intensities in [0, 1]."""
    from synthbench.cohorts.preparation import Settings
    from synthbench.cohorts.preparation.cohort import merge
    from synthbench.cohorts.preparation.cohort import prepare as prepare_cohort
    from synthbench.runtime.part import Part
    from synthbench.runtime.slurm import part_folders, run_parts
    from synthbench.volumes.grid import PAPER_GRID

    array = work.slurm.settings()
    if array is not None and (work.dask or work.shard):
        raise UsageError("--slurm: leave out --dask and --shard, because --jobs divides the scans.")

    settings = Settings.chosen(
        PAPER_GRID.regrid(shape, spacing), brain_extraction=brain_extraction, denoise=denoise
    )
    with progress_bar("preparing") as advance:
        how: dict[str, Any] = {"progress": lambda name, done, total: advance(done, total, name)}
        if array is not None:
            folders = part_folders(out, work.jobs)
            run_parts(words_of(context), folders, array, progress=advance, log=log)
            summary = merge(folders, out, **how)
        else:
            summary = prepare_cohort(
                scans.files.of(source), out,
                settings=settings, layout=scans.layout, jobs=work.jobs, dask=work.dask,
                part=None if work.shard is None else Part.parse(work.shard), log=log, **how,
            )  # fmt: skip
    kept = int(summary["kept"].sum())
    before = f", {kept} kept from an earlier run" if kept else ""
    log(
        f"{len(summary) - kept} scans prepared{before}, in {out}; look at the pictures "
        "*_desc-quality_T1w.png"
    )
    answer({"folder": str(out), "prepared": len(summary) - kept, "kept": kept})
