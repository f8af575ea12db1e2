"""The contract of extractors, and the check and scaling of volumes."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from synthbench.errors import MetricError
from synthbench.metrics.extractors import medicalnet
from synthbench.metrics.extractors.extractor import Extractor, check_volumes, zscore_nonzero_zeros
from synthbench.metrics.extractors.random_resnet import RandomResNet10
from tests.metrics.extractors.resnets import DEPTHS


def test_zscore_over_the_voxels_above_zero():
    """Of 1, 2, 3 / 8 the mean is 1/4 and the variance 2/3 * (1/8)^2: -sqrt(3/2), 0, sqrt(3/2)."""
    volume = torch.tensor([0.0, 0.125, 0.25, 0.375, 0.0])
    edge = 1.5**0.5
    expected = torch.tensor([0.0, -edge, 0.0, edge, 0.0])
    torch.testing.assert_close(zscore_nonzero_zeros(volume), expected)


@pytest.mark.parametrize(
    ("volume", "found"),
    [(torch.zeros(4, 4), "none"), (torch.full((4, 4), 0.5), "16 voxels, all 0.5")],
    ids=["blank", "constant"],
)
def test_zscore_refuses_a_volume_without_scale(volume: Tensor, found: str):
    with pytest.raises(MetricError, match=f"must differ; found {found}"):
        zscore_nonzero_zeros(volume)


@pytest.mark.parametrize(
    ("volumes", "message"),
    [
        (torch.zeros(1, 4, 4, 4), r"shape \(b, 1, d, h, w\).*found \(1, 4, 4, 4\)"),
        (torch.zeros(0, 1, 4, 4, 4), r"found \(0, 1, 4, 4, 4\)"),
        (torch.zeros(1, 2, 4, 4, 4), r"found \(1, 2, 4, 4, 4\)"),
        (torch.zeros(1, 1, 4, 4, 4).double(), r"float32; found torch.float64"),
        (torch.full((1, 1, 4, 4, 4), 255.0), r"volume 0 spans \[255, 255\]"),
        (torch.full((1, 1, 4, 4, 4), -0.1), r"volume 0 spans"),
        (torch.tensor([0.5, float("nan")]).reshape(2, 1, 1, 1, 1), r"volume 1 spans \[nan"),
    ],
    ids=["no channel", "empty", "two channels", "float64", "above 1", "negative", "NaN"],
)
def test_volumes_outside_the_contract_are_refused(volumes: Tensor, message: str):
    with pytest.raises(MetricError, match=message):
        check_volumes("x", volumes)


@pytest.mark.parametrize(
    "make",
    [
        RandomResNet10,
        *(
            getattr(medicalnet, f"resnet{depth}{training}")
            for depth, training in itertools.product(DEPTHS, ("", "_23dataset"))
        ),
    ],
)
def test_extractors_fit_the_contract(make: type[RandomResNet10]):
    assert isinstance(make(), Extractor)


@pytest.mark.slow
def test_constructing_extractors_imports_no_torch():
    script = (
        "import sys\n"
        "from synthbench.metrics.extractors import medicalnet, random_resnet\n"
        "random_resnet.RandomResNet10(); medicalnet.resnet50_23dataset()\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
