"""Brain extraction by deepbet's networks (Fisch et al. 2024, Computers in Biology and Medicine).

The wheel of deepbet carries two TorchScript files. They are read here, compared with the sha256 of
version 1.0.2, and only then given to deepbet's own code: no other file is ever loaded.
"""

from __future__ import annotations

import hashlib
import io
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from synthbench.cohorts.preparation.image import Image
from synthbench.errors import CohortError, UsageError

WEIGHTS = {
    "model.pt": "de8ee7c69654d0dd3935dc4a5d84571d8ecf4637a6bfc01df399c4c2bc86e0fd",
    "bbox_model.pt": "39a7b2b5f799faa1391ea97bfcdc0b9299f20d84f2316a4ff8918dc4685e40aa",
}
"""The files of the networks in deepbet 1.0.2, and their sha256."""
_INSTALL = "Type: pip install 'synthbench[prepare,deepbet]'. Or use --brain-extraction builtin."
_THRESHOLD = 0.5  # deepbet's default


def deepbet_record() -> dict[str, str]:
    """Return deepbet's version and the sha256 of its network, after checking both networks.

    Raises
    ------
    UsageError
        deepbet is not installed, or its files are not those of version 1.0.2.
    """
    _networks()
    return {"command": "deepbet", "version": version("deepbet"), "sha256": WEIGHTS["model.pt"]}


def deepbet_mask(head: Image) -> Image:
    """Return the brain mask of deepbet, 0 and 1, on the head's grid.

    It is computed on the CPU, on one thread: sums over several threads differ in their last digits.

    Raises
    ------
    UsageError
        deepbet is not installed, or its files are not those of version 1.0.2.
    CohortError
        deepbet finds no brain in the scan.
    """
    import torch

    networks = _networks()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        inside = networks.run_model(head.volume.copy()) > _THRESHOLD
        mask = networks.postprocess(inside)
    except (AssertionError, IndexError, ValueError) as error:  # what deepbet raises without a brain
        raise CohortError(
            f"--brain-extraction deepbet: no brain found ({' '.join(str(error).split())}). Check "
            "that it is a T1-weighted scan of a whole head, or use --brain-extraction builtin."
        ) from error
    finally:
        torch.set_num_threads(threads)
    return Image(np.ascontiguousarray(mask, dtype=np.float32), head.space)


@lru_cache(maxsize=1)
def _networks() -> Any:
    """Return deepbet's two networks, from the files whose sha256 is known."""
    if find_spec("deepbet") is None:
        raise UsageError(
            f"--brain-extraction deepbet: the package deepbet is not installed. {_INSTALL}"
        )
    try:
        from deepbet import BrainExtraction
        from deepbet.utils import DATA_PATH
    except ImportError as error:
        raise UsageError(
            f"--brain-extraction deepbet: deepbet cannot be imported ({error}). {_INSTALL}"
        ) from error
    model, box = (_checked(Path(DATA_PATH, "models", name)) for name in WEIGHTS)
    return BrainExtraction(no_gpu=True, model_path=model, bbox_model_path=box)


def _checked(file: Path) -> io.BytesIO:
    """Return the bytes of a network whose sha256 is the known one."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UsageError(
            f"--brain-extraction deepbet: {file} cannot be read ({error.strerror}). {_INSTALL}"
        ) from error
    if hashlib.sha256(content).hexdigest() != WEIGHTS[file.name]:
        raise UsageError(
            f"--brain-extraction deepbet: {file} is not the file of deepbet 1.0.2 (another "
            "sha256), so it is not loaded. Type: pip install --force-reinstall deepbet==1.0.2"
        )
    return io.BytesIO(content)
