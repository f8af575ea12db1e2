"""Trajectories: the steps of one sample from the noise to the volume."""

from __future__ import annotations

import io
import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from synthbench.cohorts.conditions import Row
from synthbench.errors import UsageError
from synthbench.generators.generator import Frame, HasTrajectory, takes
from synthbench.render.montage import planes
from synthbench.runs.folder import Run
from synthbench.runs.sidecar import sidecar_file
from synthbench.runtime.files import write_atomic
from synthbench.runtime.text import in_figure
from synthbench.sampling.source import Source
from synthbench.volumes.nifti import nifti_bytes

FRAMES = 8
"""Number of columns of the picture."""


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
    """Draw one volume, and write its steps from the noise; return the picture.

    Three files are written. `trajectory-SEED.png` has middle slices of the noisy states and, below
    them, of the clean volumes that the network predicted. `trajectory-SEED.nii.gz` has these clean
    volumes in 4-D; the last one is the sample. A sidecar has their timesteps.

    Parameters
    ----------
    run
        A finished run of a generator with a method `trajectory`.
    seed
        Seed of the volume: the one that `sample` writes for this seed, before any cleaning.
    folder
        Folder of the files. It must not lie in a folder of volumes that are scored: a cohort is all
        NIfTI files below its folder.
    sampler, steps
        Sampler of the generator and its steps; None: the run's own.
    choices, guidance
        As in `sample`.
    frames
        Number of states to keep, about.

    Returns
    -------
    Path
        The picture.

    Raises
    ------
    UsageError
        The generator samples without steps, the seed or the number of frames is out of range, or
        the folder holds a trajectory of this seed with another origin or other conditions.
    """
    source = Source.of(run, sampler, steps, False, guidance)
    return Following.of(source, seed, Path(folder), choices, frames).write()


@dataclass(frozen=True)
class Following:
    """A trajectory that can be drawn and written.

    `requested` has the conditions for the sidecar, `options` the keywords for the generator.
    """

    source: Source
    seed: int
    file: Path
    requested: Mapping[str, Row]
    options: Mapping[str, Any]

    @classmethod
    def of(
        cls, source: Source, seed: int, folder: Path, choices: Sequence[str], frames: int
    ) -> Following:
        """Return a trajectory to draw; raise, before anything is drawn, where it is impossible."""
        if seed < 0 or frames < 2:
            raise UsageError(
                "--trajectory: the seed must be at least 0 and the frames at least 2; found "
                f"{seed} and {frames}."
            )
        name = source.origin["generator"]
        if not isinstance(source.plugin, HasTrajectory):
            raise UsageError(
                f"--trajectory: {name} samples in one step, so it has no trajectory. Leave it out."
            )
        row = source.rows([seed], None, source.wanted(None, choices)[1])[seed]
        requested = {"conditions": row} if source.conditions.names else {}
        # Without choices the generator itself draws the same row from the seed.
        options = {**source.options, "frames": frames, **(requested if choices else {})}
        for option, what in (
            ("conditions", "--condition"), ("guidance", "--guidance"), ("precision", "--precision"),
        ):  # fmt: skip
            if option in options and not takes(source.plugin.trajectory, option):
                raise UsageError(
                    f"--trajectory: the trajectory of {name} takes no {option}. Leave out {what}."
                )
        file = folder / f"trajectory-{seed:06d}.nii.gz"
        source.drew(file, row)
        return cls(source, seed, file, requested, options)

    def write(self) -> Path:
        """Draw the volume, write the three files, and return the picture."""
        source, seed, file = self.source, self.seed, self.file
        frames = list(source.plugin.trajectory(source.run, seed, **self.options))
        file.parent.mkdir(parents=True, exist_ok=True)
        series = np.stack([frame.clean for frame in frames], axis=-1)
        write_atomic(file, nifti_bytes(series, source.space, "SYNTHETIC: synthbench", source.scale))
        about = {
            **source.origin,
            "seed": seed,
            **self.requested,
            "content": "along the fourth axis, the clean volumes predicted at these calls",
            "network_calls": [frame.step for frame in frames],
            "timesteps": [frame.timestep for frame in frames],
        }
        write_atomic(sidecar_file(file), json.dumps(about, indent=1).encode())
        picture = sidecar_file(file).with_suffix(".png")
        write_atomic(picture, _trajectory_figure(frames, source, seed))
        return picture


def _trajectory_figure(frames: Sequence[Frame], source: Source, seed: int) -> bytes:
    """Return a PNG with one column per frame: the noisy state, and the predicted clean volume."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    (nx, ny, _), (dx, dy, _) = source.space.shape, source.space.spacing
    wide = 1.35
    tall = wide * ny * dy / (nx * dx)
    across = wide * len(frames) + 0.5
    origin = source.origin
    title = _wrapped(
        f"{origin['generator']}: synthetic, seed {seed}, {origin.get('sampler', 'sampled')}"
        + (f", {origin['steps']} steps" if "steps" in origin else ""),
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
    grid = figure.subplots(2, len(frames), squeeze=False)
    for column, frame in zip(grid.T, frames, strict=True):
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
    figure.suptitle(in_figure(title), fontsize=9)
    figure.supxlabel(caption, fontsize=7)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()


def _wrapped(text: str, inches: float, *, points: float) -> str:
    """Return a text in lines of that width; a letter is about 0.6 times its size wide."""
    return textwrap.fill(text, width=int(72 * inches / (0.6 * points)))
