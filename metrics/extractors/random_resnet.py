"""`random-resnet10`: a ResNet-10 with fixed random weights, the extractor that needs no download.

It has learned nothing, and its numbers are comparable only with its own. It serves tests,
continuous integration, and machines without internet.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from synthbench.errors import WeightsError
from synthbench.metrics.extractors.extractor import ZSCORE_NONZERO_ZEROS
from synthbench.volumes.grid import Space

if TYPE_CHECKING:
    from torch import Tensor

    from synthbench.metrics.extractors.resnet import MedicalResNet


SEED_LABEL = "synthbench random-resnet10 v1"
WEIGHTS_SHA256 = "a9dfc8fee5d90f73448f7ee8ed0f2702dbd7eb34a14c1aa3ff02ab63d4822256"


class RandomResNet10:
    """MedicalNet's ResNet-10 with He-uniform weights from a fixed seed.

    Construction needs no torch; `load`, or the first call of `features`, generates the weights.
    """

    def __init__(self) -> None:
        self.name = "random-resnet10"
        self.dim = 512
        self.weights_sha256: str | None = WEIGHTS_SHA256
        self.space: Space | None = None
        self.preprocessing = ZSCORE_NONZERO_ZEROS
        self.layer = "stage 4, global average"
        self.summary = "3-D ResNet-10, random weights that are the same everywhere"
        self.needs = "nothing"
        self.trained = False
        self._network: MedicalResNet | None = None

    def load(self) -> MedicalResNet:
        """Generate the network and verify its weights once, and return the network.

        Raises
        ------
        WeightsError
            The generated weights are not the pinned ones.
        """
        if self._network is None:
            self._network = _verified_network()
        return self._network

    def features(self, volumes: Float32[Tensor, "b 1 d h w"]) -> Float32[Tensor, "b 512"]:
        """Return the spatial averages of stage 4, one row per volume.

        Raises
        ------
        MetricError
            The volumes do not fit the contract, or one of them is blank or constant.
        WeightsError
            The generated weights are not the pinned ones.
        """
        from synthbench.metrics.extractors.resnet import pooled_features

        return pooled_features(self.name, self.load(), volumes)


def he_uniform(label: str, shape: tuple[int, ...]) -> Float32[np.ndarray, "*shape"]:
    """Draw a convolution's weights from U(-b, b), b = sqrt(6 / fan_in), with variance 2 / fan_in.

    The bound is that of He et al. 2015 (arXiv:1502.01852, equation 10) for a uniform distribution.
    The same label gives the same bits on every platform. SHAKE-256 is a standard (FIPS 202). Its
    output is read as little-endian uint32, and the top 24 bits k become the odd integer
    2k + 1 - 2^24: symmetric about zero, never zero, and exact in float32. The division by 2^24 is
    exact too. Two roundings remain, of the bound and of its product with that number, and IEEE 754
    defines both.

    Parameters
    ----------
    label
        Seed of the stream.
    shape
        (outputs, inputs, *kernel).
    """
    stream = hashlib.shake_256(label.encode()).digest(4 * math.prod(shape))
    top_bits = (np.frombuffer(stream, dtype="<u4") >> 8).astype(np.int32)
    unit = (2 * top_bits + 1 - 2**24).astype(np.float32) * np.float32(2.0**-24)
    bound = np.float32(math.sqrt(6 / math.prod(shape[1:])))
    return (unit * bound).reshape(shape)


def random_weights(
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, Float32[np.ndarray, "*_"]]:
    """Return all parameters by name: He-uniform convolutions, identity normalisation.

    A parameter's stream depends on its own name only, not on the order of the others.

    Parameters
    ----------
    shapes
        Shape of each parameter and running moment, by state-dict key.
    """
    weights = {}
    for key, shape in shapes.items():
        if len(shape) > 1:
            weights[key] = he_uniform(f"{SEED_LABEL}/{key}", shape)
        else:
            identity = 0.0 if key.endswith(("bias", "running_mean")) else 1.0
            weights[key] = np.full(shape, identity, dtype=np.float32)
    return weights


def sha256_of(weights: Mapping[str, Float32[np.ndarray, "*_"]]) -> str:
    """Return the SHA-256 of all arrays in the order of their keys, as little-endian float32."""
    digest = hashlib.sha256()
    for key in sorted(weights):
        digest.update(np.ascontiguousarray(weights[key], dtype="<f4").data)
    return digest.hexdigest()


def _verified_network() -> MedicalResNet:
    import torch

    from synthbench.metrics.extractors.resnet import state_shapes, with_weights

    weights = random_weights(state_shapes(10))
    found = sha256_of(weights)
    if found != WEIGHTS_SHA256:
        raise WeightsError(
            f"random-resnet10: the generated weights must have the sha256 {WEIGHTS_SHA256}; "
            f"found {found}. Features would not be comparable with other machines: report this "
            "with the output of `python -VV` and the versions of numpy and OpenSSL."
        )
    state = {key: torch.from_numpy(array) for key, array in weights.items()}
    return with_weights(10, state, source="random-resnet10")
