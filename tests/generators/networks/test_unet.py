"""The U-Net against MONAI's, its memory, and settings that are refused."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from monai.networks.nets import DiffusionModelUNet
from monai.networks.utils import pixelshuffle, pixelunshuffle
from pydantic import ValidationError
from torch import nn
from torch.nn import functional

from synthbench.errors import UsageError
from synthbench.generators.networks import unet
from synthbench.generators.networks.convolution import convolve, is_direct, upsample_and_convolve
from synthbench.generators.networks.unet import NetworkSettings, PatchedUNet, places_like
from tests.generators.networks.examples import distance, volumes

SMALL = {
    "channels": (8, 16),
    "attention": (False, True),
    "head_channels": (8, 8),
    "res_blocks": 1,
    "norm_groups": 4,
}


def settings(**changes):
    return NetworkSettings(**{**SMALL, **changes})


def network(seed=0, **changes):
    """A network with no zero weights: MONAI's last convolutions begin at zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = PatchedUNet(settings(**changes))
        for value in model.parameters():
            if not value.any():
                nn.init.normal_(value, std=0.1)
    return model


def gradients(model, prediction):
    """Gradients of a sum with weights that differ from voxel to voxel."""
    weights = torch.linspace(-1, 1, prediction.numel(), dtype=prediction.dtype)
    values = list(model.parameters())
    return torch.autograd.grad((prediction.flatten() * weights).sum(), values)


# ---------------------------------------------------------------- against MONAI


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"patch": 2},
        {"channels": (8, 8, 16), "attention": (False, True, True), "head_channels": (8, 4, 8)},
        {"res_blocks": 2},
        {"gradient_checkpointing": True},
    ],
    ids=str,
)
def test_predictions_and_gradients_are_those_of_monais_unet(changes):
    """MONAI's own forward pass of the same weights, in float64, is the reference.

    Ours in float32 may be off by what some dozen layers of rounding to 6e-8 add up to. A
    gradient that is zero in exact arithmetic (a bias in front of a normalisation) is all
    rounding, so errors are held against the largest gradient.
    """
    model = network(**changes)
    exact = copy.deepcopy(model).double()
    x, t = volumes(2, 1, 16, 16, 24), torch.tensor([3, 700])
    patch = exact.patch
    folded = pixelunshuffle(x.double(), 3, patch)
    wanted = pixelshuffle(exact.unet(folded, timesteps=t), 3, patch)
    found = model(x, t)
    assert is_direct(x)
    assert distance(found, wanted) < 2e-5
    ours, theirs = gradients(model, found), gradients(exact, wanted)
    largest = max(float(gradient.norm()) for gradient in theirs)
    errors = [float((a - b).norm()) for a, b in zip(ours, theirs, strict=True)]
    assert max(errors) < 2e-5 * largest


def test_float64_agrees_to_its_rounding():
    model = network().double()
    x, t = volumes(1, 1, 8, 8, 8).double(), torch.tensor([10])
    assert distance(model(x, t), model.unet(x, timesteps=t)) < 1e-12


def test_weights_have_monais_names_and_shapes():
    """So that runs of plain MONAI code, and older ones of ours, load."""
    plain = DiffusionModelUNet(
        spatial_dims=3, in_channels=8, out_channels=8, channels=(8, 16), num_res_blocks=1,
        attention_levels=(False, True), num_head_channels=(8, 8), norm_num_groups=4,
    )  # fmt: skip
    expected = {f"unet.{name}": value.shape for name, value in plain.state_dict().items()}
    own = PatchedUNet(settings(patch=2)).state_dict()
    assert {name: value.shape for name, value in own.items()} == expected


def test_more_channels_go_in_than_come_out():
    """Two volumes and a mask in, one out: with patch 2, 24 channels in and 8 out."""
    model = PatchedUNet(settings(patch=2), in_channels=3, out_channels=1)
    assert model.unet.conv_in.conv.in_channels == 24
    assert model(volumes(1, 3, 8, 8, 8), torch.tensor([0])).shape == (1, 1, 8, 8, 8)


def test_frozen_weights_get_no_gradient():
    conv = nn.Conv3d(2, 2, 3, padding=1).requires_grad_(False)
    x = volumes(1, 2, 4, 4, 4).requires_grad_()
    for applied in (convolve, upsample_and_convolve):
        applied(conv, x).sum().backward()
        assert x.grad is not None
        assert conv.weight.grad is None


def test_norm_and_silu_have_the_right_derivative():
    """Held against finite differences in float64."""
    norm = nn.GroupNorm(2, 4, eps=1e-6).double()
    nn.init.uniform_(norm.weight, generator=torch.Generator().manual_seed(0))
    x = volumes(2, 4, 2, 3, 2).double().requires_grad_()
    inputs = (x, norm.weight, norm.bias)
    assert torch.autograd.gradcheck(lambda *_: unet.norm_silu(norm, x), inputs)
    assert torch.allclose(unet.norm_silu(norm, x), functional.silu(norm(x)))


# ---------------------------------------------------------------- memory, precision, repetition


def saved_bytes(model, x, t):
    """The storage of all that a forward pass keeps, each counted once, without the weights."""
    weights = {value.untyped_storage().data_ptr() for value in model.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes(), tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        prediction = model(x, t)
    return sum(size for size, _ in kept.values()), prediction


def test_checkpointing_gives_the_same_gradients_from_a_fraction_of_the_memory():
    """The same operations on the same numbers: equal to the last bit.

    Blocks keep nothing but what goes into them, which is kept by the others anyway.
    """
    plain, checkpointed = network(), network(gradient_checkpointing=True)
    x, t = volumes(2, 1, 16, 16, 16), torch.tensor([3, 700])
    much, first = saved_bytes(plain, x, t)
    little, second = saved_bytes(checkpointed, x, t)
    assert torch.equal(first, second)
    pairs = zip(gradients(plain, first), gradients(checkpointed, second), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert little < 0.3 * much


def test_norm_and_silu_keep_their_input_only():
    """MONAI's pair keeps the normalised map too: one map of 4 x 6^3 numbers more."""
    x = volumes(1, 4, 6, 6, 6).requires_grad_()
    norm = nn.GroupNorm(2, 4)
    kept = []

    def pack(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        unet.norm_silu(norm, x)
    known = {y.data_ptr() for y in (x, norm.weight, norm.bias)}
    # A mean and a deviation for each of the two groups.
    assert [y.numel() for y in kept if y.data_ptr() not in known] == [2, 2]


def test_bf16_stays_near_float32():
    """A number of eight bits is off by up to 2^-9; a dozen layers stay within some of that."""
    model = network()
    x, t = volumes(1, 1, 16, 16, 16), torch.tensor([500])
    with torch.no_grad():
        wide = model(x, t)
        with torch.autocast("cpu", torch.bfloat16):
            narrow = model(x, t)
    assert narrow.dtype == torch.bfloat16
    assert distance(narrow, wide.double()) < 0.05


def test_steps_repeat_to_the_last_bit():
    x, t = volumes(1, 1, 16, 16, 16), torch.tensor([500])
    first, second = (gradients(model, model(x, t)) for model in (network(), network()))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_volume_is_predicted_alike_in_any_batch():
    model = network()
    x, t = volumes(3, 1, 8, 8, 8), torch.tensor([1, 10, 999])
    with torch.no_grad():
        together = model(x, t)
        alone = torch.cat([model(x[i : i + 1], t[i : i + 1]) for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-5)


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels": (8, 18)}, "18 is not divisible by norm_groups 4; the nearest that is: 16"),
        ({"channels": (8, -8)}, "the nearest that is: 4"),
        ({"attention": (False,)}, r"attention: one value per level; channels has 2, found 1"),
        ({"head_channels": (8, 8, 4)}, r"head_channels: .* found 3.*; the nearest: \[8, 8\]"),
        ({"head_channels": (8, 5)}, "5 does not divide the level's 16; the nearest that does: 4"),
        ({"channels": (), "attention": (), "head_channels": ()}, "channels"),
        ({"patch": 0}, "greater than or equal to 1"),
    ],
)
def test_impossible_networks_are_refused_before_they_are_built(changes, words):
    with pytest.raises(ValidationError, match=words):
        settings(**changes)


def test_head_channels_of_levels_that_do_not_attend_are_free():
    assert settings(head_channels=(5, 8)).head_channels == (5, 8)


def test_an_indivisible_grid_is_refused_with_the_nearest():
    """Patch 2 and two levels need multiples of 4: 45 -> 44, 52 fits, 47 -> 48, 1 -> 4."""
    with pytest.raises(UsageError, match=r"divisible by 4 .*space.shape=\[44, 52, 48\]"):
        settings(patch=2).check_grid((45, 52, 47))
    assert settings(patch=2).nearest_grid((1, 52, 46)) == (4, 52, 48)
    settings(patch=2).check_grid((44, 52, 48))


def test_the_papers_network_has_its_number_of_parameters():
    """47.5 M, counted in MONAI's own network of the settings that the paper gives."""
    with torch.device("meta"):
        model = PatchedUNet(NetworkSettings())
    assert math.isclose(sum(p.numel() for p in model.parameters()), 47.5e6, rel_tol=0.01)


@pytest.mark.parametrize("updown", [False, True])
def test_the_conditioned_network_is_monais_with_context_and_channels(updown):
    """Hybrid conditioning by hand: constant channels after the volume, and a context of one."""
    settings = NetworkSettings(
        channels=(8, 16), attention=(False, True), head_channels=(8, 8), norm_groups=4, res_blocks=1
    )
    torch.manual_seed(0)
    ours = PatchedUNet(settings, 3, 3, condition_width=4, resblock_updown=updown)
    theirs = DiffusionModelUNet(
        spatial_dims=3, in_channels=7, out_channels=3, channels=(8, 16), num_res_blocks=1,
        attention_levels=(False, True), num_head_channels=(8, 8), norm_num_groups=4,
        with_conditioning=True, cross_attention_dim=4, resblock_updown=updown,
    )  # fmt: skip
    state = {k: torch.randn_like(v) * 0.1 for k, v in theirs.state_dict().items()}
    theirs.load_state_dict(state)
    ours.unet.load_state_dict(state)
    x, t, conditioned = torch.randn(2, 3, 4, 6, 4), torch.tensor([3, 900]), torch.rand(2, 4)
    constant = conditioned[:, :, None, None, None].expand(-1, -1, 4, 6, 4)
    expected = theirs(torch.cat([x, constant], dim=1), t, context=conditioned[:, None])
    found = ours(x, t, conditioned)
    assert torch.allclose(found, expected, atol=1e-4)
    assert not torch.allclose(found, ours(x, t, conditioned.flip(0)), atol=1e-3)


def test_places_are_the_centres_of_voxels():
    """Four voxels of a side from -1 to 1 are half a unit wide: centres at -0.75 to 0.75."""
    places = places_like(torch.zeros(2, 5, 4, 2, 1))
    assert places.shape == (2, 3, 4, 2, 1)
    assert places[1, 0, :, 0, 0].tolist() == [-0.75, -0.25, 0.25, 0.75]
    assert places[0, 1, 3, :, 0].tolist() == [-0.5, 0.5]
    assert not places[:, 2].any()
