"""A finished run, plugins whose truth is known, and readers of sampled files."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from synthbench import registry
from synthbench.runs.folder import Run
from synthbench.training import training
from tests.conftest import write_cohort


@pytest.fixture(autouse=True)
def _installed(monkeypatch):
    monkeypatch.setitem(
        registry.BUILT_IN["generators"], "ellipsoids", "tests.ellipsoids:Ellipsoids"
    )
    monkeypatch.setitem(registry.BUILT_IN["extractors"], "dark", "tests.ellipsoids:Dark")


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    real = write_cohort(folder / "real", n=4, shape=(16, 16, 16))
    return training.train("noise", out=folder / "run", real=real)


@pytest.fixture
def run(trained, tmp_path):
    """A copy of a finished run, which the test may change."""
    return Run.open(shutil.copytree(trained.folder, tmp_path / "run"))


def voxels(file):
    return nib.load(file).get_fdata(dtype=np.float32)


def sidecar(file):
    return json.loads(
        file.with_name(file.name.replace(".nii.gz", ".json")).read_text(encoding="utf-8")
    )
