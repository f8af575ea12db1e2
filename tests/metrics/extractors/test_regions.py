"""Regions of the brain: the atlas, and volumes of regions on simulated heads with known truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from synthbench import registry
from synthbench.errors import MetricError, WeightsError
from synthbench.metrics.extractors import parcels as parcels_module
from synthbench.metrics.extractors.parcels import parcels
from synthbench.metrics.extractors.regions import SCALES, WHOLE, Regions, shares_of
from synthbench.metrics.extractors.tissue import MNI152_2MM
from synthbench.sensitivity.corruptions.of_volumes import enlarge_ventricles
from synthbench.simulation.template import LABELS
from tests.metrics.extractors.simulated_heads import SPACE, on_mni152, subject

pytestmark = pytest.mark.slow

SUBJECTS = 6


def test_there_are_regions_enough_and_each_has_a_place():
    atlas = parcels()
    measured = [name for name in atlas.names if name in SCALES]
    assert len(SCALES) == 85 == Regions().dim
    assert set(SCALES) - set(atlas.names) == {"lateral_ventricle_left", "lateral_ventricle_right"}
    assert len(measured) == 83
    assert (np.bincount(atlas.labels.ravel(), minlength=len(atlas.names) + 1) > 0).all()


@pytest.mark.parametrize(
    ("name", "millimetres"),
    [
        ("precentral_left", (-40, -10, 50)), ("precentral_right", (40, -10, 50)),
        ("hippocampus_left", (-26, -22, -14)), ("caudate_right", (13, 10, 10)),
        ("cuneus_left", (-8, -80, 26)), ("brainstem", (0, -30, -36)),
        ("cerebellum_left", (-26, -62, -40)), ("cerebellum_right", (26, -62, -40)),
    ],
)  # fmt: skip
def test_regions_lie_where_textbooks_have_them(name, millimetres):
    """Coordinates in MNI152 millimetres, x to the right."""
    voxel = np.rint(np.linalg.inv(MNI152_2MM.matrix) @ (*millimetres, 1))[:3].astype(int)
    atlas = parcels()
    assert atlas.names[atlas.labels[tuple(voxel)] - 1] == name


def test_left_regions_lie_left():
    atlas = parcels()
    for label, name in enumerate(atlas.names, start=1):
        x = np.nonzero(atlas.labels == label)[0].mean() - 45
        assert x < 2 if name.endswith("_left") else x > -2, name


@pytest.fixture(scope="module")
def heads():
    return [subject(index) for index in range(SUBJECTS)]


@pytest.fixture(scope="module")
def measured(heads):
    return [shares_of(on_mni152(one.volume)) for one in heads]


def true_shares(one):
    """Regions of the subject's own tissue labels, one voxel of the simulation at a time."""
    atlas = parcels()
    value = {name: number for number, name in LABELS.items()}
    labels = np.zeros(MNI152_2MM.shape)
    to_simulated = np.linalg.inv(SPACE.matrix) @ MNI152_2MM.matrix
    labels = ndimage.affine_transform(
        one.labels, to_simulated[:3, :3], to_simulated[:3, 3], output_shape=MNI152_2MM.shape,
        order=0,
    )  # fmt: skip
    head = (labels > 0).sum()
    shares = {}
    for number, (name, kind) in enumerate(zip(atlas.names, atlas.kinds, strict=True), start=1):
        if name not in SCALES:
            continue
        tissue = labels == value["grey matter"]
        if kind in WHOLE:
            tissue = tissue | (labels == value["white matter"])
        shares[name] = (tissue & (atlas.labels == number)).sum() / head
    ventricles = (labels == value["lateral ventricles"]).sum(axis=(1, 2)) / head
    shares["lateral_ventricle_left"] = ventricles[:45].sum() + ventricles[45] / 2
    shares["lateral_ventricle_right"] = ventricles[46:].sum() + ventricles[45] / 2
    return shares


def test_regions_follow_the_true_tissues(heads, measured):
    """At 3.8 mm and with hard labels the truth is coarse: small regions have few voxels."""
    true = [true_shares(one) for one in heads]
    found = {
        name: np.corrcoef([t[name] for t in true], [m[name] for m in measured])[0, 1]
        for name in SCALES
    }
    for side in ("left", "right"):
        assert found[f"lateral_ventricle_{side}"] > 0.95
    assert np.median(list(found.values())) > 0.7, sorted(found.items(), key=lambda kv: kv[1])


def test_both_ventricles_together_are_those_of_the_truth(heads, measured):
    true = np.array([one.ventricle_volume for one in heads])
    both = [m["lateral_ventricle_left"] + m["lateral_ventricle_right"] for m in measured]
    assert np.corrcoef(true, both)[0, 1] > 0.97


def test_larger_ventricles_are_larger(heads, measured):
    larger = shares_of(
        np.clip(enlarge_ventricles(on_mni152(heads[0].volume), 50, MNI152_2MM), 0, 1)
    )
    for side in ("left", "right"):
        name = f"lateral_ventricle_{side}"
        assert 1.2 < larger[name] / measured[0][name] < 1.6


def test_a_row_is_in_units_of_the_scales_and_has_names(heads, measured):
    extractor = registry.load("extractors", "regions")()
    volume = torch.from_numpy(on_mni152(heads[0].volume))[None, None]
    row = extractor.features(volume)[0].numpy()
    assert extractor.measures == tuple(SCALES)
    expected = [(1000 * measured[0][n] - typical) / sd for n, (typical, sd) in SCALES.items()]
    np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-4)
    halved = extractor.features(volume / 2)[0].numpy()
    np.testing.assert_allclose(halved, row, atol=0.05)


def test_another_grid_and_another_atlas_are_refused(monkeypatch, tmp_path):
    with pytest.raises(MetricError, match=r"another grid|must be on the grid"):
        shares_of(np.zeros((9, 9, 9), np.float32))
    other = tmp_path / "atlas.nii.gz"
    other.write_bytes(b"")
    monkeypatch.setattr(parcels_module, "ATLAS", other)
    with pytest.raises(WeightsError, match=r"the sha256 0a28.*found e3b0"):
        parcels_module._atlas()
