"""The subject of each image: images of one subject are one resampling unit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int64

from synthbench.errors import MetricError, near_miss


def subject_index(
    labels: Mapping[str, np.ndarray] | None, **sizes: int
) -> dict[str, Int64[np.ndarray, " n"]]:
    """Number the subjects of each role 0, 1, ... in order of first appearance.

    Parameters
    ----------
    labels
        For each role, the subject of each image (integers or strings). A role that is not
        named has one image per subject. None: this holds for all roles.
    sizes
        The number of images of each role.

    Raises
    ------
    MetricError
        A role in `labels` is unknown, or its numbers of labels and of images differ.

    Examples
    --------
    >>> subject_index({"real": np.array(["b", "a", "b"])}, real=3, synth=2)
    {'real': array([0, 1, 0]), 'synth': array([0, 1])}
    """
    by_role = labels or {}
    for role in by_role:
        if role not in sizes:
            raise MetricError(f"subjects: no role '{role}' here; {near_miss(role, sizes)}")
    index = {role: np.arange(n, dtype=np.int64) for role, n in sizes.items()}
    for role, subjects in by_role.items():
        names = np.asarray(subjects)
        if names.shape != (sizes[role],):
            raise MetricError(
                f"subjects['{role}'] must hold one label for each of the {sizes[role]} images; "
                f"found an array of shape {names.shape}. Use a column of the participants table."
            )
        _, first, inverse = np.unique(names, return_index=True, return_inverse=True)
        index[role] = np.argsort(np.argsort(first))[inverse].astype(np.int64)
    return index


def n_subjects(index: Int64[np.ndarray, " n"]) -> int:
    """The number of subjects in an index that counts from 0."""
    return int(index.max()) + 1
