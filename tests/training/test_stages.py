"""Stages of a generator: what breaks the contract, and how large their networks are."""

from __future__ import annotations

import pytest

from synthbench.errors import UsageError
from synthbench.generators.generator import Settings, Stage
from synthbench.training.estimate.estimate import estimate
from synthbench.training.stages import parameters
from tests.training.estimate.examples import CPU, SHAPE, SquaredError, TwoConvolutions


def test_a_stage_without_the_settings_of_steps_is_refused():
    stage = Stage(TwoConvolutions, SquaredError(), Settings())
    with pytest.raises(UsageError, match=r"must be StepSettings .*found Settings"):
        estimate(stage, SHAPE, volumes=1, device=CPU, measure=False)


def test_the_parameters_of_a_preset_are_those_of_its_convolutions():
    """The local network of ddpm3d tiny: 67 channels in, 8 out, width 48, two blocks."""
    w = 48
    first = w * 67 * 27 + w
    noise = (w * 12 + w) + (w * w + w)
    block = (2 * w * w + 2 * w) + (w * w * 27 + w) + (2 * w * w + 2 * w) + (w * 2 * w + w)
    last = 8 * w + 8
    assert parameters("ddpm3d", "tiny") == first + noise + 2 * block + last


def test_a_generator_without_networks_has_no_parameters():
    assert parameters("memorizer", "none") == 0
