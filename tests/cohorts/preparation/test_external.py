"""External brain extraction, with small stand-ins for the tools on PATH."""

from __future__ import annotations

import sys

import nibabel as nib
import numpy as np
import pytest

from synthbench.cohorts.preparation.external import ANTS_TEMPLATE, external_mask, find_tool
from synthbench.cohorts.preparation.image import Image
from synthbench.cohorts.preparation.pipeline import prepare_scan
from synthbench.errors import CohortError, UsageError
from tests.cohorts.preparation.heads import COARSE, dice

pytestmark = pytest.mark.slow

# Each writes the mask that MASK names to where the real tool would.
HD_BET = """
import os, shutil, sys
assert "--save_bet_mask" in sys.argv and os.path.exists(sys.argv[sys.argv.index("-i") + 1])
out = sys.argv[sys.argv.index("-o") + 1]
shutil.copy(os.environ["MASK"], out[: -len(".nii.gz")] + "_bet.nii.gz")
"""
SYNTHSTRIP = """
import os, shutil, sys
shutil.copy(os.environ["MASK"], sys.argv[sys.argv.index("-m") + 1])
"""
ANTS = """
import os, shutil, sys
assert os.path.exists(sys.argv[sys.argv.index("-e") + 1])
shutil.copy(os.environ["MASK"], sys.argv[sys.argv.index("-o") + 1] + "BrainExtractionMask.nii.gz")
"""
TOOLS = {
    "hd-bet": ("hd-bet", HD_BET),
    "synthstrip": ("mri_synthstrip", SYNTHSTRIP),
    "ants": ("antsBrainExtraction.sh", ANTS),
}


@pytest.fixture
def install(person, tmp_path, monkeypatch):
    """Return a function that puts a stand-in on PATH, as the only thing there."""
    mask = nib.Nifti1Image(person.brain.astype(np.uint8), person.scan.space.matrix)
    nib.save(mask, tmp_path / "mask.nii.gz")
    monkeypatch.setenv("MASK", str(tmp_path / "mask.nii.gz"))
    monkeypatch.setenv(ANTS_TEMPLATE, str(tmp_path))
    for name in ("T_template0.nii.gz", "T_template0_BrainCerebellumProbabilityMask.nii.gz"):
        (tmp_path / name).touch()
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))

    def write(command: str, program: str) -> None:
        (programs / command).write_text(f"#!{sys.executable}\n{program}", encoding="utf-8")
        (programs / command).chmod(0o755)

    return write


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_is_run_and_its_mask_taken(name, install, person):
    install(*TOOLS[name])
    mask = external_mask(person.scan, name)
    assert np.array_equal(mask.volume == 1, person.brain)
    record = find_tool(name)
    assert record["command"] == TOOLS[name][0]
    assert len(record["sha256"]) == 64


def test_its_mask_is_what_the_scan_is_prepared_with(install, person):
    """The stand-in gives the true mask, and the prepared volume holds it.

    Not all of it: the grid has fewer voxels than the scan, and ends below where MNI152's box does.
    """
    install(*TOOLS["synthstrip"])
    settings = COARSE.model_copy(update={"brain_extraction": "synthstrip"})
    prepared = prepare_scan(person.scan, settings)
    assert prepared.facts["brain_ml"] == pytest.approx(person.brain.sum() * 27 / 1000, rel=1e-3)
    back = np.linalg.inv(prepared.affine.matrix)
    seen = Image(prepared.mask.astype(np.float32), prepared.space).mask_on(person.scan.space, back)
    assert dice(seen, person.brain) > 0.95


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("import sys; sys.exit('no GPU')", "ended with 1 and no mask: no GPU"),
        ("", "ended with 0 and no mask: no output"),
    ],
    ids=["fails", "writes nothing"],
)
def test_a_tool_that_fails_is_an_error_and_no_other_is_tried(program, words, install, person):
    install("mri_synthstrip", program)
    with pytest.raises(CohortError, match=words):
        external_mask(person.scan, "synthstrip")


def test_a_mask_on_another_grid_is_refused(install, person, tmp_path):
    install(*TOOLS["synthstrip"])
    moved = person.scan.space.matrix.copy()
    moved[0, 3] += 5
    nib.save(nib.Nifti1Image(person.brain.astype(np.uint8), moved), tmp_path / "mask.nii.gz")
    with pytest.raises(CohortError, match="another grid, or another origin"):
        external_mask(person.scan, "synthstrip")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hd-bet", "pip install hd-bet"),
        ("synthstrip", "install FreeSurfer"),
        ("ants", "install ANTs"),
        ("synthstripe", "did you mean 'synthstrip'"),
    ],
)
def test_an_absent_tool_is_named_with_how_to_install_it(name, words, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match=words):
        find_tool(name)


def test_ants_without_its_template_says_where_to_put_it(install, monkeypatch):
    install(*TOOLS["ants"])
    monkeypatch.delenv(ANTS_TEMPLATE)
    with pytest.raises(UsageError, match=f"export {ANTS_TEMPLATE}=FOLDER"):
        find_tool("ants")


def test_the_version_of_a_python_tool_is_asked_of_its_python(install):
    """The stand-in runs on this Python, where hd_bet is not installed: nothing is made up."""
    install(*TOOLS["hd-bet"])
    assert find_tool("hd-bet")["version"] == "not reported"
