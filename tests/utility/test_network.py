"""Networks: first weights and padding."""

from __future__ import annotations

import pytest

from synthbench.utility.network import Padded, build

pytestmark = pytest.mark.slow


def test_a_network_depends_on_its_key_alone():
    one, same, other = (build("resnet10", key) for key in ([0, 1], [0, 1], [0, 2]))
    assert all((a == b).all() for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert any((a != b).any() for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_padding_is_cut_back():
    import torch

    x = torch.rand(1, 1, 5, 6, 7)
    assert torch.equal(Padded(torch.nn.Identity(), 4)(x), x)
