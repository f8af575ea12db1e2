"""Sweeps: what is varied and held, the files, the measured curve, the pictures."""

from __future__ import annotations

import io
import json
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from synthbench import registry
from synthbench.errors import UsageError
from synthbench.runs.seal import verify
from synthbench.runs.sidecar import sidecar_file
from synthbench.sampling.sweep import parse_vary, sweep
from synthbench.sampling.sweep_figures import curve, montage
from synthbench.training import training
from synthbench.volumes.grid import Space
from tests import ellipsoids
from tests.sampling.examples import CONDITIONS

pytestmark = pytest.mark.slow


@pytest.fixture
def run(tmp_path):
    return ellipsoids.make_run(tmp_path / "run")


def voxels(file):
    return nib.load(file).get_fdata(dtype=np.float32)


def table(folder):
    return pd.read_csv(folder / "sweep.tsv", sep="\t", na_values=["n/a"])


# ---------------------------------------------------------------- what is varied


def test_steps_are_on_the_training_ranges_scale():
    """Training spans 20 to 80 years, so -0.5 to 1.5 is -10 to 110 in steps of 15."""
    axis = parse_vary("age=-0.5:1.5:9", CONDITIONS)
    assert axis.values == pytest.approx(np.arange(-10, 111, 15))
    assert [axis.beyond(value) for value in axis.values] == [True] * 2 + [False] * 5 + [True] * 2
    assert parse_vary("age=30:60:3", CONDITIONS, natural=True).values == (30.0, 45.0, 60.0)
    assert parse_vary("age=0,1,2", CONDITIONS).values == (20.0, 80.0, 140.0)
    assert parse_vary("sex=F,M", CONDITIONS).values == ("F", "M")


def test_the_ends_of_the_range_are_no_extrapolation():
    """Steps onto 0 and 1 carry an error of the last digit, which must not lead out of the range."""
    for text in ("volume=0:1:2", "volume=-0.3:1.3:17", "age=-0.1:1.1:13"):
        axis = parse_vary(text, CONDITIONS)
        inside = [value for value in axis.values if not axis.beyond(value)]
        assert inside[0] == axis.condition.low
        assert inside[-1] == axis.condition.high


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("age", "write it as NAME=FROM:TO:N"),
        ("age=0:1", r"write it as NAME=FROM:TO:N.*=-0\.5:1\.5:9\.$"),
        ("age=0:1:1", "N must be 2 to 100; found 1"),
        ("age=1:1:5", "all different"),
        ("age=a:b:3", "could not convert"),
        ("age=nan:1:3", "finite"),
        ("agee=0:1:3", "did you mean 'age'"),
        ("sex=0:1:2", "sex is one of F, M, without steps"),
        ("sex=F,D", "Its levels: F, M"),
        ("sex=F", "at least two finite values"),
    ],
)
def test_what_cannot_be_varied_is_refused(text, words):
    with pytest.raises(UsageError, match=words):
        parse_vary(text, CONDITIONS)


@pytest.mark.parametrize(
    ("vary", "options", "words"),
    [
        (["sex=F,M"] * 3, {}, "one condition, or two for a grid; found 3"),
        (["sex=F,M"] * 2, {}, "sex is varied twice"),
        (["sex=F,M"], {"fix": ["sex=F"]}, "--fix sex: it is varied"),
        (["sex=F,M"], {"fix": ["ventricle_volume=1:2"]}, "one value is needed"),
        (["sex=F,M"], {"fix": ["volume=1"]}, "did you mean 'ventricle_volume'"),
        (["sex=F,M"], {"measure": "dark"}, "write EXTRACTOR:FEATURE"),
        (["sex=F,M"], {"measure": "dark:1"}, "numbered from 0 to 0"),
        (["sex=F,M"], {"measure": "anatomy:ventricles"}, "did you mean 'ventricle_volume'"),
        (["sex=F,M"], {"seeds": 0}, "--seeds at least 1"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_is_written(
    run, tmp_path, vary, options, words
):
    with pytest.raises(UsageError, match=words):
        sweep(run, vary, tmp_path / "w", **options)
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("vary", "natural", "hint"),
    [
        ("ventricle_volume=2000:8000:2", False, True),
        ("ventricle_volume=-0.5:1.5:3", False, False),
        ("ventricle_volume=1.2:1.5:2", False, False),
        ("ventricle_volume=20000:80000:2", True, False),
    ],
)
def test_values_that_were_meant_in_natural_units_are_pointed_out(
    run, tmp_path, vary, natural, hint
):
    """Training spans 1000 to 9000 mm³; 2000 on its scale of 0 to 1 is 16 litres."""
    said: list[str] = []
    sweep(run, [vary], tmp_path / "w", natural=natural, measure="dark:0", log=said.append)
    assert any("--natural" in sentence for sentence in said) == hint


def test_a_run_without_conditions_is_refused_by_name(make_cohort, tmp_path):
    real = make_cohort("real", n=4, shape=(16, 16, 16))
    run = training.train("noise", out=tmp_path / "run", real=real)
    with pytest.raises(UsageError, match="noise was trained without conditions"):
        sweep(run, ["age=0:1:3"], tmp_path / "w")


# ---------------------------------------------------------------- what is drawn and measured


def test_a_row_is_of_one_seed_and_measures_what_was_asked(run, tmp_path):
    """Training spans 1000 to 9000 mm³; a ball is asked for to within half a voxel of 64 mm³."""
    said: list[str] = []
    found = sweep(
        run, ["ventricle_volume=-0.1:1.5:9"], tmp_path / "w", fix=["sex=M"], seed=4,
        measure="dark:0", log=said.append,
    )  # fmt: skip
    requested = [1000 + 8000 * x for x in np.linspace(-0.1, 1.5, 9)]
    assert [point.row["ventricle_volume"] for point in found.points] == pytest.approx(requested)
    assert [point.measured for point in found.points] == pytest.approx(requested, abs=33)
    assert {point.seed for point in found.points} == {4}
    assert [bool(point.extrapolated) for point in found.points] == [True] + [False] * 5 + [True] * 3
    *said, sealed = said
    assert "sealed" in sealed
    assert verify(tmp_path / "w").untouched
    assert said == ["4 of 9 volumes are requested beyond the training range: "
                    "they are extrapolated, and marked so."]  # fmt: skip
    # The seed's noise is the same in all: outside every ventricle the volumes agree.
    first, last = (voxels(found.points[i].file) for i in (0, -1))
    agree = np.abs(first - last) < 1e-6
    assert (~agree).sum() == pytest.approx((requested[-1] - requested[0]) / 64, abs=2)
    given = table(tmp_path / "w")
    assert given["ventricle_volume_scaled"].tolist() == pytest.approx(np.linspace(-0.1, 1.5, 9))
    assert given["measured dark:0"].tolist() == [point.measured for point in found.points]
    assert given["extrapolated"].notna().sum() == 4
    about = json.loads(sidecar_file(found.points[0].file).read_text(encoding="utf-8"))
    assert about["synthetic"] is True
    assert about["conditions"] == dict(found.points[0].row)
    assert [file.name for file in found.written] == ["sweep.tsv", "montage.png", "curve.png"]
    assert (tmp_path / "w" / "README.md").is_file()
    assert json.loads(json.dumps(found.as_json()))["scaled"]["ventricle_volume"][0] == -0.1


def test_what_is_not_fixed_stays_at_its_training_median_or_most_common_level(run, tmp_path):
    """40 volumes at equal steps from 1000 to 9000: the median is 5000. F and M are as common."""
    said: list[str] = []
    found = sweep(run, ["sex=M,F"], tmp_path / "w", log=said.append)
    assert found.fixed == {"ventricle_volume": 5000.0}
    assert said[0] == ("at the training median or the most common level: ventricle_volume 5,000")
    assert "no extractor is known to measure sex" in said[1]
    assert [file.name for file in found.written] == ["sweep.tsv", "montage.png"]
    assert found.table().row_count == 2


def test_a_sweep_is_repeated_without_drawing_again_and_refuses_another(run, tmp_path):
    options: dict[str, Any] = {"fix": ["sex=F"], "measure": "dark:0"}
    first = sweep(run, ["ventricle_volume=0:1:3"], tmp_path / "w", **options)
    pictures = {file.name: file.read_bytes() for file in first.written}
    kept = [point.file.stat().st_mtime_ns for point in first.points]
    first.points[1].file.unlink()
    done: list[tuple[int, int, str]] = []
    again = sweep(
        run, ["ventricle_volume=0:1:3"], tmp_path / "w",
        progress=lambda *step: done.append(step), **options,
    )  # fmt: skip
    assert {file.name: file.read_bytes() for file in again.written} == pictures
    assert [p.file.stat().st_mtime_ns for p in again.points][::2] == kept[::2]
    assert done == [(1, 4, "drawing"), *((k, 4, "measuring") for k in (2, 3, 4))]
    with pytest.raises(UsageError, match="other conditions"):
        sweep(run, ["ventricle_volume=0:2:3"], tmp_path / "w", **options)


def test_a_grid_has_every_combination_at_every_seed(run, tmp_path):
    found = sweep(
        run, ["ventricle_volume=0:1:3", "sex=F,M"], tmp_path / "w", seeds=2, measure="dark:0"
    )
    rows = [(p.seed, p.row["sex"], p.row["ventricle_volume"]) for p in found.points]
    assert rows == [(s, x, v) for s in (0, 1) for x in "FM" for v in (1000.0, 5000.0, 9000.0)]
    assert found.seeds == (0, 1)
    measured = np.array([p.measured for p in found.points]).reshape(4, 3)
    assert np.ptp(measured, axis=0).max() == 0


def test_a_volume_that_cannot_be_measured_is_named_and_left_out(run, tmp_path, monkeypatch):
    class Empty(ellipsoids.Ellipsoids):
        def sample(self, run, seeds, *, sampler=None, steps=None, conditions=None):
            for seed, row in zip(seeds, conditions, strict=True):
                size = 0.0 if row["ventricle_volume"] == 5000 else 1.0
                yield size * ellipsoids.ball(seed, row)

    monkeypatch.setattr(
        registry, "load",
        lambda kind, name: Empty if kind == "generators" else ellipsoids.Dark,
    )  # fmt: skip
    said: list[str] = []
    found = sweep(
        run, ["ventricle_volume=0:1:3"], tmp_path / "w", measure="dark:0", log=said.append
    )
    assert [point.measured is None for point in found.points] == [False, True, False]
    (refused,) = [sentence for sentence in said if "cannot be measured" in sentence]
    assert "1 of 3 volumes cannot be measured" in refused
    assert "sweep-000000-001.nii.gz: no voxel is above zero" in refused
    assert table(tmp_path / "w")["measured dark:0"].isna().tolist() == [False, True, False]


# ---------------------------------------------------------------- the pictures


def size(png):
    return Image.open(io.BytesIO(png)).size


def test_pictures_grow_with_what_they_show_and_are_the_same_each_time(run, tmp_path):
    """Two planes a seed; a grid has a row a value, axial slices alone."""
    vary = "ventricle_volume=0:1.5:3"
    options: dict[str, Any] = {"measure": "dark:0"}
    one = sweep(run, [vary], tmp_path / "one", **options)
    two = sweep(run, [vary], tmp_path / "two", seeds=2, **options)
    grid = sweep(run, [vary, "sex=F,M"], tmp_path / "grid", **options)
    montages = [found.written[1].read_bytes() for found in (one, two, grid)]
    curves = [found.written[2].read_bytes() for found in (one, two, grid)]
    assert size(montages[1])[1] > 1.5 * size(montages[0])[1]
    assert size(montages[2])[0] == size(montages[0])[0]
    assert len(set(curves)) == 3
    space = Space.of(ellipsoids.SHAPE, np.diag([4.0, 4.0, 4.0, 1.0]))
    assert montage(one, space, lambda point: voxels(point.file)) == montages[0]
    assert curve(one) == curves[0]
