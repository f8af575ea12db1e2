"""The programs in the documentation run, and give what the pages promise."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import matplotlib
import nibabel as nib
import numpy as np
import pytest

import synthbench
from tests.conftest import AFFINE, blob
from tests.docs.pages import DOCS, blocks, run_page

ELSEWHERE = {
    "cohorts.md": "tests/cohorts/datasets/test_find.py; part 2 needs lists of three cohorts",
    "sealing.md": "tests/runs/test_seal.py reads a signed seal in the same way",
    "python.md": "below",
    "plugins.md": "tests/test_plugin_tutorial.py",
    "condition-adherence.md": "tests/scoring: it needs tables of measures",
}
LEFT_OUT = {
    "extractors.md": (1, 2, 3, 4, 5, 6),  # networks of other packages, with their weights
    "generators.md": (2,),  # a part of a method
    "leaderboards.md": (1, 2),  # a part of a table; sample data of all entries
}
VOLUMES = 6


def cohort(folder: Path, first: int) -> None:
    folder.mkdir()
    for i in range(first, first + VOLUMES):
        image = nib.Nifti1Image(blob(i, (16, 20, 16)), AFFINE)
        nib.save(image, folder / f"sub-{i:02d}.nii.gz")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the pages take for given, by the names that they use."""
    folder = tmp_path_factory.mktemp("pages")
    for number, name in enumerate(("real", "synth", "training")):
        cohort(folder / name, VOLUMES * number)
    settings: dict[str, Any] = {
        "extractors": ["random-resnet10"],
        "metrics": ["mmd2"],
        "resamples": 100,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHBENCH_CACHE", str(folder / "cache"))
        for name, synth in {"baseline": "synth", "current": "training"}.items():
            card = synthbench.score(folder / "real", folder / synth, **settings)
            card.save(folder / f"{name}.json")
    shutil.copy(folder / "baseline.json", folder / "scorecard.json")
    (folder / "runs" / "mine").mkdir(parents=True)
    (folder / "runs" / "mine" / "loss.csv").write_text("step,loss\n1,2.0\n2,1.0\n", "utf-8")
    return folder


@pytest.fixture
def there(folder, monkeypatch):
    matplotlib.use("Agg")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SYNTHBENCH_CACHE", str(folder / "cache"))
    return folder


def given(page: str) -> dict[str, object]:
    rng = np.random.default_rng(0)
    if page == "scoring.md":
        arrays = {name: rng.normal(size=(12, 4)) for name in "XYSTH"}
        return {**arrays, **{name: rng.random((44, 44, 44), np.float32) for name in "xy"}}
    if page == "report.md":
        return {"card": synthbench.Scorecard.load(Path("scorecard.json"))}
    return {}


def pages() -> list[str]:
    found = (file.name for file in sorted(DOCS.glob("*.md")))
    return [page for page in found if any(True for _ in blocks(page)) and page not in ELSEWHERE]


@pytest.mark.slow
@pytest.mark.parametrize("page", pages())
def test_the_programs_of_a_page_run(page, there):
    left_out = LEFT_OUT.get(page, ())
    assert run_page(page, given(page), left_out) >= len(left_out)


@pytest.mark.slow
def test_the_examples_of_the_python_page_run_and_give_what_it_says(tmp_path, monkeypatch):
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    assert run_page("python.md") >= 9
    assert (tmp_path / "card.png").stat().st_size > 1000
