"""`slices:FILE` and `net:FILE`: extractors that run a network from a file of the user.

FILE is an ONNX or a torch.export .pt2 file. A YAML file with the same stem in the same folder
describes the network's input and output (`NetDescription`, `SliceDescription`). The name of such an
extractor is the name in the YAML file, never a path. FILE without a suffix is the name of a file in
the folder of weights.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float32
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from synthbench.errors import MetricError, UsageError
from synthbench.metrics.extractors.extractor import zscore_nonzero_zeros
from synthbench.metrics.extractors.weights import FOLDER_VARIABLE, weights_folder
from synthbench.runtime.documents import MAX_YAML, parse_yaml, read_text
from synthbench.runtime.files import sha256_file
from synthbench.volumes.grid import PAPER_GRID, Space

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from synthbench.metrics.extractors.network_file import Network


Plane = Literal["sagittal", "coronal", "axial"]

NORMAL: dict[Plane, int] = {"sagittal": 0, "coronal": 1, "axial": 2}
"""The axis in RAS+ at right angles to a plane."""

SUFFIXES = (".onnx", ".pt2")

BRAIN_SHARE = 0.05
"""A slice holds brain where its area above zero is at least this share of the largest area."""

Four = tuple[float, float, float, float]


class _Described(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Grid(_Described):
    """A grid in RAS+ millimetres of MNI152, as in a NIfTI header."""

    shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    affine: tuple[Four, Four, Four, Four] = Field(description="voxel indices to mm, row by row")

    @model_validator(mode="after")
    def _ras(self) -> Grid:
        axes = np.array(self.affine)[:3, :3]
        upright = (np.diag(axes) > 0).all() and (np.abs(axes).argmax(axis=0) == range(3)).all()
        if not upright or self.affine[3] != (0, 0, 0, 1):
            raise ValueError("the axes must run to the right, the front and up (RAS+)")
        return self


class NetDescription(_Described):
    """The input and output of a network: the YAML file of `net:FILE`."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        description="name of the network file, without its suffix",
    )
    licence: str = Field(min_length=1, description="SPDX identifier of the weights' licence")
    source: str = Field(min_length=1, description="source of weights and architecture")
    output: int | str = Field(description="index or name of the output that is used")
    pooling: Literal["none", "global-average"] = Field(
        description="from output to features: nothing, or the mean over space"
    )
    dim: PositiveInt = Field(description="number of features of one image: channels of the output")
    channels: PositiveInt = Field(
        description="channels of the input; the one channel of the MRI is repeated"
    )
    dtype: Literal["float32", "float64"] = Field(description="dtype of the input")
    space: Literal["protocol", "paper"] | Grid = Field(description="the grid of the volumes")
    scaling: Literal["unit", "zscore-nonzero-zeros", "mean-std"] = Field(
        description="scaling of intensities in [0, 1]: none; z-score of voxels above zero; "
        "by `mean` and `std`"
    )
    mean: tuple[float, ...] | None = Field(default=None, description="one number per channel")
    std: tuple[PositiveFloat, ...] | None = Field(
        default=None, description="one number per channel"
    )

    @model_validator(mode="after")
    def _moments(self) -> NetDescription:
        absent = self.mean is None and self.std is None
        moments = [] if absent else [self.mean or (), self.std or ()]
        if (self.scaling == "mean-std") != bool(moments):
            raise ValueError("mean and std belong to the scaling 'mean-std', and to no other")
        if any(len(numbers) != self.channels for numbers in moments):
            raise ValueError(f"mean and std must have {self.channels} numbers, one per channel")
        return self

    @property
    def grid(self) -> Space | None:
        """The grid that the volumes must have; None: the protocol's."""
        if isinstance(self.space, Grid):
            return Space.of(self.space.shape, np.array(self.space.affine))
        return PAPER_GRID if self.space == "paper" else None


class SliceDescription(NetDescription):
    """The input and output of a 2-D network, and its slices: the YAML file of `slices:FILE`."""

    size: tuple[PositiveInt, PositiveInt] = Field(description="rows and columns of the input")
    planes: tuple[Plane, ...] = Field(min_length=1, description="planes, in the order of features")
    slices: PositiveInt = Field(description="number of slices per plane")

    @model_validator(mode="after")
    def _planes_once(self) -> SliceDescription:
        if len(set(self.planes)) < len(self.planes):
            raise ValueError("planes must differ")
        return self


class _Exported(ABC):
    """The base of both extractors: the two files, their hashes, and the call of the network.

    Construction reads the YAML file only.
    """

    scheme: str
    summary: str
    description: NetDescription

    def __init__(self, file: str | Path, model: type[NetDescription]) -> None:
        self._path = find_file(self.scheme, str(file))
        yaml_file = self._path.with_suffix(".yaml")
        self.description, digest = read_description(yaml_file, model)
        if self.description.name != self._path.stem:
            raise UsageError(
                f"{yaml_file}: name must be '{self._path.stem}', the name of the network file, so "
                f"that a benchmark finds it again; found '{self.description.name}'. Rename one of "
                "them."
            )
        self.name = f"{self.scheme}:{self.description.name}"
        self.dim = self.description.dim
        self.weights_sha256: str | None = None
        self.space: Space | None = self.description.grid
        self.preprocessing = f"{self.scheme}-v1-yaml-{digest[:12]}"
        pooled = "" if self.description.pooling == "none" else ", global average"
        self.layer = f"output {self.description.output}{pooled}"
        self.needs = "nothing" if self._path.suffix == ".pt2" else "the extra onnx"
        self._network: Network | None = None

    def file_sha256(self) -> str:
        """Return the SHA-256 of the network file as it is now, without opening the network."""
        return sha256_file(self._path)

    def load(self) -> Network:
        """Read and hash the file and build the network from it, once.

        Raises
        ------
        UsageError
            The file is no network, or not the one that the YAML file describes.
        """
        if self._network is None:
            from synthbench.metrics.extractors.network_file import open_network

            content = self._path.read_bytes()
            network = open_network(self._path, content, self.description.output)
            self._check_input(network)
            self.weights_sha256 = hashlib.sha256(content).hexdigest()
            self._network = network
        return self._network

    def features(self, volumes: Float32[Tensor, "b 1 d h w"]) -> Float32[Tensor, "b dim"]:
        """Return one row of features per volume.

        Raises
        ------
        MetricError
            The volumes do not fit the contract or are on another grid, one of them is blank, or
            its features are not finite.
        UsageError
            The network is not the one that the YAML file describes.
        """
        from synthbench.metrics.extractors.network import one_at_a_time

        network = self.load()

        def features(volume: Float32[Tensor, "d h w"]) -> Float32[Tensor, " dim"]:
            if self.space is not None and tuple(volume.shape) != self.space.shape:
                raise MetricError(
                    f"the grid must be {self.space}; found the shape {tuple(volume.shape)}. "
                    "Bring the volume there with synthbench.volumes.grid.resample.",
                    "another grid",
                )
            if self.description.scaling == "zscore-nonzero-zeros":
                return self._features(network, zscore_nonzero_zeros(volume), volume > 0)
            return self._features(network, volume, volume > 0)

        return one_at_a_time(self.name, volumes, features)

    @abstractmethod
    def _features(
        self, network: Network, scaled: Float32[Tensor, "d h w"], foreground: Tensor
    ) -> Float32[Tensor, " dim"]:
        """The features of one volume."""

    @abstractmethod
    def _sides(self) -> tuple[tuple[int | None, ...], str]:
        """The lengths of an image's axes, None for any, and the key of the YAML file for them."""

    def _check_input(self, network: Network) -> None:
        import torch

        sides, key = self._sides()
        shape = (1, self.description.channels, *sides)
        dtype: torch.dtype = getattr(torch, self.description.dtype)
        if not network.input.takes(shape) or network.input.dtype != dtype:
            described = ", ".join("any" if side is None else str(side) for side in shape)
            raise UsageError(
                f"{self._path} takes {network.input}; by channels, {key} and dtype, "
                f"{self._path.with_suffix('.yaml')} describes the shape ({described}), "
                f"{self.description.dtype}. Fix those keys, or export the network for them."
            )

    def _row(self, network: Network, image: Float32[Tensor, "*grid"]) -> Tensor:
        """The network's features of one image, in float64."""
        output = network(self._input(image)).double()
        found = tuple(output.shape)
        if self.description.pooling == "global-average":
            if output.ndim < 3:
                raise UsageError(
                    f"{self._path}: pooling 'global-average' needs an output with axes of space; "
                    f"found the shape {found}. Set pooling to none."
                )
            output = output.flatten(2).mean(dim=2)
        if tuple(output.shape) != (1, self.description.dim):
            raise UsageError(
                f"{self._path}: by dim, the output {self.description.output!r} must have "
                f"{self.description.dim} features of one image; found the shape {found}. Fix "
                f"dim, output or pooling in {self._path.with_suffix('.yaml')}."
            )
        if not bool(output.isfinite().all()):
            raise MetricError(
                f"{self._path.name} gives NaN or infinity. Check the volume, and the scaling in "
                "the YAML file.",
                "not finite output",
            )
        return output[0]

    def _input(self, image: Float32[Tensor, "*grid"]) -> Tensor:
        """Repeat an image for each channel, normalise the channels, and add a batch axis."""
        import torch

        described = self.description
        channels = image.expand(described.channels, *image.shape).double()
        if described.mean is not None and described.std is not None:
            ones = (1,) * image.ndim
            mean = channels.new_tensor(described.mean).reshape(-1, *ones)
            std = channels.new_tensor(described.std).reshape(-1, *ones)
            channels = (channels - mean) / std
        dtype: torch.dtype = getattr(torch, described.dtype)
        return channels.to(dtype)[None].contiguous()


class ExportedNet(_Exported):
    """A 3-D network in a file.

    Parameters
    ----------
    file
        Path of the .onnx or .pt2 file, with its YAML file in the same folder; or the name without
        suffix of a file in the folder of weights.

    Raises
    ------
    UsageError
        A file is missing, or the YAML does not fit `NetDescription`.
    """

    scheme = "net"

    def __init__(self, file: str | Path) -> None:
        super().__init__(file, NetDescription)
        self.summary = f"3-D network of the user, from {self.description.source}"

    def _sides(self) -> tuple[tuple[int | None, ...], str]:
        return (None, None, None) if self.space is None else self.space.shape, "space"

    def _features(
        self, network: Network, scaled: Float32[Tensor, "d h w"], foreground: Tensor
    ) -> Float32[Tensor, " dim"]:
        if not network.input.takes((1, self.description.channels, *scaled.shape)):
            raise MetricError(
                f"the network takes {network.input}; found the grid {tuple(scaled.shape)}. Set "
                "space in the YAML file to the network's grid.",
                "another grid",
            )
        return self._row(network, scaled).float()


class ExportedSlices(_Exported):
    """A 2-D network in a file, applied to slices of up to three planes.

    For each plane, the brain's extent at right angles to it is cut into `slices` equal parts, and
    the slice in the middle of each part is used (`slice_stack`). Each slice is resized with
    antialiasing, repeated for each channel, normalised, and put through the network by itself.
    Features are averaged over the slices of a plane, and those of the planes are joined into one
    row per volume.

    Parameters
    ----------
    file
        Path of the .onnx or .pt2 file, with its YAML file in the same folder; or the name without
        suffix of a file in the folder of weights.

    Raises
    ------
    UsageError
        A file is missing, or the YAML does not fit `SliceDescription`.

    Notes
    -----
    MONAI's generative models are evaluated by Frechet distances of 2-D features, one per plane
    (Guo et al. 2024, "MAISI", arXiv:2409.11169), with RadImageNet's ResNet-50 (Mei et al. 2022,
    Radiology: Artificial Intelligence 4:e210315). There each slice is a sample; here each volume
    is a sample, since the slices of one head are not independent.
    """

    scheme = "slices"
    description: SliceDescription

    def __init__(self, file: str | Path) -> None:
        super().__init__(file, SliceDescription)
        described = self.description
        self.dim = described.dim * len(described.planes)
        self.layer += f", mean over {described.slices} slices, {' + '.join(described.planes)}"
        self.summary = f"2-D network of the user on slices, from {described.source}"

    def _sides(self) -> tuple[tuple[int | None, ...], str]:
        return self.description.size, "size"

    def _features(
        self, network: Network, scaled: Float32[Tensor, "d h w"], foreground: Tensor
    ) -> Float32[Tensor, " dim"]:
        import torch

        described = self.description
        by_plane = []
        for plane in described.planes:
            stack = slice_stack(scaled, foreground, plane, described.slices)
            images = resized(stack, described.size)
            rows = torch.stack([self._row(network, image) for image in images])
            by_plane.append(rows.mean(dim=0))
        return torch.cat(by_plane).float()


def slice_stack(
    volume: Float32[Tensor, "d h w"], foreground: Tensor, plane: Plane, count: int
) -> Float32[Tensor, "count rows columns"]:
    """Return slices in the middles of equal parts of the brain's extent.

    The extent goes from the first to the last slice of this volume with at least `BRAIN_SHARE` of
    the foreground of the fullest slice, so a stray voxel changes nothing. Slices stand upright:
    the first row is superior (anterior in axial slices), the first column is the patient's right
    (anterior in sagittal slices).

    Parameters
    ----------
    volume
        A volume in RAS+.
    foreground
        True for voxels of the brain.
    plane
        The plane of the slices.
    count
        The number of slices; some are repeated where the extent has fewer.

    Raises
    ------
    MetricError
        There is no foreground.
    """
    axis = NORMAL[plane]
    area = foreground.movedim(axis, 0).flatten(1).sum(dim=1)
    if not bool(area.any()):
        raise MetricError(
            "slices are cut through the voxels above zero; found none. Check the volume, then "
            "remove it or sample it again.",
            "blank volume",
        )
    met = (area >= BRAIN_SHARE * area.max()).nonzero().flatten()
    first, extent = int(met[0]), int(met[-1] - met[0] + 1)
    chosen = [first + (2 * part + 1) * extent // (2 * count) for part in range(count)]
    # In RAS+ the first of the two other axes runs to the right or to the front, the second to the
    # front or up. So they are exchanged and reversed: rows from the top, columns from the right.
    return volume.movedim(axis, 0)[chosen].transpose(1, 2).flip(1, 2)


def resized(
    stack: Float32[Tensor, "n rows columns"], size: tuple[int, int]
) -> Float32[Tensor, "n h w"]:
    """Return images resized by bilinear interpolation, antialiased where they become smaller."""
    from torch.nn.functional import interpolate

    return interpolate(
        stack[:, None], size=size, mode="bilinear", antialias=True, align_corners=False
    )[:, 0]


def find_file(scheme: str, file: str) -> Path:
    """Return the path of a network: `file` itself, or a name without suffix in the weights folder.

    Raises
    ------
    UsageError
        There is no such file, its suffix is not one of `SUFFIXES`, or two files have the name.
    """
    path = Path(file).expanduser()
    if path.suffix in (".yaml", ".yml"):
        networks = " or ".join(f"{scheme}:{path.with_suffix(suffix)}" for suffix in SUFFIXES)
        raise UsageError(
            f"{scheme}:{file}: FILE must be the network, whose YAML file lies in the same folder; "
            f"found a YAML file. Give {networks}."
        )
    if path.suffix in SUFFIXES:
        found = [path] if path.is_file() else []
        where = str(path)
    elif path.name == file:
        candidates = [weights_folder() / f"{file}{suffix}" for suffix in SUFFIXES]
        found = [path for path in candidates if path.is_file()]
        where = " or ".join(map(str, candidates))
    else:
        raise UsageError(
            f"{scheme}:{file}: a network must end in {' or '.join(SUFFIXES)}; found "
            f"'{path.suffix}'. docs/extractors.md shows how to export one."
        )
    if len(found) == 1:
        return found[0]
    number = "both files" if found else "no file"
    raise UsageError(
        f"{scheme}:{file} must be one network file; found {number} {where}. Give its path, as in "
        f"`--extractor {scheme}:FILE.onnx`, or set {FOLDER_VARIABLE} to the folder that holds it."
    )


def read_description(path: Path, model: type[NetDescription]) -> tuple[Any, str]:
    """Read the YAML file of a network, and return its content and its SHA-256.

    Raises
    ------
    UsageError
        The file is missing, no YAML, or does not fit the model; each wrong key is named.
    """
    if not path.is_file():
        keys = ", ".join(model.model_fields)
        raise UsageError(
            f"{path} must describe the network of the same name, and is missing. Write it with "
            f"the keys {keys}; docs/extractors.md shows an example."
        )
    text = read_text(path, error=UsageError, fix="Fix it.", most=MAX_YAML)
    try:
        found = parse_yaml(text)
    except ValueError as error:
        raise UsageError(f"{path} must be YAML; found {error}. Fix it.") from error
    try:
        described = model.model_validate(found)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'as a whole'}: {one['msg']}"
            for one in error.errors()
        )
        raise UsageError(f"{path} does not describe a network: {wrong}. Fix those keys.") from error
    return described, sha256_file(path)
