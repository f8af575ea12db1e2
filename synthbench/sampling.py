"""Sampling: from a finished run to NIfTI files, each with a sidecar that says it is synthetic."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32
from scipy import ndimage

import synthbench
from synthbench import registry
from synthbench.cards import write_dataset_card
from synthbench.errors import UsageError
from synthbench.files import nifti_bytes, write_atomic
from synthbench.montage import planes
from synthbench.run import Run
from synthbench.space import Space, quantity

if TYPE_CHECKING:
    from synthbench.generators.diffusion import Frame

CLEAN_ABOVE = 0.05
"""What `brain_only` takes for tissue, on the intensity scale of [0, 1]."""

FRAMES = 8
"""Columns of a trajectory's picture."""

Say = Callable[[str], None]


def sample(
    run: Run | Path | str,
    n: int,
    out: Path,
    *,
    seed: int = 0,
    sampler: str | None = None,
    steps: int | None = None,
    clean: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
    say: Say = lambda message: None,
) -> list[Path]:
    """Sample volumes from a finished run; one seed, one NIfTI file and one sidecar a volume.

    Under `accelerate launch` the seeds are dealt to the processes; a volume depends on its seed
    alone, so the files are the same but for the seconds in their sidecars.

    Parameters
    ----------
    run
        A finished run.
    n
        How many volumes: seeds `seed` to `seed + n - 1`.
    out
        A folder; files that this run, sampler and seed already wrote there are kept, so an
        interrupted call can be repeated. A dataset card (README.md) is written beside them.
    sampler, steps
        Of the generator; None: the run's own.
    clean
        Set what lies outside the brain to zero (`brain_only`); the sidecars say so.
    progress
        Called with (done, total, words) after each volume; the total is this process's share.
    say
        Called with sentences for the user.

    Returns
    -------
    list of Path
        The volumes, in order of seed: 16 bit, the training space's affine, in [0, 1] or, where
        the run was trained on a quantitative map, in its unit.

    Raises
    ------
    SynthbenchError
        The run has not finished, or `out` holds volumes of another origin.
    """
    # torch, which some generators do without.
    from synthbench.processes import processes

    if n < 1 or seed < 0:
        raise UsageError(f"--n must be at least 1 and --seed at least 0; found {n} and {seed}.")
    source = _Source.of(run, sampler, steps, clean)
    state = processes()
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    files = {s: out / f"synth-{s:06d}.nii.gz" for s in range(seed, seed + n)}
    done_before = {file for file in _volumes_in(out) if _whole(file, source.origin)}
    missing = [s for s, file in files.items() if file not in done_before]
    # All processes have looked before one writes: they deal the same list.
    state.wait_for_everyone()
    if state.is_main_process:
        source.describe(out)
    mine = missing[state.process_index :: state.num_processes]
    volumes = source.plugin.sample(source.run, mine, sampler=sampler, steps=steps)
    for done, s in enumerate(mine, 1):
        began = time.perf_counter()
        volume = next(volumes)
        source.write(volume, s, files[s], seconds=time.perf_counter() - began)
        if progress:
            progress(done, len(mine), f"seed {s}")
    state.wait_for_everyone()
    if state.is_main_process:
        write_dataset_card(out, source.run, _volumes_in(out), say=say)
    return list(files.values())


def trajectory(
    run: Run | Path | str,
    seed: int,
    folder: Path,
    *,
    sampler: str | None = None,
    steps: int | None = None,
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
    frames
        About how many steps to keep.

    Returns
    -------
    Path
        The picture.

    Raises
    ------
    UsageError
        The generator draws volumes without steps, or the seed or the frames are out of range.
    """
    source = _Source.of(run, sampler, steps, clean=False)
    if seed < 0 or frames < 2:
        raise UsageError(
            f"--trajectory needs a seed of at least 0, and two frames; found {seed} and {frames}."
        )
    if not hasattr(source.plugin, "trajectory"):
        raise UsageError(
            f"--trajectory: {source.run.record['generator']} draws a volume in one step, so there "
            "is nothing to follow. Leave it out."
        )
    held = list(
        source.plugin.trajectory(source.run, seed, sampler=sampler, steps=steps, frames=frames)
    )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"trajectory-{seed:06d}.nii.gz"
    series = np.stack([frame.clean for frame in held], axis=-1)
    write_atomic(file, nifti_bytes(series, source.space, "SYNTHETIC: synthbench", source.scale))
    about = {
        **source.origin,
        "seed": seed,
        "content": "along the fourth axis, the clean volumes predicted at these calls",
        "network_calls": [frame.step for frame in held],
        "timesteps": [frame.timestep for frame in held],
    }
    write_atomic(_sidecar(file), json.dumps(about, indent=1).encode())
    picture = file.with_name(file.name.removesuffix(".nii.gz") + ".png")
    write_atomic(picture, _trajectory_figure(held, source, seed))
    return picture


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
class _Source:
    """What the volumes of a call have in common.

    `origin` is what their sidecars agree on: all but the seed and the cost.
    """

    run: Run
    plugin: Any
    space: Space
    scale: float
    clean: bool
    origin: Mapping[str, Any]

    @classmethod
    def of(
        cls, run: Run | Path | str, sampler: str | None, steps: int | None, clean: bool
    ) -> _Source:
        run = run if isinstance(run, Run) else Run.open(run)
        if not run.weights_file.is_file():
            run.load_weights()  # raises, and says what to do
        record = run.record
        plugin = registry.load("generators", record["generator"])()
        affine = np.array(record["space"]["affine"]).reshape(4, 4)
        rule = run.config.get("intensity", "percentile")
        measured = quantity(rule)
        cleaning = f"zero outside the largest component above {CLEAN_ABOVE}, holes filled"
        origin = {
            "synthetic": True,
            "generator": record["generator"],
            **plugin.sampling(run, sampler, steps),
            "weights_sha256": record["weights_sha256"],
            "training_cohort": record["cohort"]["fingerprint"],
            "training_seconds": record.get("training_seconds"),
            "parameters": record.get("parameters"),
            "software": f"synthbench {synthbench.__version__}",
            "cleaned": cleaning if clean else None,
            **({} if measured is None else {"intensity": rule, "unit": measured.unit}),
        }
        scale = 1.0 if measured is None else measured.scale
        return cls(run, plugin, Space.of(record["space"]["shape"], affine), scale, clean, origin)

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
        self, volume: Float32[np.ndarray, "d h w"], seed: int, file: Path, seconds: float
    ) -> None:
        """Write a volume, then its sidecar: a volume without one is drawn again."""
        shown = brain_only(volume) if self.clean else volume
        about = {**self.origin, "seed": seed, "seconds": round(seconds, 3)}
        write_atomic(file, nifti_bytes(shown, self.space, "SYNTHETIC: synthbench", self.scale))
        write_atomic(_sidecar(file), json.dumps(about, indent=1).encode())


def _sidecar(volume: Path) -> Path:
    return volume.with_name(volume.name.removesuffix(".nii.gz") + ".json")


def _volumes_in(out: Path) -> list[Path]:
    """The volumes of a folder that were written to the end, with their sidecars."""
    return sorted(f for f in out.glob("synth-*.nii.gz") if _sidecar(f).is_file())


def _whole(file: Path, origin: Mapping[str, Any]) -> bool:
    """Whether a file is a volume of this origin; raise if it has another."""
    try:
        found = json.loads(_sidecar(file).read_text())
    except ValueError as error:
        raise UsageError(
            f"{_sidecar(file)}: not readable: {error}. Delete it: its volume is drawn again."
        ) from error
    differs = [key for key, value in origin.items() if found.get(key) != value]
    if differs:
        raise UsageError(
            f"{file}: already there with another {', '.join(differs)}. Use an empty --out."
        )
    return True


# ---------------------------------------------------------------- the picture of a trajectory


def _trajectory_figure(held: Sequence[Frame], source: _Source, seed: int) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    (nx, ny, _), (dx, dy, _) = source.space.shape, source.space.spacing
    wide = 1.35
    tall = wide * ny * dy / (nx * dx)
    figure = Figure(
        figsize=(wide * len(held) + 0.5, 2 * tall + 1.1), facecolor="white", layout="constrained",
        dpi=110,
    )  # fmt: skip
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
    record, drawn = source.run.record, source.origin
    figure.suptitle(
        f"{record['generator']}: synthetic, seed {seed}, {drawn.get('sampler', 'sampled')}"
        + (f", {drawn['steps']} steps" if "steps" in drawn else ""),
        fontsize=9,
    )
    figure.supxlabel(
        "axial slices; noisy states from their own 1st to 99th percentile, clean volumes from 0 "
        "to 1",
        fontsize=7,
    )
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()
