"""The diffusion transformer of composites: diffusers' `DiTTransformer2DModel`.

Peebles and Xie 2023 (arXiv 2212.09748).
"""

from __future__ import annotations

from diffusers import DiTTransformer2DModel
from jaxtyping import Float
from torch import Tensor, nn

from synthbench.errors import UsageError
from synthbench.generators.tiles.settings import TransformerSettings


class TileTransformer(nn.Module):
    """The transformer, with labels that are never dropped inside it.

    diffusers' blocks each drop the label of a sample in training mode, independently of each other.
    Here nothing is dropped in the network: the source of the samples hides a label once, for all
    blocks.

    Parameters
    ----------
    settings
        Settings of the network.
    channels
        Channels of what is diffused.
    """

    def __init__(self, settings: TransformerSettings, channels: int) -> None:
        super().__init__()
        self.channels, self.none = channels, settings.classes
        self.transformer = DiTTransformer2DModel(
            num_attention_heads=settings.heads,
            attention_head_dim=settings.head_width,
            in_channels=channels,
            out_channels=channels * (2 if settings.learned_sigma else 1),
            num_layers=settings.layers,
            sample_size=settings.sample_size,
            patch_size=settings.patch,
            # diffusers adds a row for no label.
            num_embeds_ada_norm=settings.classes,
        )
        for block in self.transformer.transformer_blocks:
            block.norm1.emb.class_embedder.dropout_prob = 0.0
        _initialise(self.transformer)

    def forward(
        self,
        states: Float[Tensor, "b c 1 side side"],
        t: Tensor,
        labels: Float[Tensor, "b 1"] | None = None,
    ) -> Float[Tensor, "b c 1 side side"]:
        """Return the prediction; labels None: no sample has one.

        Raises
        ------
        UsageError
            The states are not square. diffusers would return an image that is put together
            wrongly.
        """
        height, width = states.shape[-2:]
        if height != width:
            raise UsageError(
                f"dit-tiles: composites must be square; found {height} x {width}. Make them with "
                "synthbench.generators.tiles.tiling."
            )
        if labels is None:
            chosen = t.new_full((len(states),), self.none)
        else:
            chosen = labels.flatten().long()
        found = self.transformer(states[:, :, 0], timestep=t, class_labels=chosen).sample
        # The second half of the channels is a learned variance.
        prediction: Tensor = found[:, : self.channels, None]
        return prediction


def _initialise(network: DiTTransformer2DModel) -> None:
    """Set initial weights as the paper's code does; diffusers leaves them to PyTorch.

    Gates and the output start at zero: each block begins as the identity.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    projection = network.pos_embed.proj
    nn.init.xavier_uniform_(projection.weight.view(len(projection.weight), -1))
    nn.init.zeros_(projection.bias)
    for block in network.transformer_blocks:
        embedder = block.norm1.emb
        nn.init.normal_(embedder.class_embedder.embedding_table.weight, std=0.02)
        nn.init.normal_(embedder.timestep_embedder.linear_1.weight, std=0.02)
        nn.init.normal_(embedder.timestep_embedder.linear_2.weight, std=0.02)
        nn.init.zeros_(block.norm1.linear.weight)
    nn.init.zeros_(network.proj_out_1.weight)
    nn.init.zeros_(network.proj_out_2.weight)
