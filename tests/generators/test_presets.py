"""Presets: each field says where it comes from, each resolves, variants change what they name.

What the paper states (tests hold the presets to it): three levels of 128, 128 and 256 channels,
two residual blocks, attention at the last level with 256 head channels, 47.5 M parameters, T =
1000, epsilon prediction, 400 epochs, a grid of 84 x 128 x 84.
"""

from __future__ import annotations

import re
from importlib.resources import files

import pytest
import torch
import yaml

from synthbench.generators import ddpm3d
from synthbench.runs import configuration

NAMES = [
    "fine", "paper", "paper-256", "paper-64", "paper-cosine", "paper-v", "small", "tiny",
    "tiny-unet",
]  # fmt: skip
VARIANTS = {
    "paper-64": {"channels", "head_channels"},
    "paper-256": {"channels", "head_channels", "gradient_checkpointing"},
    "paper-cosine": {"schedule"},
    "paper-v": {"prediction"},
}
SOURCES = ("paper", "tutorial", "ours", "as in paper")


def text(name):
    return (files("synthbench.generators") / "presets" / f"ddpm3d-{name}.yaml").read_text(
        encoding="utf-8"
    )


def own_settings(name):
    return configuration.resolve("ddpm3d", preset=name)[1]


def all_settings(name):
    common, own = configuration.resolve("ddpm3d", preset=name)
    return {**common.model_dump(exclude={"preset"}), **own.model_dump()}


def parameters(name):
    settings = own_settings(name)
    with torch.device("meta"):
        return sum(p.numel() for p in ddpm3d._initial(settings).parameters())


def test_these_are_the_presets():
    assert configuration.presets("ddpm3d") == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_field_says_where_it_comes_from(name):
    """A line is a comment, `extends`, or a field with a comment that begins with a source."""
    fields = [line for line in text(name).splitlines() if line and not line.startswith("#")]
    without = [
        line
        for line in fields
        if not re.search(rf"# ({'|'.join(SOURCES)})\b", line) and not line.startswith("extends:")
    ]
    assert not without
    assert len(fields) == len(yaml.safe_load(text(name)))


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_is_a_network_that_fits_its_grid(name):
    own_settings(name).check_grid(all_settings(name)["space"]["shape"])
    assert parameters(name) > 0


def test_the_paper_preset_is_the_papers_model():
    settings = all_settings("paper")
    stated = {
        "channels": (128, 128, 256), "attention": (False, False, True), "res_blocks": 2,
        "patch": 1, "timesteps": 1000, "schedule": "scaled_linear", "prediction": "epsilon",
        "loss_weighting": "uniform", "epochs": 400, "sampler": "ddpm", "flip": False, "affine": 0,
        "network": "unet", "residual": False, "components": 0,
    }  # fmt: skip
    assert {key: settings[key] for key in stated} == stated
    assert settings["head_channels"][-1] == 256
    assert settings["space"]["shape"] == (84, 128, 84)
    assert parameters("paper") == pytest.approx(47.5e6, rel=0.001)


def test_no_default_can_change_the_papers_model():
    """The preset leaves to defaults only what is off by default, or plays no part in a volume."""
    off = {"steps", "flip", "affine", "freeze", "sampler_steps",  # the sampler takes all steps
           "final_learning_rate", "early_stopping", "patience", "network", "residual",
           "components"}  # fmt: skip
    of_what_is_off = {
        "width",
        "convolutions",
        "levels",
        "start_noise",
        "start_spread",
        "log_noise_mean",
        "log_noise_sd",
    }
    watching = {
        "validate_every", "preview_every", "previews", "score_every", "score_volumes",
        "diversity_every", "diversity_volumes",
    }  # fmt: skip
    unsaid = set(type(own_settings("paper")).model_fields) - set(yaml.safe_load(text("paper")))
    assert unsaid == off | of_what_is_off | watching | {"seed"}


@pytest.mark.parametrize(("name", "differs"), VARIANTS.items())
def test_a_variant_differs_from_the_paper_in_what_it_names_alone(name, differs):
    paper, variant = all_settings("paper"), all_settings(name)
    assert {key for key in paper if paper[key] != variant[key]} == differs
    assert set(yaml.safe_load(text(name))) == differs | {"extends"}


def test_width_goes_into_parameters_by_its_square():
    """Weights connect width to width, so halving all widths leaves a quarter, up to biases."""
    assert parameters("paper-64") == pytest.approx(47.5e6 / 4, rel=0.01)
    assert parameters("paper-256") == pytest.approx(47.5e6 * 4, rel=0.01)
