"""Networks that sample in 16 bits: float32 in and out, bfloat16 between."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from synthbench.errors import UsageError
from synthbench.generators.networks.precision import in_precision, precision_fields


class Seen(nn.Module):
    """A matrix product that keeps the type of its result, and what else it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1, bias=False)
        nn.init.constant_(self.linear.weight, 1.0)

    def forward(self, state, *others):
        product = self.linear(state)
        self.seen = product.dtype, others
        return product


def test_products_are_in_bfloat16_and_the_result_is_float32():
    """257 needs nine bits of mantissa and bfloat16 has eight: it becomes 256."""
    network, state, t = Seen(), torch.tensor([[257.0, 0.0, 0.0]]), torch.tensor([3])
    result = in_precision(network, "bf16")(state, t)
    assert network.seen == (torch.bfloat16, (t,))
    assert (result.dtype, result.item()) == (torch.float32, 256.0)
    assert network.linear.weight.dtype == torch.float32
    assert in_precision(network, "fp32") is network
    assert network(state).item() == 257.0


def test_a_precision_is_named_where_it_is_not_the_default():
    assert precision_fields("fp32") == {}
    assert precision_fields("bf16") == {"precision": "bf16"}
    with pytest.raises(UsageError, match="--precision: must be fp32 or bf16; found fp16"):
        precision_fields("fp16")
    with pytest.raises(UsageError, match="found half"):
        in_precision(Seen(), "half")
