"""The MNI152 template, read from nilearn's wheel.

It is the symmetric ICBM 152 average of 2009 (Fonov et al. 2011, NeuroImage 54:313), skull-stripped,
at 1 mm: a T1-weighted image and the probabilities of grey and white matter, all in [0, 1]. Nothing
is kept in memory: a caller that needs a map often keeps it. nilearn takes seconds to import, so
each function imports it when it is called.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from jaxtyping import Bool, Float32
from scipy import ndimage

from synthbench.errors import SynthbenchError
from synthbench.volumes.grid import Space

# Below this T1 intensity the template's lateral ventricles are separate from all other fluid.
_VENTRICLE_T1 = 0.45
_FRONTAL_HORNS_MM = ((-8, 14, 14), (8, 14, 14))


@dataclass(frozen=True, eq=False)
class TemplateMap:
    """One image of the template.

    Attributes
    ----------
    values
        In [0, 1], 0 outside the brain in the T1-weighted image.
    space
        Its grid, in MNI152 millimetres.
    """

    values: Float32[np.ndarray, "a b c"]
    space: Space


def t1() -> TemplateMap:
    """Return the T1-weighted image."""
    from nilearn import datasets

    return _in_ras(datasets.load_mni152_template(resolution=1))


def grey_matter() -> TemplateMap:
    """Return the probability of grey matter."""
    from nilearn import datasets

    return _in_ras(datasets.load_mni152_gm_template(resolution=1))


def white_matter() -> TemplateMap:
    """Return the probability of white matter."""
    from nilearn import datasets

    return _in_ras(datasets.load_mni152_wm_template(resolution=1))


def lateral_ventricles(t1_map: TemplateMap) -> Bool[np.ndarray, "a b c"]:
    """Return the mask of the lateral ventricles: the dark regions around the frontal horns.

    Parameters
    ----------
    t1_map
        The T1-weighted image, or a part of it that contains the brain.

    Raises
    ------
    SynthbenchError
        The image is not dark in the frontal horns.
    """
    labels, _ = ndimage.label((t1_map.values > 0) & (t1_map.values < _VENTRICLE_T1))
    to_voxel = np.linalg.inv(t1_map.space.matrix)
    horns = [
        labels[tuple(np.rint(to_voxel @ (*mm, 1))[:3].astype(int))] for mm in _FRONTAL_HORNS_MM
    ]
    if 0 in horns:
        raise SynthbenchError(
            f"nilearn's MNI152 T1 must be below {_VENTRICLE_T1} in the frontal horns, at "
            f"{_FRONTAL_HORNS_MM} mm; found brighter tissue. Install nilearn 0.14.1."
        )
    return np.isin(labels, horns)


def _in_ras(image: Any) -> TemplateMap:
    upright = nib.as_closest_canonical(image)
    values = np.asarray(upright.dataobj, dtype=np.float32)
    return TemplateMap(values, Space.of(values.shape, upright.affine))
