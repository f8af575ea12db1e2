"""The transformer: labels dropped once, square states, the variance left out, initial weights.

diffusers' own pieces are what is compared with.
"""

from __future__ import annotations

import pytest
import torch
from diffusers import DiTTransformer2DModel

from synthbench.errors import UsageError
from synthbench.generators.tiles.settings import DiTTilesSettings
from synthbench.generators.tiles.transformer import TileTransformer
from synthbench.runs import configuration

SMALL = {"heads": 2, "head_width": 4, "layers": 2, "patch": 2, "sample_size": 8, "classes": 5}


def network(seed=0, channels=1, **changes):
    """A small network with random weights everywhere: at first its output is zero."""
    settings = DiTTilesSettings(steps=1, **{**SMALL, **changes})
    draws = torch.Generator().manual_seed(seed)
    made = TileTransformer(settings, channels)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=draws))
    return made


def inputs(channels=1, side=8, b=3):
    draws = torch.Generator().manual_seed(1)
    return torch.randn((b, channels, 1, side, side), generator=draws), torch.arange(b) * 7


def test_no_label_is_dropped_inside_the_network():
    """Diffusers' blocks would drop a tenth of the labels each, in training mode."""
    made = network().train()
    states, t = inputs(b=64)
    labels = torch.full((64, 1), 2.0)
    assert torch.equal(made(states, t, labels), made.eval()(states, t, labels))
    theirs = DiTTransformer2DModel(**dict(made.transformer.config))
    theirs.load_state_dict(made.transformer.state_dict())
    chosen = labels.flatten().long()
    torch.manual_seed(0)
    dropped = theirs.train()(states[:, :, 0], timestep=t, class_labels=chosen).sample
    assert not torch.allclose(dropped, made(states, t, labels)[:, :, 0])


def test_no_label_is_the_last_row_of_the_table():
    """DiT keeps classes + 1 rows; ImageNet's 1000 classes have 1001, the last for none."""
    made = network()
    states, t = inputs()
    none = torch.full((3, 1), float(SMALL["classes"]))
    assert torch.equal(made(states, t), made(states, t, none))
    assert not torch.allclose(made(states, t), made(states, t, none - 1))
    _, xl2 = configuration.resolve("dit-tiles", preset="xl2")
    assert isinstance(xl2, DiTTilesSettings)
    assert (xl2.layers, xl2.sample_shape((32, 40, 48))) == (28, (4, 1, 32, 32))
    with torch.device("meta"):
        published = TileTransformer(xl2.model_copy(update={"layers": 1}), xl2.channels)
    state = {name: tuple(v.shape) for name, v in published.transformer.state_dict().items()}
    table = state["transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight"]
    assert (table, published.none) == ((1001, 1152), 1000)
    assert state["pos_embed.proj.weight"] == (1152, 4, 2, 2)
    assert state["proj_out_2.weight"] == (2 * 2 * 8, 1152)


def test_labels_reach_every_block():
    made = network()
    states, t = inputs()
    before = made(states, t, torch.ones(3, 1))
    for block in made.transformer.transformer_blocks:
        table = block.norm1.emb.class_embedder.embedding_table.weight
        kept = table.detach().clone()
        with torch.no_grad():
            table[1] += 1
        assert not torch.allclose(made(states, t, torch.ones(3, 1)), before)
        with torch.no_grad():
            table.copy_(kept)


def test_a_state_that_is_not_square_is_refused():
    """Diffusers puts 4 x 16 pixels together as 8 x 8 without a word."""
    made = network()
    wide = torch.zeros(1, 1, 1, 4, 16)
    silent = made.transformer(
        wide[:, :, 0], timestep=torch.zeros(1), class_labels=torch.zeros(1, dtype=torch.long)
    ).sample
    assert silent.shape[-2:] == (8, 8)
    with pytest.raises(UsageError, match="square; found 4 x 16"):
        made(wide, torch.zeros(1, dtype=torch.long))


def test_the_learned_variance_is_left_out():
    made = network(channels=4, learned_sigma=True)
    states, t = inputs(channels=4)
    chosen = torch.tensor([0, 1, 5])
    whole = made.transformer(states[:, :, 0], timestep=t, class_labels=chosen).sample
    assert whole.shape == (3, 8, 8, 8)
    assert torch.equal(made(states, t, chosen[:, None].float())[:, :, 0], whole[:, :4])


def test_it_begins_as_the_paper_does():
    """adaLN-Zero: the output is zero, and each block is the identity (section 3.2)."""
    made = TileTransformer(DiTTilesSettings(steps=1, **SMALL), 1)
    states, t = inputs()
    assert not made(states, t).any()
    tokens = torch.randn(3, 16, 8)
    for block in made.transformer.transformer_blocks:
        found = block(tokens, timestep=t, class_labels=torch.zeros(3, dtype=torch.long))
        assert torch.equal(found, tokens)


def test_positions_of_another_size_lie_between_the_same_ends():
    made = network()
    embed = made.transformer.pos_embed
    with torch.no_grad():
        embed.proj.weight.zero_()
        embed.proj.bias.zero_()
    own, larger = embed(torch.zeros(1, 1, 8, 8)), embed(torch.zeros(1, 1, 16, 16))
    assert torch.allclose(larger.reshape(8, 8, 8)[::2, ::2], own.reshape(4, 4, 8), atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"heads": 1, "head_width": 6}, "divisible by 4; found 1 x 6. The nearest: head_width=8"),
        ({"patch": 16}, "sample_size: must be at least patch"),
        ({"autoencoder": {}, "flip": True}, "latents of the training volumes are computed once"),
    ],
)
def test_impossible_settings_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        DiTTilesSettings(steps=1, **{**SMALL, **changes})
