"""Sampling: NIfTI files from a finished run, each with a sidecar that says it is synthetic."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synthbench.cohorts.conditions import Conditions, Row
from synthbench.cohorts.requests import requested_for
from synthbench.errors import UsageError
from synthbench.runs.dataset_card import write_dataset_card
from synthbench.runs.folder import Run
from synthbench.runs.seal import canonical, check_sealed_before
from synthbench.runs.validation import from_options
from synthbench.runtime.callbacks import Log, to_logger
from synthbench.runtime.lock import only_writer
from synthbench.runtime.part import Part, PartRecord, check_own
from synthbench.sampling import shards
from synthbench.sampling.folder import (
    check_is_for_samples,
    count,
    volumes_in,
    write_conditions_table,
)
from synthbench.sampling.source import Source
from synthbench.sampling.trajectory import FRAMES, Following
from synthbench.sampling.watermark import WatermarkKey


@dataclass(frozen=True)
class SamplingRequest:
    """The options of a sampling.

    Attributes
    ----------
    run
        A finished run.
    n
        Number of volumes: seeds `seed` to `seed + n - 1`. None: one per row of `conditions`.
    out
        The folder of the volumes. Volumes of the same run, sampler and seed that are there are
        kept, so an interrupted call can be repeated. A dataset card (README.md) and a seal
        (`synthbench.runs.seal`) are written too.
    seed
        The first seed.
    sampler, steps
        Sampler of the generator and its steps; None: the run's own.
    clean
        True: voxels outside the brain are set to zero (`brain_only`); the sidecars record it.
    conditions
        A CSV or TSV file (`synthbench.cohorts.requests.read_conditions`), or rows: one per volume,
        in natural units.
    choices
        Texts such as `age=20:80`, `sex=F` or `sex=F,M` (`synthbench.cohorts.requests`).
    guidance
        Strength of classifier-free guidance, where the generator has it; 1: none, None: the
        run's own.
    precision
        Precision of the network, where the generator lets one choose: "fp32" or "bf16". None: fp32.
    follow
        Seed of a volume whose steps out of the noise are written to the folder OUT-trajectory
        (`synthbench.sampling.trajectory`); None: none.
    shards
        Number of tar files that hold the volumes and their sidecars, with a table (`shards.tsv`)
        beside them; None: single files.
    part
        The part of the call that is drawn, where several jobs share it;
        `synthbench.sampling.merging` joins the folders of all parts. None: the whole call.
    watermark
        A key, or `@FILE` that holds one (`synthbench.sampling.watermark.WatermarkKey.parse`): each
        volume gets its mark, faint and only found by who has the key. None: none.
    """

    run: Run | Path | str
    n: int | None
    out: Path
    seed: int = 0
    sampler: str | None = None
    steps: int | None = None
    clean: bool = False
    conditions: Path | str | Sequence[Row] | None = None
    choices: Sequence[str] = ()
    guidance: float | None = None
    precision: str | None = None
    follow: int | None = None
    shards: int | None = None
    part: Part | None = None
    watermark: str | None = field(default=None, repr=False)


def sample(
    run: Run | Path | str,
    n: int | None,
    out: Path,
    *,
    progress: Callable[[int, int, str], None] | None = None,
    log: Log = to_logger,
    **options: Any,
) -> list[Path]:
    """Sample volumes from a finished run: one seed, one NIfTI file and one sidecar per volume.

    Under `accelerate launch` the processes share the seeds. A volume depends on its seed and its
    conditions alone, so only the seconds in the sidecars depend on the number of processes.

    A conditional run gets one row of conditions per volume. A condition that is not requested is
    drawn from its training marginal, by the seed. The sidecar has the row (`conditions`), the names
    of the conditions outside the training range (`extrapolated`), and of those that were drawn
    (`drawn`); `conditions.tsv` has all rows.

    Parameters
    ----------
    run, n, out
        A finished run, the number of volumes, and their folder, as in `SamplingRequest`.
    progress
        Called with (done, total, text) after each volume; the total is this process's share.
    log
        Called with messages for the user.
    options
        The other fields of `SamplingRequest`: seed, sampler, steps, clean, conditions, choices,
        guidance, precision, follow, watermark, shards, part.

    Returns
    -------
    list of Path
        The volumes, in order of seed: 16 bit, with the affine of the training space, in [0, 1] or,
        for a run that was trained on a quantitative map, in its unit. The path of a volume in a
        shard is that of the shard and its name in it; what reads volumes takes such paths.

    Raises
    ------
    SynthbenchError
        The run has not finished or is not conditional, the request is impossible, or `out` or
        OUT-trajectory holds volumes of another origin or of other conditions, or volumes that were
        changed since they were sealed. It is raised before anything is drawn or written.
    TypeError
        There is no such option; the nearest is named.
    """
    options = {"run": run, "n": n, "out": out, **options}
    return run_sampling(from_options(SamplingRequest, "sample", options), progress, log)


def run_sampling(
    request: SamplingRequest,
    progress: Callable[[int, int, str], None] | None = None,
    log: Log = to_logger,
) -> list[Path]:
    """Sample as requested and return the volumes; raises as `sample` does."""
    # Imported here because it needs torch: importing this module must not.
    from synthbench.runtime.processes import is_main

    with only_writer(request.out) if is_main() else nullcontext():
        return _sampled(request, progress, log)


def _sampled(
    request: SamplingRequest, progress: Callable[[int, int, str], None] | None, log: Log
) -> list[Path]:
    """Sample as requested, as the only writer into the folder; return the volumes."""
    from synthbench.runtime.processes import processes

    plan = _Plan.of(request)
    state = processes()
    # No process writes before all have listed what is missing: their lists must be the same.
    state.wait_for_everyone()
    if state.is_main_process:
        _begin(plan, request, log)
    _draw(plan, state.process_index, state.num_processes, progress)
    state.wait_for_everyone()
    if state.is_main_process:
        if plan.part is not None:
            plan.part.write(plan.out, finished=True)
        complete(plan.source, plan.out, log)
    return list(plan.files.values())


def part_of(request: SamplingRequest) -> PartRecord:
    """Return the record of the part that a request asks for; nothing is drawn or written.

    Raises
    ------
    SynthbenchError
        As `sample` does, before it draws.
    """
    record = _Plan.of(request).part
    if record is None:
        raise UsageError("the request is for no part of a call.")
    return record


def complete(source: Source, out: Path, log: Log) -> None:
    """Write what a folder has beside its volumes: tables, the dataset card, and the seal."""
    volumes = volumes_in(out)
    if source.conditions.names:
        write_conditions_table(out / "conditions.tsv", volumes)
    if shards.shards_in(out):
        shards.write_table(out, volumes)
    write_dataset_card(out, source.run, volumes, log=log)
    source.seal(out, volumes, log)


@dataclass(frozen=True)
class _Plan:
    """The volumes that a request needs.

    Attributes
    ----------
    source, out
        The source of the volumes, and their folder.
    files, rows
        File and conditions of each seed; rows are empty where the run is not conditional.
    missing
        The seeds whose volumes are not in the folder, nor in a shard that was begun.
    begun
        The volumes that unfinished shards hold (`synthbench.sampling.shards.begun`).
    unrequested
        The conditions that were not requested.
    following
        The trajectory to draw, or None.
    sharded
        True where the volumes go into shards.
    part
        The record of the part that is drawn; None: the whole call.
    """

    source: Source
    out: Path
    files: Mapping[int, Path]
    rows: Mapping[int, Row]
    missing: Sequence[int]
    begun: Mapping[Path, Path]
    unrequested: Sequence[str]
    following: Following | None
    sharded: bool
    part: PartRecord | None

    @classmethod
    def of(cls, request: SamplingRequest) -> _Plan:
        """Return the plan of a request; raise, before anything is drawn, where it is impossible."""
        n, seed, out = request.n, request.seed, Path(request.out)
        if (n is not None and n < 1) or seed < 0:
            raise UsageError(f"--n must be at least 1 and --seed at least 0; found {n} and {seed}.")
        key = None if request.watermark is None else WatermarkKey.parse(request.watermark)
        source = Source.of(
            request.run, request.sampler, request.steps, request.clean, request.guidance, key,
            request.precision,
        )  # fmt: skip
        table, chosen = source.wanted(request.conditions, request.choices)
        seeds = range(seed, seed + count(n, table))
        rows = source.rows(seeds, table, chosen)
        files = (
            {s: out / f"synth-{s:06d}.nii.gz" for s in seeds}
            if request.shards is None
            else shards.shard_files(out, seeds, request.shards)
        )
        part = None
        if request.part is not None:
            part = _part_record(request, source, list(files), rows)
            files = _chosen(files, request.part, sharded=request.shards is not None)
            rows = {s: rows[s] for s in files}
        check_own(out, part)
        shards.check_division(out, files)
        begun = {} if request.shards is None else shards.begun(files.values())
        rows_of_files = {files[s]: row for s, row in rows.items()}
        rows_of_files |= {begun[file]: row for file, row in rows_of_files.items() if file in begun}
        volumes = volumes_in(out)
        there = {f for f in [*volumes, *begun.values()] if source.drew(f, rows_of_files.get(f))}
        check_is_for_samples(out)
        check_sealed_before(out, volumes)
        return cls(
            source, out, files, rows,
            missing=[s for s, file in files.items() if begun.get(file, file) not in there],
            begun=begun,
            unrequested=[
                n for n in source.conditions.names if n not in (*chosen, *requested_for(table))
            ],
            following=_following(request, tabled=table is not None),
            sharded=request.shards is not None,
            part=part,
        )  # fmt: skip


def _chosen(files: Mapping[int, Path], part: Part, *, sharded: bool) -> dict[int, Path]:
    """Return the files of one part: whole shards, or single files."""
    if not sharded:
        return {seed: files[seed] for seed in part.chosen(list(files))}
    own = {shard for shard, _ in part.chosen(shards.by_shard(files.values()))}
    return {seed: file for seed, file in files.items() if file.parent in own}


def _part_record(
    request: SamplingRequest, source: Source, seeds: Sequence[int], rows: Mapping[int, Row]
) -> PartRecord:
    """Return the record of the part that is requested; all parts of a call have the same `call`."""
    assert request.part is not None
    if request.follow is not None:
        raise UsageError("--trajectory: leave it out where --shard divides the call.")
    whole = [dict(source.origin), [seeds[0], seeds[-1]], request.shards, list(rows.values())]
    return PartRecord(
        verb="sample",
        part=request.part.number,
        of=request.part.of,
        call=hashlib.sha256(canonical(whole)).hexdigest(),
        run=str(source.run.folder.resolve()),
        options={
            "sampler": request.sampler, "steps": request.steps, "clean": request.clean,
            "guidance": request.guidance, "precision": request.precision,
        },
    )  # fmt: skip


def _following(request: SamplingRequest, *, tabled: bool) -> Following | None:
    """Return the trajectory that is requested, or None; its volume is never cleaned or marked."""
    if request.follow is None:
        return None
    if tabled:
        raise UsageError(
            "--trajectory: it shows one volume, so a table cannot be used. Leave out --conditions, "
            "and request with --condition."
        )
    source = Source.of(
        request.run, request.sampler, request.steps, False, request.guidance,
        precision=request.precision,
    )  # fmt: skip
    folder = _beside(Path(request.out))
    return Following.of(source, request.follow, folder, request.choices, FRAMES)


def _begin(plan: _Plan, request: SamplingRequest, log: Log) -> None:
    """Describe the folder, draw the trajectory, and log what the user should know."""
    plan.source.describe(plan.out)
    if plan.part is not None:
        plan.part.write(plan.out, finished=False)
    shards.remove_stale(plan.out)
    if plan.source.watermark is not None:
        log(
            f"watermark: of the key {plan.source.watermark.identity}. Keep the key secret: without "
            "it nobody finds the mark, and with it anybody can take it out."
        )
    if plan.following is not None:
        log(f"{plan.following.write()}, and the predicted volumes in it as a 4-D file")
        if request.clean or plan.source.watermark is not None:
            log(
                "The trajectory is neither cleaned nor marked: it shows what the network predicted."
            )
    remarks = _remarks(plan.source.conditions, plan.unrequested, list(plan.rows.values()))
    for sentence in [*plan.source.warnings(), *remarks]:
        log(sentence)


def _draw(
    plan: _Plan,
    process: int,
    processes: int,
    progress: Callable[[int, int, str], None] | None,
) -> None:
    """Draw and write the volumes that are this process's share of what is missing."""
    seeds, last = list(plan.missing[process::processes]), set[int]()
    if plan.sharded:
        # One process alone writes into a shard.
        own = shards.by_shard(plan.files.values())[process::processes]
        seeds, last = _begin_shards(plan, [held for shard, held in own if not shard.exists()])
    volumes = plan.source.draw(seeds, [plan.rows[s] for s in seeds])
    for done, s in enumerate(seeds, 1):
        began = time.perf_counter()
        volume = next(volumes)
        seconds = time.perf_counter() - began
        about = (volume, s, plan.files[s], seconds, plan.rows[s])
        if plan.sharded:
            shards.append(plan.files[s], *plan.source.content(*about, drawn=plan.unrequested))
        else:
            plan.source.write(*about, drawn=plan.unrequested)
        if s in last:
            shards.finish(plan.files[s].parent)
        if progress:
            progress(done, len(seeds), f"seed {s}")


def _begin_shards(plan: _Plan, unfinished: Sequence[Sequence[Path]]) -> tuple[list[int], set[int]]:
    """Prepare shards for what they lack; return the missing seeds, and the last one of each shard.

    Parameters
    ----------
    unfinished
        The volumes of each shard.
    """
    seed_of = {plan.files[s]: s for s in plan.missing}
    seeds, last = [], set()
    for files in unfinished:
        shard, missing = files[0].parent, [seed_of[file] for file in files if file in seed_of]
        shards.cut_after(shard, [plan.begun[file] for file in files if file in plan.begun])
        if not missing:  # it was stopped before it got its end
            shards.finish(shard)
            continue
        seeds += missing
        last.add(missing[-1])
    return seeds, last


def _remarks(conditions: Conditions, unrequested: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """Return messages on conditions that are drawn, and on requests beyond the training range."""
    sentences = []
    if unrequested:
        sentences.append(
            f"{', '.join(unrequested)}: not requested, so drawn from the training split's "
            "distribution" + (", each by itself." if len(conditions.names) > 1 else ".")
        )
    beyond = Counter(name for row in rows for name in conditions.extrapolated(row))
    sentences += [
        f"{name}: {count} of {len(rows)} volumes are requested beyond the training range "
        f"({conditions[name].low:g} to {conditions[name].high:g}): they are extrapolated, and "
        "marked so."
        for name, count in beyond.items()
    ]
    return sentences


def _beside(out: Path) -> Path:
    """Return the folder of the trajectory.

    It is not inside `out`: `score` reads every NIfTI file below a folder.
    """
    named = out if out.name not in ("", "..") else out.resolve()
    return named.with_name(f"{named.name}-trajectory")
