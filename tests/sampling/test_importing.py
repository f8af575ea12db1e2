"""Folders of other programs, in their own layout: all faults at once, one command, then a score.

The layouts are those of wdm-3d (scripts/generation_sample.py), MAISI (diff_model_infer.py) and
med-ddpm (sample.py, trainer.py). The volumes are simulated, so what must come back is known.
"""

from __future__ import annotations

import json
import re
import shlex

import nibabel as nib
import numpy as np
import pytest

from synthbench.cli.app import app
from synthbench.cohorts.choice import CohortFiles
from synthbench.cohorts.foreign.rules import Statement
from synthbench.errors import CohortError, UsageError
from synthbench.runs.seal import verify
from synthbench.sampling.importing import ImportRequest, import_volumes
from synthbench.scoring.scoring import score
from synthbench.simulation.cohort import atlas_cohort

SHAPE = (24, 28, 24)
N = 5


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    return atlas_cohort(N, tmp_path_factory.mktemp("real") / "real", seed=0, shape=SHAPE)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Volumes of other subjects in [0, 1], and their affine."""
    folder = atlas_cohort(N, tmp_path_factory.mktemp("made") / "made", seed=1, shape=SHAPE)
    images = [nib.load(file) for file in sorted(folder.rglob("*_T1w.nii.gz"))]
    return [image.get_fdata(dtype=np.float32) for image in images], images[0].affine


def wdm(folder, volumes, affine):
    """Padded to a cube, identity affine, about 0 to 1, with a little noise everywhere."""
    noise = np.random.default_rng(0)
    for i, volume in enumerate(volumes):
        cube = np.pad(volume, [(4, 4), (2, 2), (4, 4)])
        cube += 0.005 * noise.standard_normal(cube.shape).astype(np.float32)
        nib.save(nib.Nifti1Image(cube, np.eye(4)), folder / f"sample_{i}_0.nii.gz")


def maisi(folder, volumes, affine):
    """int16 from 0 to 1000, an affine of voxel sizes alone."""
    sizes = np.diag([*np.linalg.norm(affine[:3, :3], axis=0), 1.0])
    for i, volume in enumerate(volumes):
        file = folder / f"sample_20260101_{i:06d}_image.nii.gz"
        nib.save(nib.Nifti1Image(np.int16(1000 * volume), sizes), file)


def med_ddpm(folder, volumes, affine):
    """-1 to 1, axes in reverse order, identity affine; the name of a mask in each name."""
    for i, volume in enumerate(volumes):
        stored = np.ascontiguousarray((2 * volume - 1).transpose(2, 1, 0))
        nib.save(nib.Nifti1Image(stored, np.eye(4)), folder / f"{i}_msk_{i}.nii.gz")


def arrays(folder, volumes, affine):
    """One npy file each, with a channel axis, -1 to 1."""
    for i, volume in enumerate(volumes):
        np.save(folder / f"{i}.npy", (2 * volume - 1)[None])


LAYOUTS = {
    # layout: (writer, the options that must be proposed, tolerance of what comes back)
    "wdm": (wdm, ["--orientation", "RAS", "--spacing", "real"], 0.03),
    "maisi": (maisi, ["--orientation", "RAS"], 0.002),
    "med-ddpm": (med_ddpm, ["--range", "-1:1", "--orientation", "SAR"], 1e-4),
    "arrays": (arrays, ["--range", "-1:1", "--orientation", "RAS"], 1e-4),
}


@pytest.fixture
def folder(made, tmp_path):
    def write(layout):
        out = tmp_path / layout
        out.mkdir()
        LAYOUTS[layout][0](out, *made)
        return out

    return write


@pytest.mark.parametrize("layout", LAYOUTS)
def test_score_says_all_that_is_wrong_with_one_command_that_makes_it_right(
    layout, folder, real, made, capsys
):
    source = folder(layout)
    with pytest.raises(CohortError) as error:
        score(real, source, metrics=["intensity"], extractors=["voxels"])
    lines = str(error.value).splitlines()
    assert len(lines) < 9
    (command,) = [line.strip() for line in lines if line.startswith("  synthbench import ")]
    words = shlex.split(command)
    assert words == [
        "synthbench", "import", str(source), "--like", str(real), *LAYOUTS[layout][1]
    ]  # fmt: skip
    before = {file.name: file.read_bytes() for file in source.iterdir()}

    app(words[1:], standalone_mode=False)
    assert str(source) + "-imported" in capsys.readouterr().err
    out = source.with_name(f"{layout}-imported")
    volumes, affine = made
    scale = 1000 if layout == "maisi" else 1
    for copy in sorted(out.glob("*.nii.gz")):
        sidecar = json.loads(
            (out / copy.name.replace(".nii.gz", ".json")).read_text(encoding="utf-8")
        )
        number = int(re.findall(r"\d+", sidecar["imported"]["file"].replace("20260101", ""))[0])
        image = nib.load(copy)
        assert np.allclose(image.affine, affine, atol=1e-3)
        assert np.abs(image.get_fdata() / scale - volumes[number]).max() < LAYOUTS[layout][2]
        assert (sidecar["synthetic"], sidecar["generator"]) == (True, layout)
    assert len(list(out.glob("*.nii.gz"))) == N
    assert {file.name: file.read_bytes() for file in source.iterdir()} == before

    card = score(real, out, metrics=["intensity"], extractors=["voxels"])
    assert (card.name, card.origin.generator) == (layout, layout)
    assert card.synth.n == N


def request(source, real, **options):
    return ImportRequest(CohortFiles(source), like=CohortFiles(real), **options)


RIGHT = Statement(value_range=(-1, 1), orientation="RAS")


def test_sources_rules_and_the_manifest_are_recorded(folder, real, tmp_path):
    source = folder("arrays")
    table = tmp_path / "table.csv"
    table.write_text("path,age,sex,seed\n" + "".join(
        f"arrays/{i}.npy,{20 + i},{'MF'[i % 2]},{70 + i}\n" for i in (3, 1, 2)),
        encoding="utf-8")  # fmt: skip
    asked = request(
        source, real, stated=RIGHT, manifest=table, name="X", made_by="repo 1.0",
        out=tmp_path / "out",
    )  # fmt: skip
    copies = import_volumes(asked)
    sidecars = [
        json.loads(c.with_name(c.name.replace(".nii.gz", ".json")).read_text(encoding="utf-8"))
        for c in copies
    ]
    assert [s["seed"] for s in sidecars] == [73, 71, 72]
    assert sidecars[0]["conditions"] == {"age": 23.0, "sex": "F"}
    imported = sidecars[0]["imported"]
    assert imported["made_by"] == "repo 1.0"
    assert len(imported["sha256"]) == 64
    assert imported["file"] == "arrays/3.npy"
    # Again: everything is there. With other rules: refused, and nothing changed.
    kept = copies[0].stat().st_mtime_ns
    assert import_volumes(asked) == copies
    assert copies[0].stat().st_mtime_ns == kept
    sealed = verify(tmp_path / "out")
    assert (sealed.untouched, sealed.files) == (True, 7)
    copies[1].write_bytes(copies[0].read_bytes())
    assert verify(tmp_path / "out").changed == (copies[1].name,)
    with pytest.raises(UsageError, match="were changed since they were sealed"):
        import_volumes(asked)
    with pytest.raises(UsageError, match="another origin"):
        import_volumes(request(source, real, stated=RIGHT, name="Y", out=tmp_path / "out"))


def test_a_wrong_statement_and_damaged_files_are_told_together_and_nothing_is_written(
    folder, real, made
):
    source = folder("arrays")
    np.save(source / "7.npy", np.full(SHAPE, np.nan, np.float32))
    (source / "8.npy").write_bytes(b"\x93NUMPY")
    np.save(source / "9.npy", np.zeros(SHAPE, np.float32))
    wrong = Statement(value_range=(0, 1000), orientation="ASR")
    with pytest.raises(CohortError) as error:
        import_volumes(request(source, real, stated=wrong))
    message = str(error.value)
    assert all(name in message for name in ("7.npy", "8.npy", "9.npy"))
    assert "not 0 to 1000 as stated" in message
    assert "--range -1:1" in message
    assert not source.with_name("arrays-imported").exists()


def test_a_damaged_file_alone_needs_no_other_statement(folder, real):
    source = folder("arrays")
    (source / "8.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(CohortError) as error:
        import_volumes(request(source, real, stated=RIGHT))
    assert "8.npy" in str(error.value)
    assert "--manifest" in str(error.value)
    assert "synthbench import" not in str(error.value)


def test_values_that_never_come_near_the_low_end_are_another_range(folder, real):
    """Volumes in [0, 1] stated as [-1, 1] would get a grey background."""
    source = folder("maisi")
    with pytest.raises(CohortError, match="as stated"):
        import_volumes(
            request(source, real, stated=Statement(value_range=(-1000, 1000), orientation="RAS"))
        )


def test_the_copies_may_not_lie_in_the_source(folder, real):
    source = folder("arrays")
    with pytest.raises(UsageError, match="--out"):
        import_volumes(request(source, real, stated=RIGHT, out=source / "copies"))


def test_a_manifest_of_other_files_is_refused(folder, real, tmp_path):
    source = folder("arrays")
    np.save(tmp_path / "other.npy", np.random.default_rng(0).random(SHAPE))
    table = tmp_path / "table.csv"
    table.write_text("path\nother.npy\n", encoding="utf-8")
    with pytest.raises(UsageError, match="--manifest"):
        import_volumes(request(source, real, stated=RIGHT, manifest=table))
