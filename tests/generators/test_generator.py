"""Every built-in generator, held to the contract through the functions that users call."""

from __future__ import annotations

import json
import shutil
from functools import cache

import nibabel as nib
import numpy as np
import pytest

from synthbench import registry
from synthbench.cohorts.reading import read_cohort
from synthbench.errors import RunError, SynthbenchError, UsageError
from synthbench.generators.noise import Noise
from synthbench.generators.pca_gaussian import PCAGaussian
from synthbench.runs import configuration
from synthbench.runs.folder import Run
from synthbench.runs.sidecar import read_sidecar
from synthbench.sampling import sampling
from synthbench.scoring.scoring import score
from synthbench.testing import check_generator
from synthbench.training import training
from tests.conftest import write_cohort
from tests.generators.fitting import fitted

pytestmark = pytest.mark.slow

NAMES = sorted(registry.BUILT_IN["generators"])


SMALL = [
    "space.shape=[16,16,16]",
    "channels=[8,16]",
    "attention=[false,true]",
    "head_channels=[8,8]",
    "norm_groups=4",
    "steps=3",
    "checkpoint_every=1",
    "sampler_steps=2",
]


LATENT = [
    *SMALL,
    "autoencoder.patch=2",
    "autoencoder.channels=[8,8]",
    "autoencoder.norm_groups=4",
    "autoencoder.latent_channels=2",
    "autoencoder.discriminator_channels=4",
    "autoencoder.steps=2",
]


TILED = [
    "space.shape=[16,16,16]",
    "heads=2",
    "head_width=8",
    "layers=2",
    "patch=8",
    "steps=3",
    "checkpoint_every=1",
    "sampler_steps=2",
]


ADVERSARIAL = [
    "space.shape=[16,16,16]",
    "latent=4",
    "channels=[4,8]",
    "norm_groups=4",
    "discriminator_channels=[4,4]",
    "batch_size=2",
    "steps=3",
    "checkpoint_every=1",
    "diversity_every=0",
]


BY_STEPS = {
    "ddpm3d": SMALL,
    "dit-tiles": TILED,
    "ldm3d": LATENT,
    "lsgan3d": ADVERSARIAL,
    "rflow3d": SMALL,
    "vaegan3d": [*ADVERSARIAL, "encoder_channels=[4,4]"],
}
PRESETS = {name: "tiny-unet" if name == "ddpm3d" else "tiny" for name in BY_STEPS}
"""Of the generators that are trained by steps, with the settings above."""
OTHER_NETWORKS = {"dit-tiles": ["layers=1"], "lsgan3d": ["latent=5"], "vaegan3d": ["latent=5"]}
"""Of those without a U-Net: settings of a network that is none of these."""


def overrides(name):
    return BY_STEPS.get(name, ["space.shape=[16,16,16]"])


@pytest.mark.parametrize("name", NAMES)
def test_the_contract_holds(name, make_cohort, tmp_path):
    volumes = read_cohort(make_cohort("real", n=4, shape=(16, 16, 16))).volumes()
    settings = configuration.resolve(name, preset=PRESETS.get(name), overrides=overrides(name))[1]
    (tmp_path / "run").mkdir()
    check_generator(
        registry.load("generators", name)(), volumes, tmp_path / "run", settings.model_dump()
    )


class Dithered(Noise):
    """Its fit draws at random, and it says that it does not."""

    def fit(self, volumes, settings, run, **options):
        super().fit(volumes, settings, run, **options)
        jitter = np.random.default_rng(settings.seed).random(1)
        run.save_weights({**run.load_weights(), "jitter": jitter})


def test_a_random_fit_that_says_it_is_not_is_caught(make_cohort, tmp_path):
    volumes = read_cohort(make_cohort("real", n=4)).volumes()
    (tmp_path / "run").mkdir()
    with pytest.raises(AssertionError, match="another seed gave other weights"):
        check_generator(Dithered(), volumes, tmp_path / "run")


def test_samples_record_whether_the_fit_is_random(finished, tmp_path):
    for name, random in {"pca-gaussian": False, "ddpm3d": True}.items():
        drawn = sampling.sample(finished(name), n=2, out=tmp_path / name)
        assert {read_sidecar(path)["random_fit"] for path in drawn} == {random}


class Broken(Noise):
    """Draws from one stream for all seeds: what the contract forbids."""

    def sample(self, run, seeds, *, sampler=None, steps=None):
        rng = np.random.default_rng(0)
        for volume in super().sample(run, seeds):
            yield np.clip(volume + 0.01 * rng.random(), 0, 1).astype(np.float32)


def test_a_volume_that_depends_on_the_batch_is_caught(make_cohort, tmp_path):
    volumes = read_cohort(make_cohort("real", n=4)).volumes()
    (tmp_path / "run").mkdir()
    with pytest.raises(AssertionError, match="depends on the other seeds"):
        check_generator(Broken(), volumes, tmp_path / "run")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return a function that gives a finished run of a generator, trained once."""
    root = tmp_path_factory.mktemp("finished")
    real = write_cohort(root / "real", n=6)

    @cache
    def run(name):
        return training.train(
            name, out=root / name, real=real, preset=PRESETS.get(name), overrides=overrides(name)
        )

    return run


@pytest.fixture(params=NAMES)
def trained(request, finished, tmp_path):
    """A copy of a finished run, which the test may change."""
    return Run.open(shutil.copytree(finished(request.param).folder, tmp_path / "run"))


def test_runs_and_samples_on_disk(trained, tmp_path):
    """The run folder; one file a seed, the same alone as among others; geometry; the sidecar."""
    for name in ("config.yaml", "run.json", "weights.safetensors", "preview.png"):
        assert (trained.folder / name).is_file()
    assert not (trained.folder / "volumes.npy").exists()
    files = sampling.sample(trained, 3, tmp_path / "a", seed=5)
    alone = sampling.sample(trained, 1, tmp_path / "b", seed=6)
    assert [f.name for f in files] == [f"synth-00000{s}.nii.gz" for s in (5, 6, 7)]
    assert files[1].read_bytes() == alone[0].read_bytes()
    image = nib.load(files[0])
    plugin = registry.load("generators", trained.record["generator"])()
    drawn_directly = next(iter(plugin.sample(trained, [5])))
    assert np.abs(image.get_fdata() - drawn_directly).max() <= 0.51 / 65535
    expected = np.array(trained.record["space"]["affine"]).reshape(4, 4)
    assert np.allclose(image.affine, expected)
    assert bytes(image.header["descrip"]).startswith(b"SYNTHETIC: synthbench")
    sidecar = json.loads((tmp_path / "a" / "synth-000005.json").read_text(encoding="utf-8"))
    assert sidecar["synthetic"] is True
    assert sidecar["seed"] == 5
    assert sidecar["training_cohort"] == trained.record["cohort"]["fingerprint"]


def test_sampling_resumes_and_refuses_other_volumes(trained, tmp_path):
    out = tmp_path / "s"
    sampling.sample(trained, 2, out)
    kept = (out / "synth-000000.nii.gz").stat().st_mtime_ns
    sampling.sample(trained, 3, out)
    assert (out / "synth-000000.nii.gz").stat().st_mtime_ns == kept
    sidecar = out / "synth-000001.json"
    sidecar.write_text(
        sidecar.read_text(encoding="utf-8").replace(trained.record["weights_sha256"], "0" * 64),
        encoding="utf-8",
    )
    with pytest.raises(UsageError, match="the weights of another run"):
        sampling.sample(trained, 3, out)


def test_changed_weights_are_refused(trained, tmp_path):
    content = bytearray(trained.weights_file.read_bytes())
    content[-1] ^= 1
    trained.weights_file.write_bytes(content)
    with pytest.raises(RunError, match="sha256"):
        sampling.sample(trained, 1, tmp_path / "s")


@pytest.mark.parametrize("name", [n for n in NAMES if n not in BY_STEPS])
def test_one_step_generators_refuse_samplers_and_init(name, make_cohort, tmp_path):
    real = make_cohort("real", n=4)
    run = training.train(name, out=tmp_path / "run", real=real)
    with pytest.raises(UsageError, match="leave out --sampler"):
        sampling.sample(run, 1, tmp_path / "s", sampler="ddim")
    with pytest.raises(UsageError, match="--init"):
        training.train(name, out=tmp_path / "run2", real=real, init=run.folder)


@pytest.mark.parametrize("name", BY_STEPS)
def test_init_takes_the_other_network_whatever_the_preset_says(name, finished, tmp_path):
    """The preset has another one, into which the weights would not fit; --set comes last."""
    other = finished(name)
    plugin = registry.load("generators", name)()
    few = ["space.shape=[16,16,16]", "steps=1", "batch_size=2"]
    if name == "ldm3d":
        few.append("autoencoder.steps=1")
    said: list[str] = []
    run = training.train(
        name, out=tmp_path / "run", real=other.folder.parent / "real", preset=PRESETS[name],
        init=other.folder, overrides=few, log=said.append,
    )  # fmt: skip
    expected, own = (configuration.of_network(r.settings(plugin.settings)) for r in (other, run))
    assert own == expected
    assert any(str(other.folder) in words for words in said)
    assert run.settings(plugin.settings).steps == 1  # not the three of the other run
    planned = configuration.resolve(name, preset=PRESETS[name], overrides=few)[1]
    assert configuration.of_network(planned) != expected
    changed = OTHER_NETWORKS.get(name, ["norm_groups=8", "channels=[8,32]"])
    with pytest.raises(RunError, match="do not fit this network"):
        training.train(
            name, out=tmp_path / "set", real=other.folder.parent / "real", preset=PRESETS[name],
            init=other.folder, overrides=[*few, *changed],
        )  # fmt: skip


def test_init_fits_a_preset_of_another_kind(finished, tmp_path):
    """The network is a U-Net without the parts of `tiny`; what is set against it is named."""
    said: list[str] = []
    run = training.train(
        "ddpm3d", out=tmp_path / "run", real=finished("ddpm3d").folder.parent / "real",
        preset="tiny", init=finished("ddpm3d").folder, log=said.append,
        overrides=["space.shape=[16,16,16]", "steps=1", "prediction=v"],
    )  # fmt: skip
    config = run.config
    assert (config["network"], config["residual"], config["components"]) == ("unet", False, 0)
    assert any("but for prediction=v (there sample)." in words for words in said)
    with pytest.raises(UsageError, match="is a run of ddpm3d, not of rflow3d"):
        configuration.resolve("rflow3d", init=finished("ddpm3d").folder)


@pytest.mark.parametrize("name", NAMES)
def test_settings_of_a_network_are_settings(name):
    model = registry.load("generators", name).settings
    named = {n for base in model.__mro__ for n in vars(base).get("OF_NETWORK", ())}
    assert model.model_fields.keys() >= named
    assert bool(named) == (name in BY_STEPS)


def test_an_unfinished_run_cannot_be_sampled(tmp_path):
    run = Run(tmp_path)
    run.write_config({"generator": "noise"})
    run.update(generator="noise", space={"shape": [4, 4, 4], "affine": list(np.eye(4).ravel())})
    with pytest.raises(SynthbenchError, match="--resume"):
        sampling.sample(run, 1, tmp_path / "s")


def test_a_run_stopped_at_its_preview_says_so_and_is_finished_without_fitting_again(
    make_cohort, tmp_path, monkeypatch
):
    """Its weights are final, so what `sample` draws of it does not change."""
    real, out = make_cohort("real", n=4, shape=(16, 16, 16)), tmp_path / "run"
    with monkeypatch.context() as stopped:
        stopped.setattr(training, "previewer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            training.train("pca-gaussian", out=out, real=real)
    words: list[str] = []
    before = sampling.sample(out, 1, tmp_path / "before", log=words.append)
    assert f"synthbench train --resume --out {out}" in words[0]
    assert "did not finish" in words[0]
    monkeypatch.setattr(PCAGaussian, "fit", interrupted)
    # Nor are the volumes read again.
    shutil.rmtree(real)
    run = training.train(out=out, resume=True)
    assert run.record["finished"] is True
    assert (out / "preview.png").is_file()
    assert (out / "README.md").is_file()
    said: list[str] = []
    after = sampling.sample(out, 1, tmp_path / "after", log=said.append)
    (sealed,) = said
    assert "sealed without a signature" in sealed
    assert after[0].read_bytes() == before[0].read_bytes()


def interrupted(*_arguments, **_options):
    raise KeyboardInterrupt


def test_a_quantitative_map_keeps_its_unit(make_cohort, tmp_path):
    """Training volumes in mm²/s come out in mm²/s: the memorizer's nearly as they went in."""
    folder = make_cohort("unit", n=4)
    for file in folder.glob("*.nii.gz"):
        image = nib.load(file)
        nib.save(nib.Nifti1Image(0.002 * image.get_fdata(dtype=np.float32), image.affine), file)
    rule = "constant:0.003:mm2/s"
    run = fitted("memorizer", folder, tmp_path, f"intensity={rule}", "noise=0", "warp=0")
    files = sampling.sample(run, 2, tmp_path / "s")
    originals = [nib.load(f).get_fdata() for f in folder.glob("*.nii.gz")]
    for file in files:
        volume = nib.load(file).get_fdata()
        # Stored in steps of 0.003 / 65535; zero below a hundredth of the scale.
        nearest = min(np.abs(volume - original).max() for original in originals)
        assert nearest <= 0.003 / 100
    sidecar = json.loads((tmp_path / "s" / "synth-000000.json").read_text(encoding="utf-8"))
    assert (sidecar["intensity"], sidecar["unit"]) == (rule, "mm2/s")
    with pytest.raises(UsageError, match="write it as constant"):
        fitted("noise", folder, tmp_path, "intensity=constant:3")


def test_a_quantitative_map_is_scored_in_its_unit(make_cohort, tmp_path):
    folder = make_cohort("unit", n=5)
    for file in folder.glob("*.nii.gz"):
        image = nib.load(file)
        nib.save(nib.Nifti1Image(0.002 * image.get_fdata(dtype=np.float32), image.affine), file)
    rule = "constant:0.003:mm2/s"
    run = fitted("memorizer", folder, tmp_path, f"intensity={rule}")
    sampling.sample(run, 5, tmp_path / "s")
    with pytest.raises(UsageError, match=f"--intensity {rule}"):
        score(folder, tmp_path / "s", metrics=["intensity"])
    card = score(folder, tmp_path / "s", metrics=["intensity"], intensity=rule)
    assert card.protocol.space.intensity == rule
    assert "0.003 mm2/s" in card.protocol.space.scaling
    brighter = tmp_path / "brighter"
    brighter.mkdir()
    for file in (tmp_path / "s").glob("*.nii.gz"):
        image = nib.load(file)
        data = np.clip(1.2 * image.get_fdata(dtype=np.float32), 0, 0.003)
        nib.save(nib.Nifti1Image(data, image.affine), brighter / file.name)
    moved = score(folder, brighter, metrics=["intensity"], intensity=rule)
    # One constant scale: a factor of 1.2 is seen, which a percentile of each volume would undo.
    value, base = moved.values[0].value, card.values[0].value
    assert value is not None
    assert base is not None
    assert value > 2 * base
