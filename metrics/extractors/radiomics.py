"""`radiomics`: first-order and texture features of the whole head, without a network.

72 features with names that radiologists know: 16 of first order, 23 of the grey-level co-occurrence
matrix (GLCM), 14 each of run lengths (GLRLM) and size zones (GLSZM), 5 of neighbouring grey-tone
differences (NGTDM). Definitions: `synthbench.metrics.extractors.texture`. They are measured on the
2 mm grid of MNI152, in voxels of the head, with 32 grey levels of equal width from 0 to 1: so the
width of a level is that of the protocol's intensity rule.

The Frechet distance of z-scored radiomic features is known as FRD. This extractor differs: there
are no filtered copies of the volumes, the scale is fixed and not that of the reference, and
distances have no logarithm. Its values are not comparable with FRD's.

References
----------
Konz et al., "Frechet radiomic distance (FRD)", Medical Image Analysis 2026 (arXiv:2412.01496).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Float64

from synthbench.errors import MetricError
from synthbench.metrics.extractors.extractor import check_volumes
from synthbench.metrics.extractors.texture import features_of, first_order, levels_of
from synthbench.metrics.extractors.tissue import FEWEST_VOXELS, MNI152_2MM, head_of
from synthbench.volumes.grid import Space

if TYPE_CHECKING:
    from torch import Tensor


BINS = 32

LOGARITHMS = ("Large", "SizeVariance", "ClusterProminence", "Busyness")
"""Features whose names hold one of these are log(1 + x): a single large zone would decide them."""

SCALES: dict[str, tuple[float, float]] = {
    "firstorder.Mean": (0.559, 0.0315),
    "firstorder.Median": (0.573, 0.0277),
    "firstorder.10Percentile": (0.285, 0.0544),
    "firstorder.90Percentile": (0.774, 0.0389),
    "firstorder.Minimum": (0.0219, 0.00613),
    "firstorder.Maximum": (0.915, 0.0371),
    "firstorder.Range": (0.893, 0.0362),
    "firstorder.InterquartileRange": (0.228, 0.0174),
    "firstorder.MeanAbsoluteDeviation": (0.141, 0.0107),
    "firstorder.RobustMeanAbsoluteDeviation": (0.0975, 0.00828),
    "firstorder.RootMeanSquared": (0.588, 0.0307),
    "firstorder.Variance": (0.0332, 0.00436),
    "firstorder.Skewness": (-0.784, 0.0833),
    "firstorder.Kurtosis": (3.24, 0.328),
    "firstorder.Entropy": (4.35, 0.0918),
    "firstorder.Uniformity": (0.0586, 0.00496),
    "glcm.Autocorrelation": (376, 39.4),
    "glcm.JointAverage": (18.8, 1.01),
    "glcm.ClusterProminence": (10.5, 0.266),
    "glcm.ClusterShade": (-724, 210),
    "glcm.ClusterTendency": (106, 15),
    "glcm.Contrast": (14.9, 1.88),
    "glcm.Correlation": (0.752, 0.0112),
    "glcm.DifferenceAverage": (2.66, 0.193),
    "glcm.DifferenceEntropy": (3.04, 0.0918),
    "glcm.DifferenceVariance": (7.84, 0.917),
    "glcm.Id": (0.439, 0.0172),
    "glcm.Idm": (0.369, 0.0203),
    "glcm.Idmn": (0.986, 0.00164),
    "glcm.Idn": (0.929, 0.00466),
    "glcm.Imc1": (-0.168, 0.0101),
    "glcm.Imc2": (0.873, 0.0116),
    "glcm.InverseVariance": (0.341, 0.014),
    "glcm.JointEnergy": (0.00764, 0.00125),
    "glcm.JointEntropy": (7.86, 0.192),
    "glcm.MaximumProbability": (0.0265, 0.0055),
    "glcm.SumAverage": (37.5, 2.02),
    "glcm.SumEntropy": (5.25, 0.0959),
    "glcm.SumSquares": (30.2, 4.2),
    "glrlm.SmallEmphasis": (0.88, 0.0092),
    "glrlm.LargeEmphasis": (1.02, 0.0385),
    "glrlm.LevelNonUniformityNormalized": (0.0559, 0.00443),
    "glrlm.SizeNonUniformityNormalized": (0.732, 0.0172),
    "glrlm.Percentage": (0.829, 0.0148),
    "glrlm.LevelVariance": (34.6, 4.22),
    "glrlm.SizeVariance": (0.279, 0.0425),
    "glrlm.SizeEntropy": (5.15, 0.0634),
    "glrlm.LowLevelEmphasis": (0.00929, 0.00206),
    "glrlm.HighLevelEmphasis": (358, 37.3),
    "glrlm.SmallLowLevelEmphasis": (0.0087, 0.00195),
    "glrlm.SmallHighLevelEmphasis": (305, 32),
    "glrlm.LargeLowLevelEmphasis": (0.0126, 0.00264),
    "glrlm.LargeHighLevelEmphasis": (6.57, 0.126),
    "glszm.SmallEmphasis": (0.62, 0.0111),
    "glszm.LargeEmphasis": (10.3, 0.383),
    "glszm.LevelNonUniformityNormalized": (0.0442, 0.00204),
    "glszm.SizeNonUniformityNormalized": (0.358, 0.0122),
    "glszm.Percentage": (0.158, 0.0151),
    "glszm.LevelVariance": (40, 4.08),
    "glszm.SizeVariance": (10.3, 0.383),
    "glszm.SizeEntropy": (6.88, 0.0779),
    "glszm.LowLevelEmphasis": (0.0207, 0.00363),
    "glszm.HighLevelEmphasis": (229, 27.4),
    "glszm.SmallLowLevelEmphasis": (0.0146, 0.00243),
    "glszm.SmallHighLevelEmphasis": (134, 15.6),
    "glszm.LargeLowLevelEmphasis": (4.25, 0.441),
    "glszm.LargeHighLevelEmphasis": (16.4, 0.337),
    "ngtdm.Coarseness": (6.64e-05, 4.12e-06),
    "ngtdm.Contrast": (0.132, 0.0264),
    "ngtdm.Busyness": (3.25, 0.096),
    "ngtdm.Complexity": (558, 59),
    "ngtdm.Strength": (0.0218, 0.00222),
}
"""Typical value and spread of each feature: mean and standard deviation over simulated heads.

`python studies/radiomics_scales.py` prints them, rounded to three digits. A feature is in units of
its spread, or else the one with the largest numbers would decide every distance. The scale need not
be exact, but it is fixed: one taken from the real set would change with it.
"""


class Radiomics:
    """Radiomic features of the head, one row of `SCALES` per volume, in units of their spread."""

    def __init__(self) -> None:
        self.name = "radiomics"
        self.dim = len(SCALES)
        self.weights_sha256: str | None = None
        self.space: Space | None = MNI152_2MM
        self.preprocessing = "head-32-levels-v1"
        self.layer = "first order (16), GLCM (23), GLRLM (14), GLSZM (14), NGTDM (5)"
        self.summary = "first-order and texture features of the whole head, by formulas"
        self.needs = "nothing"

    def features(self, volumes: Float32[Tensor, "b 1 91 109 91"]) -> Float32[Tensor, "b 72"]:
        """Return the features of each volume, one row per volume.

        Raises
        ------
        MetricError
            The volumes do not fit the contract, are on another grid, or one of them is blank,
            constant or smaller than a head.
        """
        import torch

        check_volumes(self.name, volumes)
        rows = []
        for index, volume in enumerate(volumes[:, 0].cpu().numpy()):
            try:
                rows.append(scaled(radiomics_of(volume)))
            except MetricError as error:
                raise error.at(f"{self.name}: volume {index}") from error
        return torch.tensor(np.stack(rows), dtype=torch.float32, device=volumes.device)


def scaled(features: dict[str, float]) -> Float64[np.ndarray, " 72"]:
    """Return the features of a volume in the order and units of `SCALES`."""
    row = []
    for name, (typical, spread) in SCALES.items():
        row.append((transformed(name, features[name]) - typical) / spread)
    return np.array(row)


def transformed(name: str, value: float) -> float:
    """Return log(1 + value) for the features of `LOGARITHMS`, else the value."""
    return float(np.log1p(value)) if any(part in name for part in LOGARITHMS) else value


def radiomics_of(volume: Float32[np.ndarray, "91 109 91"]) -> dict[str, float]:
    """Measure one volume, and return its features by name, in their own units.

    Parameters
    ----------
    volume
        Skull-stripped T1 on the grid of `Radiomics`, intensities in [0, 1], background zero. The
        region is the head: voxels above 3% of the 98th percentile, and those that they enclose.

    Raises
    ------
    MetricError
        The volume is on another grid, is blank or constant, or has too few voxels.
    """
    if volume.shape != MNI152_2MM.shape:
        raise MetricError(
            f"the volume must be on the grid {MNI152_2MM}; found the shape {volume.shape}. Bring "
            "it there with synthbench.volumes.grid.resample.",
            "another grid",
        )
    head = head_of(volume)
    inside = volume[head].astype(np.float64)
    if len(inside) < FEWEST_VOXELS or np.ptp(inside) == 0:
        raise MetricError(
            f"a head has at least {FEWEST_VOXELS} voxels, not all equal; found {len(inside)} with "
            f"{len(np.unique(inside))} different intensities. Check the volume, then remove it or "
            "sample it again.",
            "few voxels",
            needed=FEWEST_VOXELS,
            found=len(inside),
        )
    levels = levels_of(volume.astype(np.float64), BINS) * head
    first = {f"firstorder.{name}": value for name, value in first_order(inside).items()}
    return {**first, **features_of(levels, BINS)}
