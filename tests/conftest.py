"""Small cohorts that tests share: made of noise and spheres, no template and no network."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
import torch
import typer.main

from synthbench.metrics.extractors import random_resnet, voxels

if TYPE_CHECKING:
    from synthbench.metrics.extractors.resnet import MedicalResNet

# Typer looks at these when it is imported, and would colour what the tests read.
for name in ("FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS"):
    os.environ.pop(name, None)

AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
AFFINE[:3, 3] = (-46, -46, -46)

# What the extractors' own tests call; the others get what it made once.
make_network, make_mask = random_resnet._verified_network, voxels._verified_mask


def blob(seed: int, shape: tuple[int, int, int] = (24, 24, 24), width: float = 1.0) -> np.ndarray:
    """A sphere of smooth-edged random tissue on a zero background, in [0, 1]."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*[np.linspace(-1, 1, s) for s in shape], indexing="ij")
    radius = np.sqrt(sum(a**2 for a in axes)) / width
    tissue = 0.6 + 0.1 * rng.standard_normal() + 0.15 * rng.standard_normal(shape)
    return np.clip(tissue * (radius < 0.8), 0, 1).astype(np.float32)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Start every test from the same torch state: no test may pass or fail by the luck of a draw.

    A hook, because it comes before the fixtures of a module too.
    """
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _features_are_kept_apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Neither find the user's own features and key, nor leave those of the tests with them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        patch.setenv("SYNTHBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _the_commands_are_built_once() -> Iterator[None]:
    """Typer builds all commands anew on every call: a process calls it once, the tests often."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", cache(typer.main.get_command))
        yield


@pytest.fixture(scope="session", autouse=True)
def _extractors_are_loaded_once() -> Iterator[None]:
    """A score loads its extractors anew: the random network takes half a second.

    Both are the same for all tests but their own, which load them from nothing.
    """

    @cache
    def network() -> MedicalResNet:
        made = make_network()
        # Up to 44 voxels per side the features are the same bits. For so few, most of the time is
        # that in which a convolution brings its weights in order, and from here it takes half.
        for weight in made.parameters():
            weight.data = weight.data.contiguous()
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(random_resnet, "_verified_network", network)
        patch.setattr(voxels, "_verified_mask", cache(make_mask))
        yield


@pytest.fixture(scope="session", autouse=True)
def _versions_are_looked_up_once() -> Iterator[None]:
    """Each record of a run or a score names ten packages, whose metadata is parsed every time."""
    from synthbench.records import scorecard
    from synthbench.runs import folder
    from synthbench.scoring import features
    from synthbench.scoring.cache import keys

    known = cache(version)
    with pytest.MonkeyPatch.context() as patch:
        for module in (scorecard, folder, features, keys):
            patch.setattr(module, "version", known)
        yield


def write_cohort(
    folder: Path,
    n: int = 6,
    seed: int = 0,
    shape: tuple[int, int, int] = (24, 24, 24),
    affine: np.ndarray = AFFINE,
    width: float = 1.0,
    subject: str = "",
) -> Path:
    """Write a folder of NIfTI volumes."""
    folder.mkdir()
    for i in range(n):
        volume = blob(1000 * seed + i, shape, width)
        nib.save(nib.Nifti1Image(volume, affine), folder / f"sub-{subject}{i:03d}.nii.gz")
    return folder


@pytest.fixture
def make_cohort(tmp_path: Path) -> Callable[..., Path]:
    """Return `write_cohort`, of a name instead of a folder."""
    return lambda name, *given, **options: write_cohort(tmp_path / name, *given, **options)
