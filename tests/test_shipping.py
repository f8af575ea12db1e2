"""What synthbench is shipped in, beside wheel and sdist: a container, a conda recipe."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import synthbench

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")

CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
"""The names on conda-forge that differ from those of the Python index."""


def instructions() -> list[list[str]]:
    joined = re.sub(r"\\\n\s*", " ", DOCKERFILE)
    return [line.split() for line in joined.splitlines() if line and not line.startswith("#")]


def test_the_image_is_built_of_files_that_are_here_and_let_through():
    """.dockerignore leaves out all but what it names after `!`."""
    let_through = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    copied = [
        source
        for words in instructions()
        if words[0] == "COPY" and not words[1].startswith("--from")
        for source in words[1:-1]
    ]
    assert set(copied) == let_through
    assert all((ROOT / source).exists() for source in copied)
    links = {path.name for path in (ROOT / "synthbench").iterdir() if path.is_symlink()}
    assert links <= set(copied)


def test_the_image_has_a_python_that_is_supported_and_torch_of_a_chosen_index():
    images = [words[1] for words in instructions() if words[0] == "FROM"]
    versions = {re.fullmatch(r"python:(3\.\d+)-slim-\w+", image)[1] for image in images}  # type: ignore[index]
    assert len(versions) == 1
    assert f"Programming Language :: Python :: {versions.pop()}" in PROJECT["classifiers"]
    assert any(
        words[0] == "ARG" and words[1].startswith("TORCH_INDEX=") for words in instructions()
    )
    assert '--index-url "$TORCH_INDEX" torch' in DOCKERFILE


def test_the_container_runs_the_command_and_as_no_administrator():
    last = {words[0]: words[1:] for words in instructions()}
    assert last["ENTRYPOINT"] == ['["synthbench"]']
    assert last["USER"] == ["1000:1000"]


def test_a_linter_finds_nothing_in_the_dockerfile():
    beside = str(Path(sys.executable).parent)
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=beside)
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run(
        [hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False,
        encoding="utf-8",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")


def test_the_conda_recipe_is_the_project():
    recipe = yaml.safe_load((ROOT / "conda" / "meta.yaml").read_text(encoding="utf-8"))
    assert recipe["package"] == {"name": "synthbench", "version": synthbench.__version__}
    assert recipe["about"]["license"] == PROJECT["license"]
    assert recipe["about"]["summary"] == PROJECT["description"]
    assert all((ROOT / file).is_file() for file in recipe["about"]["license_file"])
    (entry,) = recipe["build"]["entry_points"]
    assert dict([entry.split(" = ")]) == PROJECT["scripts"]

    def of_conda(wanted):
        name, least = re.fullmatch(r"([\w.-]+)>=([\d.]+)", wanted).groups()  # type: ignore[union-attr]
        return f"{CONDA_NAMES.get(name, name).lower()} >={least}"

    run = recipe["requirements"]["run"]
    assert run[0] == f"python {PROJECT['requires-python']},<3.14"
    assert set(run[1:]) == set(map(of_conda, PROJECT["dependencies"]))
    extras = PROJECT["optional-dependencies"]
    assert set(recipe["requirements"]["run_constrained"]) == set(
        map(of_conda, (*extras["prepare"], *extras["onnx"]))
    )
