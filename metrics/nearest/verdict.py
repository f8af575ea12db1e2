"""The verdicts on memorization: keys that records store, and the words that are made from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

CopyVerdict = Literal["copies", "sides_differ", "nearer", "none"]
"""What is found in one space.

"copies"
    There are exact copies, or the test for near copies rejects: images lie as close to one
    training image as only a copy does.
"sides_differ"
    No copies. Training and hold-out images do not come from one population, so that a
    difference of the distances to them says nothing about the generator.
"nearer"
    No copies. The images lie nearer to the training images than to unseen ones, as those of any
    model do that fits its training set better than the population.
"none"
    None of these.
"""

WORDS: Final[Mapping[CopyVerdict, str]] = {
    "copies": "exact or near copies",
    "sides_differ": "cannot be told: training and hold-out differ",
    "nearer": "nearer to training than to unseen images",
    "none": "no copies found",
}
"""The words of each verdict, the gravest verdict first."""


def gravest(verdicts: Iterable[CopyVerdict]) -> CopyVerdict:
    """Return the verdict over several spaces: the first of `WORDS` that is among them.

    Raises
    ------
    ValueError
        There is no verdict.

    Examples
    --------
    >>> gravest(["none", "nearer"])
    'nearer'
    """
    return min(verdicts, key=list(WORDS).index)
