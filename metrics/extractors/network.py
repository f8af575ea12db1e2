"""Helpers of extractors that run a torch network: exact weights, full float32, single volumes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from synthbench.errors import MetricError, WeightsError
from synthbench.metrics.extractors.extractor import check_volumes

Network = TypeVar("Network", bound=nn.Module)


def with_state(network: Network, state: Mapping[str, Tensor], what: str, source: str) -> Network:
    """Return the network with exactly the parameters of a state dict, in eval mode.

    Batch normalisation's `num_batches_tracked` may be present or absent: it counts training
    steps, older versions of PyTorch did not have it, and eval mode never reads it.

    Parameters
    ----------
    network
        The architecture, best built on the "meta" device: the tensors of the state dict become
        its parameters, and no parameter is initialised first.
    state
        Tensors by parameter name.
    what, source
        The name of the network and the source of the state dict, for the error message.

    Raises
    ------
    WeightsError
        A key is missing or unexpected, or a shape or a dtype differs.
    """
    own = network.state_dict()
    expected = {key: tuple(t.shape) for key, t in own.items() if not _is_counter(key)}
    tensors = {key: t for key, t in state.items() if not _is_counter(key)}
    problems = {
        "missing keys": [key for key in expected if key not in tensors],
        "unexpected keys": [key for key in tensors if key not in expected],
        "wrong shapes": [
            f"{key} {tuple(tensors[key].shape)} for {shape}"
            for key, shape in expected.items()
            if key in tensors and tuple(tensors[key].shape) != shape
        ],
        "not float32": [key for key, t in tensors.items() if t.dtype != torch.float32],
    }
    found = [f"{problem}: {_first_few(keys)}" for problem, keys in problems.items() if keys]
    if found:
        raise WeightsError(
            f"{source} must hold the parameters of {what}, and only these; found "
            f"{'; '.join(found)}. Check that the file is the one for this network."
        )
    counters = {key: torch.tensor(0) for key in own if _is_counter(key)}
    network.load_state_dict({**tensors, **counters}, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def one_at_a_time(
    extractor: str,
    volumes: Float32[Tensor, "b 1 d h w"],
    features: Callable[[Float32[Tensor, "d h w"]], Float32[Tensor, " dim"]],
) -> Float32[Tensor, "b dim"]:
    """Return one row of features per volume, from a function of one volume.

    The kernels that a library chooses depend on the batch size, so a larger batch would change
    the last digits.

    Parameters
    ----------
    extractor
        The extractor's name, for error messages.
    volumes
        RAS+, intensities in [0, 1], background zero.
    features
        A function of one volume; it is called without autograd and in full float32.

    Raises
    ------
    MetricError
        The volumes do not fit the contract, or `features` refuses one of them.
    """
    check_volumes(extractor, volumes)
    rows = []
    with torch.inference_mode(), full_float32(volumes.device):
        for index, volume in enumerate(volumes):
            try:
                rows.append(features(volume[0]))
            except MetricError as error:
                raise error.at(f"{extractor}, volume {index}") from error
    # Outside inference mode, so that the result is an ordinary tensor.
    return torch.stack(rows)


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Compute on CUDA in float32, without TF32, bfloat16 or half, and deterministically."""
    exact = torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled, deterministic=True, allow_tf32=False
    )
    with exact, torch.autocast(device.type, enabled=False):
        yield


def _is_counter(key: str) -> bool:
    return key.endswith(".num_batches_tracked")


def _first_few(keys: list[str], shown: int = 3) -> str:
    more = len(keys) - shown
    return ", ".join(keys[:shown]) + (f" and {more} more" if more > 0 else "")
