"""The published model: its names mapped to ours, nothing missing or left over, hashes checked."""

from __future__ import annotations

import hashlib

import pytest
import torch

from synthbench.cohorts.conditions import Conditions
from synthbench.errors import RunError, UsageError, WeightsError
from synthbench.generators.latent import published
from synthbench.metrics.extractors import weights
from synthbench.runs.folder import Run
from synthbench.runs.sidecar import read_sidecar
from synthbench.sampling import sampling
from synthbench.training import pretrained
from synthbench.training.pretrained import PUBLISHED, Published, pretrained_run
from tests.generators.latent.bundle import SMALL, published_states, settings
from tests.generators.tiles import model


@pytest.fixture
def small_bundle(tmp_path, monkeypatch):
    """The published model with narrow networks and random weights, already in the folder."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setenv(weights.FOLDER_VARIABLE, str(folder))
    own = settings(*SMALL)
    states, _ = published_states(own)
    files = {}
    for role, state in zip(("autoencoder", "unet"), states, strict=True):
        path = folder / f"small-{role}.pt"
        torch.save(state, path)
        md5 = hashlib.md5(path.read_bytes()).hexdigest()
        files[role] = weights.WeightFile(
            "small", "https://invalid.invalid/x", None, path.name, 1, "Apache-2.0", md5
        )
    bundle = Published("ldm3d", "pinaya", files, "made of noise", "nobody", 0)
    monkeypatch.setitem(PUBLISHED, "small", bundle)
    monkeypatch.setattr(published, "OVERRIDES", (*published.OVERRIDES, *SMALL[:-1]))
    monkeypatch.setattr(published, "SHAPE", (32, 32, 32))
    return files


@pytest.mark.slow
def test_a_run_of_published_weights_can_be_sampled(small_bundle, tmp_path):
    said: list[str] = []
    run = pretrained_run("ldm3d", "small", tmp_path / "run", log=said.append)
    assert "made of noise" in said[0]
    record = run.record
    assert record["pretrained"]["condition_ranges"].startswith("unknown")
    assert record["scale_factor"] == 1.0
    conditions = Conditions.of_run(record)
    assert conditions.names == published.CONDITIONS
    assert conditions.extrapolated({"age": 1.2, "sex": 1.0}) == ("age",)
    (file,) = sampling.sample(Run.open(run.folder), 1, tmp_path / "out", choices=["age=0.7"])
    assert file.is_file()
    assert read_sidecar(file)["conditions"]["age"] == 0.7
    recorded = weights.known_sha256(small_bundle["unet"])
    assert recorded == hashlib.sha256((tmp_path / "weights/small-unet.pt").read_bytes()).hexdigest()


def test_a_file_with_another_md5_is_not_used(small_bundle, tmp_path):
    path = tmp_path / "weights" / "small-unet.pt"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(WeightsError, match="must have the md5"):
        pretrained_run("ldm3d", "small", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"'monai-brain-ldn' is unknown.*monai-brain-ldm"):
        pretrained_run("ldm3d", "monai-brain-ldn", tmp_path / "run")
    with pytest.raises(UsageError, match="belongs to ldm3d, not to ddpm3d"):
        pretrained_run("ddpm3d", "monai-brain-ldm", tmp_path / "run")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("", encoding="utf-8")
    with pytest.raises(RunError, match="already there and not empty"):
        pretrained_run("ldm3d", "monai-brain-ldm", tmp_path / "full")


def test_the_hashes_are_the_bundles():
    files = pretrained.PUBLISHED["monai-brain-ldm"].files
    assert files["autoencoder"].md5 == "329e97b3085643ff235f11f049856242"
    assert files["unet"].md5 == "21c3047556fb671caf0556f1cce6ef22"


# ---------------------------------------------------------------- a licence to accept

DIT = "facebook/DiT-XL-2-256"
NON_COMMERCIAL = "cc-by-nc-4.0"


@pytest.mark.parametrize("accepted", [None, "mit", "cc-by-4.0"])
def test_nothing_is_fetched_before_the_licence_is_accepted(accepted, tmp_path, monkeypatch):
    fetched: list[str] = []
    monkeypatch.setattr(pretrained, "fetch", lambda file: fetched.append(file.name))
    said: list[str] = []
    with pytest.raises(UsageError, match="add --accept-licence cc-by-nc"):
        pretrained_run("dit-tiles", DIT, tmp_path / "a", accept_licence=accepted, log=said.append)
    assert "no commercial use" in said[0]
    with pytest.raises(UsageError, match=r"fine-tuned from them.*cc-by-nc-4.0"):
        invoke_fetch(f"{DIT}/vae", sha256="0" * 64, accept_licence=accepted)
    assert not fetched
    assert not (tmp_path / "a").exists()


def invoke_fetch(name, **options):
    from synthbench.cli.fetch import fetch

    fetch(name, **{"sha256": None, "accept_licence": None, **options})


def test_a_file_whose_hash_nobody_knows_is_not_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv(weights.FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(WeightsError, match="fetch facebook/DiT-XL-2-256/transformer --sha256 HASH"):
        pretrained_run("dit-tiles", DIT, tmp_path / "run", accept_licence=NON_COMMERCIAL)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_is_verified_by_the_hash_that_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv(weights.FOLDER_VARIABLE, str(tmp_path))
    file = PUBLISHED[DIT].files["vae"]
    (tmp_path / file.filename).write_bytes(b"weights")
    right = hashlib.sha256(b"weights").hexdigest()
    with pytest.raises(WeightsError, match="must have the sha256"):
        invoke_fetch(f"{DIT}/vae", sha256="0" * 64, accept_licence=NON_COMMERCIAL)
    invoke_fetch(f"{DIT}/vae", sha256=right, accept_licence="CC-BY-NC-4.0")
    assert weights.known_sha256(file) == right


@pytest.mark.parametrize(
    ("stated", "licence"),
    [("cc-by-nc-4.0", "cc-by-nc-4.0"), ("MIT", "mit"), (None, "cc-by-nc-4.0")],
)
def test_a_local_folder_has_the_licence_of_its_card(stated, licence, tmp_path):
    """A folder that says nothing may be a copy of the published weights."""
    model.write(tmp_path / "mine", licence=stated)
    other = "mit" if licence != "mit" else "cc-by-nc-4.0"
    for accepted in (None, other):
        with pytest.raises(UsageError, match=f"add --accept-licence {licence}"):
            pretrained_run(
                "dit-tiles", str(tmp_path / "mine"), tmp_path / "run", accept_licence=accepted
            )
    run = pretrained_run(
        "dit-tiles", str(tmp_path / "mine"), tmp_path / "run", accept_licence=licence
    )
    assert run.record["sources"][0]["licence"] == licence
    assert run.record["pretrained"]["name"] == "mine"
    assert run.config["layers"] == model.TRANSFORMER["num_layers"]


def test_a_licence_that_is_not_asked_for_is_refused(small_bundle, tmp_path):
    with pytest.raises(UsageError, match="has no licence to accept"):
        pretrained_run("ldm3d", "small", tmp_path / "run", accept_licence="mit")


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"transformer/config\.json and vae/config\.json"):
        pretrained_run("dit-tiles", str(tmp_path), tmp_path / "run", accept_licence=NON_COMMERCIAL)
    model.write(tmp_path / "mine")
    (tmp_path / "mine/vae/diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(WeightsError, match="Copy the whole model"):
        pretrained_run(
            "dit-tiles", str(tmp_path / "mine"), tmp_path / "run", accept_licence=NON_COMMERCIAL
        )
    assert not (tmp_path / "run").exists()
