"""Sampling with conditions: what is asked for reaches the generator, the sidecars and the table."""

from __future__ import annotations

import json
import re
from functools import partial

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from synthbench import registry
from synthbench.cohorts.conditions import Conditions, Row
from synthbench.errors import UsageError
from synthbench.generators.generator import Frame
from synthbench.runs.sidecar import sidecar_file
from synthbench.sampling import sampling, trajectory
from synthbench.training import training
from tests import command_line, ellipsoids


@pytest.fixture
def run(tmp_path):
    return ellipsoids.make_run(tmp_path / "run")


def sidecar(file):
    return json.loads(sidecar_file(file).read_text(encoding="utf-8"))


def dark(file):
    """The volume of the dark ball in mm³: voxels nearer to 0.2 than to 0 or to 0.7."""
    voxels = nib.load(file).get_fdata()
    return int(((voxels > 0.1) & (voxels < 0.45)).sum()) * ellipsoids.SPACING**3


def table(folder):
    return pd.read_csv(folder / "conditions.tsv", sep="\t", na_values=["n/a"])


# ---------------------------------------------------------------- what is asked for is drawn


def test_each_volume_is_of_its_row(run, tmp_path):
    """A ball of k voxels of 64 mm³ is asked for by 64 k mm³: 3200 is 50 of them."""
    wanted = tmp_path / "wanted.csv"
    wanted.write_text("ventricle_volume,sex\n3200,F\n6400,M\n,F\n", encoding="utf-8")
    files = sampling.sample(run, None, tmp_path / "s", seed=5, conditions=wanted)
    assert [f.name for f in files] == [f"synth-{seed:06d}.nii.gz" for seed in (5, 6, 7)]
    unknown = round(ellipsoids.UNKNOWN / 64) * 64
    assert [dark(file) for file in files] == [3200, 6400, unknown]
    assert sidecar(files[1])["conditions"] == {"ventricle_volume": 6400.0, "sex": "M"}
    assert sidecar(files[2])["conditions"] == {"ventricle_volume": None, "sex": "F"}
    given = table(tmp_path / "s")
    assert list(given) == ["file", "seed", "ventricle_volume", "sex", "extrapolated"]
    assert given["file"].tolist() == [file.name for file in files]
    assert given["sex"].tolist() == ["F", "M", "F"]
    assert given["ventricle_volume"].isna().tolist() == [False, False, True]
    assert given["extrapolated"].isna().all()
    # Rows handed over in Python are the same as rows of a file.
    rows: list[Row] = [{"ventricle_volume": 6400.0, "sex": "M"}]
    again = sampling.sample(run, 1, tmp_path / "again", seed=6, conditions=rows)
    assert again[0].read_bytes() == files[1].read_bytes()


def test_a_volume_depends_on_its_seed_and_its_conditions_alone(run, tmp_path):
    choices = ["ventricle_volume=2000:8000"]
    files = sampling.sample(run, 4, tmp_path / "four", seed=3, choices=choices)
    alone = sampling.sample(run, 1, tmp_path / "one", seed=5, choices=choices)
    assert alone[0].read_bytes() == files[2].read_bytes()
    requested = [sidecar(file)["conditions"]["ventricle_volume"] for file in files]
    assert all(2000 <= value <= 8000 for value in requested)
    assert [dark(file) for file in files] == pytest.approx(requested, abs=32)


def test_what_nobody_asks_for_is_drawn_and_said(run, tmp_path):
    said: list[str] = []
    files = sampling.sample(run, 6, tmp_path / "s", choices=["sex=F"], log=said.append)
    assert [s for s in said if s.startswith("ventricle_volume: not requested, so drawn")]
    assert {sidecar(file)["conditions"]["sex"] for file in files} == {"F"}
    requested = [sidecar(file)["conditions"]["ventricle_volume"] for file in files]
    assert len(set(requested)) == 6
    assert 1000 <= min(requested) <= max(requested) <= 9000
    assert {tuple(sidecar(file)["drawn"]) for file in files} == {("ventricle_volume",)}


def test_extrapolation_is_allowed_marked_and_said_once(run, tmp_path):
    """Training spans 1000 to 9000 mm³."""
    said: list[str] = []
    choices = ["ventricle_volume=9000,9600,12000", "sex=F"]
    files = sampling.sample(run, 3, tmp_path / "s", choices=choices, log=said.append)
    assert [sidecar(file)["extrapolated"] for file in files] == [
        [], ["ventricle_volume"], ["ventricle_volume"],
    ]  # fmt: skip
    assert table(tmp_path / "s")["extrapolated"].tolist()[1:] == ["ventricle_volume"] * 2
    beyond = [sentence for sentence in said if "beyond the training range" in sentence]
    assert beyond == [
        "ventricle_volume: 2 of 3 volumes are requested beyond the training range (1000 to 9000): "
        "they are extrapolated, and marked so."
    ]
    assert dark(files[2]) == pytest.approx(12000, abs=32)


def test_an_interrupted_call_is_repeated_and_other_conditions_are_refused(run, tmp_path):
    choices = ["ventricle_volume=2000:8000"]
    files = sampling.sample(run, 3, tmp_path / "s", choices=choices)
    before = [file.read_bytes() for file in files]
    files[1].unlink()
    assert sampling.sample(run, 3, tmp_path / "s", choices=choices) == files
    assert [file.read_bytes() for file in files] == before
    with pytest.raises(UsageError, match=r"synth-000000.*with other conditions\. Use another"):
        sampling.sample(run, 3, tmp_path / "s", choices=["ventricle_volume=2000"])
    # Other seeds of the same run may ask for something else.
    sampling.sample(run, 1, tmp_path / "s", seed=9, choices=["ventricle_volume=2000"])
    assert table(tmp_path / "s")["seed"].tolist() == [0, 1, 2, 9]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n": None}, "--n: give the number of volumes, or a table"),
        ({"n": 3, "conditions": [{"sex": "F"}]}, "1 rows, .* 3 volumes"),
        ({"n": 1, "choices": ["sxe=F"]}, "did you mean 'sex'"),
        ({"n": 1, "choices": ["sex=D"]}, "Its levels: F, M"),
        ({"n": 1, "conditions": [{"sex": "D"}]}, "Its levels: F, M"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_before_anything_is_written(
    run, tmp_path, options, words
):
    with pytest.raises(UsageError, match=words):
        sampling.sample(run, out=tmp_path / "s", **options)
    assert not (tmp_path / "s").exists()


def test_a_generator_without_conditions_refuses_them_by_name(make_cohort, tmp_path):
    real = make_cohort("real", n=4, shape=(16, 16, 16))
    run = training.train("noise", out=tmp_path / "run", real=real)
    with pytest.raises(UsageError, match="noise was trained without conditions"):
        sampling.sample(run, 1, tmp_path / "s", choices=["age=30"])
    files = sampling.sample(run, 1, tmp_path / "s")
    assert "conditions" not in sidecar(files[0])
    assert not (tmp_path / "s" / "conditions.tsv").exists()


def test_guidance_is_for_generators_that_have_it(run, tmp_path, monkeypatch):
    class Guided(ellipsoids.Ellipsoids):
        def sampling(self, run, sampler, steps, guidance=None):
            return {"guidance": 1.0 if guidance is None else guidance}

        def sample(self, run, seeds, *, conditions=None, guidance=1.0, **options):
            for volume in super().sample(run, seeds, conditions=conditions, **options):
                yield guidance / 2 * volume

    with pytest.raises(UsageError, match="--guidance: ellipsoids has none"):
        sampling.sample(run, 1, tmp_path / "s", guidance=2.0)
    with pytest.raises(UsageError, match="--precision: ellipsoids has none to choose"):
        sampling.sample(run, 1, tmp_path / "s", precision="fp32")
    assert not (tmp_path / "s").exists()
    monkeypatch.setattr(registry, "load", lambda kind, name: Guided)
    one, two = (
        sampling.sample(run, 1, tmp_path / name, guidance=guidance)[0]
        for name, guidance in (("one", None), ("two", 2.0))
    )
    assert (sidecar(one)["guidance"], sidecar(two)["guidance"]) == (1.0, 2.0)
    assert "| guidance | 2.0 |" in (tmp_path / "two" / "README.md").read_text(encoding="utf-8")
    volumes = [nib.load(file).get_fdata() for file in (one, two)]
    assert np.allclose(2 * volumes[0], volumes[1], atol=2 / 65535)


def test_a_trajectory_that_takes_no_conditions_refuses_them(run, tmp_path, monkeypatch):
    class Stepwise(ellipsoids.Ellipsoids):
        def trajectory(self, run, seed, *, sampler, steps, frames):
            end = next(self.sample(run, [seed]))
            yield Frame(0, 1, end, end)
            yield Frame(1, 0, end, end)

    monkeypatch.setattr(registry, "load", lambda kind, name: Stepwise)
    with pytest.raises(UsageError, match="Leave out --condition"):
        trajectory.trajectory(run, 2, tmp_path / "t", choices=["sex=F"])
    assert trajectory.trajectory(run, 2, tmp_path / "t").is_file()


def test_a_trajectory_is_of_what_was_asked_for(run, tmp_path, monkeypatch):
    class Stepwise(ellipsoids.Ellipsoids):
        def trajectory(self, run, seed, *, sampler, steps, frames, conditions):
            end = ellipsoids.ball(seed, conditions)
            yield Frame(0, 1, end / 2, end / 2)
            yield Frame(1, 0, end, end)

    monkeypatch.setattr(registry, "load", lambda kind, name: Stepwise)
    choices = ["ventricle_volume=3200", "sex=F"]
    picture = trajectory.trajectory(run, 2, tmp_path / "t", choices=choices)
    series = nib.load(picture.with_suffix(".nii.gz")).get_fdata()
    sampled = sampling.sample(run, 1, tmp_path / "s", seed=2, choices=choices)[0]
    assert np.abs(series[..., -1] - nib.load(sampled).get_fdata()).max() < 1e-6
    about = json.loads(picture.with_suffix(".json").read_text(encoding="utf-8"))
    assert about["conditions"] == {"ventricle_volume": 3200.0, "sex": "F"}


# ---------------------------------------------------------------- cards


def test_the_card_tells_what_was_asked_and_what_was_drawn(run, tmp_path):
    """Requested in turn: F twice, M twice; the others are drawn."""
    sampling.sample(run, 4, tmp_path / "s", choices=["sex=F,M", "ventricle_volume=4000,12000"])
    card = (tmp_path / "s" / "README.md").read_text(encoding="utf-8")
    section = card.split("## What was requested")[1].split("\n## ")[0]
    assert "| sex | requested | F: 2, M: 2 | 0 |" in section
    assert "| ventricle\\_volume | requested | 4,000 to 12,000, median 8,000 | 2 |" in section
    assert "unconditional" not in card
    sampling.sample(run, 2, tmp_path / "d", choices=["sex=n/a"])
    section = (
        (tmp_path / "d" / "README.md").read_text(encoding="utf-8").split("## What was requested")[1]
    )
    assert "| ventricle\\_volume | drawn |" in section
    assert "| sex | requested | n/a: 2 | 0 |" in section


# ---------------------------------------------------------------- the command


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The test's generator is announced as another package would announce it, not built in."""
    folder = tmp_path / "site" / "ellipsoids-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: ellipsoids\nVersion: 1.0\n", encoding="utf-8"
    )
    (folder / "entry_points.txt").write_text(
        "[synthbench.generators]\nellipsoids = tests.ellipsoids:Ellipsoids\n"
        "[synthbench.extractors]\ndark = tests.ellipsoids:Dark\n",
        encoding="utf-8",
    )
    # The command runs in this process, where the same plugins are built in.
    monkeypatch.delitem(registry.BUILT_IN["generators"], "ellipsoids")
    monkeypatch.delitem(registry.BUILT_IN["extractors"], "dark")
    monkeypatch.syspath_prepend(folder.parent)


@pytest.mark.usefixtures("package")
def test_the_command_samples_and_sweeps(run, tmp_path):
    command = partial(command_line.run, cwd=tmp_path)
    drawn = command(
        "sample", "run", "--n", 2, "--condition", "ventricle_volume=8000:16000",
        "--condition", "sex=F,M", "--out", "s", "--json",
    )  # fmt: skip
    assert drawn.returncode == 0, drawn.stderr
    assert len(json.loads(drawn.stdout)) == 2
    assert "beyond the training range" in drawn.stderr
    assert table(tmp_path / "s")["sex"].tolist() == ["F", "M"]
    swept = command(
        "sweep", "run", "--vary", "ventricle_volume=0:1.5:3", "--fix", "sex=F",
        "--measure", "dark:0", "--out", "w",
    )  # fmt: skip
    assert swept.returncode == 0, swept.stderr
    # 1000, 7000 and 13,000 mm³, to the nearest ball of voxels of 64 mm³.
    lines = [re.split(r"\s{2,}", line.strip()) for line in swept.stdout.splitlines()[1:]]
    assert [line[1:4] for line in lines] == [
        ["1,000", "0", "1,024"], ["7,000", "0.75", "6,976"], ["13,000", "1.5", "12,990"],
    ]  # fmt: skip
    assert [line[4:] for line in lines] == [[], [], ["extrapolated"]]
    wrong = command("sample", "run", "--n", 2, "--condition", "age=3",
                    "--out", "x")  # fmt: skip
    assert wrong.returncode == 2
    assert "no condition 'age': known: sex, ventricle_volume" in wrong.stderr


def test_conditions_come_from_the_runs_record(run):
    assert Conditions.of_run(run.record).names == ("ventricle_volume", "sex")
