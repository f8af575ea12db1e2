"""The run that is part of the package."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthbench.cohorts.reading import read_cohort
from synthbench.errors import RunError
from synthbench.generators.ddpm3d import DDPM3D, trained
from synthbench.generators.volume_prior import VolumePrior
from synthbench.runs.folder import Run, is_shipped
from synthbench.simulation.cohort import atlas_cohort


def test_it_is_opened_by_its_name(tmp_path, monkeypatch):
    """A folder of that name comes first."""
    monkeypatch.chdir(tmp_path)
    assert is_shipped("atlas")
    assert Run.open("atlas").record["generator"] == "ddpm3d"
    (tmp_path / "atlas").mkdir()
    assert not is_shipped("atlas")
    with pytest.raises(RunError, match="no run folder"):
        Run.open("atlas")


def test_it_is_small_whole_and_of_no_machine():
    run = Run.open("atlas")
    assert run.weights_file.stat().st_size < 8 * 2**20
    assert run.load_weights()  # raises where the hash is not that of the record
    assert run.record["cohort"]["embedded"]
    texts = [
        (run.folder / name).read_text(encoding="utf-8")
        for name in ("config.yaml", "run.json", "README.md")
    ]
    assert not any("/tmp" in text or "/home" in text or "/work" in text for text in texts)


class NoCorrection(torch.nn.Module):
    """Leaves the filter's estimate as it is."""

    def forward(self, state, t):
        return torch.zeros_like(state[:, :1])


def test_its_network_has_learned_more_than_the_filter(tmp_path):
    """Of the Wiener filter's error it leaves at most 0.7, on subjects that it has not seen."""
    network, objective, shape = trained(Run.open("atlas"))
    cohort = read_cohort(atlas_cohort(2, tmp_path / "unseen", seed=99, shape=shape))
    volumes = torch.stack([torch.from_numpy(volume)[None] for volume in cohort.volumes()])
    noise = torch.randn(volumes.shape, generator=torch.Generator().manual_seed(0))
    levels = torch.tensor([500, 500])  # noise over signal is 0.8
    with torch.inference_mode():
        left, of_filter = (
            float(objective.losses(denoiser, volumes, levels, noise).mean())
            for denoiser in (network, NoCorrection())
        )
    assert left < 0.7 * of_filter


def test_its_samples_are_brains():
    """Two steps leave a sample near the mean brain, with a standard deviation as in training."""
    run = Run.open("atlas")
    prior = VolumePrior.of(run.load_weights())
    volume = next(DDPM3D().sample(run, [0], steps=2))
    assert volume.shape == (48, 56, 48)
    mean = prior.mean[0, 0].numpy()
    assert np.corrcoef(volume.ravel(), mean.ravel())[0, 1] > 0.9
