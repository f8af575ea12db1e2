"""`lsgan3d` and `vaegan3d` as plugins: contract, exact resume, two rates, collapse, divergence."""

from __future__ import annotations

import json
import re
from importlib.resources import files

import numpy as np
import pytest
import yaml

from synthbench.cohorts.reading import read_cohort
from synthbench.errors import RunError, UsageError
from synthbench.generators.adversarial.losses import LSGAN
from synthbench.generators.adversarial.settings import GANSettings
from synthbench.generators.lsgan3d import LSGAN3D
from synthbench.generators.networks.weights import seeded
from synthbench.generators.unfinished import with_weights
from synthbench.generators.vaegan3d import VAEGAN3D
from synthbench.runs import configuration
from synthbench.runs.folder import Run
from synthbench.sampling import sampling
from synthbench.testing import check_generator
from synthbench.training import training
from synthbench.training.dry_run import dry_run
from tests.generators.loop.short_runs import rows, stop_after

GRID = (16, 13, 16)
NAMES = ["lsgan3d", "vaegan3d"]
SMALL = {
    "latent": 4, "channels": [4, 8], "norm_groups": 4, "discriminator_channels": [4, 4],
    "batch_size": 2, "steps": 4, "checkpoint_every": 2, "diversity_every": 1,
    "diversity_volumes": 4,
}  # fmt: skip


def small(name):
    return {**SMALL, "encoder_channels": [4, 4]} if name == "vaegan3d" else SMALL


def train(name, real, out, *extra, **options):
    values = [f"{key}={value}" for key, value in small(name).items()]
    return training.train(
        name, out=out, real=real, preset="tiny",
        overrides=["space.shape=[16,13,16]", *values, *extra], **options,
    )  # fmt: skip


@pytest.fixture
def real(make_cohort):
    return make_cohort("real", n=4, shape=GRID)


@pytest.mark.parametrize("plugin", [LSGAN3D(), VAEGAN3D()])
def test_it_meets_the_contract(plugin, real, tmp_path, caplog):
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in small(plugin.name).items()}
    check_generator(plugin, read_cohort(real).volumes(), tmp_path, {**settings, "steps": 2})
    # The check names validation volumes, for which there is no loss here.
    assert "validation volumes are not used" in caplog.text


def test_a_resumed_run_has_the_weights_and_logs_of_a_whole_one(real, tmp_path):
    """The weights are of all networks, so both optimizers and the spectral norms came back."""
    whole = train("vaegan3d", real, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train("vaegan3d", real, tmp_path / "run", progress=stop_after(3))
    unfinished = with_weights(Run.open(tmp_path / "run"), VAEGAN3D())
    stopped = next(VAEGAN3D().sample(unfinished, [3]))
    run = training.train(out=tmp_path / "run", resume=True)
    left, right = whole.load_weights(), run.load_weights()
    assert {key.split(".")[0] for key in left} == {"generator", "discriminator", "encoder"}
    assert all(np.array_equal(left[key], right[key]) for key in left)
    assert left.keys() == right.keys()
    table = (tmp_path / "whole" / "diversity.csv").read_text(encoding="utf-8")
    assert (tmp_path / "run" / "diversity.csv").read_text(encoding="utf-8") == table
    assert list(rows(tmp_path / "run" / "diversity.csv")["step"]) == [2, 4]
    assert run.record["diversity"]["step"] == 4
    assert stopped.shape == GRID


def test_a_generator_that_does_not_learn_is_said_to_have_collapsed(real, tmp_path, caplog):
    """With hardly any learning rate all samples are the mean volume, which is where it starts."""
    run = train("lsgan3d", real, tmp_path / "run", "learning_rate=1.0e-12", "steps=2")
    found = run.record["diversity"]
    assert found["collapsed"]
    assert found["step"] == 2
    assert "collapse at step 2" in caplog.text
    assert "Collapse at step 2" in (run.folder / "README.md").read_text(encoding="utf-8")
    messages: list[str] = []
    sampling.sample(run, 2, tmp_path / "synth", log=messages.append)
    assert any("collapse at step 2" in message for message in messages)
    assert "Collapse at step 2" in (tmp_path / "synth" / "README.md").read_text(encoding="utf-8")
    mean = np.mean(list(read_cohort(real).volumes(run.space)), axis=0)
    assert np.allclose(run.load_weights()["generator.mean"][0, 0], mean, atol=1e-6)


def test_a_healthy_run_says_nothing(real, tmp_path, caplog, monkeypatch):
    """Samples are replaced by volumes that differ as the training volumes do."""
    from synthbench.generators.adversarial import fitting
    from tests.conftest import blob

    monkeypatch.setattr(fitting, "drawn", lambda *_: blob(900 + _[-1], GRID))
    run = train("lsgan3d", real, tmp_path / "run", "steps=2")
    assert not run.record["diversity"]["collapsed"]
    assert "collapse" not in caplog.text
    assert "ollapse at" not in (run.folder / "README.md").read_text(encoding="utf-8")


def test_the_discriminator_has_its_own_rate_and_its_own_limit(real, tmp_path):
    """Adam's first step is the learning rate for each weight, whatever the gradient: 1 : 3."""
    settings = ["learning_rate=1.0e-3", "discriminator_rate=3.0", "warmup_steps=0", "ema_decay=0.0"]
    run = train("lsgan3d", real, tmp_path / "a", *settings, "steps=1")
    own = LSGAN3D.settings(**{k: run.config[k] for k in LSGAN3D.settings.model_fields})
    before = dict(seeded(0, lambda: LSGAN(own, GRID)).named_parameters())
    after = run.load_weights()
    for start, rate in (("generator.levels", 1e-3), ("discriminator.trunk", 3e-3)):
        names = [name for name in before if name.startswith(start)]
        moved = [np.abs(after[k] - before[k].detach().numpy()).max() for k in names]
        assert max(moved) == pytest.approx(rate, rel=1e-3)


def test_a_diverged_training_stops_with_its_last_good_state(real, tmp_path):
    with pytest.raises(RunError, match="learning_rate"):
        train("lsgan3d", real, tmp_path / "run", "learning_rate=1.0e+30", "warmup_steps=0")
    assert list((tmp_path / "run").glob("checkpoints/step-*"))


def test_init_starts_from_all_networks_of_the_other_run(real, tmp_path):
    first = train("vaegan3d", real, tmp_path / "first", "steps=1")
    new = train(
        "vaegan3d", real, tmp_path / "new", "steps=1", "learning_rate=1.0e-12", init=first.folder
    )
    old, now = first.load_weights(), new.load_weights()
    assert all(np.allclose(old[key], now[key], atol=1e-9) for key in old)
    _takes_one_step_and_no_sampler(new, tmp_path)


def _takes_one_step_and_no_sampler(run, tmp_path):
    with pytest.raises(UsageError, match="one step"):
        sampling.sample(run, 1, tmp_path / "s", steps=3)
    files = sampling.sample(run, 1, tmp_path / "s")
    record = json.loads(files[0].with_name("synth-000000.json").read_text(encoding="utf-8"))
    generator = {k: v for k, v in run.load_weights().items() if k.startswith("generator.")}
    assert record["parameters"] == sum(v.size for v in generator.values())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("preset", ["tiny", "paper"])
def test_every_preset_resolves_and_says_where_each_field_comes_from(name, preset):
    _, own = configuration.resolve(name, preset=preset)
    assert isinstance(own, GANSettings)
    assert own.diversity_every > 0
    text = (files("synthbench.generators") / "presets" / f"{name}-{preset}.yaml").read_text(
        encoding="utf-8"
    )
    fields = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all(re.search(r"# (bundle|ours|as in paper)\b", line) for line in fields)
    assert len(fields) == len(yaml.safe_load(text))


def test_a_dry_run_estimates_all_networks_together():
    values = [f"{key}={value}" for key, value in small("vaegan3d").items()]
    plan = dry_run("vaegan3d", preset="tiny", overrides=["space.shape=[16,13,16]", *values])
    assert plan.estimate.seconds_a_step > 0
    assert plan.fits
