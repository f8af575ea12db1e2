"""Sampling: from a finished run to NIfTI files, each with a sidecar that says it is synthetic."""

from __future__ import annotations

import io
import json
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from scipy import ndimage

import synthbench
from synthbench import registry
from synthbench.cards import licence, write_dataset_card
from synthbench.conditions import (
    MISSING,
    Choice,
    Conditions,
    Row,
    asked_for,
    cell,
    parse_choices,
    read_conditions,
    rows_for,
)
from synthbench.errors import UsageError
from synthbench.files import nifti_bytes, write_atomic
from synthbench.generators.generator import Conditional, Frame, Guided, HasTrajectory, takes
from synthbench.montage import planes
from synthbench.run import Run
from synthbench.runs.sidecar import read_sidecar, sidecar_file
from synthbench.runtime.callbacks import Log, no_log
from synthbench.settings import from_options
from synthbench.space import Space, quantity

CLEAN_ABOVE = 0.05
"""What `brain_only` takes for tissue, on the intensity scale of [0, 1]."""

FRAMES = 8
"""Columns of a trajectory's picture."""


@dataclass(frozen=True)
class SamplingRequest:
    """What volumes are asked for.

    Attributes
    ----------
    run
        A finished run.
    n
        How many volumes: seeds `seed` to `seed + n - 1`. None: one per row of `conditions`.
    out
        A folder; files that this run, sampler and seed already wrote there are kept, so an
        interrupted call can be repeated. A dataset card (README.md) is written beside them.
    seed
        The first.
    sampler, steps
        Of the generator; None: the run's own.
    clean
        Set what lies outside the brain to zero (`brain_only`); the sidecars record it.
    conditions
        A CSV or TSV file (`synthbench.conditions.read_conditions`), or rows: one per volume, in
        natural units.
    choices
        `age=20:80`, `sex=F`, `sex=F,M`: see `synthbench.conditions.parse_condition`.
    guidance
        How strongly a conditional generator that has classifier-free guidance follows what is
        requested; 1 is none, None the run's own.
    follow
        Seed of a volume whose way out of the noise is kept too, in the folder OUT-trajectory: see
        `trajectory`.
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
    follow: int | None = None


def sample(
    run: Run | Path | str,
    n: int | None,
    out: Path,
    *,
    progress: Callable[[int, int, str], None] | None = None,
    log: Log = no_log,
    **options: Any,
) -> list[Path]:
    """Sample volumes from a finished run; one seed, one NIfTI file and one sidecar per volume.

    Under `accelerate launch` the seeds are dealt to the processes; a volume depends on its seed
    and its conditions alone, so the files are the same but for the seconds in their sidecars.

    A conditional run is given a row of conditions for each volume. What is not requested is drawn
    from the training split's marginals, each condition by itself, as a function of the seed. The
    sidecars keep the row (`conditions`), which of it lies outside the training range
    (`extrapolated`) and which of it was drawn (`drawn`); `conditions.tsv` holds all rows.

    Parameters
    ----------
    run, n, out
        A finished run, how many volumes, and their folder: see `SamplingRequest`.
    progress
        Called with (done, total, words) after each volume; the total is this process's share.
    log
        Called with sentences for the user.
    options
        The other fields of `SamplingRequest`: seed, sampler, steps, clean, conditions, choices,
        guidance, follow.

    Returns
    -------
    list of Path
        The volumes, in order of seed: 16 bit, the training space's affine, in [0, 1] or, where
        the run was trained on a quantitative map, in its unit.

    Raises
    ------
    SynthbenchError
        The run has not finished or is not conditional, what is requested is not to be had, or
        `out` or OUT-trajectory holds volumes of another origin or of other conditions. Nothing has
        been drawn or written then.
    TypeError
        There is no such option; the nearest is named.
    """
    given = {"run": run, "n": n, "out": out, **options}
    return run_sampling(from_options(SamplingRequest, "sample", given), progress, log)


def run_sampling(
    request: SamplingRequest,
    progress: Callable[[int, int, str], None] | None = None,
    log: Log = no_log,
) -> list[Path]:
    """Sample as requested and return the volumes; see `sample`."""
    # torch, which some generators do without.
    from synthbench.processes import processes

    plan = _Plan.of(request)
    state = processes()
    plan.out.mkdir(parents=True, exist_ok=True)
    # All processes have looked before one writes: they deal the same list.
    state.wait_for_everyone()
    if state.is_main_process:
        _begin(plan, request, log)
    _draw(plan, plan.missing[state.process_index :: state.num_processes], progress)
    state.wait_for_everyone()
    if state.is_main_process:
        if plan.source.conditions.names:
            write_conditions_table(plan.out / "conditions.tsv", _volumes_in(plan.out))
        write_dataset_card(plan.out, plan.source.run, _volumes_in(plan.out), say=log)
    return list(plan.files.values())


@dataclass(frozen=True)
class _Plan:
    """What a request comes to.

    Attributes
    ----------
    source, out
        The volumes' origin, and their folder.
    files, rows
        Of each seed; rows are empty where the run is not conditional.
    missing
        The seeds whose volumes are not there.
    unrequested
        The conditions that nobody asked for.
    following
        The trajectory to draw, if any.
    """

    source: Source
    out: Path
    files: Mapping[int, Path]
    rows: Mapping[int, Row]
    missing: Sequence[int]
    unrequested: Sequence[str]
    following: _Following | None

    @classmethod
    def of(cls, request: SamplingRequest) -> _Plan:
        """Settle what to draw; raise, before anything is drawn, where it cannot be."""
        n, seed, out = request.n, request.seed, Path(request.out)
        if (n is not None and n < 1) or seed < 0:
            raise UsageError(f"--n must be at least 1 and --seed at least 0; found {n} and {seed}.")
        source = Source.of(
            request.run, request.sampler, request.steps, request.clean, request.guidance
        )
        table, chosen = source.wanted(request.conditions, request.choices)
        seeds = range(seed, seed + _count(n, table))
        rows = source.rows(seeds, table, chosen)
        files = {s: out / f"synth-{s:06d}.nii.gz" for s in seeds}
        rows_of_files = {files[s]: row for s, row in rows.items()}
        there = {f for f in _volumes_in(out) if source.drew(f, rows_of_files.get(f))}
        return cls(
            source, out, files, rows,
            missing=[s for s, file in files.items() if file not in there],
            unrequested=[
                n for n in source.conditions.names if n not in (*chosen, *asked_for(table))
            ],
            following=_following(request, tabled=table is not None),
        )  # fmt: skip


def _following(request: SamplingRequest, *, tabled: bool) -> _Following | None:
    """Return the trajectory that a request asks for, never of a cleaned volume."""
    if request.follow is None:
        return None
    if tabled:
        raise UsageError("--trajectory is of one volume: ask for it with --condition.")
    source = Source.of(request.run, request.sampler, request.steps, False, request.guidance)
    folder = _beside(Path(request.out))
    return _Following.of(source, request.follow, folder, request.choices, FRAMES)


def _begin(plan: _Plan, request: SamplingRequest, log: Log) -> None:
    """Describe the folder, draw the trajectory, and tell the user what to know."""
    plan.source.describe(plan.out)
    if plan.following is not None:
        log(f"{plan.following.write()}, and the predicted volumes in it as a 4-D file")
        if request.clean:
            log("The trajectory is not cleaned: it shows what the network predicted.")
    remarks = _remarks(plan.source.conditions, plan.unrequested, list(plan.rows.values()))
    for sentence in [*plan.source.unfinished(), *remarks]:
        log(sentence)


def _draw(
    plan: _Plan, seeds: Sequence[int], progress: Callable[[int, int, str], None] | None
) -> None:
    """Draw and write the volumes of these seeds."""
    volumes = plan.source.draw(seeds, [plan.rows[s] for s in seeds])
    for done, s in enumerate(seeds, 1):
        began = time.perf_counter()
        volume = next(volumes)
        seconds = time.perf_counter() - began
        plan.source.write(volume, s, plan.files[s], seconds, plan.rows[s], drawn=plan.unrequested)
        if progress:
            progress(done, len(seeds), f"seed {s}")


def trajectory(
    run: Run | Path | str,
    seed: int,
    folder: Path,
    *,
    sampler: str | None = None,
    steps: int | None = None,
    choices: Sequence[str] = (),
    guidance: float | None = None,
    frames: int = FRAMES,
) -> Path:
    """Draw one volume and keep how it came out of the noise.

    Three files are written: `trajectory-SEED.png`, middle slices of the noisy states above the
    clean volumes that the network predicted from them; `trajectory-SEED.nii.gz`, those clean
    volumes in 4-D, the last of them the sample; and a sidecar with their timesteps.

    Parameters
    ----------
    run
        A finished run of a generator with a method `trajectory`.
    seed
        The volume that `sample` would write for this seed, before any cleaning.
    folder
        Not among volumes that are to be scored: a cohort is all NIfTI files below its folder.
    sampler, steps
        Of the generator; None: the run's own.
    choices, guidance
        As in `sample`.
    frames
        About how many steps to keep.

    Returns
    -------
    Path
        The picture.

    Raises
    ------
    UsageError
        The generator draws volumes without steps, the seed or the frames are out of range, or the
        folder holds this seed's trajectory of another origin or of other conditions.
    """
    source = Source.of(run, sampler, steps, False, guidance)
    return _Following.of(source, seed, Path(folder), choices, frames).write()


def brain_only(volume: Float32[np.ndarray, "d h w"]) -> Float32[np.ndarray, "d h w"]:
    """Set everything outside the brain to exactly zero.

    The brain is the largest face-connected component above `CLEAN_ABOVE`, with its holes filled;
    a volume without a voxel above that is all zero. Intensities inside are not touched.
    """
    labels, count = ndimage.label(volume > CLEAN_ABOVE)
    if count == 0:
        return np.zeros_like(volume)
    sizes = np.bincount(labels.ravel())[1:]
    inside = ndimage.binary_fill_holes(labels == 1 + int(np.argmax(sizes)))
    return np.where(inside, volume, np.float32(0))


# ---------------------------------------------------------------- files and their origin


@dataclass(frozen=True)
class Source:
    """What the volumes of a call have in common.

    Attributes
    ----------
    run, plugin
        The run, and its generator.
    options
        Sampler and steps as asked for, None being the run's own; guidance where it was asked for.
    space
        The grid of the volumes.
    scale
        What a reader sees for an intensity of 1.
    clean
        Whether `brain_only` is applied.
    conditions
        Of the run; none of an unconditional one.
    origin
        What all sidecars agree on: everything but the seed, the conditions and the cost.
    """

    run: Run
    plugin: Any
    options: Mapping[str, str | int | float | None]
    space: Space
    scale: float
    clean: bool
    conditions: Conditions
    origin: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        run: Run | Path | str,
        sampler: str | None,
        steps: int | None,
        clean: bool,
        guidance: float | None = None,
    ) -> Source:
        """Open a finished run and settle how it samples.

        Raises
        ------
        SynthbenchError
            The run has not finished, or its generator has no such sampler or no guidance.
        """
        run = run if isinstance(run, Run) else Run.open(run)
        if not run.weights_file.is_file():
            run.load_weights()  # raises, and says what to do
        record = run.record
        plugin = registry.load("generators", record["generator"])()
        guided = {} if guidance is None else {"guidance": guidance}
        if guided and not isinstance(plugin, Guided):
            raise UsageError(f"--guidance: {record['generator']} has none. Leave it out.")
        conditions = Conditions.of_run(record)
        if conditions.names and not isinstance(plugin, Conditional):
            raise UsageError(
                f"{run.folder}: its record holds the conditions {', '.join(conditions.names)}, "
                f"but {record['generator']} takes none, so nothing learnt them. Train it again "
                "with conditions=[], or choose another generator."
            )
        affine = np.array(record["space"]["affine"]).reshape(4, 4)
        rule = run.config.get("intensity", "percentile")
        measured = quantity(rule)
        cleaning = f"zero outside the largest component above {CLEAN_ABOVE}, holes filled"
        origin = {
            "synthetic": True,
            "generator": record["generator"],
            **plugin.sampling(run, sampler, steps, **guided),
            "weights_sha256": record["weights_sha256"],
            "training_cohort": record["cohort"]["fingerprint"],
            "training_seconds": record.get("training_seconds"),
            "training_energy_kwh": (record.get("energy") or {}).get("kwh"),
            "licence": licence(record),
            "parameters": record.get("parameters"),
            "software": f"synthbench {synthbench.__version__}",
            "cleaned": cleaning if clean else None,
            **({} if measured is None else {"intensity": rule, "unit": measured.unit}),
        }
        return cls(
            run, plugin, {"sampler": sampler, "steps": steps, **guided},
            Space.of(record["space"]["shape"], affine),
            1.0 if measured is None else measured.scale, clean, conditions, origin,
        )  # fmt: skip

    def unfinished(self) -> list[str]:
        """Return a sentence to say where the run has weights, but was stopped before its end."""
        if self.run.record.get("finished"):
            return []
        return [
            f"{self.run.folder} did not finish: it has weights, and these are used, but its "
            "preview or its model card may be missing. Finish it: synthbench train --resume "
            f"--out {self.run.folder}"
        ]

    def refuse_unconditional(self, options: str) -> None:
        """Raise where the run has no conditions, naming the options that ask for some."""
        if not self.conditions.names:
            raise UsageError(
                f"{self.run.folder}: {self.origin['generator']} was trained without conditions, so "
                f"it can be asked for none: leave out {options}. What a generator is to be asked "
                "for, it is trained on: --set conditions=[age,sex], where it has that setting "
                "(synthbench list generators)."
            )

    def wanted(
        self, table: Path | str | Sequence[Row] | None, choices: Sequence[str]
    ) -> tuple[list[Row] | None, dict[str, Choice]]:
        """Read what a user asks for: the rows of a table, and choices by condition.

        Raises
        ------
        UsageError
            The run is not conditional, or what is asked for is not to be had.
        """
        if table is None and not choices:
            return None, {}
        self.refuse_unconditional("--condition and --conditions")
        if isinstance(table, (str, Path)):
            table = read_conditions(table, self.conditions)
        rows = None if table is None else list(table)
        self.conditions.encode(rows or [])  # raises where a value is not to be had
        return rows, parse_choices(choices, self.conditions)

    def rows(
        self, seeds: Sequence[int], table: Sequence[Row] | None, choices: Mapping[str, Choice]
    ) -> dict[int, Row]:
        """Return the conditions of each seed; see `synthbench.conditions.rows_for`."""
        made = rows_for(self.conditions, seeds, choices=choices, table=table)
        return dict(zip(seeds, made, strict=True))

    def draw(
        self, seeds: Sequence[int], rows: Sequence[Row]
    ) -> Iterator[Float32[np.ndarray, "d h w"]]:
        """Yield one volume a seed, under its row of conditions where the run is conditional."""
        asked = {"conditions": list(rows)} if self.conditions.names else {}
        volumes: Iterator[Float32[np.ndarray, "d h w"]] = self.plugin.sample(
            self.run, seeds, **self.options, **asked
        )
        return volumes

    def describe(self, out: Path) -> None:
        """Write what makes the folder a BIDS derivative."""
        description = {
            "Name": f"Synthetic volumes from {self.origin['generator']}",
            "BIDSVersion": "1.9.0",
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "synthbench", "Version": synthbench.__version__}],
        }
        write_atomic(out / "dataset_description.json", json.dumps(description, indent=1).encode())

    def write(
        self,
        volume: Float32[np.ndarray, "d h w"],
        seed: int,
        file: Path,
        seconds: float,
        row: Row,
        *,
        drawn: Sequence[str] = (),
    ) -> None:
        """Write a volume, then its sidecar: a volume without one is drawn again.

        Parameters
        ----------
        volume
            In [0, 1], as the generator drew it.
        seed, row
            What it was drawn from; the row is empty where the run is not conditional.
        file, seconds
            Where it goes, and what it took.
        drawn
            The conditions that nobody asked for.
        """
        shown = brain_only(volume) if self.clean else volume
        asked = {
            "conditions": dict(row),
            "extrapolated": list(self.conditions.extrapolated(row)),
            "drawn": list(drawn),
        }
        about = {
            **self.origin,
            "seed": seed,
            **(asked if self.conditions.names else {}),
            "seconds": round(seconds, 3),
        }
        write_atomic(file, nifti_bytes(shown, self.space, "SYNTHETIC: synthbench", self.scale))
        write_atomic(sidecar_file(file), json.dumps(about, indent=1).encode())

    def drew(self, file: Path, row: Row | None) -> bool:
        """Whether a volume and its sidecar are of this source, and of this row if one is given.

        Returns
        -------
        True where they are, False where one of both is not there.

        Raises
        ------
        UsageError
            They are there, and of another origin or of other conditions.
        """
        if not (file.is_file() and sidecar_file(file).is_file()):
            return False
        found = read_sidecar(file)
        differs = _differences(found, self.origin)
        if row and found.get("conditions") != row:
            differs.append("other conditions")
        if differs:
            raise UsageError(f"{file}: already there with {', '.join(differs)}. Use another --out.")
        return True


_OF_THE_RUN = (
    "weights_sha256", "training_cohort", "training_seconds", "training_energy_kwh", "licence",
    "parameters", "intensity", "unit",
)  # fmt: skip
_SHOWN = {
    "generator": "generator",
    "sampler": "sampler",
    "steps": "number of steps",
    "guidance": "guidance",
    "software": "version",
}


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Say in words how the sidecar of a volume differs from the origin of those to be drawn."""
    keys = [key for key, value in wanted.items() if found.get(key) != value]
    words = [
        f"another {_SHOWN[key]} ({found.get(key)}, not {wanted[key]})"
        for key in keys
        if key in _SHOWN
    ]
    if "weights_sha256" in keys:
        words.append("the weights of another run")
    elif of_run := [key.replace("_", " ") for key in keys if key in _OF_THE_RUN]:
        words.append(f"another record of the run ({', '.join(of_run)})")
    if "cleaned" in keys:
        words.append("another cleaning" if found.get("cleaned") and wanted["cleaned"]
                     else "--clean" if found.get("cleaned") else "no --clean")  # fmt: skip
    known = (*_SHOWN, *_OF_THE_RUN, "cleaned")
    return words + [f"another {key.replace('_', ' ')}" for key in keys if key not in known]


def write_conditions_table(file: Path, volumes: Sequence[Path]) -> None:
    """Write a TSV of what was asked of each volume, from the sidecars.

    The columns are `file`, `seed`, the conditions in natural units, and `extrapolated`: the names
    of those outside the training range. What there is none of is `n/a`.
    """
    sidecars = [(volume.name, read_sidecar(volume)) for volume in volumes]
    names = list(sidecars[0][1]["conditions"]) if sidecars else []
    lines = [["file", "seed", *names, "extrapolated"]]
    for name, about in sidecars:
        row, beyond = about["conditions"], ",".join(about["extrapolated"])
        lines.append([name, str(about["seed"]), *map(cell, map(row.get, names)), beyond or MISSING])
    write_atomic(file, "".join("\t".join(line) + "\n" for line in lines).encode())


def _volumes_in(out: Path) -> list[Path]:
    """The volumes of a folder that were written to the end, with their sidecars."""
    return sorted(f for f in out.glob("synth-*.nii.gz") if sidecar_file(f).is_file())


def _count(n: int | None, table: Sequence[Row] | None) -> int:
    if n is not None:
        return n
    if not table:
        raise UsageError("--n: say how many volumes, or name a table with --conditions.")
    return len(table)


def _remarks(conditions: Conditions, unasked: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """Sentences on what nobody asked for, and on what is asked for beyond the training range."""
    sentences = []
    if unasked:
        sentences.append(
            f"{', '.join(unasked)}: not asked for, so drawn from the training split's "
            "distribution" + (", each by itself." if len(conditions.names) > 1 else ".")
        )
    beyond = Counter(name for row in rows for name in conditions.extrapolated(row))
    sentences += [
        f"{name}: {count} of {len(rows)} volumes are asked for beyond the training range "
        f"({conditions[name].low:g} to {conditions[name].high:g}): extrapolation, and marked so."
        for name, count in beyond.items()
    ]
    return sentences


# ---------------------------------------------------------------- a trajectory


def _beside(out: Path) -> Path:
    """Not among the volumes: `score` reads every NIfTI file below a folder."""
    named = out if out.name not in ("", "..") else out.resolve()
    return named.with_name(f"{named.name}-trajectory")


@dataclass(frozen=True)
class _Following:
    """A trajectory that can be drawn and written: nothing is in its way.

    `asked` are the conditions that the sidecar names, `options` what the generator is given.
    """

    source: Source
    seed: int
    file: Path
    asked: Mapping[str, Row]
    options: Mapping[str, Any]

    @classmethod
    def of(
        cls, source: Source, seed: int, folder: Path, choices: Sequence[str], frames: int
    ) -> _Following:
        """Settle what to draw; raise, before anything is drawn, where it cannot be kept."""
        if seed < 0 or frames < 2:
            raise UsageError(
                "--trajectory needs a seed of at least 0, and two frames; found "
                f"{seed} and {frames}."
            )
        name = source.origin["generator"]
        if not isinstance(source.plugin, HasTrajectory):
            raise UsageError(
                f"--trajectory: {name} draws a volume in one step, so there is nothing to follow. "
                "Leave it out."
            )
        row = source.rows([seed], None, source.wanted(None, choices)[1])[seed]
        asked = {"conditions": row} if source.conditions.names else {}
        # Without choices a generator draws the same row from the seed itself.
        options = {**source.options, "frames": frames, **(asked if choices else {})}
        for option, what in (("conditions", "--condition"), ("guidance", "--guidance")):
            if option in options and not takes(source.plugin.trajectory, option):
                raise UsageError(
                    f"--trajectory: {name} can follow a volume only as its run and seed have it. "
                    f"Leave out {what}."
                )
        file = folder / f"trajectory-{seed:06d}.nii.gz"
        source.drew(file, row)
        return cls(source, seed, file, asked, options)

    def write(self) -> Path:
        """Draw the volume, write the three files, and return the picture."""
        source, seed, file = self.source, self.seed, self.file
        held = list(source.plugin.trajectory(source.run, seed, **self.options))
        file.parent.mkdir(parents=True, exist_ok=True)
        series = np.stack([frame.clean for frame in held], axis=-1)
        write_atomic(file, nifti_bytes(series, source.space, "SYNTHETIC: synthbench", source.scale))
        about = {
            **source.origin,
            "seed": seed,
            **self.asked,
            "content": "along the fourth axis, the clean volumes predicted at these calls",
            "network_calls": [frame.step for frame in held],
            "timesteps": [frame.timestep for frame in held],
        }
        write_atomic(sidecar_file(file), json.dumps(about, indent=1).encode())
        picture = sidecar_file(file).with_suffix(".png")
        write_atomic(picture, _trajectory_figure(held, source, seed))
        return picture


def _trajectory_figure(held: Sequence[Frame], source: Source, seed: int) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    (nx, ny, _), (dx, dy, _) = source.space.shape, source.space.spacing
    wide = 1.35
    tall = wide * ny * dy / (nx * dx)
    across = wide * len(held) + 0.5
    drawn = source.origin
    title = _wrapped(
        f"{drawn['generator']}: synthetic, seed {seed}, {drawn.get('sampler', 'sampled')}"
        + (f", {drawn['steps']} steps" if "steps" in drawn else ""),
        across, points=9,
    )  # fmt: skip
    caption = _wrapped(
        "axial slices; noisy states from their own 1st to 99th percentile, clean volumes from 0 "
        "to 1",
        across, points=7,
    )  # fmt: skip
    lines = 0.15 * (title.count("\n") + caption.count("\n"))
    figure = Figure(
        figsize=(across, 2 * tall + 1.1 + lines), facecolor="white", layout="constrained", dpi=110
    )
    FigureCanvasAgg(figure)
    grid = figure.subplots(2, len(held), squeeze=False)
    for column, frame in zip(grid.T, held, strict=True):
        noisy = planes(frame.state, source.space)[0]
        low, high = np.percentile(noisy, (1, 99))
        column[0].imshow(noisy, cmap="gray", vmin=low, vmax=high, aspect=dy / dx)
        predicted = planes(frame.clean, source.space)[0]
        column[1].imshow(predicted, cmap="gray", vmin=0, vmax=1, aspect=dy / dx)
        column[0].set_title(f"t = {frame.timestep}", fontsize=8)
        for axes in column:
            axes.set_xticks([])
            axes.set_yticks([])
    grid[0, 0].set_ylabel("noisy state", fontsize=8)
    grid[1, 0].set_ylabel("predicted clean volume", fontsize=8)
    figure.suptitle(title, fontsize=9)
    figure.supxlabel(caption, fontsize=7)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()


def _wrapped(text: str, inches: float, *, points: float) -> str:
    """Break a text into lines of that width: a letter is 0.6 of its size wide on average."""
    return textwrap.fill(text, width=int(72 * inches / (0.6 * points)))
