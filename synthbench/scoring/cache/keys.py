"""The keys of the cache: a hash of everything that a kept result depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from jaxtyping import Bool

from synthbench.volumes.grid import Space

SCHEMA = 1
"""Part of every key. Raise it when reading, scaling or resampling changes a voxel, or when the
layout of a file changes: then no earlier result is found."""


def row_key(extractor: Any, volume: str, computed_with: str) -> str:
    """Return the key of one volume's features: a sha256, in hexadecimal.

    Parameters
    ----------
    extractor
        An object with the attributes of `synthbench.metrics.extractors.extractor.Extractor`.
        Without weights, `preprocessing` changes with each version of the extractor.
    volume
        Identity of the voxels: content, grids, intensity rule (`Volumes.identity`).
    computed_with
        The library and the kind of device, which round differently.
    """
    grid: Space | None = extractor.space
    return hashed(
        {
            "schema": SCHEMA,
            "volume": volume,
            "extractor": extractor.name,
            "weights": extractor.weights_sha256,
            "preprocessing": extractor.preprocessing,
            "layer": extractor.layer,
            "dim": extractor.dim,
            "grid": None if grid is None else [grid.shape, grid.affine],
            "computed with": computed_with,
        }
    )


def rule_key(
    name: str, rule: Mapping[str, Any], mask: Bool[np.ndarray, "d h w"] | None = None
) -> str:
    """Return a hash of all that a measure depends on, except the volumes: in hexadecimal.

    Parameters
    ----------
    name
        Of the measure.
    rule
        The formula and the settings, as JSON values.
    mask
        The voxels that count; None: all.
    """
    return hashed(
        {
            "schema": SCHEMA,
            "measure": name,
            "rule": rule,
            "mask": None if mask is None else [mask.shape, mask_digest(mask)],
            "computed with": computed_with(),
        }
    )


def measure_key(rule: str, *sets: Sequence[str]) -> str:
    """Return the key of what was measured of volumes: a sha256, in hexadecimal.

    Parameters
    ----------
    rule
        From `rule_key`.
    sets
        Identities of the volumes of each set, in order.
    """
    return hashed({"rule": rule, "sets": sets})


def mask_digest(mask: Bool[np.ndarray, "d h w"]) -> str:
    """Return the sha256 of a mask's bits, in hexadecimal."""
    return hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()


def computed_with() -> str:
    """Return the libraries and the kind of device that measures are computed with.

    Another version of a library may round differently.
    """
    import torch

    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "scipy"))
    return f"{libraries}, {'cuda' if torch.cuda.is_available() else 'cpu'}"


def hashed(parts: Mapping[str, Any]) -> str:
    """Return the sha256 of JSON values, in hexadecimal."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
