"""Brain extraction by deepbet, with a small stand-in for the package."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import sys
from types import ModuleType

import numpy as np
import pytest

from synthbench.cohorts.preparation import deepbet
from synthbench.cohorts.preparation.external import external_mask, find_tool
from synthbench.cohorts.preparation.image import Image
from synthbench.cohorts.preparation.settings import Settings
from synthbench.errors import CohortError, UsageError
from tests.cohorts.preparation.heads import CUBE, ball

HEAD = Image(ball(15).astype(np.float32), CUBE)


class _Networks:
    """Half of the brightest voxel and more is brain; a scan without any fails as deepbet does."""

    def __init__(self, no_gpu, model_path, bbox_model_path):
        assert no_gpu
        assert (model_path.read(), bbox_model_path.read()) == (b"model.pt", b"bbox_model.pt")

    def run_model(self, volume):
        assert volume.max() < 9, "Not enough foreground to calculate bounding box"
        return volume

    def postprocess(self, mask):
        return mask


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A stand-in for deepbet; returns the folder of its networks."""
    folder = tmp_path / "models"
    folder.mkdir()
    for name in deepbet.WEIGHTS:
        (folder / name).write_bytes(name.encode())
    known = {name: hashlib.sha256(name.encode()).hexdigest() for name in deepbet.WEIGHTS}
    monkeypatch.setattr(deepbet, "WEIGHTS", known)
    main, utils = ModuleType("deepbet"), ModuleType("deepbet.utils")
    vars(main)["BrainExtraction"], vars(utils)["DATA_PATH"] = _Networks, str(tmp_path)
    main.__spec__ = importlib.util.spec_from_loader("deepbet", loader=None)
    monkeypatch.setitem(sys.modules, "deepbet", main)
    monkeypatch.setitem(sys.modules, "deepbet.utils", utils)
    monkeypatch.setattr(deepbet, "version", lambda name: "1.0.2")
    deepbet._networks.cache_clear()
    yield folder
    deepbet._networks.cache_clear()


def test_its_mask_is_taken_and_its_network_recorded(package):
    assert np.array_equal(external_mask(HEAD, "deepbet").volume, HEAD.volume)
    record = find_tool("deepbet")
    assert record == {
        "command": "deepbet",
        "version": "1.0.2",
        "sha256": hashlib.sha256(b"model.pt").hexdigest(),
    }
    assert Settings.chosen(brain_extraction="deepbet").brain_extraction == "deepbet"


@pytest.mark.parametrize("name", ["model.pt", "bbox_model.pt"])
def test_a_network_with_another_sha256_is_not_loaded(name, package):
    (package / name).write_bytes(b"other")
    with pytest.raises(UsageError, match=f"{name} is not the file of deepbet 1.0.2"):
        find_tool("deepbet")


def test_a_scan_without_a_brain_is_an_error_of_the_scan(package):
    with pytest.raises(CohortError, match="no brain found"):
        external_mask(Image(HEAD.volume * 10, CUBE), "deepbet")


def test_where_it_is_not_installed_the_error_says_how(monkeypatch):
    monkeypatch.setitem(sys.modules, "deepbet", None)
    monkeypatch.setattr(deepbet, "find_spec", lambda name: None)
    deepbet._networks.cache_clear()
    with pytest.raises(UsageError, match=r"pip install 'synthbench\[prepare,deepbet\]'"):
        find_tool("deepbet")


@pytest.mark.slow
def test_the_real_networks_have_the_known_sha256():
    assert deepbet.deepbet_record()["version"] == importlib.metadata.version("deepbet")
