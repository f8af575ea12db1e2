"""A small published model in the layout of diffusers, with random weights."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, DiTTransformer2DModel

TRANSFORMER = {
    "num_attention_heads": 2, "attention_head_dim": 4, "in_channels": 4, "out_channels": 8,
    "num_layers": 2, "sample_size": 8, "patch_size": 2, "num_embeds_ada_norm": 6,
}  # fmt: skip
VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "block_out_channels": (4, 8), "layers_per_block": 1, "latent_channels": 4,
    "norm_num_groups": 2, "scaling_factor": 0.18215,
}  # fmt: skip


def networks():
    """The transformer and the autoencoder, with random weights everywhere."""
    made = DiTTransformer2DModel(**TRANSFORMER), AutoencoderKL(**VAE)
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for network in made:
            for parameter in network.parameters():
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=draws))
    return made


def write(folder, *, safetensors=True, licence="cc-by-nc-4.0"):
    """Write the model as diffusers does, with a model card; return its networks."""
    made = networks()
    for part, network in zip(("transformer", "vae"), made, strict=True):
        network.save_pretrained(folder / part, safe_serialization=safetensors)
    if licence is not None:
        (folder / "README.md").write_text(
            f"---\nlicense: {licence}\n---\nA model.\n", encoding="utf-8"
        )
    return made
