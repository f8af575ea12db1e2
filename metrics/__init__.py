"""Metrics: named statistics of (real, synth), each a function of weights over images.

Each is also a plain function of arrays, for people with their own pipeline:
`synthbench.metrics.fid(X, Y)`, `mmd2(X, Y)`, `mmd_linear(X, Y)`, `kid(X, Y)` on features, and
`ms_ssim(x, y)` on two volumes.
"""

from importlib import import_module
from typing import Any

if __name__ != "synthbench.metrics":
    raise ImportError(f"import synthbench.metrics, not {__name__}: one name, one module")

_FUNCTIONS = {
    "effective_rank": "frechet",
    "fid": "frechet",
    "kid": "mmd",
    "median_bandwidth": "mmd",
    "mmd2": "mmd",
    "mmd_linear": "mmd",
    "ms_ssim": "msssim",
    "permutation_p": "mmd",
}

__all__ = sorted(_FUNCTIONS)


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        return getattr(import_module(f"synthbench.metrics.{_FUNCTIONS[name]}"), name)
    raise AttributeError(f"module 'synthbench.metrics' has no attribute {name!r}")
