"""A full disk: every command names the file that did not fit, leaves nothing half-written, and
goes on once there is room.

The disk is a small tmpfs, where root may mount one. Elsewhere the system's answer is played in
tests/runtime and tests/generators/loop.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import pytest

from synthbench.runtime.lock import is_lock_or_temporary
from tests.command_line import run
from tests.conftest import AFFINE, blob

pytestmark = pytest.mark.slow

ROOM_KB = 24
"""Enough for tables, and for no volume, network or picture."""

COMMANDS = {
    "data atlas": "data atlas --n 3 --shape 24 28 24 --out {}",
    "data info": "data info {real} --out {}",
    "train (weights)": "train pca-gaussian --real {real} --out {}",
    "train (volumes)": (
        "train ddpm3d --real {real} --preset tiny --set steps=1 --set sampler_steps=1 "
        "--set components=1 --out {}"
    ),
    "sample": "sample {run} --n 3 --out {}",
    "sample (shards)": "sample {run} --n 3 --shards 1 --out {}",
    "import": "import {real} --name other --out {}",
}


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of `ROOM_KB`."""
    folder = tmp_path_factory.mktemp("disk")
    resize = ["mount", "-t", "tmpfs", "-o", f"size={ROOM_KB}k", "tmpfs", str(folder)]
    if os.name != "posix" or subprocess.run(resize, capture_output=True).returncode:
        pytest.skip("only root mounts a file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the commands read."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "real").mkdir()
    for i in range(4):
        nib.save(nib.Nifti1Image(blob(i), AFFINE), folder / "real" / f"sub-{i}.nii.gz")
    ended = run("train", "pca-gaussian", "--real", "real", "--out", "run", cwd=folder)
    assert ended.returncode == 0, ended.stderr
    return {name: folder / name for name in ("real", "run")}


def resized(disk: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_what_does_not_fit_is_named_and_the_command_goes_on_with_room(name, disk, made):
    out = disk / name.replace(" ", "-")
    arguments = COMMANDS[name].format(out, **made).split()
    resized(disk, f"{ROOM_KB}k")
    ended = run(*arguments)
    assert ended.returncode == 2, ended.stderr
    assert "No space left on device" in ended.stderr
    named = [word.rstrip(":,") for word in ended.stderr.split() if word.startswith(str(out))]
    assert named, ended.stderr
    assert "Traceback" not in ended.stderr
    left = [path for path in disk.rglob("*") if is_lock_or_temporary(path.name)]
    assert not left
    assert not list(out.glob("volumes.npy"))
    resized(disk, "64m")
    if (out / "config.yaml").is_file():
        assert f"synthbench train --resume --out {out}" in ended.stderr
        arguments = ["train", "--resume", "--out", str(out)]
    again = run(*arguments)
    assert again.returncode == 0, again.stderr
    for path in sorted(disk.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
