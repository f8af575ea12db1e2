"""Published diffusion transformers in the layout of diffusers, as weights of `dit-tiles`.

A model is two networks, each a configuration and a state dict: `transformer` and `vae`. Nothing
here downloads or opens a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float32
from numpy import ndarray
from torch import Tensor, nn

from synthbench.errors import WeightsError
from synthbench.generators.tiles.pictures import COLOURS, autoencoder_network
from synthbench.generators.tiles.settings import DiTTilesSettings
from synthbench.generators.tiles.transformer import TileTransformer

_TRANSFORMER = {
    "num_attention_heads": "heads", "attention_head_dim": "head_width", "num_layers": "layers",
    "patch_size": "patch", "sample_size": "sample_size", "num_embeds_ada_norm": "classes",
}  # fmt: skip
_AUTOENCODER = {
    "block_out_channels": "channels", "layers_per_block": "res_blocks",
    "latent_channels": "latent_channels", "norm_num_groups": "norm_groups",
    "scaling_factor": "scale",
}  # fmt: skip
"""diffusers' names of settings, and ours."""

_FIXED = {
    "norm_type": "ada_norm_zero", "activation_fn": "gelu-approximate", "attention_bias": True,
    "norm_elementwise_affine": False,
}  # fmt: skip

_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names of the autoencoder's attention in files of early versions of diffusers, and since."""


def overrides(transformer: Mapping[str, Any], vae: Mapping[str, Any]) -> list[str]:
    """Return the settings of both configurations (`config.json`), as `key=value`.

    Raises
    ------
    WeightsError
        It is not a DiT with an autoencoder of its latents.
    """
    wrong = {k: transformer[k] for k, v in _FIXED.items() if transformer.get(k, v) != v}
    latent = vae.get("latent_channels", 4)
    channels, out = transformer.get("in_channels"), transformer.get("out_channels")
    out = channels if out is None else out
    missing = [name for name in _TRANSFORMER if name not in transformer]
    if wrong or missing or channels != latent or out not in (latent, 2 * latent):
        raise WeightsError(
            "transformer/config.json: must be that of a DiT (ada_norm_zero) with as many input "
            f"channels as vae/config.json has latents, {latent}, and as many or twice as many "
            f"output channels; found {channels} and {out}"
            + (f", {wrong}" if wrong else "")
            + (f", without {', '.join(missing)}" if missing else "")
            + "."
        )
    if vae.get("in_channels", COLOURS) != COLOURS:
        raise WeightsError(
            f"vae/config.json: in_channels must be {COLOURS}; found {vae['in_channels']}."
        )
    found = {ours: transformer[name] for name, ours in _TRANSFORMER.items()}
    found["learned_sigma"] = str(out == 2 * latent).lower()
    # diffusers leaves out of old configurations what had one value only.
    known = {f"autoencoder.{ours}": vae[name] for name, ours in _AUTOENCODER.items() if name in vae}
    return [f"{name}={value}" for name, value in {**found, **known}.items()]


def weights(
    settings: DiTTilesSettings, transformer: Mapping[str, Tensor], vae: Mapping[str, Tensor]
) -> dict[str, Float32[ndarray, "*_"]]:
    """Return published weights under the names of a `dit-tiles` run.

    Parameters
    ----------
    settings
        Settings of the run.
    transformer, vae
        The state dicts.

    Raises
    ------
    WeightsError
        A parameter is missing, left over, or has another shape.
    """
    assert settings.autoencoder is not None
    with torch.device("meta"):
        network: nn.Module = TileTransformer(settings, settings.channels).transformer
        autoencoder: nn.Module = autoencoder_network(settings.autoencoder)
    named = {_today(name): value for name, value in vae.items()}
    parts = {
        "transformer": _checked(network, transformer, "transformer"),
        "autoencoder": _checked(autoencoder, named, "vae"),
    }
    return {
        f"{prefix}.{name}": value.float().numpy()
        for prefix, state in parts.items()
        for name, value in state.items()
    }


def _today(name: str) -> str:
    """Return the name that a parameter of the autoencoder has in diffusers today."""
    old = "|".join(_OLD_ATTENTION)
    return re.sub(
        rf"(attentions\.\d+)\.({old})\.", lambda m: f"{m[1]}.{_OLD_ATTENTION[m[2]]}.", name
    )


def _checked(network: nn.Module, state: Mapping[str, Tensor], file: str) -> dict[str, Tensor]:
    """Return the state with the network's shapes; each must have all names of the other."""
    own = network.state_dict()
    missing, left = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or left:
        raise WeightsError(
            f"{file}: must hold the parameters of this network, and no others; missing: "
            f"{', '.join(missing[:3]) or 'none'}; left over: {', '.join(left[:3]) or 'none'}. "
            "Fetch the file again."
        )
    shaped = {}
    for name, value in state.items():
        shape = own[name].shape
        # Attention was once written with convolutions of 1 x 1.
        squeezed = value[:, :, 0, 0] if tuple(value.shape) == (*shape, 1, 1) else value
        if squeezed.shape != shape:
            raise WeightsError(
                f"{file}: {name} must have the shape {tuple(shape)}; found {tuple(value.shape)}. "
                "Its config.json is of another network."
            )
        shaped[name] = squeezed
    return shaped
