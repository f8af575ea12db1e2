"""Networks in files that hold both graph and weights: ONNX, and torch.export's .pt2.

A file is read into memory once. The network is built from the bytes that were hashed and from
nothing else: an ONNX file with data in other files is refused, since no hash would cover them.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from synthbench.errors import UsageError, near_miss
from synthbench.runtime.arrays import check_archive

ONNX_DTYPES = {"tensor(float)": torch.float32, "tensor(double)": torch.float64}

# The first onnxruntime with a setting for the folder of data outside the ONNX file.
ONNXRUNTIME = (1, 21)

# Files that torch.export.save writes and that are neither code nor pickle, without the archive's
# top folder.
_PLAIN_FILES = (
    "archive_format",
    "archive_version",
    "byteorder",
    ".data/*",
    "models/model.json",
    "data/weights/weight_*",
    "data/weights/model_weights_config.json",
    "data/constants/tensor_*",
    "data/constants/model_constants_config.json",
    "extra/*",
)
_SAMPLE_INPUTS = "data/sample_inputs/model.pt"


@dataclass(frozen=True)
class Input:
    """The input of a network.

    Attributes
    ----------
    name
        Its name in the file.
    shape
        Length of each axis; None where any length is possible.
    dtype
        The dtype of the tensor.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: torch.dtype

    def takes(self, shape: Sequence[int | None]) -> bool:
        """True where a tensor of that shape fits; None stands for a length not known yet."""
        return len(shape) == len(self.shape) and all(
            own is None or other is None or own == other
            for own, other in zip(self.shape, shape, strict=True)
        )

    def __str__(self) -> str:
        sides = ", ".join("any" if side is None else str(side) for side in self.shape)
        return f"'{self.name}' of shape ({sides}), {str(self.dtype).removeprefix('torch.')}"


class Network(Protocol):
    """A network that is ready to run.

    Attributes
    ----------
    input
        Its only input.
    """

    @property
    def input(self) -> Input:
        """The only input."""
        ...

    def __call__(self, batch: Float[Tensor, "1 c *grid"]) -> Tensor:
        """Return the chosen output, on the device of the batch."""
        ...


def open_network(path: Path, content: bytes, output: int | str) -> Network:
    """Build the network of a file.

    Parameters
    ----------
    path
        The path, for error messages and for its suffix, .onnx or .pt2; the file is not read.
    content
        The bytes of the file.
    output
        Name or index of the output to return.

    Raises
    ------
    UsageError
        The file is no such network, holds pickles or needs data outside itself, takes several
        inputs, or has no such output.
    """
    if path.suffix == ".onnx":
        return OnnxNetwork(path, content, output)
    return TorchNetwork(path, content, output)


class OnnxNetwork:
    """An ONNX file, run by onnxruntime on the CPU in deterministic mode.

    The parameters are those of `open_network`.
    """

    def __init__(self, path: Path, content: bytes, output: int | str) -> None:
        runtime = _onnxruntime(path)
        options = runtime.SessionOptions()
        options.use_deterministic_compute = True
        # The default is every core of the machine, also where the process may use fewer.
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        # Weights outside the file would be read from this folder, which holds nothing.
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", os.devnull
        )
        try:
            self._session = runtime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise UsageError(
                f"{path} must be an ONNX network that holds its own weights; opening it failed "
                f"with {type(error).__name__}: {error}. Export it again, with "
                "external_data=False."
            ) from error
        self.input = _onnx_input(path, self._session.get_inputs())
        names = [node.name for node in self._session.get_outputs()]
        by_key: dict[int | str, str] = {**dict(enumerate(names)), **{name: name for name in names}}
        if output not in by_key:
            raise UsageError(_no_output(path, output, names))
        self._output = by_key[output]

    def __call__(self, batch: Float[Tensor, "1 c *grid"]) -> Tensor:
        """Return the output, on the device of the batch."""
        inputs = {self.input.name: batch.cpu().numpy()}
        return torch.from_numpy(self._session.run([self._output], inputs)[0]).to(batch.device)


class TorchNetwork:
    """A program saved by torch.export, run on the device of its input.

    The parameters are those of `open_network`.
    """

    def __init__(self, path: Path, content: bytes, output: int | str) -> None:
        refuse_pickles(path, content)
        try:
            program = torch.export.load(io.BytesIO(content))
        except Exception as error:
            raise UsageError(
                f"{path} must be written by torch.export.save; loading it with torch "
                f"{torch.__version__} failed with {type(error).__name__}: {error}. Export it "
                "again with this torch."
            ) from error
        if _in_training(program):
            raise UsageError(
                f"{path} was exported in training mode: its batch normalisation or dropout gives "
                "other features at every call. Call .eval() on the network, and export it again."
            )
        self.input = _torch_input(path, program)
        self._path, self._output = path, output
        self._module = program.module()

    def __call__(self, batch: Float[Tensor, "1 c *grid"]) -> Tensor:
        """Return the output, on the device of the batch."""
        outputs = self._module.to(batch.device)(batch)
        if torch.is_tensor(outputs):
            outputs = (outputs,)
        by_key = dict(outputs if isinstance(outputs, Mapping) else enumerate(outputs))
        if not torch.is_tensor(by_key.get(self._output)):
            raise UsageError(_no_output(self._path, self._output, map(str, by_key)))
        chosen: Tensor = by_key[self._output]
        return chosen


def refuse_pickles(path: Path, content: bytes) -> None:
    """Check that a .pt2 archive holds only a graph in JSON and tensors as raw bytes.

    torch.export.load unpickles all that an archive marks as pickled, and loads compiled
    libraries. Both can run foreign code. The example inputs are always saved by torch.save; they
    must load with `weights_only=True`.

    Raises
    ------
    UsageError
        The file is no such archive, or holds anything else.
    """
    try:
        check_archive(content)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            files = {_below_top(name): archive.read(name) for name in archive.namelist()}
            twice = len(files) < len(archive.namelist())
    except Exception as error:  # zipfile and zlib raise many kinds for a damaged archive
        raise UsageError(
            f"{path} must be an archive written by torch.export.save; found {error}. "
            "Export it again."
        ) from error
    sample_inputs = files.pop(_SAMPLE_INPUTS, b"")
    refused = [
        name for name in files if not any(PurePosixPath(name).match(p) for p in _PLAIN_FILES)
    ]
    refused += [
        f"pickled tensors in {name}"
        for name, text in files.items()
        if name.endswith("_config.json") and _marks_pickles(text)
    ]
    if sample_inputs and not _loads_weights_only(sample_inputs):
        refused.append(f"pickled objects in {_SAMPLE_INPUTS}")
    if refused or twice or "models/model.json" not in files:
        found = ", ".join(refused[:3]) or ("a name twice" if twice else "no models/model.json")
        raise UsageError(
            f"{path} must hold one exported network as JSON and raw tensors, written by "
            f"torch.export.save; found {found}. Export it again with a current torch, on plain "
            "example tensors."
        )


def _below_top(name: str) -> str:
    """The path without the archive's top folder, whose name differs between writers."""
    return "/".join(PurePosixPath(name).parts[1:]) or name


def _marks_pickles(config: bytes) -> bool:
    try:
        entries = json.loads(config)["config"].values()
        return any(entry["use_pickle"] is not False for entry in entries)
    except (ValueError, KeyError, TypeError, AttributeError):
        return True


def _loads_weights_only(content: bytes) -> bool:
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except Exception:
        return False
    return True


def _onnxruntime(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise UsageError(
            f"{path}: an ONNX network needs onnxruntime, which is not installed. "
            'Type `pip install "synthbench[onnx]"`.'
        ) from error
    version = onnxruntime.__version__
    if tuple(int(part) for part in version.split(".")[:2]) < ONNXRUNTIME:
        needed = ".".join(map(str, ONNXRUNTIME))
        raise UsageError(
            f"{path}: an ONNX network needs onnxruntime {needed} or newer; found {version}. "
            f'Type `pip install "onnxruntime>={needed}"`.'
        )
    return onnxruntime


def _onnx_input(path: Path, inputs: Sequence[Any]) -> Input:
    only = _only(path, [(node.name, node) for node in inputs])
    if only.type not in ONNX_DTYPES:
        raise UsageError(
            f"{path}: the input '{only.name}' must be of float32 or float64; found {only.type}. "
            "Export the network in one of them."
        )
    shape = tuple(side if isinstance(side, int) else None for side in only.shape)
    return Input(only.name, shape, ONNX_DTYPES[only.type])


def _torch_input(path: Path, program: torch.export.ExportedProgram) -> Input:
    wanted = set(program.graph_signature.user_inputs)
    nodes = [(node.name, node) for node in program.graph.nodes if node.name in wanted]
    example = _only(path, nodes).meta["val"]
    shape = tuple(side if isinstance(side, int) else None for side in example.shape)
    return Input(nodes[0][0], shape, example.dtype)


def _in_training(program: torch.export.ExportedProgram) -> bool:
    """True where an operation has a training flag that is set: a program has no other sign."""
    for node in program.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if node.op == "call_function" and schema is not None:
            names = [argument.name for argument in schema.arguments]
            # A node lists only the arguments that differ from their defaults.
            arguments = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
            if arguments.get("training") is True or arguments.get("train") is True:
                return True
    return False


def _only(path: Path, inputs: Sequence[tuple[str, Any]]) -> Any:
    if len(inputs) != 1:
        names = ", ".join(name for name, _ in inputs) or "none"
        raise UsageError(
            f"{path}: a network must take one input, the image; found {names}. Wrap it in a "
            "network that takes the image only, and export that."
        )
    return inputs[0][1]


def _no_output(path: Path, output: int | str, known: Iterable[str]) -> str:
    hint = near_miss(str(output), known)
    return f"{path} has no output {output!r}, which is the value of the key `output`: {hint}"
