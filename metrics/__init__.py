"""Metrics: named statistics of (real, synth), each a function of weights over images.

Each is also a plain function of arrays or tensors, for people with their own pipeline. Of
features, one row an image: `synthbench.metrics.fid(X, Y)`, `mmd2`, `kid`, `precision`, `recall`,
`density`, `coverage`, and `memorization(synth, train, holdout)`. Of stacks of volumes:
`mmd_linear`, `spectrum_distance`, `seam_energy`, `intensity_distance`. Of two volumes: `ms_ssim`,
`g4r_ssim`.
"""

from importlib import import_module
from typing import Any

if __name__ != "synthbench.metrics":
    raise ImportError(f"import synthbench.metrics, not {__name__}: one name, one module")

_FUNCTIONS = {
    "coverage": "manifold",
    "density": "manifold",
    "effective_rank": "frechet",
    "fid": "frechet",
    "g4r_ssim": "gradient_ssim",
    "intensity_distance": "intensity",
    "kid": "mmd",
    "median_bandwidth": "mmd",
    "memorization": "copying",
    "mmd2": "mmd",
    "mmd_linear": "mmd",
    "ms_ssim": "msssim",
    "permutation_p": "mmd",
    "precision": "manifold",
    "recall": "manifold",
    "seam_energy": "spectrum",
    "spectrum_distance": "spectrum",
}

__all__ = sorted(_FUNCTIONS)


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        return getattr(import_module(f"synthbench.metrics.{_FUNCTIONS[name]}"), name)
    raise AttributeError(f"module 'synthbench.metrics' has no attribute {name!r}")
