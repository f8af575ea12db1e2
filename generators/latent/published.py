"""The published latent diffusion model of UK Biobank brains, as weights of `ldm3d`.

MONAI's model-zoo bundle `brain_image_synthesis_latent_diffusion_model` (Pinaya et al. 2022, arXiv
2209.07162), version 1.0.0, has two state dicts of networks of MONAI Generative. MONAI's own
networks have the same parameters under other names. Nothing here downloads or opens a file.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import redirect_stdout

import numpy as np
import torch
from jaxtyping import Float32
from monai.networks.nets import AutoencoderKL, DiffusionModelUNet
from torch import Tensor

from synthbench.cohorts.conditions import Condition, Conditions
from synthbench.errors import WeightsError
from synthbench.generators.latent.autoencoder import Autoencoder
from synthbench.generators.latent.latents import LatentMean
from synthbench.generators.latent.settings import LDM3DSettings
from synthbench.generators.networks.unet import PatchedUNet

SHAPE = (160, 224, 160)
"""Grid of the samples, at 1 mm."""

CONDITIONS = ("sex", "age", "ventricle_volume", "brain_volume")
"""In the bundle's order: gender, age, ventricular volume, brain volume normalised for head size."""

OVERRIDES = ("null_embedding=false", "condition_dropout=0", "sampler=ddim", "sampler_steps=50")
"""Settings of the bundle that differ from the preset `pinaya`: no condition was ever missing."""

ABOUT = {
    "bundle": "brain_image_synthesis_latent_diffusion_model",
    "version": "1.0.0",
    "condition_ranges": "unknown: conditions are on the bundle's own scale, 0 to 1 in training",
    "sex_coding": "0 or 1; which is which the bundle does not say",
    "orientation": "unknown: samples are written as RAS+, centred on the MNI152 box",
    "timesteps": "50 of DDIM, spaced to end at T - 1; the bundle's begin at 0",
}
"""Facts about the bundle for a run's record, also those that are unknown."""


def conditions() -> Conditions:
    """Return the four conditions on the bundle's own scale, from 0 to 1.

    Natural units and marginals are unknown: a condition that is not requested is drawn uniformly.
    """
    return Conditions(tuple(
        Condition(name, "numeric", 0.0, 1.0, (), 0, quantiles=(0.0, 1.0)) for name in CONDITIONS
    ))  # fmt: skip


def weights(
    settings: LDM3DSettings,
    autoencoder: Mapping[str, Tensor],
    unet: Mapping[str, Tensor],
    shape: tuple[int, int, int] = SHAPE,
) -> dict[str, Float32[np.ndarray, "*_"]]:
    """Return the weights of the bundle under the names of an `ldm3d` run.

    Parameters
    ----------
    settings
        Settings of the run: preset `pinaya` with `OVERRIDES`.
    autoencoder, unet
        The state dicts of `autoencoder.pt` and `model.pt`.
    shape
        Grid of the volumes.

    Raises
    ------
    WeightsError
        A parameter is missing, left over, or has another shape.
    """
    stage_1 = Autoencoder(settings.autoencoder)
    _load_old(stage_1.net, autoencoder, "autoencoder.pt")
    channels = settings.autoencoder.latent_channels
    stage_2 = PatchedUNet(
        settings, channels, channels,
        condition_width=len(CONDITIONS), resblock_updown=settings.resblock_updown,
        upcast_attention=settings.upcast_attention,
    )  # fmt: skip
    _load_old(stage_2.unet, unet, "model.pt")
    arrays = {
        f"{prefix}.{name}": value.numpy()
        for prefix, network in (("autoencoder", stage_1), ("unet", stage_2))
        for name, value in network.state_dict().items()
    }
    mean = LatentMean.zero(settings.latent_shape(shape), len(CONDITIONS))
    return {**arrays, "latent_mean": mean.coefficients}


@torch.no_grad()
def _load_old(
    network: AutoencoderKL | DiffusionModelUNet, state: Mapping[str, Tensor], file: str
) -> None:
    """Load a state dict of MONAI Generative into a network; each must match the other completely.

    MONAI's own loader does not report parameters without a value, or keys that it does not use. So
    all parameters are set to NaN first: one that is still NaN afterwards got no value.
    """
    for parameter in network.parameters():
        parameter.fill_(torch.nan)
    left = dict(state)
    names = set(network.state_dict())
    whole = names == set(left)
    try:
        with redirect_stdout(io.StringIO()):  # it prints
            network.load_old_state_dict(left)
    except (KeyError, RuntimeError) as error:
        raise WeightsError(
            f"{file}: is not a file of this network: {str(error)[:300]}. Fetch the file again."
        ) from error
    unset = [name for name, p in network.named_parameters() if bool(torch.isnan(p).any())]
    unused = [] if whole else sorted(left)
    if unset or unused:
        raise WeightsError(
            f"{file}: must hold the parameters of this network, and no others; without a value: "
            f"{', '.join(unset[:3]) or 'none'}; left over: {', '.join(unused[:3]) or 'none'}. "
            "Fetch the file again."
        )
