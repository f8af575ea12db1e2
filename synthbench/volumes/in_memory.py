"""Volumes that a program holds: arrays, tensors and images of nibabel's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from synthbench.errors import CohortError
from synthbench.volumes.image_file import StoredImage, of_array, of_nibabel

Held: TypeAlias = Any
"""One array or tensor of several volumes, `(n, d, h, w)` or `(n, 1, d, h, w)`; or an iterable of
arrays or tensors `(d, h, w)`, of images of nibabel's, and of paths."""


def held_volumes(held: Held) -> list[StoredImage | Path]:
    """Return the volumes that a program holds, and the paths among them as they are.

    Parameters
    ----------
    held
        An array of volumes, whose axes go to the right, front and top, or a list. Tensors may lie
        on any device. An image of nibabel's brings its own affine; an array has none. Nothing is
        copied where it can be avoided: the arrays must not change while they are used.

    Raises
    ------
    CohortError
        It is nothing of this kind, or a volume is not 3-D.
    """
    whole = _array(held)
    if whole is not None:
        if whole.ndim not in (4, 5) or (whole.ndim == 5 and whole.shape[1] != 1):
            raise CohortError(
                "an array of several volumes is needed, of the shape (n, d, h, w) or "
                f"(n, 1, d, h, w); found {whole.shape}. Put single volumes into a list."
            )
        return list(_numbered(whole.reshape(len(whole), *whole.shape[-3:])))
    if _is_image(held) or not isinstance(held, Iterable):
        raise CohortError(
            "give a folder, a manifest, an array of volumes, or a list of arrays, of images of "
            f"nibabel's or of paths; found one {type(held).__name__}."
        )
    return list(_numbered(held))


def _numbered(volumes: Iterable[Any]) -> Iterator[StoredImage | Path]:
    for number, one in enumerate(volumes, 1):
        try:
            yield _volume(one)
        except CohortError as error:
            raise CohortError(f"volume {number}: {error}") from error


def _volume(one: Any) -> StoredImage | Path:
    if isinstance(one, (str, Path)):
        return Path(one)
    if _is_image(one):
        return of_nibabel(one)
    array = _array(one)
    if array is None:
        raise CohortError(
            "is no array, no tensor, no image of nibabel's and no path; found a "
            f"{type(one).__name__}."
        )
    return of_array(array)


def _is_image(value: Any) -> bool:
    return hasattr(value, "dataobj") and hasattr(value, "affine")


def _array(value: Any) -> np.ndarray | None:
    """Return an array or a tensor as an array; None for anything else."""
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "detach"):  # a tensor of torch's, which this must not import
        return np.asarray(value.detach().cpu().numpy())
    return None
