"""The estimate of a training: operations, bytes and steps, counted by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from synthbench.generators.ddpm3d import DDPM3D, DDPM3DSettings
from synthbench.generators.generator import Stage
from synthbench.generators.loop import train
from synthbench.runs import configuration
from synthbench.training.estimate import estimate as estimate_module
from synthbench.training.estimate.estimate import USABLE, estimate, fits
from tests.training.estimate.examples import CPU, SHAPE, SquaredError, TwoConvolutions, settings

pytestmark = pytest.mark.slow


def ddpm(own):
    (stage,) = DDPM3D().stages(own)
    return stage


def small(shape=SHAPE, *, stage=ddpm, volumes=10, measure=False, processes=1, **changes):
    return estimate(
        stage(settings(**changes)),
        shape,
        volumes=volumes,
        processes=processes,
        device=CPU,
        measure=measure,
    )


def two_convolutions(own):
    return Stage(TwoConvolutions, SquaredError(), own)


class Layers(nn.Module):
    """Six pairs of a convolution and a sigmoid, of which checkpointing keeps three maps."""

    def __init__(self, checkpointing):
        super().__init__()
        self.checkpointing = checkpointing
        self.convolutions = nn.ModuleList(nn.Conv3d(n, 4, 1) for n in (1, 4, 4, 4, 4, 4))

    def forward(self, x, timesteps):
        for first, second in zip(self.convolutions[::2], self.convolutions[1::2], strict=True):
            if self.checkpointing:
                x = checkpoint(self._pair, first, second, x, use_reentrant=False)
            else:
                x = self._pair(first, second, x)
        return x

    @staticmethod
    def _pair(first, second, x):
        return second(first(x).sigmoid()).sigmoid()


def layers(own):
    return Stage(lambda: Layers(own.gradient_checkpointing), SquaredError(), own)


# ---------------------------------------------------------------- counted by hand


def test_operations_and_bytes_are_those_counted_by_hand():
    """V voxels, 8 maps. Forward: 2 x 27 x 8 V for the first, 2 x 8 V for the second convolution.

    Backward: as much again for the weights of both, and for the input of the second; the first's
    input needs none. Kept: the sigmoid's result (8 V), which both it and the convolution read, and
    the difference (V), which the square reads. 216 + 8 weights, which Adam has two numbers each
    for, in two tensors; at the end of a step it works on another copy.
    """
    voxels = math.prod(SHAPE)
    found = small(stage=two_convolutions, volumes=4)
    forward = 2 * 27 * 8 * voxels, 2 * 8 * voxels
    assert found.flops_a_step == 2 * forward[0] + 3 * forward[1]
    assert found.saved_bytes == pytest.approx(4 * 9 * voxels, rel=0.01)
    assert found.parameters == 224
    memory = found.memory
    assert (memory.weights, memory.gradients, memory.ema) == (4 * 224,) * 3
    assert memory.adam == 2 * 4 * 224
    assert memory.activations >= found.saved_bytes - memory.gradients
    assert found.memory_bytes == memory.training + memory.process
    assert found.checkpoint_bytes == 4 * (4 * 224) + 4 * 2


def test_what_is_frozen_has_no_gradients_and_no_moments():
    """As above with the first convolution frozen: backward is the second one's weights alone.

    Its 8 weights in one tensor are what has gradients, moments and a step count; all 224 are held,
    averaged and saved.
    """
    voxels = math.prod(SHAPE)
    found = small(stage=two_convolutions, freeze=("first",))
    forward = 2 * 27 * 8 * voxels, 2 * 8 * voxels
    assert found.flops_a_step == forward[0] + 2 * forward[1]
    assert found.parameters == 224
    memory = found.memory
    assert (memory.weights, memory.ema) == (4 * 224, 4 * 224)
    assert (memory.gradients, memory.adam) == (4 * 8, 2 * 4 * 8)
    assert found.checkpoint_bytes == 2 * 4 * 224 + 2 * 4 * 8 + 4 * 1


def test_attention_is_counted():
    """Per head and volume, 2 N^2 d for the scores and as much for the sum: 4 N^2 C in all.

    Backward takes four such products in place of two (what is found again is not counted).
    """
    tokens, channels = 8 * 9 * 10, 16

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x, timesteps):
            heads = (x.flatten(2).expand(-1, channels, -1) * self.scale).unflatten(1, (2, -1))
            heads = heads.transpose(2, 3)
            mixed = nn.functional.scaled_dot_product_attention(heads, heads, heads)
            return mixed.mean((1, 3)).view_as(x)

    found = small((8, 9, 10), stage=lambda own: Stage(Attention, SquaredError(), own))
    assert found.flops_a_step == 12 * tokens**2 * channels


# ---------------------------------------------------------------- how it scales


def test_saved_bytes_are_what_a_real_step_saves():
    """PyTorch's hooks on a real forward pass, storages counted once, are the other count.

    They may differ where the CPU's own convolutions keep less than PyTorch's.
    """
    stage = ddpm(settings())
    model, objective = stage.build(), stage.objective
    weights = {value.untyped_storage().data_ptr() for value in model.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes(), tensor
        return tensor

    clean, noise = torch.rand(1, 1, *SHAPE), torch.randn(1, 1, *SHAPE)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = objective.losses(model, clean, torch.tensor([3]), noise)
    assert loss.requires_grad
    real = sum(size for size, _ in kept.values())
    assert small().saved_bytes == pytest.approx(real, rel=0.15)


def test_bytes_follow_precision_checkpointing_and_batch():
    """Maps of two bytes are half of maps of four; blocks computed again keep only their inputs.

    Some of what is kept stays in float32: the prediction's error, and normalisations.
    """
    plain, narrow, again, double = (
        small(**changes)
        for changes in (
            {},
            {"precision": "bf16"},
            {"gradient_checkpointing": True},
            {"batch_size": 2},
        )
    )
    assert 0.5 < narrow.saved_bytes / plain.saved_bytes < 0.6
    assert again.saved_bytes < 0.5 * plain.saved_bytes
    assert again.memory.activations < plain.memory.activations
    assert double.saved_bytes == pytest.approx(2 * plain.saved_bytes, rel=0.1)
    assert double.flops_a_step == pytest.approx(2 * plain.flops_a_step, rel=0.01)
    # A block's forward pass is taken twice: between three and four passes in place of three.
    assert 1.15 < again.flops_a_step / plain.flops_a_step < 4 / 3


def test_steps_and_operations_follow_epochs_accumulation_and_processes():
    """3 epochs of 10 volumes, 2 x 2 x 2 volumes per step: 4 steps of 8 volumes each."""
    one = small(stage=layers, steps=None, epochs=3)
    many = small(stage=layers, steps=None, epochs=3, batch_size=2, accumulation=2, processes=2)
    assert (one.steps, many.steps) == (30, 4)
    assert many.flops_a_step == pytest.approx(8 * one.flops_a_step, rel=0.01)
    assert many.memory.gradients == 2 * one.memory.gradients
    assert one.total_seconds is None


def test_the_papers_run_is_the_one_that_is_known():
    """47.5 M parameters, 15.4 TFLOP a forward pass and about three of those a trained volume.

    Its plain forward pass keeps 27 GiB in float32; ours must keep less.
    """
    run, own = configuration.resolve("ddpm3d", preset="paper", overrides=["precision=fp32"])
    assert isinstance(own, DDPM3DSettings)
    assert run.space.shape is not None
    found = estimate(ddpm(own), run.space.shape, volumes=814, device=CPU, measure=False)
    assert found.parameters == pytest.approx(47.5e6, rel=0.01)
    assert found.flops_a_step == pytest.approx(3 * 15.4e12, rel=0.03)
    assert 8 * 2**30 < found.saved_bytes < 20 * 2**30
    assert found.steps == 400 * 814


# ---------------------------------------------------------------- fitting


def test_a_run_fits_where_its_memory_is_within_what_can_be_used(monkeypatch):
    needed = small(stage=layers).memory.training
    for room, expected in ((needed / USABLE * 1.01, True), (needed / USABLE * 0.99, False)):
        monkeypatch.setattr(
            estimate_module, "device_memory", lambda _, room=room: ("a GPU", int(room))
        )
        assert fits(small(stage=layers)) is expected


# ---------------------------------------------------------------- timing


def test_a_run_that_fits_is_timed_by_steps_of_the_training_loop(monkeypatch):
    """One step that warms up and three that count: a clock that ticks once per step says 1 s."""
    ticks: list[int] = []
    step = train.Training.step

    def counted(self, ahead, signals=()):
        ticks.append(len(ticks) + 1)
        return step(self, ahead, signals)

    monkeypatch.setattr(train.Training, "step", counted)
    monkeypatch.setattr("time.perf_counter", lambda: float(len(ticks)))
    found = small(stage=layers, measure=True)
    assert ticks == [1, 2, 3, 4]
    assert found.seconds_a_step == 1
    assert found.total_seconds == 7


def test_what_does_not_fit_is_not_timed(monkeypatch):
    monkeypatch.setattr(estimate_module, "device_memory", lambda _: ("a GPU", 1000))
    found = small(stage=layers, measure=True)
    assert not fits(found)
    assert (found.seconds_a_step, found.total_seconds) == (None, None)


def test_a_step_that_takes_long_on_a_cpu_is_not_timed(monkeypatch):
    operations = small(stage=layers).flops_a_step
    monkeypatch.setattr(estimate_module, "MOST_ON_A_CPU", operations - 1)
    found = small(stage=layers, measure=True)
    assert fits(found)
    assert found.seconds_a_step is None
    monkeypatch.setattr(estimate_module, "MOST_ON_A_CPU", operations)
    assert small(stage=layers, measure=True).seconds_a_step is not None
