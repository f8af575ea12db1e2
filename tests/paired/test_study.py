"""Whole cohorts of images and targets: partners, intensities, intervals, the command."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from synthbench.errors import CohortError, MetricError, UsageError
from synthbench.metrics import mae, psnr, ssim
from synthbench.paired.record import PairedRecord
from synthbench.paired.rule import IntensityRange, comparable
from synthbench.paired.study import paired
from tests.command_line import run
from tests.conftest import AFFINE, blob

N = 6
SHAPE = (20, 20, 20)


def write(folder, volumes, names=None):
    folder.mkdir()
    for i, volume in enumerate(volumes):
        name = f"sub-{i:02d}_T1w.nii.gz" if names is None else names[i]
        nib.save(nib.Nifti1Image(np.asarray(volume, np.float32), AFFINE), folder / name)
    return folder


def targets():
    return [300 * (1 + 0.1 * i) * blob(i, SHAPE) for i in range(N)]


def noisy(volumes, sd, seed=0):
    rng = np.random.default_rng(seed)
    return [v + sd * rng.normal(size=v.shape) * (v > 0) for v in volumes]


@pytest.fixture
def folders(tmp_path):
    true = targets()
    return {
        "target": write(tmp_path / "target", true),
        "image": write(tmp_path / "image", noisy(true, 5)),
        "baseline": write(tmp_path / "baseline", noisy(true, 30, seed=1)),
    }


def test_a_record_has_the_means_of_the_pairs(folders, tmp_path):
    record = paired(folders["target"], folders["image"])
    expected = []
    for i, true in enumerate(targets()):
        image = noisy(targets(), 5)[i]
        scale = np.percentile(true[true > 0].astype(np.float32), 99.9)
        image, true = (np.asarray(v / scale, np.float32) for v in (image, true))
        pair = comparable(image, true, None)
        expected.append([f(image, true, pair.mask) for f in (psnr, ssim, mae)])
    means = np.mean(expected, axis=0)
    assert [v.value for v in record.values] == pytest.approx(means.tolist(), rel=1e-3)
    assert [v.least for v in record.values] == pytest.approx(np.min(expected, axis=0), rel=1e-3)
    for value in record.values:
        assert value.low < value.value < value.high
    assert (record.pairs, record.subjects, record.baseline) == (N, N, None)
    assert PairedRecord.load(record.save(tmp_path / "record.json")) == record


def test_a_baseline_is_compared_pair_by_pair(folders):
    record = paired(folders["target"], folders["image"], baseline=folders["baseline"])
    decibels, similarity, error = record.values
    for one, better in ((decibels, 1), (similarity, 1), (error, -1)):
        assert one.baseline is not None
        assert one.difference == pytest.approx(one.value - one.baseline)
        assert one.difference_low is not None
        assert one.difference_high is not None
        assert min(better * one.difference_low, better * one.difference_high) > 0


def test_one_scale_of_the_target_does_not_hide_a_brighter_image(tmp_path):
    true = targets()
    target = write(tmp_path / "target", true)
    brighter = write(tmp_path / "brighter", [1.2 * v for v in true])
    error = paired(target, brighter).values[2]
    assert error.value == pytest.approx(
        np.mean([0.2 * (v[v > 0] / np.percentile(v[v > 0], 99.9)).mean() for v in true]), rel=0.02
    )


def test_signed_intensities_need_a_declared_range(tmp_path):
    """CT: air of -1000, a head of about 0 to 1000 HU; an error of 50 HU is 50 HU."""
    true = [np.where(blob(i, SHAPE) > 0, 1000 * blob(i, SHAPE), -1000) for i in range(N)]
    image = [v + np.where(v > -1000, 50, 0) for v in true]
    target, made = write(tmp_path / "ct", true), write(tmp_path / "made", image)
    with pytest.raises(MetricError, match=r"negative values .* --range LOW:HIGH:UNIT"):
        paired(target, made)
    declared = IntensityRange.parse("-1000:2000:HU")
    record = paired(target, made, declared=declared)
    error = record.values[2]
    assert error.unit == "HU"
    assert error.value == pytest.approx(50, abs=0.5)
    decibels = record.values[0]
    assert decibels.value == pytest.approx(20 * np.log10(3000 / 50), abs=0.1)
    assert record.rule == "both clipped to -1000 to 2000 (HU)"


def test_what_lies_outside_the_range_is_clipped_and_counted():
    target = np.zeros(SHAPE, np.float32)
    target[5:15, 5:15, 5:15] = 0.4
    image = target.copy()
    image[5:10, 5:15, 5:15] = 3.0
    found = comparable(image, target, IntensityRange(-0.5, 0.5, "fraction"))
    assert found.clipped == pytest.approx(0.5)
    assert found.mask.sum() == 1000
    assert (found.image.max(), found.data_range) == (1.0, 1.0)


@pytest.mark.parametrize("text", ["5", "2:1", "a:b", "-inf:1:HU", "nan:1"])
def test_a_range_is_two_numbers_in_order(text):
    with pytest.raises(UsageError, match="LOW below HIGH"):
        IntensityRange.parse(text)


def test_partners_have_one_name_or_one_participant(tmp_path, folders):
    true = targets()
    renamed = write(
        tmp_path / "renamed", noisy(true, 5), [f"sub-{i:02d}_rec.nii.gz" for i in range(N)]
    )
    by_file = paired(folders["target"], folders["image"])
    by_participant = paired(folders["target"], renamed)
    assert by_file.values == by_participant.values
    few = write(tmp_path / "few", noisy(true, 5)[:4])
    with pytest.raises(UsageError, match="2 participants are on one side only"):
        paired(folders["target"], few)


def test_another_grid_and_the_target_itself_are_refused(tmp_path, folders):
    small = write(tmp_path / "small", [v[:-1] for v in targets()])
    with pytest.raises(UsageError, match="on the grid of their targets"):
        paired(folders["target"], small)
    with pytest.raises(UsageError, match="equals its target"):
        paired(folders["target"], folders["target"])
    with pytest.raises(CohortError):
        paired(folders["target"], tmp_path / "nowhere")


def test_the_command_prints_a_table_and_writes_a_record(folders, tmp_path):
    out = tmp_path / "record.json"
    done = run(
        "paired", "--target", folders["target"], "--image", folders["image"], "--baseline",
        folders["baseline"], "--name", "net", "--out", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for said in ("net: 6 images of 6 subjects", "PSNR (dB), higher is better", "baseline"):
        assert said in done.stdout
    assert json.loads(out.read_text(encoding="utf-8"))["name"] == "net"
