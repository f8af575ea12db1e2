"""Short trainings that several tests of the loop start and compare."""

from __future__ import annotations

import numpy as np
import pytest

from synthbench.runs.folder import Run
from synthbench.training import training

SETTINGS = [
    "space.shape=[16,16,16]", "channels=[8,16]", "attention=[false,true]", "head_channels=[8,8]",
    "norm_groups=4", "steps=12", "checkpoint_every=3", "sampler_steps=1",
]  # fmt: skip


def train(real, out, *extra, **options):
    return training.train(
        "ddpm3d", out=out, real=real, preset="tiny-unet", overrides=[*SETTINGS, *extra], **options
    )


def same_weights(a, b):
    left, right = Run.open(a).load_weights(), Run.open(b).load_weights()
    return left.keys() == right.keys() and all(np.array_equal(left[k], right[k]) for k in left)


def losses(run):
    """Step to loss."""
    rows = np.loadtxt(run / "loss.csv", delimiter=",", skiprows=1)
    return {int(step): float(loss) for step, loss in rows[:, :2]}


def stop_after(step):
    def progress(done, total, words):
        if done == step and words != "reading":
            raise KeyboardInterrupt

    return progress


def interrupted(real, out, step):
    with pytest.raises(KeyboardInterrupt):
        train(real, out, progress=stop_after(step))


def rows(file):
    """Column to values."""
    table = np.genfromtxt(file, delimiter=",", names=True, deletechars="")
    return {name: np.atleast_1d(table[name]) for name in table.dtype.names or ()}
