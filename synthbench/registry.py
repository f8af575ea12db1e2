"""One registry for generators, metrics, extractors and layouts of cohorts.

`BUILT_IN` lists the built-in plugins. Other packages add theirs as entry points in the groups
`synthbench.generators`, `synthbench.metrics`, `synthbench.extractors` and `synthbench.layouts`.
Nothing is imported until it is used.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from functools import lru_cache, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from synthbench.errors import UsageError, near_miss

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints


Kind = Literal["generators", "metrics", "extractors", "layouts"]

_MEDICALNET = "synthbench.metrics.extractors.medicalnet"

BUILT_IN: dict[Kind, dict[str, str]] = {
    "generators": {
        "ddpm3d": "synthbench.generators.ddpm3d:DDPM3D",
        "dit-tiles": "synthbench.generators.dit_tiles:DiTTiles",
        "ldm3d": "synthbench.generators.ldm3d:LDM3D",
        "local3d": "synthbench.generators.local3d:Local3D",
        "lsgan3d": "synthbench.generators.lsgan3d:LSGAN3D",
        "memorizer": "synthbench.generators.memorizer:Memorizer",
        "mixup": "synthbench.generators.mixup:Mixup",
        "noise": "synthbench.generators.noise:Noise",
        "rflow3d": "synthbench.generators.rflow3d:RFlow3D",
        "pca-gaussian": "synthbench.generators.pca_gaussian:PCAGaussian",
        "vaegan3d": "synthbench.generators.vaegan3d:VAEGAN3D",
    },
    "metrics": {
        "mmd2": "synthbench.metrics.mmd:MMD2",
        "fid": "synthbench.metrics.fid:FID",
        "kid": "synthbench.metrics.mmd:KID",
        "precision": "synthbench.metrics.prdc:Precision",
        "recall": "synthbench.metrics.prdc:Recall",
        "density": "synthbench.metrics.prdc:Density",
        "coverage": "synthbench.metrics.prdc:Coverage",
        "clipped_density": "synthbench.metrics.nearest.clipped:ClippedDensity",
        "clipped_coverage": "synthbench.metrics.nearest.clipped:ClippedCoverage",
        "fld": "synthbench.metrics.fld:FLD",
        "rke": "synthbench.metrics.similarity.rke:RKE",
        "ms_ssim": "synthbench.metrics.msssim:MSSSIM",
        "spectrum": "synthbench.metrics.spectrum:Spectrum",
        "intensity": "synthbench.metrics.intensity:Intensity",
        "constraints": "synthbench.metrics.measures.constraints:Constraints",
        "quality": "synthbench.metrics.measures.quality:Quality",
        "morphometry": "synthbench.metrics.measures.morphometry:Morphometry",
        "memorization": "synthbench.metrics.memorization:Memorization",
        "local_copying": "synthbench.metrics.local_copying:LocalCopying",
        "membership_inference": "synthbench.metrics.membership:MembershipInference",
        "mmd_linear": "synthbench.metrics.linear_mmd:MMDLinear",
        "g4r_ssim": "synthbench.metrics.g4r_ssim:G4RSSIM",
        "ms_ssim_wang5": "synthbench.metrics.msssim:MSSSIMWang5",
        "ms_ssim_monai_k4": "synthbench.metrics.msssim:MSSSIMMonaiK4",
    },
    "extractors": {
        "qiu2022": "synthbench.metrics.extractors.qiu2022:Qiu2022",
        "voxels": "synthbench.metrics.extractors.voxels:Voxels",
        "anatomy": "synthbench.metrics.extractors.anatomy:Anatomy",
        "anatomy-limits": "synthbench.metrics.extractors.anatomy:AnatomyLimits",
        "regions": "synthbench.metrics.extractors.regions:Regions",
        "radiomics": "synthbench.metrics.extractors.radiomics:Radiomics",
        "random-resnet10": "synthbench.metrics.extractors.random_resnet:RandomResNet10",
        **{
            f"medicalnet-resnet{depth}{suffix}": f"{_MEDICALNET}:resnet{depth}{attribute}"
            for depth in (10, 18, 34, 50)
            for suffix, attribute in (("", ""), ("-23dataset", "_23dataset"))
        },
    },
    "layouts": {
        "bids": "synthbench.cohorts.datasets.layouts.bids:bids",
        "adni": "synthbench.cohorts.datasets.layouts.loni:adni",
        "ppmi": "synthbench.cohorts.datasets.layouts.loni:ppmi",
        "nifd": "synthbench.cohorts.datasets.layouts.loni:nifd",
        "oasis1": "synthbench.cohorts.datasets.layouts.oasis:oasis1",
        "oasis2": "synthbench.cohorts.datasets.layouts.oasis:oasis2",
        "oasis3": "synthbench.cohorts.datasets.layouts.oasis3:oasis3",
        "camcan": "synthbench.cohorts.datasets.layouts.camcan:camcan",
        "ixi": "synthbench.cohorts.datasets.layouts.ixi:ixi",
        "files": "synthbench.cohorts.datasets.layouts.files:files",
    },
}

# Plugins that read a file of the user, named `scheme:FILE`.
FROM_FILE: dict[Kind, dict[str, str]] = {
    "extractors": {
        "net": "synthbench.metrics.extractors.exported:ExportedNet",
        "slices": "synthbench.metrics.extractors.exported:ExportedSlices",
    },
}


def names(kind: Kind) -> dict[str, str]:
    """Return every plugin of a kind as `{name: "module:attribute"}`, built-in ones first.

    Raises
    ------
    UsageError
        Two plugins claim one name.
    """
    table = dict(BUILT_IN[kind])
    claimed_by = dict.fromkeys(table, "synthbench")
    found = entry_points(group=f"synthbench.{kind}")
    for entry in sorted(found, key=lambda entry: entry.name):
        package = entry.dist.name if entry.dist else "an unknown package"
        if entry.name in table:
            raise UsageError(
                f"two {kind} are named '{entry.name}': one of {claimed_by[entry.name]}, one of "
                f"{package}. Uninstall one of them, or ask its authors for another name."
            )
        table[entry.name] = entry.value
        claimed_by[entry.name] = package
    return table


def load(kind: Kind, name: str) -> Any:
    """Import and return the plugin of that kind and name.

    An extractor may also be a file of the user, as in "slices:resnet50.onnx".

    Raises
    ------
    UsageError
        The name is unknown (the nearest known one is named), or its module or attribute
        cannot be imported.
    """
    schemes = FROM_FILE.get(kind, {})
    scheme, colon, file = name.partition(":")
    if colon and scheme in schemes:
        return partial(_imported(kind, scheme, schemes[scheme]), file)
    table = names(kind)
    if name not in table:
        known = [*table, *(f"{scheme}:FILE" for scheme in schemes)]
        raise UsageError(f"no {kind[:-1]} is named '{name}': {near_miss(name, known)}")
    return _imported(kind, name, table[name])


def _imported(kind: Kind, name: str, value: str) -> Any:
    module, _, attribute = value.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"the {kind[:-1]} '{name}' ({value}) cannot be loaded: {error}. "
            "Reinstall the package that provides it."
        ) from error


def author_of(modules: Iterable[str]) -> str | None:
    """Return words for the installed plugin that one of these modules belongs to, or None.

    The first module that belongs to one decides. A module belongs to the plugins whose package has
    the same top name.
    """
    by_package: dict[str, str] = {}
    for kind in BUILT_IN:
        for entry in entry_points(group=f"synthbench.{kind}"):
            package = entry.dist.name if entry.dist else "an unknown package"
            words = f"the {kind[:-1]} '{entry.name}' of the package {package}"
            by_package.setdefault(_top(entry.value.partition(":")[0]), words)
    return next((by_package[_top(one)] for one in modules if _top(one) in by_package), None)


def _top(module: str) -> str:
    return module.partition(".")[0]


def entry_points(*, group: str) -> EntryPoints:
    """Return the entry points of a group.

    A search of all installed packages takes tens of milliseconds, and every plugin that is loaded
    needs one. So it is done again only where a folder that Python imports from has changed.
    """
    return _entry_points(group, tuple((folder, _changed(folder)) for folder in sys.path))


@lru_cache(maxsize=16)
def _entry_points(group: str, folders: tuple[tuple[str, int], ...]) -> EntryPoints:
    # Imported here: it is slow, and a help page needs the names of the built-in plugins only.
    from importlib.metadata import entry_points as found

    return found(group=group)


def _changed(folder: str) -> int:
    """Return when a folder's list of files changed, in ns since 1970; 0 where there is none."""
    try:
        return os.stat(folder or os.curdir).st_mtime_ns
    except OSError:
        return 0
