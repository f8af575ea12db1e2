"""Brain extraction by another program, where the user asks for it by name."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from synthbench.cohorts.preparation.deepbet import deepbet_mask, deepbet_record
from synthbench.cohorts.preparation.image import Image, read_image
from synthbench.cohorts.preparation.settings import EXTRACTORS
from synthbench.errors import CohortError, UsageError, near_miss
from synthbench.runtime.documents import read_text
from synthbench.runtime.files import remove_leftovers, sha256_file
from synthbench.runtime.owner import temporary_name

ANTS_TEMPLATE = "ANTS_BRAIN_TEMPLATE"
"""The environment variable with the folder of ANTs' head template."""


@dataclass(frozen=True)
class _Tool:
    """A command line tool that turns a head into a mask.

    Attributes
    ----------
    command
        The executable's name.
    arguments
        Function of the head's file and a temporary folder that returns the arguments.
    mask
        The file with the mask that the tool writes into the temporary folder.
    version
        Function of the executable's path that returns its version; None where it is not known.
    install
        How to install it.
    """

    command: str
    arguments: Callable[[Path, Path], list[str]]
    mask: str
    version: Callable[[str], str | None]
    install: str


def _ants_arguments(head: Path, folder: Path) -> list[str]:
    named = os.environ.get(ANTS_TEMPLATE)
    template = Path(named) if named else None
    files = ("T_template0.nii.gz", "T_template0_BrainCerebellumProbabilityMask.nii.gz")
    missing = [f for f in files if template is None or not (template / f).is_file()]
    if template is None or missing:
        raise UsageError(
            f"--brain-extraction ants: antsBrainExtraction.sh needs a template with skull; "
            f"{', '.join(missing)} not found (the folder is {named or 'not set'}). Download the "
            f"OASIS template that ANTs names, and type: export {ANTS_TEMPLATE}=FOLDER"
        )
    return ["-d", "3", "-a", str(head), "-e", str(template / files[0]),
            "-m", str(template / files[1]), "-o", f"{folder}/ants_"]  # fmt: skip


def _python_package_version(command: str, package: str) -> str | None:
    """Return the version of a Python console script's package, by running its Python."""
    with open(command, "rb") as file:
        first = file.readline(300).decode(errors="replace").strip()
    if not first.startswith("#!"):
        return None
    ask = f"import importlib.metadata as m; print(m.version({package!r}))"
    return _first_line([*first[2:].split(), "-c", ask])


def _freesurfer_version(command: str) -> str | None:
    stamp = Path(os.environ.get("FREESURFER_HOME", ""), "build-stamp.txt")
    if not stamp.is_file():
        return None
    return read_text(stamp, error=UsageError, fix="Check FREESURFER_HOME.").strip()


def _ants_version(command: str) -> str | None:
    registration = shutil.which("antsRegistration")
    return _first_line([registration, "--version"]) if registration else None


def _first_line(command: list[str]) -> str | None:
    """Return the first line that a command prints; None where it fails."""
    try:
        answer = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            encoding="utf-8",
            errors="replace",
        )
    except (OSError, subprocess.SubprocessError):
        return None
    lines = answer.stdout.strip().splitlines()
    return lines[0] if lines else None


_TOOLS = {
    "hd-bet": _Tool(
        command="hd-bet",
        arguments=lambda head, folder: [
            "-i",
            str(head),
            "-o",
            str(folder / "brain.nii.gz"),
            "-device",
            "cpu",
            "--disable_tta",
            "--save_bet_mask",
            "--no_bet_image",
        ],
        mask="brain_bet.nii.gz",
        version=lambda command: _python_package_version(command, "hd_bet"),
        install="pip install hd-bet (2.0 or newer)",
    ),
    "synthstrip": _Tool(
        command="mri_synthstrip",
        arguments=lambda head, folder: ["-i", str(head), "-m", str(folder / "mask.nii.gz")],
        mask="mask.nii.gz",
        version=_freesurfer_version,
        install="install FreeSurfer 7.3 or newer and source its SetUpFreeSurfer.sh",
    ),
    "ants": _Tool(
        command="antsBrainExtraction.sh",
        arguments=_ants_arguments,
        mask="ants_BrainExtractionMask.nii.gz",
        version=_ants_version,
        install="install ANTs and put its bin folder on PATH",
    ),
}


def find_tool(name: str) -> dict[str, str]:
    """Return the executable that a brain extraction runs, for the record.

    Returns
    -------
    dict
        `command`, its `version` ("not reported" where it is not known) and the `sha256` of the
        executable; of deepbet, of its network.

    Raises
    ------
    UsageError
        The tool is unknown, not installed, or lacks what it needs.
    """
    if name == "deepbet":
        return deepbet_record()
    tool, path = _tool(name)
    tool.arguments(Path("head.nii.gz"), Path())  # fails now, and not once per scan
    return {
        "command": tool.command,
        "version": tool.version(path) or "not reported",
        "sha256": sha256_file(Path(path)),
    }


def external_mask(head: Image, name: str) -> Image:
    """Return the brain mask that an external tool makes.

    Returns
    -------
    Image
        The mask, 0 and 1, on the head's grid.

    Raises
    ------
    UsageError
        The tool is unknown, not installed, or lacks what it needs.
    CohortError
        The tool fails, or its mask is missing, empty or on another grid.
    """
    if name == "deepbet":
        return deepbet_mask(head)
    tool, path = _tool(name)
    with _scratch() as folder:
        file = folder / "head.nii.gz"
        nib.save(_nifti(head), file)
        ran = subprocess.run(
            [path, *tool.arguments(file, folder)],
            capture_output=True, text=True, errors="replace", cwd=folder, encoding="utf-8"
        )  # fmt: skip
        made = folder / tool.mask
        if ran.returncode != 0 or not made.is_file():
            last = (ran.stderr.strip() or ran.stdout.strip() or "no output").splitlines()[-1]
            raise CohortError(
                f"--brain-extraction {name}: {tool.command} ended with {ran.returncode} and "
                f"{'a' if made.is_file() else 'no'} mask: {last[:300]}"
            )
        mask = read_image(made)
    if not mask.space.same_grid(head.space):
        raise CohortError(
            f"--brain-extraction {name}: the mask of {tool.command} is {mask.space}, the scan "
            f"{head.space}: another grid, or another origin."
        )
    return Image((mask.volume > 0.5).astype(np.float32), head.space)


@contextmanager
def _scratch() -> Iterator[Path]:
    """Context manager: a new folder for files of the tool, which only their owner can read.

    What a killed process left is removed: it may hold a person's head.
    """
    there = Path(tempfile.gettempdir())
    remove_leftovers(there, below=False)
    folder = there / temporary_name()
    folder.mkdir(0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _tool(name: str) -> tuple[_Tool, str]:
    """Return the tool and the path of its executable."""
    if name not in _TOOLS:
        raise UsageError(f"--brain-extraction {name}: {near_miss(name, EXTRACTORS)}")
    tool = _TOOLS[name]
    path = shutil.which(tool.command)
    if path is None:
        raise UsageError(
            f"--brain-extraction {name}: the command {tool.command} is not on PATH. "
            f"To install it: {tool.install}. Or use --brain-extraction builtin."
        )
    return tool, path


def _nifti(image: Image) -> nib.Nifti1Image:
    nifti = nib.Nifti1Image(image.volume, image.space.matrix)
    nifti.set_sform(image.space.matrix, code="scanner")
    nifti.set_qform(image.space.matrix, code="scanner")
    return nifti
