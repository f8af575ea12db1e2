"""A finished run, plugins whose truth is known, and readers of sampled files."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from synthbench import registry
from synthbench.training import training


@pytest.fixture(autouse=True)
def _installed(monkeypatch):
    monkeypatch.setitem(
        registry.BUILT_IN["generators"], "ellipsoids", "tests.ellipsoids:Ellipsoids"
    )
    monkeypatch.setitem(registry.BUILT_IN["extractors"], "dark", "tests.ellipsoids:Dark")


@pytest.fixture
def run(make_cohort, tmp_path):
    real = make_cohort("real", n=4, shape=(16, 16, 16))
    return training.train("noise", out=tmp_path / "run", real=real)


def voxels(file):
    return nib.load(file).get_fdata(dtype=np.float32)


def sidecar(file):
    return json.loads(
        file.with_name(file.name.replace(".nii.gz", ".json")).read_text(encoding="utf-8")
    )
