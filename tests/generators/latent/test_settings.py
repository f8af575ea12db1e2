"""Settings of latent diffusion that are refused, and that both stages share."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from synthbench.errors import UsageError
from synthbench.generators.latent.autoencoder import AutoencoderSettings
from synthbench.generators.latent.settings import LDM3DSettings
from synthbench.runs import configuration
from synthbench.training.dry_run import dry_run
from tests.generators.latent.examples import CONDITIONS, SETTINGS, resolved

# ---------------------------------------------------------------- settings


def test_a_grid_that_does_not_fit_both_networks_is_refused_with_the_nearest():
    """Patch 2 and two levels are 4, times 2 of the U-Net's two levels: 8."""
    with pytest.raises(UsageError, match=r"divisible by 8 .4 of .* x 2 .*=\[48, 56, 48\]"):
        dry_run("ldm3d", preset="tiny", overrides=[*SETTINGS, "space.shape=[47,57,50]"])


def test_conditions_without_attention_are_refused():
    with pytest.raises(UsageError, match=r"attention: .*The nearest: \[False, True\]"):
        configuration.resolve(
            "ldm3d", preset="tiny", overrides=[*SETTINGS, CONDITIONS, "attention=[false,false]"]
        )


def test_stage_1_takes_the_seed_and_precision_of_the_run():
    _, own = resolved(*SETTINGS, "seed=5")
    assert own.autoencoder.seed == 5
    with pytest.raises(ValidationError, match=r"autoencoder\.precision: .*found bf16 and fp32"):
        LDM3DSettings(
            epochs=1, precision="fp32", autoencoder=AutoencoderSettings(epochs=1, precision="bf16")
        )


def test_guidance_needs_a_null():
    with pytest.raises(ValidationError, match="guidance and condition_dropout need it"):
        LDM3DSettings(epochs=1, null_embedding=False)
