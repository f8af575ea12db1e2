"""The verbs of folders of synthetic volumes: `sample`, `import`, `verify`; and `key`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from synthbench.cli.common.slurm import SlurmOptions, words_of
from synthbench.cli.console import answer, log, progress_bar
from synthbench.cli.options import FileOptions, Guidance, Precision, Seed, Steps
from synthbench.errors import CheckFailed, UsageError
from synthbench.generators.diffusion.samplers import samplers_in_words

if TYPE_CHECKING:
    from synthbench.runs.seal import Verdict


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """How many volumes, of which conditions, and how they are drawn."""

    panel: ClassVar[str] = "What is drawn, and how"

    n: Annotated[
        int | None,
        typer.Option("--n", min=1, help="How many volumes. Default: one per row of --conditions."),
    ] = None
    seed: Seed = 0
    condition: Annotated[
        list[str] | None,
        typer.Option(
            "--condition",
            metavar="NAME=VALUE",
            help="What to ask of a conditional run: age=20:80 (a range), sex=F, or sex=F,M (in "
            "turn); may be repeated.",
        ),
    ] = None
    conditions: Annotated[
        Path | None,
        typer.Option(help="CSV/TSV of conditions: one column per covariate, one row per volume."),
    ] = None
    guidance: Guidance = None
    sampler: Annotated[
        str | None,
        typer.Option(help=f"For ddpm3d and ldm3d: {samplers_in_words()}. Default: the run's own."),
    ] = None
    steps: Steps = None
    precision: Precision = None
    clean: Annotated[
        bool, typer.Option("--clean", help="Set what lies outside the brain to zero.")
    ] = False
    watermark: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="Put a faint mark into the voxels that only this key finds: at least 16 "
            "characters, or @FILE that holds them.",
        ),
    ] = None
    trajectory: Annotated[
        int | None,
        typer.Option(min=0, help="Seed of a volume whose denoising to keep, in OUT-trajectory."),
    ] = None
    shards: Annotated[
        int | None,
        typer.Option(metavar="K", min=1, help="Write K tar files of volumes, not single files."),
    ] = None
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Draw the I-th of N parts: one job of several."),
    ] = None
    dask: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Dask scheduler whose workers draw --jobs parts."),
    ] = None
    jobs: Annotated[int, typer.Option(metavar="N", min=1, help="Parts of --dask or --slurm.")] = 1


def sample(
    *,
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="A run folder; atlas: the one in the package.")],
    out: Annotated[Path, typer.Option("--out", help="Where the volumes go.")],
    options: SampleOptions,
    slurm: SlurmOptions,
) -> None:
    """Sample volumes from a run: NIfTI files with a sidecar that says they are synthetic."""
    from synthbench.runtime.part import Part
    from synthbench.sampling import sampling
    from synthbench.sampling.distributed import sample_on_dask, sample_on_slurm

    part = None if options.shard is None else Part.parse(options.shard)
    array = slurm.settings()
    if options.dask is None and array is None and options.jobs > 1:
        raise UsageError("--jobs: it divides the call of --dask ADDRESS or --slurm; add one.")
    if options.dask is not None and array is not None:
        raise UsageError("--dask and --slurm: both divide the call. Leave one out.")
    chosen: dict[str, Any] = {
        "seed": options.seed, "sampler": options.sampler, "steps": options.steps,
        "clean": options.clean, "conditions": options.conditions,
        "choices": options.condition or (), "guidance": options.guidance,
        "precision": options.precision,
        "follow": options.trajectory, "watermark": options.watermark,
        "shards": options.shards, "part": part,
    }  # fmt: skip
    with progress_bar("sampling") as advance:
        request = sampling.SamplingRequest(run, options.n, out, **chosen)
        how: dict[str, Any] = {"progress": advance, "log": log}
        if array is not None:
            files = sample_on_slurm(request, words_of(context), options.jobs, array, **how)
        elif options.dask is not None:
            files = sample_on_dask(request, options.dask, options.jobs, **how)
        else:
            files = sampling.run_sampling(request, **how)
    first, last = (file.name.removeprefix("synth-").split(".")[0] for file in (files[0], files[-1]))
    drawn = (
        f"{len(files)} volumes, seeds {int(first)} to {int(last)}"
        if len(files) > 1
        else f"1 volume, seed {int(first)}"
    )
    log(f"{drawn}, in {out}")
    answer([str(file) for file in files])


def merge(
    parts: Annotated[
        list[Path], typer.Argument(metavar="PART...", help="The folders of all parts.")
    ],
    out: Annotated[Path, typer.Option("--out", help="A new folder: the whole call's.")],
    run: Annotated[
        Path | None, typer.Option("--run", help="The run folder, where it was moved since.")
    ] = None,
) -> None:
    """Join the parts of sample, import or data prepare --shard: as if one job had written all."""
    from synthbench.runtime.part import read_part
    from synthbench.sampling.merging import merge as merge_parts

    first = read_part(parts[0])
    if first is not None and first.verb == "data prepare":
        _merge_prepared(parts, out, run)
        return
    with progress_bar("merging") as advance:
        files = merge_parts(parts, out, run=run, progress=advance, log=log)
    log(f"{len(files)} volumes of {len(parts)} parts, in {out}")
    answer([str(file) for file in files])


def _merge_prepared(parts: list[Path], out: Path, run: Path | None) -> None:
    from synthbench.cohorts.preparation.cohort import merge as merge_parts

    if run is not None:
        raise UsageError("--run: prepared scans are not drawn from a run. Leave it out.")
    with progress_bar("merging") as advance:
        summary = merge_parts(
            parts, out, progress=lambda name, done, total: advance(done, total, name)
        )
    log(f"{len(summary)} scans of {len(parts)} parts, in {out}")
    answer({"folder": str(out), "prepared": len(summary)})


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What is stated of volumes that were made elsewhere."""

    panel: ClassVar[str] = "What is stated of the volumes"

    name: Annotated[
        str | None,
        typer.Option("--name", help="What tables call what made them. Default: the folder's name."),
    ] = None
    out: Annotated[
        Path | None, typer.Option("--out", help="A new folder. Default: DIR-imported.")
    ] = None
    like: Annotated[
        Path | None,
        typer.Option(help="Real cohort whose grid the volumes have: a folder or manifest."),
    ] = None
    value_range: Annotated[
        str | None,
        typer.Option("--range", metavar="LO:HI", help="Values that become 0 and 1, such as -1:1."),
    ] = None
    orientation: Annotated[
        str | None,
        typer.Option(
            metavar="CODES",
            help="Where the arrays' axes go, in place of what headers say: RAS is to the right, "
            "front and top.",
        ),
    ] = None
    spacing: Annotated[
        str | None,
        typer.Option(metavar="MM", help="Voxel size of files that state none; real: as --like."),
    ] = None
    manifest: Annotated[
        Path | None,
        typer.Option(
            help="CSV/TSV with a column path: the files to take. Other columns are what was "
            "requested of each."
        ),
    ] = None
    made_by: Annotated[
        str | None,
        typer.Option("--made-by", metavar="TEXT", help="The program and its version; recorded."),
    ] = None
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Bring in the I-th of N parts: one job of several."),
    ] = None
    jobs: Annotated[int, typer.Option(metavar="N", min=1, help="Parts of --slurm.")] = 1


def import_(
    *,
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of volumes.")],
    options: ImportOptions,
    files: FileOptions,
    slurm: SlurmOptions,
) -> None:
    """Bring in volumes that were made elsewhere: npy, no geometry, any scale, any axes."""
    from synthbench.cohorts.foreign.rules import Statement
    from synthbench.runtime.part import Part
    from synthbench.runtime.slurm import part_folders, run_parts
    from synthbench.sampling.importing import ImportRequest, import_volumes
    from synthbench.sampling.merging import merge as merge_parts

    array = slurm.settings()
    if array is None and options.jobs > 1:
        raise UsageError("--jobs: it divides the volumes of --slurm; add that.")
    if array is not None and (options.out is None or options.shard is not None):
        raise UsageError("--slurm: name the folder of the copies (--out), and leave out --shard.")
    stated = Statement.parse(options.value_range, options.orientation, options.spacing)
    request = ImportRequest(
        files.of(source), options.name, options.out, files.of(options.like), options.manifest,
        stated, options.made_by, None if options.shard is None else Part.parse(options.shard),
    )  # fmt: skip
    with progress_bar("importing") as advance:
        if array is None or options.out is None:
            copies = import_volumes(request, advance, log)
        else:
            folders = part_folders(options.out, options.jobs)
            run_parts(words_of(context), folders, array, progress=advance, log=log)
            copies = merge_parts(folders, options.out, log=log)
    answer([str(copy) for copy in copies])


def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of volumes.")],
    key: Annotated[
        str | None,
        typer.Option(
            metavar="PUBLIC",
            help="The maker's public key: its file, its line, or its fingerprint (SHA256:...). "
            "Default: any key.",
        ),
    ] = None,
) -> None:
    """Verify that volumes are those that were sealed, and say by whose key."""
    from synthbench.runs import seal
    from synthbench.runs.signing import expected_fingerprint

    expected = None if key is None else expected_fingerprint(key)
    found = seal.verify(folder, expected)
    answer({"verified": found.verified, "expected": expected, **asdict(found)})
    for what in ("changed", "missing", "added"):
        for name in getattr(found, what):
            log(f"{what}: {name if name.isprintable() else ascii(name)}")
    sentences = [_files_in_words(found), _signature_in_words(found, expected)]
    if not found.verified:
        raise CheckFailed(f"{folder}: {' '.join(sentences)}")
    log(f"{folder}: {' '.join(sentences)}")


def _files_in_words(found: Verdict) -> str:
    if found.untouched:
        return f"all {found.files} files are as they were sealed."
    return (
        f"not as it was sealed: of {found.files} files {len(found.changed)} are changed and "
        f"{len(found.missing)} missing, and {len(found.added)} are added."
    )


def _signature_in_words(found: Verdict, expected: str | None) -> str:
    whose = f"the key {found.signer}" + (" (yours)" if found.own else "")
    if found.signature == "none":
        return "The seal is not signed, so anybody could have written it."
    if found.signature == "broken":
        return f"The seal was changed after {whose} signed it."
    if found.signature == "of another key":
        return f"The seal is signed by {whose}, not by {expected}."
    if expected is None and not found.own:
        return f"Signed by {whose}: compare it with the one that the maker published."
    return f"Signed by {whose}."


def key(
    new: Annotated[bool, typer.Option("--new", help="Make your key, in your own folder.")] = False,
) -> None:
    """Show the public key of your seals, or make one: `key > maker.pub` writes it to a file."""
    from synthbench.runs.signing import SigningKey, key_file

    held = SigningKey.new() if new else SigningKey.found()
    if held is None:
        raise UsageError(f"{key_file()}: you have no key yet. Make one: synthbench key --new")
    fields = {"fingerprint": held.public.fingerprint, "public_key": held.public.line}
    answer({**fields, "file": str(held.file)}, lambda: held.public.line)
    if new:
        log(
            f"made: {held.file} (private, keep it to yourself) and {held.file}.pub. Publish the "
            "public key, or its fingerprint, where others can trust that it is yours."
        )
    log(f"fingerprint: {held.public.fingerprint}")
