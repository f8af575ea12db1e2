"""Gradients in bf16 on a CPU are compared with float32 before any is used."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from torch import nn

from synthbench.errors import UsageError
from synthbench.generators.loop import precision
from synthbench.generators.loop.precision import Shape
from synthbench.generators.networks.convolution import convolve
from synthbench.training import training

SHAPE = Shape((4, 3, 3, 3, 3), (1, 3, 4, 4, 4), (1, 1, 1), (1, 1, 1), (1, 1, 1), 1)


def test_the_convolutions_of_a_network_are_seen_once_each():
    network = nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 4, 3, padding=1), nn.Conv3d(4, 4, 3, padding=1),
        nn.Conv3d(4, 2, 3, stride=2, padding=1),
    )  # fmt: skip
    with precision.convolutions(network) as seen:
        network(torch.zeros(1, 1, 4, 6, 4))
    assert {(s.weight[:2], s.sample[2:], s.stride) for s in seen} == {
        ((4, 1), (4, 6, 4), (1, 1, 1)),
        ((4, 4), (4, 6, 4), (1, 1, 1)),
        ((2, 4), (4, 6, 4), (2, 2, 2)),
    }
    network(torch.zeros(1, 1, 8, 8, 8))
    assert len(seen) == 3


def test_a_convolution_is_compared_in_the_layout_that_it_has():
    network, seen_by = nn.Conv3d(3, 4, 3, padding=1), []
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        with precision.convolutions(network) as seen:
            network(torch.zeros(1, 3, 4, 4, 4).contiguous(memory_format=layout))
        seen_by += [shape.channels_last for shape in seen]
        assert all(0 < precision._error(shape) < 0.02 for shape in seen)
    assert seen_by == [False, True]


def test_a_thin_grid_that_is_computed_in_32_bits_is_not_checked():
    """Its own 16 bits would be refused on some processors, and are not used."""
    conv, x = nn.Conv3d(3, 4, 3, padding=1), torch.zeros(1, 3, 2, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        with precision.convolutions(conv) as seen:
            convolve(conv, x)
        assert seen == set()
        with precision.convolutions(conv) as seen:
            conv(x)
        assert len(seen) == 1


def test_rounding_passes_and_garbage_is_refused_by_name(monkeypatch):
    """A wrong gradient of one weight, finite or not, in place of what oneDNN gives elsewhere."""
    assert 0 < precision._error(SHAPE) < 0.02
    real = precision._gradients
    for garbage in (50.0, float("nan"), float("inf")):

        def wrong(shape, x, weight, bf16, garbage=garbage):
            of_x, of_weight = real(shape, x, weight, bf16)
            if bf16:
                of_weight[0, 0, 0, 0, 0] += garbage * of_weight.norm()
            return of_x, of_weight

        monkeypatch.setattr(precision, "_gradients", wrong)
        with pytest.raises(UsageError, match=r"precision=bf16: .*3 to 4 channels at 4 x 4 x 4"):
            precision.check_bf16([SHAPE])


@pytest.fixture
def _own_precision():
    """Accelerate keeps one precision per process: this test has its own."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.slow
@pytest.mark.usefixtures("_own_precision")
def test_a_training_checks_before_its_first_step(make_cohort, tmp_path, monkeypatch):
    real = make_cohort("real", n=4, shape=(8, 8, 8), affine=np.diag([8.0, 8, 8, 1]))
    monkeypatch.setattr(precision, "_error", lambda shape: 3.0)
    settings = [
        "space.shape=[8,8,8]", "channels=[4]", "attention=[false]", "head_channels=[4]",
        "res_blocks=1", "norm_groups=2", "patch=1", "steps=1", "precision=bf16",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="precision=bf16"):
        training.train(
            "ddpm3d", out=tmp_path / "run", real=real, preset="tiny-unet", accept=["few"],
            overrides=settings,
        )  # fmt: skip
    assert not list((tmp_path / "run").glob("checkpoints/*"))
