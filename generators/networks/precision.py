"""The precision that networks compute in while they sample."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from synthbench.errors import UsageError

PRECISIONS = ("fp32", "bf16")


class InBF16(nn.Module):
    """A network whose matrix products and convolutions are in bfloat16; its results are float32.

    Weights stay in float32, as in training with `precision=bf16`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, state: Tensor, *others: Tensor) -> Tensor:
        """Return the network's result."""
        with torch.autocast(state.device.type, torch.bfloat16):
            result: Tensor = self.network(state, *others)
        return result.float()


def in_precision(network: nn.Module, precision: str) -> nn.Module:
    """Return a network that computes in this precision; raises as `precision_fields` does."""
    return InBF16(network) if precision_fields(precision) else network


def precision_fields(precision: str) -> dict[str, str]:
    """Return the field of sidecars that names the precision; none for fp32, the default.

    Raises
    ------
    UsageError
        It is none of `PRECISIONS`.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"--precision: must be {' or '.join(PRECISIONS)}; found {precision}.")
    return {} if precision == "fp32" else {"precision": precision}
