"""Weights of networks: initial values from a seed, and arrays to save and to load."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.func import functional_call

from synthbench.errors import RunError, WeightsError
from synthbench.runs.folder import FIX
from synthbench.runtime.arrays import load_tensors
from synthbench.runtime.files import check_is_file
from synthbench.runtime.memory import beyond_limit

Network = TypeVar("Network", bound=nn.Module)


def seeded(seed: int, build: Callable[[], Network]) -> Network:
    """Return a network with initial weights that depend on the seed alone.

    Raises
    ------
    RunError
        Its weights need more memory than the limit: a configuration can state any width.
    """
    with torch.random.fork_rng(devices=[]), torch.device("meta"):  # shapes only
        weights = build().parameters()
        needed = sum(weight.numel() * weight.element_size() for weight in weights)
    too_large = beyond_limit(needed)
    if too_large:
        raise RunError(f"the network of this configuration {too_large}.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def with_constant_weights(model: nn.Module, *inputs: Any) -> Any:
    """Return the network's output; gradients go to the inputs, and to none of its weights."""
    constant = {name: p.detach() for name, p in model.named_parameters()}
    return functional_call(model, constant, inputs)


def arrays(model: nn.Module) -> dict[str, np.ndarray]:
    """Return the weights of a network by name, as arrays."""
    return {name: value.cpu().numpy() for name, value in model.state_dict().items()}


def part(weights: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the weights whose names begin with the prefix, by their names without it."""
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def load(model: nn.Module, arrays: Mapping[str, np.ndarray], source: str) -> None:
    """Load weights into a network; `source` says in errors where they come from.

    Buffers that are not among the weights keep their values: averages are of parameters only.

    Raises
    ------
    RunError
        Names or shapes are not those of the network.
    """
    weights = {name: torch.from_numpy(value) for name, value in arrays.items()}
    kept = {name for name, _ in model.named_buffers()} - weights.keys()
    own = {k: tuple(v.shape) for k, v in model.state_dict().items() if k not in kept}
    other = {name: tuple(value.shape) for name, value in weights.items()}
    if own != other:
        wrong = sorted(set(own.items()) ^ set(other.items()))[:3]
        raise RunError(
            f"{source}: its weights do not fit this network (first differences: {wrong}). "
            "Leave out the settings of the network, or take those of that run: --config "
            "RUN/config.yaml."
        )
    model.load_state_dict(weights, strict=False)  # all but those buffers are there


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file of a run, by name.

    Raises
    ------
    RunError
        The file cannot be read.
    """
    try:
        check_is_file(file)
        return dict(load_file(file))
    except Exception as error:  # SafetensorError, OSError, MemoryError and others
        raise RunError(
            f"{file}: cannot be read as safetensors: {error or type(error).__name__}. {FIX}"
        ) from error


def read_state(file: Path) -> dict[str, Tensor]:
    """Return the state dict of a file that others published: safetensors, or PyTorch's format.

    Nothing but tensors is read: no code of a pickle is run.

    Raises
    ------
    WeightsError
        The file is not readable, or holds something else.
    """
    try:
        check_is_file(file)
        if file.suffix == ".safetensors":
            state: Any = load_file(file)
        else:
            state = load_tensors(file)
    except Exception as error:
        raise WeightsError(
            f"{file}: must be a file of tensors; reading failed with {type(error).__name__}: "
            f"{error}. Delete it and fetch it again."
        ) from error
    if not isinstance(state, dict) or not all(map(torch.is_tensor, state.values())):
        raise WeightsError(
            f"{file}: must be a state dict, tensors by parameter name; found a "
            f"{type(state).__name__}. Delete it and fetch it again."
        )
    return state
