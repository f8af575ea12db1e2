"""Grey matter, white matter and fluid in a T1-weighted brain, as fractions of every voxel.

The intensity of a voxel is modelled as that of one tissue, or of a mixture of two, times a smooth
bias field, plus Gaussian noise:

- the prior of each tissue comes from the MNI152 maps of grey and white matter (Ashburner and
  Friston 2005, NeuroImage 26:839, "Unified segmentation"). The maps are blurred, because volumes
  are aligned by an affine map at best. A uniform share is added, because ventricles may be several
  times larger than the template's;
- the bias field is a polynomial of fourth order, fitted in turns with the tissues
  (Van Leemput et al. 1999, IEEE TMI 18:885);
- a voxel with two tissues in unknown proportions has the density of a mixture of all proportions
  (Santago and Gage 1995, IEEE TIP 4:1531; Shattuck et al. 2001, NeuroImage 13:856).

The parameters are fitted to each volume separately, by a fixed number of EM iterations. A factor
on the intensities changes nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from jaxtyping import Bool, Float32, Float64
from scipy import ndimage, special

from synthbench.errors import MetricError, WeightsError
from synthbench.volumes import mni152
from synthbench.volumes.grid import Space, resample

# The box of MNI152 that FSL and SPM use, in voxels of 2 mm.
MNI152_2MM = Space.of(
    (91, 109, 91),
    np.array([[2, 0, 0, -90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]]),
)
MAPS_SHA256 = "79197a4e816fe769af4e19e1f4964dc9965936606e35813a8a6afa06ff95b70c"

FLUID, GREY, WHITE = range(3)

# Indices along each axis, as `numpy.nonzero` gives them.
Voxels = tuple[np.ndarray, np.ndarray, np.ndarray]

# Voxels below this share of the 98th percentile are background, unless tissue encloses them.
BACKGROUND = 0.03
# The model is fitted to voxels deeper in the head than this: the rim is partly background, and
# may contain dura and skull, which are darker than fluid or brighter than white matter.
RIM_MM = 10.0
FEWEST_VOXELS = 1000
PRIOR_BLUR_MM = 4.0
PRIOR_UNIFORM_SHARE = 0.1
BIAS_ORDER = 4
BIAS_RANGE = (0.3, 3.0)
ITERATIONS = 30
# The bias field is fitted after the tissues are separated; earlier it would remove tissue contrast.
ITERATIONS_WITHOUT_BIAS = 3
# The means of two tissues differ at least by this share of the largest mean.
LEAST_CONTRAST = 0.01


@dataclass(frozen=True)
class Mixture:
    """The intensities of the tissues in one volume.

    Attributes
    ----------
    means
        Means of fluid, grey and white matter, strictly increasing, without the bias field.
    sd
        Standard deviation of the noise, the same for all tissues.
    shares
        Shares of fluid, fluid with grey matter, grey matter, grey with white matter, and white
        matter, relative to the prior; they sum to 1.
    """

    means: Float64[np.ndarray, " 3"]
    sd: float
    shares: Float64[np.ndarray, " 5"]


@dataclass(frozen=True)
class Tissues:
    """The tissues of a volume.

    Attributes
    ----------
    fractions
        Expected shares of fluid, grey and white matter in each voxel: they sum to 1 in the head
        and are 0 outside.
    corrected
        Intensities divided by the bias field, in units of white matter's mean; 0 outside.
    head
        Voxels of the head.
    mixture
        The fitted intensities, in the same units.
    """

    fractions: Float64[np.ndarray, "3 d h w"]
    corrected: Float64[np.ndarray, "d h w"]
    head: Bool[np.ndarray, "d h w"]
    mixture: Mixture


def tissues_of(volume: Float32[np.ndarray, "91 109 91"]) -> Tissues:
    """Fit the model to a volume and return the share of each tissue in each voxel.

    Parameters
    ----------
    volume
        Skull-stripped T1 on the grid `MNI152_2MM`, intensities of at least 0 in any unit,
        background zero.

    Raises
    ------
    MetricError
        The volume is blank or constant, or holds no head to fit tissues to.
    """
    head = head_of(volume)
    voxels = _indices(_fitted(head))
    intensities = volume[voxels].astype(np.float64)
    if len(intensities) < FEWEST_VOXELS or np.ptp(intensities) == 0.0:
        raise MetricError(
            f"tissues are fitted to voxels more than {RIM_MM:g} mm inside the head: at least "
            f"{FEWEST_VOXELS} voxels, not all equal, are needed; found {len(intensities)} voxels "
            f"with {len(np.unique(intensities))} different intensities. Check the volume, then "
            "remove it or sample it again.",
            "few voxels",
            needed=FEWEST_VOXELS,
            found=len(intensities),
        )
    mixture, bias = _fit(intensities, voxels)
    inside = _indices(head)
    corrected = volume[inside] / bias[inside]
    fractions = np.zeros((3, *volume.shape))
    fractions[(slice(None), *inside)] = _expected_fractions(corrected, _priors_at(inside), mixture)
    white = mixture.means[WHITE]
    image = np.zeros(volume.shape)
    image[inside] = corrected / white
    scaled = Mixture(mixture.means / white, mixture.sd / white, mixture.shares)
    return Tissues(fractions, image, head, scaled)


def head_of(volume: Float32[np.ndarray, "d h w"]) -> Bool[np.ndarray, "d h w"]:
    """Return the voxels that are not background, and those that they enclose.

    Raises
    ------
    MetricError
        No voxel is above zero.
    """
    positive = volume[volume > 0]
    if positive.size == 0:
        raise MetricError(
            "a volume needs voxels above zero; found none. Check the volume, then remove it or "
            "sample it again.",
            "blank volume",
        )
    above = volume > BACKGROUND * np.percentile(positive, 98)
    return np.asarray(ndimage.binary_fill_holes(above))


def _indices(mask: Bool[np.ndarray, "d h w"]) -> Voxels:
    x, y, z = np.nonzero(mask)
    return x, y, z


# --- the fit ------------------------------------------------------------------------------------


def _fitted(head: Bool[np.ndarray, "d h w"]) -> Bool[np.ndarray, "d h w"]:
    """Every second voxel along each axis, inside the rim; the others add little information."""
    deep = ndimage.distance_transform_edt(head, sampling=MNI152_2MM.spacing) > RIM_MM
    every_second = np.zeros_like(head)
    # The middle plane, x = 0, is included, so a mirrored volume is fitted at mirrored voxels.
    every_second[1::2, 1::2, 1::2] = True
    return np.asarray(deep & every_second)


def _fit(
    intensities: Float64[np.ndarray, " n"], voxels: Voxels
) -> tuple[Mixture, Float64[np.ndarray, "d h w"]]:
    """Fit tissues and bias field in turns (generalised EM)."""
    priors = _priors_at(voxels)
    mixing = _mixing_priors(priors)
    polynomials = _polynomials_at(voxels)
    # The square of a prior is large only where its tissue is almost certain.
    means = (priors**2 * intensities).sum(axis=1) / (priors**2).sum(axis=1)
    mixture = Mixture(_apart(means), float(intensities.std()) / 3, np.full(5, 0.2))
    field = np.ones_like(intensities)
    weights = np.zeros(polynomials.shape[1])
    for iteration in range(ITERATIONS):
        corrected = intensities / field
        posterior = _posterior(corrected, mixing, mixture)
        pure = posterior[::2]
        mixture = _updated(corrected, posterior, mixing, mixture)
        if iteration >= ITERATIONS_WITHOUT_BIAS:
            weights = _bias_weights(intensities, pure, mixture.means, polynomials)
            field = np.clip(polynomials @ weights, *BIAS_RANGE)
    return mixture, np.clip(_polynomial(weights), *BIAS_RANGE)


def _updated(
    corrected: Float64[np.ndarray, " n"],
    posterior: Float64[np.ndarray, "5 n"],
    mixing: Float64[np.ndarray, "5 n"],
    previous: Mixture,
) -> Mixture:
    """The M-step: means and noise from the voxels of one tissue, shares from all."""
    pure = posterior[::2]
    total = pure.sum(axis=1) + 1e-12
    means = _apart((pure @ corrected) / total)
    squares = (pure * (corrected - means[:, None]) ** 2).sum() / total.sum()
    sd = max(float(np.sqrt(squares)), LEAST_CONTRAST * means[WHITE])
    # Shares relative to the prior, so that its total cancels (Ashburner and Friston 2005).
    shares = posterior.sum(axis=1) / (mixing / (previous.shares @ mixing)).sum(axis=1)
    return Mixture(means, sd, shares / shares.sum())


def _apart(means: Float64[np.ndarray, " 3"]) -> Float64[np.ndarray, " 3"]:
    """The means, raised where they would not increase by `LEAST_CONTRAST` times the largest."""
    gap = LEAST_CONTRAST * float(means.max())
    fluid = float(means[FLUID])
    grey = max(float(means[GREY]), fluid + gap)
    return np.array([fluid, grey, max(float(means[WHITE]), grey + gap)])


def _bias_weights(
    intensities: Float64[np.ndarray, " n"],
    pure: Float64[np.ndarray, "3 n"],
    means: Float64[np.ndarray, " 3"],
    polynomials: Float64[np.ndarray, "n p"],
) -> Float64[np.ndarray, " p"]:
    """Least-squares coefficients of the field by which the means are multiplied in a volume.

    The mean of the field over the voxels is 1, so that the means keep their unit.
    """
    squared = means**2 @ pure
    normal = (polynomials * squared[:, None]).T @ polynomials
    # Keeps the equations solvable where a small head leaves a polynomial undetermined.
    normal += 1e-6 * np.trace(normal) / len(normal) * np.eye(len(normal))
    weights = np.linalg.solve(normal, polynomials.T @ (intensities * (means @ pure)))
    return np.asarray(weights / (polynomials @ weights).mean())


def _posterior(
    corrected: Float64[np.ndarray, " n"], mixing: Float64[np.ndarray, "5 n"], mixture: Mixture
) -> Float64[np.ndarray, "5 n"]:
    """Probability of each class: fluid, fluid with grey, grey, grey with white, white."""
    joint = _densities(corrected, mixture)
    joint *= mixing
    joint *= mixture.shares[:, None]
    # An intensity far from all classes belongs to fluid if it is dark, to white matter if bright.
    joint[0] += 1e-30 * (corrected <= mixture.means[GREY])
    joint[4] += 1e-30 * (corrected > mixture.means[GREY])
    joint /= joint.sum(axis=0)
    return joint


def _densities(
    corrected: Float64[np.ndarray, " n"], mixture: Mixture
) -> Float64[np.ndarray, "5 n"]:
    """The density of an intensity under each class.

    For a mixture of all proportions of two tissues it is the average of Gaussians whose means run
    from one tissue to the other: a difference of two error functions.
    """
    standard = (corrected - mixture.means[:, None]) / mixture.sd
    gaussian = np.exp(-0.5 * standard**2) / (mixture.sd * np.sqrt(2 * np.pi))
    below = special.ndtr(standard)
    shared = (below[:-1] - below[1:]) / np.diff(mixture.means)[:, None]
    return np.stack([gaussian[0], shared[0], gaussian[1], shared[1], gaussian[2]])


def _expected_fractions(
    corrected: Float64[np.ndarray, " n"], priors: Float64[np.ndarray, "3 n"], mixture: Mixture
) -> Float64[np.ndarray, "3 n"]:
    """The expected shares of fluid, grey and white matter, given the intensity."""
    fluid, fluid_grey, grey, grey_white, white = _posterior(
        corrected, _mixing_priors(priors), mixture
    )
    upper = np.clip(
        (corrected - mixture.means[:-1, None]) / np.diff(mixture.means)[:, None], 0.0, 1.0
    )
    return np.stack(
        [
            fluid + fluid_grey * (1 - upper[0]),
            fluid_grey * upper[0] + grey + grey_white * (1 - upper[1]),
            grey_white * upper[1] + white,
        ]
    )


# --- polynomials --------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _legendre() -> tuple[Float64[np.ndarray, "side order"], ...]:
    """Legendre polynomials up to the order, along each axis of the grid."""
    return tuple(
        np.polynomial.legendre.legvander(np.linspace(-1, 1, side), BIAS_ORDER)
        for side in MNI152_2MM.shape
    )


def _orders() -> list[tuple[int, int, int]]:
    """The powers along x, y and z of every product of total order up to `BIAS_ORDER`."""
    return [
        (i, j, k) for i, j, k in product(range(BIAS_ORDER + 1), repeat=3) if i + j + k <= BIAS_ORDER
    ]


def _polynomials_at(voxels: Voxels) -> Float64[np.ndarray, "n p"]:
    x, y, z = (basis[at] for basis, at in zip(_legendre(), voxels, strict=True))
    return np.stack([x[:, i] * y[:, j] * z[:, k] for i, j, k in _orders()], axis=1)


def _polynomial(weights: Float64[np.ndarray, " p"]) -> Float64[np.ndarray, "d h w"]:
    cube = np.zeros((BIAS_ORDER + 1,) * 3)
    for order, weight in zip(_orders(), weights, strict=True):
        cube[order] = weight
    x, y, z = _legendre()
    along_z = np.tensordot(cube, z, axes=(2, 1))
    along_y = np.tensordot(along_z, y, axes=(1, 1))
    return np.tensordot(x, along_y, axes=(1, 0)).transpose(0, 2, 1)


# --- the template -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Template:
    """The MNI152 2009 maps at 1 mm.

    Attributes
    ----------
    t1
        T1 intensities in [0, 1], zero outside the brain.
    tissues
        Probability of fluid, grey and white matter: they sum to 1 in the brain, 0 outside.
    space
        Their grid.
    """

    t1: Float32[np.ndarray, "a b c"]
    tissues: Float32[np.ndarray, "3 a b c"]
    space: Space


def pinned_template() -> Template:
    """Return the MNI152 T1 image and tissues, after a check of the maps' hash.

    Raises
    ------
    WeightsError
        nilearn's maps are not the pinned ones.
    """
    images = (mni152.t1(), mni152.grey_matter(), mni152.white_matter())
    found = sha256_of([image.values for image in images])
    if found != MAPS_SHA256:
        raise WeightsError(
            f"anatomy: nilearn's MNI152 maps must have the sha256 {MAPS_SHA256}; found {found}. "
            "Volumes would not be comparable with other machines: type "
            "`pip install nilearn==0.14.1`."
        )
    t1, grey, white = (image.values for image in images)
    brain = (t1 > 0).astype(np.float32)
    excess = np.maximum(grey + white, 1)
    grey, white = brain * grey / excess, brain * white / excess
    tissues = np.stack([brain - grey - white, grey, white])
    return Template(t1, tissues, images[0].space)


def sha256_of(maps: list[Float32[np.ndarray, "d h w"]]) -> str:
    """Return the SHA-256 of the maps, as their 8-bit levels in C order."""
    digest = hashlib.sha256()
    for levels in maps:
        digest.update(np.round(255 * levels).astype(np.uint8).tobytes())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def _priors() -> Float64[np.ndarray, "3 91 109 91"]:
    """The prior probability of each tissue: the template's, blurred, and never zero."""
    sigma = PRIOR_BLUR_MM / np.array(MNI152_2MM.spacing)
    template = pinned_template()
    maps = [
        ndimage.gaussian_filter(resample(tissue, template.space, MNI152_2MM), sigma)
        for tissue in template.tissues.astype(np.float64)
    ]
    priors = np.stack(maps) + PRIOR_UNIFORM_SHARE / 3
    return np.asarray(priors / priors.sum(axis=0))


def _priors_at(voxels: Voxels) -> Float64[np.ndarray, "3 n"]:
    return np.asarray(_priors()[(slice(None), *voxels)])


def _mixing_priors(priors: Float64[np.ndarray, "3 n"]) -> Float64[np.ndarray, "5 n"]:
    """The prior of each class; that of a mixture is high where both tissues are expected."""
    fluid, grey, white = priors
    return np.stack([fluid, 2 * np.sqrt(fluid * grey), grey, 2 * np.sqrt(grey * white), white])
