"""The package that docs/plugins.md builds is built, installed and tested as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests import command_line

pytestmark = pytest.mark.slow

TUTORIAL = Path(__file__).parents[1] / "docs" / "plugins.md"


def fenced(language: str) -> list[str]:
    """The contents of the page's fenced blocks of one language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```$", TUTORIAL.read_text(encoding="utf-8"), re.M | re.S
    )


def modules() -> dict[str, str]:
    """The Python blocks by the path that their first line gives."""
    blocks = {}
    for block in fenced("python"):
        heading = re.match(r"# (\S+\.py)\n", block)
        assert heading, f"a block without '# path.py' as its first line:\n{block}"
        assert heading[1] not in blocks, f"two blocks are {heading[1]}"
        blocks[heading[1]] = block
    return blocks


def entry_points() -> dict[str, str]:
    """The metrics that the page's last table of them announces."""
    tables = [tomllib.loads(block)["project"]["entry-points"] for block in fenced("toml")]
    found: dict[str, str] = [t for t in tables if "synthbench.metrics" in t][-1][
        "synthbench.metrics"
    ]
    return found


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder that holds the package as pip would leave it: modules and metadata."""
    for path, block in modules().items():
        file = tmp_path / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(block, encoding="utf-8")
    metadata = tmp_path / "my_metrics-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: my-metrics\nVersion: 0.1.0\n", encoding="utf-8"
    )
    lines = [f"{name} = {value}" for name, value in entry_points().items()]
    (metadata / "entry_points.txt").write_text(
        "\n".join(["[synthbench.metrics]", *lines]), encoding="utf-8"
    )
    return tmp_path


def run(package: Path, *arguments: str) -> str:
    """Run Python in the package's folder, the package on its path, and return what it printed."""
    finished = subprocess.run(
        [sys.executable, *arguments],
        cwd=package,
        env={**os.environ, "PYTHONPATH": str(package), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        encoding="utf-8",
        errors="replace",
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_its_metrics_pass_its_tests(package: Path) -> None:
    """One test of the first metric, then one of each of the four."""
    assert "5 passed" in run(package, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")


def test_its_metrics_are_listed_with_their_words(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(package)
    listed = command_line.run("list", "metrics")
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_metrics"]:
        del sys.modules[name]
    assert listed.returncode == 0, listed.stderr
    for name in entry_points():
        assert name in listed.stdout
    assert "a difference between the means of the features" in listed.stdout


def test_its_first_table_of_entry_points_holds_the_first_metric() -> None:
    project = tomllib.loads(fenced("toml")[0])
    assert project["tool"]["setuptools"]["packages"] == ["my_metrics"]
    assert project["project"]["entry-points"]["synthbench.metrics"] == {
        "mean_shift": entry_points()["mean_shift"]
    }


def test_the_first_metric_has_ten_lines() -> None:
    """Of the class, without its first line and empty lines."""
    block = modules()["my_metrics/shift.py"]
    lines = [line for line in block.partition("class MeanShift")[2].splitlines() if line.strip()]
    assert len(lines[1:]) <= 10
