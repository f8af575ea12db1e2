"""`medicalnet-resnet*`: MedicalNet's networks with the weights that its authors publish.

Chen et al. 2019, "Med3D: Transfer Learning for 3D Medical Image Analysis", arXiv:1904.00625. There
are two networks of each depth: trained on the datasets of the paper, and on 23 datasets
(`-23dataset`).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from jaxtyping import Float32

from synthbench.errors import UsageError, WeightsError, near_miss
from synthbench.metrics.extractors.extractor import ZSCORE_NONZERO_ZEROS
from synthbench.metrics.extractors.weights import WeightFile, known_sha256, verified
from synthbench.runtime.arrays import load_tensors
from synthbench.volumes.grid import PAPER_GRID, Space

if TYPE_CHECKING:
    from torch import Tensor

    from synthbench.metrics.extractors.resnet import Depth, MedicalResNet


_DIM: dict[Depth, int] = {10: 512, 18: 512, 34: 512, 50: 2048}
_MEGABYTES: dict[Depth, int] = {10: 57, 18: 132, 34: 253, 50: 185}

# None: nobody has published the hash of that file.
_SHA256: dict[tuple[Depth, str], str | None] = {
    (10, ""): "2824951eaef30e115929b89bec72342380b08d14792bda1449974ac849e497c0",
    (10, "23dataset"): "afa8055f3e47f4a18239495d92a7abc587902c69c31c743de2b2784653b72605",
    (18, ""): None,
    (18, "23dataset"): None,
    (34, ""): None,
    (34, "23dataset"): None,
    (50, ""): "5b6189cafbee2f5604a7279b62bc163365aa6a86a377e1dc260a14275cacbd84",
    (50, "23dataset"): "ff48a62219073fb977fd3f4ddfb8dc1367f0ec156c8d6f6c37e205bd683a246e",
}


def _weight_file(depth: Depth, training: str, sha256: str | None) -> WeightFile:
    filename = "_".join(filter(None, ("resnet", str(depth), training))) + ".pth"
    repository = f"https://huggingface.co/TencentMedicalNet/MedicalNet-Resnet{depth}"
    return WeightFile(
        name="-".join(filter(None, (f"medicalnet-resnet{depth}", training))),
        url=f"{repository}/resolve/main/{filename}",
        sha256=sha256,
        filename=filename,
        megabytes=_MEGABYTES[depth],
        licence="MIT",
    )


_CHECKPOINTS: dict[str, tuple[Depth, WeightFile]] = {
    file.name: (depth, file)
    for depth, file in (
        (depth, _weight_file(depth, training, sha256))
        for (depth, training), sha256 in _SHA256.items()
    )
}


class MedicalNet:
    """One of MedicalNet's published networks as an extractor.

    Construction needs neither torch nor the weights; `load`, or the first call of `features`,
    reads them.

    Parameters
    ----------
    name
        The extractor's name, such as "medicalnet-resnet50-23dataset".

    Attributes
    ----------
    weight_file
        The file for `synthbench.metrics.extractors.weights.fetch`.

    Raises
    ------
    UsageError
        No network of that name is published.
    """

    def __init__(self, name: str) -> None:
        if name not in _CHECKPOINTS:
            raise UsageError(f"no extractor is named '{name}': {near_miss(name, _CHECKPOINTS)}")
        self._depth, self.weight_file = _CHECKPOINTS[name]
        self.name = name
        self.dim = _DIM[self._depth]
        self.weights_sha256 = known_sha256(self.weight_file)
        self.space: Space | None = PAPER_GRID
        self.preprocessing = ZSCORE_NONZERO_ZEROS
        self.layer = "stage 4, global average"
        training = "23 datasets" if name.endswith("23dataset") else "the datasets of the paper"
        self.summary = f"MedicalNet's 3-D ResNet-{self._depth}, segmentation on {training}"
        self.needs = f"fetch: {self.weight_file.megabytes} MB"
        self._network: MedicalResNet | None = None

    def load(self) -> MedicalResNet:
        """Verify the weight file and build the network from it once, and return the network.

        Raises
        ------
        WeightsError
            The file is missing, has another hash, or does not hold this network.
        """
        if self._network is None:
            path = verified(self.weight_file)
            self._network = read_checkpoint(path, self._depth)
            self.weights_sha256 = known_sha256(self.weight_file)
        return self._network

    def features(self, volumes: Float32[Tensor, "b 1 d h w"]) -> Float32[Tensor, "b dim"]:
        """Return the spatial averages of stage 4, one row per volume.

        Raises
        ------
        MetricError
            The volumes do not fit the contract, or one of them is blank or constant.
        WeightsError
            The weights cannot be loaded.
        """
        from synthbench.metrics.extractors.resnet import pooled_features

        return pooled_features(self.name, self.load(), volumes)


def read_checkpoint(path: Path, depth: Depth) -> MedicalResNet:
    """Return the network of that depth, from one of MedicalNet's checkpoints.

    A checkpoint holds a `state_dict`, whose keys have the prefix `module.` of data-parallel
    training. Only the segmentation head (`conv_seg`) is left out.

    Raises
    ------
    WeightsError
        The file is no such checkpoint, or a parameter is missing, unexpected or of another shape.
    """
    import torch

    from synthbench.metrics.extractors.resnet import with_weights

    try:
        checkpoint = load_tensors(path)
    except Exception as error:
        raise WeightsError(
            f"{path} must be a PyTorch checkpoint that holds tensors only; reading it failed with "
            f"{type(error).__name__}: {error}. Move it away and fetch it again."
        ) from error
    state = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not all(map(torch.is_tensor, state.values())):
        raise WeightsError(
            f"{path} must be a checkpoint with a `state_dict` of tensors; found "
            f"{_describe(checkpoint)}. Move it away and fetch it again."
        )
    encoder = {
        key: tensor
        for key, tensor in ((key.removeprefix("module."), t) for key, t in state.items())
        if not key.startswith("conv_seg.")
    }
    return with_weights(depth, encoder, source=str(path))


def _describe(checkpoint: object) -> str:
    if isinstance(checkpoint, dict):
        return f"the entries {', '.join(map(str, list(checkpoint)[:5])) or '(none)'}"
    return f"a {type(checkpoint).__name__}"


# The registry names these functions; each call returns a new extractor.
resnet10 = partial(MedicalNet, "medicalnet-resnet10")
resnet18 = partial(MedicalNet, "medicalnet-resnet18")
resnet34 = partial(MedicalNet, "medicalnet-resnet34")
resnet50 = partial(MedicalNet, "medicalnet-resnet50")
resnet10_23dataset = partial(MedicalNet, "medicalnet-resnet10-23dataset")
resnet18_23dataset = partial(MedicalNet, "medicalnet-resnet18-23dataset")
resnet34_23dataset = partial(MedicalNet, "medicalnet-resnet34-23dataset")
resnet50_23dataset = partial(MedicalNet, "medicalnet-resnet50-23dataset")
