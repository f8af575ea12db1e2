"""What is installed: wheel, sdist, the linked folders, the public names, the cost of import."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from build import ProjectBuilder
from pyproject_hooks import quiet_subprocess_runner

import synthbench

ROOT = Path(__file__).parent.parent
FOLDERS = ("synthbench", "generators", "metrics")
HEAVY = ("torch", "monai", "diffusers", "accelerate", "sklearn", "scipy", "pandas", "matplotlib")

WHEEL_METADATA = {
    "METADATA",
    "RECORD",
    "WHEEL",
    "entry_points.txt",
    "licenses/LICENSE",
    "licenses/NOTICE",
    "top_level.txt",
}
SDIST_TOP = {
    "LICENSE",
    "MANIFEST.in",
    "NOTICE",
    "PKG-INFO",
    "README.md",
    "pyproject.toml",
    "setup.cfg",
}


def package_files() -> set[str]:
    """Every file below synthbench/, links followed: all of it is meant to be installed."""
    return {
        (Path(folder) / file).relative_to(ROOT).as_posix()
        for folder, _, files in os.walk(ROOT / "synthbench", followlinks=True)
        for file in files
        if not folder.endswith("__pycache__")
    }


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def build(source: Path, kind: str, out: Path) -> Path:
    builder = ProjectBuilder(source, runner=quiet_subprocess_runner)
    return Path(builder.build(kind, out))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a build may look at, and of things that it must leave out."""
    copy = tmp_path_factory.mktemp("source")
    for folder in (*FOLDERS, "tests"):
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, copy / folder, symlinks=True, ignore=skip)
    for file in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "NOTICE", "Makefile"):
        shutil.copy(ROOT / file, copy)
    (copy / "leaderboards").mkdir()
    (copy / "leaderboards" / "README.md").touch()
    return copy


@pytest.fixture(scope="module")
def sdist(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(source, "sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(source, "wheel", tmp_path_factory.mktemp("wheel"))


# ---------------------------------------------------------------- wheel and sdist


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    info = f"synthbench-{synthbench.__version__}.dist-info"
    expected = package_files() | {f"{info}/{name}" for name in WHEEL_METADATA}
    assert set(contents(wheel)) == expected


@pytest.mark.slow
def test_the_wheel_holds_what_setuptools_drops_unless_told(wheel: Path) -> None:
    files = set(contents(wheel))
    assert "synthbench/py.typed" in files
    assert "synthbench/metrics/extractors/medicalnet.py" in files
    for preset in ("tiny", "small", "paper"):
        assert f"synthbench/generators/presets/ddpm3d-{preset}.yaml" in files


@pytest.mark.slow
def test_the_wheel_installs_one_name(wheel: Path) -> None:
    """A second top-level name would be a second copy of each module in one process."""
    files = contents(wheel)
    assert {name.split("/")[0].partition("-")[0] for name in files} == {"synthbench"}
    (top,) = (text for name, text in files.items() if name.endswith("top_level.txt"))
    assert top.decode().split() == ["synthbench"]


@pytest.mark.slow
def test_the_sdist_holds_the_package_and_what_builds_it(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        members = {m.name: m for m in archive.getmembers() if not m.isdir()}
    top = f"synthbench-{synthbench.__version__}/"
    assert all(name.startswith(top) for name in members)
    assert all(member.isfile() for member in members.values()), "links do not unpack everywhere"
    names = {name.removeprefix(top) for name in members}
    made_by_setuptools = {name for name in names if name.startswith("synthbench.egg-info/")}
    assert names - made_by_setuptools == package_files() | SDIST_TOP


@pytest.mark.slow
def test_an_unpacked_sdist_builds_the_same_wheel(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        # An attribute, not an argument: Python before 3.11.4 has no filters, and passes over it.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(tmp_path)
    (unpacked,) = tmp_path.iterdir()
    assert contents(build(unpacked, "wheel", tmp_path / "wheel")) == contents(wheel)


@pytest.mark.slow
def test_an_index_would_take_both(wheel: Path, sdist: Path) -> None:
    """`twine check`: the metadata are complete, and the description is shown."""
    check = pytest.importorskip("twine.commands.check", reason="twine is not installed")
    assert check.check([str(wheel), str(sdist)], strict=True) is False, "the check found a fault"


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == synthbench.__version__


def test_the_citation_file_is_of_this_version_and_licence() -> None:
    """The fields that its schema (1.2.0) demands, and those that also stand elsewhere."""
    fields = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"cff-version", "message", "title", "authors"} <= set(fields)
    assert fields["version"] == synthbench.__version__
    assert fields["license"] == project["license"]
    assert project["description"][1:] in fields["title"]


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(one for extra in extras for one in extra)]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    assert pins == sorted(pins, key=str.casefold)
    pinned = {_normal(pin.partition("==")[0]) for pin in pins}
    named = {_normal(re.split(r"[><=!~\[; ]", one)[0]) for one in wanted}
    # The extra of developers takes in the others by the project's own name.
    assert named - pinned == {"synthbench"}


def _normal(project: str) -> str:
    """Return the one spelling that an index knows a project by (PEP 503)."""
    return re.sub(r"[-_.]+", "-", project).lower()


# ---------------------------------------------------------------- the linked folders


@pytest.mark.parametrize("folder", ["generators", "metrics"])
def test_the_folders_are_linked_into_the_package(folder: str) -> None:
    link = ROOT / "synthbench" / folder
    assert link.is_symlink(), "check links out as links: git config core.symlinks true"
    assert os.readlink(link) == f"../{folder}"
    assert (ROOT / folder).is_dir()
    assert not (ROOT / folder).is_symlink()


@pytest.mark.parametrize("name", ["generators", "metrics", "metrics.extractors"])
def test_a_linked_folder_cannot_be_imported_by_a_second_name(name: str) -> None:
    failed = python(f"import {name}")
    assert failed.returncode != 0
    assert "ImportError: import synthbench." in failed.stderr


# ---------------------------------------------------------------- names and imports


@pytest.mark.parametrize("name", synthbench.__all__)
def test_every_public_name_resolves_and_is_listed(name: str) -> None:
    assert getattr(synthbench, name) is not None
    assert name in dir(synthbench)


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'synthbench' has no attribute 'scroe'"):
        synthbench.scroe  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize(
    "statement",
    [
        "import synthbench",
        "import synthbench.registry; synthbench.registry.names('extractors')",
        "from synthbench.cli.app import main; sys.argv = ['synthbench', '--help']; main()",
    ],
    ids=["import", "names", "--help"],
)
def test_nothing_heavy_is_imported_before_it_is_used(statement: str) -> None:
    report = (
        f"import atexit, sys; atexit.register(lambda: print('loaded', *sys.modules)); {statement}"
    )
    done = python(report)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.rpartition("loaded ")[2].split())
    assert "synthbench" in loaded
    assert not loaded & set(HEAVY)


def python(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a fresh interpreter, started in the repository."""
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        encoding="utf-8",
        errors="replace",
    )
