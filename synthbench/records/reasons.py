"""Reasons why a value is missing, as they may be published: a code, and numbers.

The message of an error is for the person who scores: it may name a file, a participant or a cell
of a table. A record holds none of it, only the error's code and numbers, in the words of this
module. The scoring prints the message.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

SMALL_GRID = "small grid"

REASONS: dict[str, str] = {
    "refused": "not defined for these images; the scoring printed why",
    "undefined": "undefined at {found} subjects per role",
    "too few subjects": "needs at least {needed} subjects; found {found}",
    "too few images": "needs at least {needed} images; found {found}",
    SMALL_GRID: "needs at least {needed} voxels per side; found {found}",
    "few resamples": "too many resamples of {found} subjects are degenerate",
    "no spread": "the images do not vary",
    "not finite": "NaN or infinite in {found} images",
    "intensities": "a volume's intensities are not finite, or not in [0, 1]",
    "blank volume": "the voxels of a volume do not differ",
    "outside the grid": "at least {needed:.0%} of a volume's intensity must lie inside the "
    "extractor's grid; found {found:.0%}",
    "no covariate": "no real volume has this covariate, which a model of it is fitted on",
    "table of measures": "the table of measures does not fit this condition",
    "another grid": "a volume is not on the grid that is needed",
    "few voxels": "a volume needs at least {needed} voxels inside the head, not all equal; found "
    "{found}",
    "not finite output": "a network or a model gives NaN or infinity",
    "other length": "the extractor gives rows of another length than it declares",
    "too many features": "at most {needed} measures can be used; found {found} features",
    "feature size": "features are too large or too small for 64-bit floats",
    "small bandwidth": "the kernel's bandwidth is far too small for these features",
    "empty mask": "the mask has no voxel that can be used",
    "thin mask": "the mask must be at least {needed} voxels thick along each axis",
    "few frequencies": "needs at least {needed} frequencies inside the mask; found {found}",
    "equal images": "images of different real subjects are equal",
    "shared images": "{found} training images are in the hold-out too",
    "no training set": "needs the generator's training set and a hold-out",
    "two sites": "a subject has two sites in the participants table",
    "one value": "all subjects have the same value",
    "small category": "needs at least {needed} subjects of each category; found {found}",
    "too many images": "each image needs {needed} computed pairs; found {found}, as only some are "
    "computed of so many images",
    "too much memory": "needs {needed:.3g} GiB of memory, more than was allowed",
    "not installed": "needs a package that is not installed",
    "few permutations": "needs at least {needed} permutations or resamples; found {found}",
    "no interval": "the metric has no interval of this kind",
    "no comparison": "the metric cannot be compared by this method",
    "other images": "the sets to compare do not share their real images",
    "other numbers": "the sets to compare have different numbers of images, on which the metric "
    "depends",
    "few values": "{found} of {needed} entries have a value of it",
    "no value": "an entry has no value of it",
}
"""By code, the words with their numbers.

Cards hold the words too, so those of a code never change.
"""


def words_of(code: str, numbers: Mapping[str, float]) -> str:
    """Return the words of a reason.

    Raises
    ------
    ValueError
        The code is unknown, or a number of it is missing.

    >>> words_of("small grid", {"needed": 44, "found": 24})
    'needs at least 44 voxels per side; found 24'
    """
    try:
        return REASONS[code].format(**numbers)
    except KeyError as error:
        raise ValueError(f"no reason '{code}' with the numbers {sorted(numbers)}") from error


def reason_of(error: Exception) -> dict[str, Any]:
    """Return the code and the numbers of an error; "refused" where it states none that is known.

    >>> from synthbench.errors import MetricError
    >>> reason_of(MetricError("a.nii: too small", "small grid", needed=44, found=24))
    {'code': 'small grid', 'numbers': {'needed': 44, 'found': 24}}
    >>> reason_of(MetricError("/home/me/a.nii: no"))
    {'code': 'refused', 'numbers': {}}
    """
    code = getattr(error, "code", "refused")
    stated = getattr(error, "numbers", {}).items()
    numbers = {name: n.item() if hasattr(n, "item") else n for name, n in stated}  # numpy's
    plain = all(type(n) in (int, float) and math.isfinite(n) for n in numbers.values())
    try:
        words_of(code, numbers)
    except ValueError:
        plain = False
    return {"code": code, "numbers": numbers} if plain else {"code": "refused", "numbers": {}}


def public_words(error: Exception) -> str:
    """Return what may be published of an error.

    >>> from synthbench.errors import MetricError
    >>> public_words(MetricError("/home/me/a.nii: no"))
    'not defined for these images; the scoring printed why'
    """
    return words_of(**reason_of(error))
