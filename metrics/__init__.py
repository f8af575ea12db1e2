"""Metrics: named statistics of (real, synth), each a function of weights over images.

Each is also a plain function of arrays or tensors, for people with their own pipeline:

- functions of features, one row per image: `synthbench.metrics.fid(X, Y)`, `mmd2`, `kid`,
  `precision`, `recall`, `density`, `coverage`, `clipped_density`, `clipped_coverage`, `fld`,
  `rke(X)` of one set, `constraint_violations`, `regional_distance` and `region_differences` of
  measures, `memorization(synth, train, holdout)` and
  `membership_inference(synth, train, holdout)`;
- functions of stacks of volumes: `mmd_linear`, `spectrum_distance`, `seam_energy`,
  `intensity_distance`, `quality_distance`, and `local_copying(synth, train, holdout)`;
- functions of two volumes: `ms_ssim`, `g4r_ssim`; and of an image and its target: `psnr`,
  `ssim`, `mae`.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # without these imports, editors know none, and a file is taken for its function
    from synthbench.metrics.fid import effective_rank as effective_rank
    from synthbench.metrics.fid import fid as fid
    from synthbench.metrics.fld import fld as fld
    from synthbench.metrics.g4r_ssim import g4r_ssim as g4r_ssim
    from synthbench.metrics.intensity import intensity_distance as intensity_distance
    from synthbench.metrics.kernels import median_bandwidth as median_bandwidth
    from synthbench.metrics.linear_mmd import mmd_linear as mmd_linear
    from synthbench.metrics.local_copying import local_copying as local_copying
    from synthbench.metrics.measures.constraints import (
        constraint_violations as constraint_violations,
    )
    from synthbench.metrics.measures.morphometry import region_differences as region_differences
    from synthbench.metrics.measures.morphometry import regional_distance as regional_distance
    from synthbench.metrics.measures.paired import mae as mae
    from synthbench.metrics.measures.paired import psnr as psnr
    from synthbench.metrics.measures.paired import ssim as ssim
    from synthbench.metrics.measures.quality import quality_distance as quality_distance
    from synthbench.metrics.membership import membership_inference as membership_inference
    from synthbench.metrics.memorization import memorization as memorization
    from synthbench.metrics.mmd import kid as kid
    from synthbench.metrics.mmd import mmd2 as mmd2
    from synthbench.metrics.mmd_permutation import permutation_p as permutation_p
    from synthbench.metrics.nearest.clipped import clipped_coverage as clipped_coverage
    from synthbench.metrics.nearest.clipped import clipped_density as clipped_density
    from synthbench.metrics.prdc import coverage as coverage
    from synthbench.metrics.prdc import density as density
    from synthbench.metrics.prdc import precision as precision
    from synthbench.metrics.prdc import recall as recall
    from synthbench.metrics.similarity.msssim_pairs import ms_ssim as ms_ssim
    from synthbench.metrics.similarity.rke import rke as rke
    from synthbench.metrics.spectrum import seam_energy as seam_energy
    from synthbench.metrics.spectrum import spectrum_distance as spectrum_distance

if __name__ != "synthbench.metrics":
    raise ImportError(f"import synthbench.metrics, not {__name__}: one name, one module")

_FUNCTIONS = {
    "clipped_coverage": "nearest.clipped",
    "clipped_density": "nearest.clipped",
    "constraint_violations": "measures.constraints",
    "coverage": "prdc",
    "density": "prdc",
    "effective_rank": "fid",
    "fid": "fid",
    "fld": "fld",
    "g4r_ssim": "g4r_ssim",
    "intensity_distance": "intensity",
    "kid": "mmd",
    "local_copying": "local_copying",
    "median_bandwidth": "kernels",
    "membership_inference": "membership",
    "mae": "measures.paired",
    "memorization": "memorization",
    "mmd2": "mmd",
    "mmd_linear": "linear_mmd",
    "ms_ssim": "similarity.msssim_pairs",
    "permutation_p": "mmd_permutation",
    "precision": "prdc",
    "psnr": "measures.paired",
    "quality_distance": "measures.quality",
    "recall": "prdc",
    "region_differences": "measures.morphometry",
    "regional_distance": "measures.morphometry",
    "rke": "similarity.rke",
    "seam_energy": "spectrum",
    "spectrum_distance": "spectrum",
    "ssim": "measures.paired",
}

__all__ = sorted(_FUNCTIONS)


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        return getattr(import_module(f"synthbench.metrics.{_FUNCTIONS[name]}"), name)
    raise AttributeError(f"module 'synthbench.metrics' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


class _Package(ModuleType):
    """The package, in which a public name is always the function.

    When Python first imports a submodule, it binds the submodule to its name in the package. The
    import of the file fid.py would so replace the function `fid` by a module, which nobody can
    call. This class binds the function of that name instead.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FUNCTIONS and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
