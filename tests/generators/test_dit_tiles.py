"""`dit-tiles` end to end: pixels, latents of published weights, resuming, labels, the licence."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import AutoencoderKL, DiTTransformer2DModel

from synthbench.cohorts.conditions import Row
from synthbench.errors import UsageError
from synthbench.generators.diffusion.process import Diffusion
from synthbench.generators.dit_tiles import DiTTiles, _settings, _trained
from synthbench.generators.tiles.pictures import TileAutoencoder
from synthbench.generators.tiles.tiling import composites, tiling_of, volumes_of
from synthbench.runs import configuration
from synthbench.runs.folder import Run
from synthbench.runs.licence import licence
from synthbench.runs.sidecar import read_sidecar
from synthbench.sampling import sampling
from synthbench.training import training
from synthbench.training.pretrained import pretrained_run
from tests.conftest import AFFINE, blob
from tests.generators.tiles import model

pytestmark = pytest.mark.slow

LICENCE = "cc-by-nc-4.0"
SHORT = [
    "space.shape=[16,16,16]", "steps=4", "epochs=null", "batch_size=2", "checkpoint_every=2",
    "sampler_steps=2", "warmup_steps=0", "conditions=[sex]",
]  # fmt: skip
SMALL = [*SHORT, "heads=2", "head_width=8", "layers=2", "patch=8", "validate_every=1"]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Six volumes, with a participants table in which one sex is missing."""
    folder = tmp_path_factory.mktemp("real")
    for i in range(6):
        nib.save(nib.Nifti1Image(blob(i), AFFINE), folder / f"sub-{i:03d}.nii.gz")
    people = [f"sub-{i:03d}" for i in range(6)]
    table = pd.DataFrame({"participant_id": people, "sex": ["F", "M", "F", "M", "F", None]})
    table.to_csv(folder / "participants.tsv", sep="\t", index=False, na_rep="n/a")
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A small published model, and a run of it."""
    folder = tmp_path_factory.mktemp("hub") / "small-dit"
    model.write(folder)
    out = tmp_path_factory.mktemp("runs") / "published"
    return folder, pretrained_run("dit-tiles", str(folder), out, accept_licence=LICENCE)


@pytest.fixture(scope="module")
def pixels(cohort, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "pixels"
    return training.train(
        "dit-tiles", out=out, real=cohort, validation=cohort, preset="tiny", overrides=SMALL,
        accept=["identical-across", "subjects"],
    )  # fmt: skip


@pytest.fixture(scope="module")
def tuned(published, cohort, tmp_path_factory):
    """A run that was fine-tuned from the published one."""
    run = published[1]
    return training.train(
        "dit-tiles", out=tmp_path_factory.mktemp("runs") / "tuned", real=cohort,
        config=run.folder / "config.yaml", init=run.folder, overrides=SHORT,
    )  # fmt: skip


def weights_of(run):
    return run.load_weights()


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def stopped_at(run, step, out):
    """A copy of a run as a process that died after a step would have left it."""
    shutil.copytree(run.folder, out)
    for name in ("weights.safetensors", "preview.png", "README.md"):
        (out / name).unlink()
    record = run.record | {"finished": False, "trained": False}
    (out / "run.json").write_text(json.dumps(record), encoding="utf-8")
    for folder in (out / "checkpoints").iterdir():
        if int(folder.name.removeprefix("step-")) > step:
            shutil.rmtree(folder)
    return Run.open(out)


def test_labels_and_guidance_are_used(pixels):
    plugin = DiTTiles()
    rows: list[Row] = [{"sex": "F"}, {"sex": "M"}, {"sex": None}]
    female, male, unknown = plugin.sample(pixels, [3, 3, 3], conditions=rows)
    assert female.shape == (16, 16, 16)
    assert not np.array_equal(female, male)
    assert not np.array_equal(female, unknown)
    (more,) = plugin.sample(pixels, [3], conditions=rows[:1], guidance=3.0)
    assert not np.array_equal(more, female)
    # Without guidance's label the prediction is the unconditional one.
    (none,) = plugin.sample(pixels, [3], conditions=rows[:1], guidance=0.0)
    assert np.allclose(none, unknown, atol=1e-5)
    with pytest.raises(UsageError, match="--guidance: must be at least 0"):
        plugin.sampling(pixels, None, None, guidance=-1.0)
    with pytest.raises(UsageError, match="1 rows of conditions for 2 seeds"):
        list(plugin.sample(pixels, [1, 2], conditions=rows[:1]))
    (stage,) = plugin.stages(_settings(pixels))
    assert stage.samples((16, 16, 16)) == ((1, 1, 64, 64), (1,))
    assert len((pixels.folder / "validation.csv").read_text(encoding="utf-8").splitlines()) > 1


@pytest.mark.parametrize("which", ["pixels", "tuned"])
def test_a_killed_run_resumes_to_the_same_weights_bit_for_bit(which, request, tmp_path):
    run = request.getfixturevalue(which)
    killed = stopped_at(run, 2, tmp_path / "killed")
    (file,) = sampling.sample(killed, 1, tmp_path / "early", choices=["sex=F"])
    assert read_sidecar(file)["unfinished_at_step"] == 2
    resumed = training.train(out=killed.folder, resume=True)
    assert same(weights_of(run), weights_of(resumed))


def test_published_weights_predict_what_diffusers_predicts(published):
    """Read back by diffusers itself; its pipeline takes the first half of the channels."""
    folder, run = published
    theirs = DiTTransformer2DModel.from_pretrained(folder / "transformer").eval()
    network, sampler = _trained(run)
    states = torch.randn((2, 4, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    t, labels = torch.tensor([3, 900]), torch.tensor([1, 6])
    with torch.inference_mode():
        expected = theirs(states[:, :, 0], timestep=t, class_labels=labels).sample[:, :4]
        found = network(states, t, labels[:, None].float())[:, :, 0]
    assert torch.allclose(found, expected, atol=1e-6)
    settings = _settings(run)
    betas = 1 - Diffusion(settings).alphas_cumprod[1:] / Diffusion(settings).alphas_cumprod[:-1]
    assert torch.allclose(betas, torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)[1:])
    assert sampler.shape == (32, 40, 48)


def test_latents_are_scaled_before_they_are_diffused(published):
    """Rombach et al.'s 0.18215: decoding divides by it, as diffusers' pipeline does."""
    folder, run = published
    theirs = AutoencoderKL.from_pretrained(folder / "vae").eval()
    _, sampler = _trained(run)
    autoencoder, tiling = sampler.decoder, tiling_of((8, 8, 4), 2)
    assert isinstance(autoencoder, TileAutoencoder)
    small = TileAutoencoder(autoencoder.network, autoencoder.scale, tiling)
    volume = torch.rand((1, 1, 8, 8, 4), generator=torch.Generator().manual_seed(0))
    image = composites(volume, tiling) * 2 - 1
    with torch.inference_mode():
        latents = theirs.encode(torch.cat([image] * 3, dim=1)).latent_dist
        mean, sigma = small.encode(volume)
        assert torch.allclose(mean[:, :, 0], latents.mean, atol=1e-6)
        assert torch.allclose(sigma[:, :, 0], latents.std, atol=1e-6)
        colours = theirs.decode(latents.mean).sample
        back = small.decode(0.18215 * mean)
    expected = volumes_of((colours.mean(dim=1, keepdim=True) + 1) / 2, tiling)
    assert torch.allclose(back, expected, atol=1e-5)


def test_fine_tuning_begins_with_the_published_weights(published, tuned, cohort, tmp_path):
    """With a learning rate of almost zero they stay; the autoencoder is never trained."""
    run = published[1]
    before, after = weights_of(run), weights_of(tuned)
    kept = [name for name in before if name.startswith("autoencoder.")]
    assert kept
    assert all(np.array_equal(before[name], after[name]) for name in kept)
    moved = [
        n for n in before if n.startswith("transformer.") and not (before[n] == after[n]).all()
    ]
    assert moved
    assert max(np.abs(before[n] - after[n]).max() for n in moved) < 0.01
    assert not list(tuned.folder.glob("latents-*"))


def test_the_licence_goes_with_weights_and_samples(published, tuned, tmp_path):
    (file,) = sampling.sample(tuned, 1, tmp_path / "out", choices=["sex=M"])
    assert LICENCE in read_sidecar(file)["licence"]
    card = (tuned.folder / "README.md").read_text(encoding="utf-8")
    assert f"license_name: {LICENCE}" in card
    assert "small-dit" in card
    # The embedded cohort's own terms do not take its place.
    record = tuned.record
    record["cohort"]["embedded"] = True
    assert licence(record) == f"{LICENCE}-and-icbm-152-template"


def test_a_run_from_nothing_needs_published_weights(cohort, published, tmp_path):
    with pytest.raises(UsageError, match=r"--pretrained .*--accept-licence"):
        training.train(
            "dit-tiles", out=tmp_path / "run", real=cohort, overrides=SHORT,
            config=published[1].folder / "config.yaml",
        )  # fmt: skip


def test_without_a_preset_it_is_the_one_that_needs_no_published_weights(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    common, _ = configuration.resolve("dit-tiles")
    assert common.preset == "tiny"


def test_a_grid_with_too_many_slices_is_refused_before_anything_is_written(cohort, tmp_path):
    with pytest.raises(UsageError, match=r"nearest: --set space.shape=\[16, 16, 12\]"):
        training.train(
            "dit-tiles", out=tmp_path / "run", real=cohort, preset="tiny",
            overrides=[*SMALL, "tile_grid=[3,4]"],
        )  # fmt: skip
    assert not (tmp_path / "run").exists()
