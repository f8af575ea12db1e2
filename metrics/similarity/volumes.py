"""Volumes as tensors, and the pairs of them that are compared in one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64
from torch import Tensor

from synthbench.errors import MetricError
from synthbench.metrics.metric import VolumeSource

_Run = TypeVar("_Run")
_Compared = TypeVar("_Compared")


class TensorSource(Protocol):
    """Volumes read one by one: float32 tensors of one shape, "d h w", on one device."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Tensor: ...


@dataclass(frozen=True)
class Tensors:
    """A source of arrays, read as float32 tensors on one device."""

    arrays: VolumeSource
    device: torch.device

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, index: int, /) -> Float32[Tensor, "d h w"]:
        volume: Tensor = tensor(self.arrays[index]).to(self.device, torch.float32)
        return volume


def each(
    function: Callable[[_Run], _Compared], runs: Sequence[_Run], device: torch.device
) -> Iterator[_Compared]:
    """Yield the function of each run, in order; on a CPU several runs are computed in parallel.

    The products of one pair are too small for several threads. So one thread computes a pair,
    and its value does not depend on the number of threads.
    """
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    if threads == 1:
        yield from map(function, runs)
        return

    def alone(run: _Run) -> _Compared:
        with torch.no_grad():  # the setting of the main thread does not apply to this one
            return function(run)

    # Each worker sets its own number of threads per operation: it is a setting of a thread.
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield from pool.map(alone, runs)


def chosen_pairs(
    design: Bool[np.ndarray, "n m"] | None, n: int, m: int | None
) -> Bool[np.ndarray, "n m"]:
    """Return True for the pairs to compute; within one set (m is None), above the diagonal only.

    Raises
    ------
    MetricError
        The design is no boolean matrix of the right shape, or not symmetric within one set.
    """
    shape = (n, n if m is None else m)
    wanted = np.ones(shape, dtype=np.bool_) if design is None else np.asarray(design)
    if wanted.shape != shape or wanted.dtype != np.bool_:
        raise MetricError(
            f"MS-SSIM: the design must be a boolean matrix of shape {shape}; found shape "
            f"{wanted.shape} of {wanted.dtype}. Use pair_design, or None for all pairs."
        )
    if m is not None:
        return wanted
    if not np.array_equal(wanted, wanted.T):
        raise MetricError(
            "MS-SSIM: the design of pairs within one set must be symmetric; it is not. "
            "Use design | design.T."
        )
    above: Bool[np.ndarray, "n n"] = np.triu(wanted, k=1)
    return above


def completed(
    compute: Callable[[Bool[np.ndarray, "n m"] | None], Float64[np.ndarray, "n m"]],
    design: Bool[np.ndarray, "n m"] | None,
    known: Float64[np.ndarray, "n m"] | None,
    *,
    within: bool,
) -> Float64[np.ndarray, "n m"]:
    """Return the pair matrix of a design, of which some pairs may be known.

    Parameters
    ----------
    compute
        Returns the matrix of a design, as `pair_matrix` does.
    design
        The pairs that the matrix has; None is all of them.
    known
        Values of pairs that are not computed again; NaN for the others.
    within
        True for pairs within one set: symmetric, with ones on the diagonal.
    """
    if known is None:
        return compute(design)
    wanted = np.ones(known.shape, dtype=np.bool_) if design is None else design
    missing = wanted & np.isnan(known)
    pairs = np.where(wanted, known, np.nan)
    if within:
        np.fill_diagonal(missing, False)
        np.fill_diagonal(pairs, 1.0)
    if missing.any():
        pairs = np.where(missing, compute(missing), pairs)
    return pairs


def mirrored(above: Float64[np.ndarray, "n n"]) -> Float64[np.ndarray, "n n"]:
    """Return the symmetric matrix with the values above the diagonal, and ones on it."""
    pairs: Float64[np.ndarray, "n n"] = np.fmax(above, above.T)
    np.fill_diagonal(pairs, 1.0)
    return pairs


def tensor(array: Tensor | np.ndarray) -> Tensor:
    """Return a tensor of the array's values; a tensor is returned as it is."""
    # A copy, because arrays of a memory map are read-only, and torch warns of such arrays.
    return array if isinstance(array, Tensor) else torch.from_numpy(np.array(array))


def as_volume(name: str, array: Tensor | np.ndarray, data_range: float) -> Float32[Tensor, "d h w"]:
    """Return one volume as a float32 tensor.

    Raises
    ------
    MetricError
        It has other axes than (d, h, w), or intensities outside [0, data_range] or NaN.
    """
    volume = tensor(array)
    if volume.ndim != 3:
        raise MetricError(
            f"MS-SSIM: {name} must be one volume with the axes (d, h, w); found shape "
            f"{tuple(volume.shape)}. Pass {name}[0] to drop a leading axis."
        )
    low, high = (float(bound) for bound in volume.aminmax())
    # A comparison with NaN is false, so this refuses NaN too.
    if not (low >= 0 and high <= data_range):
        raise MetricError(
            f"MS-SSIM: intensities must be finite and lie in [0, {data_range:g}]; {name} spans "
            f"[{low:g}, {high:g}]. Scale both volumes by one factor first.",
            "intensities",
        )
    return volume.to(torch.float32)


def blocks(indices: range, size: int) -> Iterator[range]:
    """Yield consecutive parts of a range, each of at most `size` indices."""
    for start in range(indices.start, indices.stop, size):
        yield range(start, min(start + size, indices.stop))


def runs_of_pairs(partners: Bool[np.ndarray, " m"], size: int) -> Iterator[tuple[int, int]]:
    """Yield start and stop of each run of consecutive True values, cut to at most `size`."""
    edges = np.flatnonzero(np.diff(partners, prepend=False, append=False))
    for start, stop in edges.reshape(-1, 2).tolist():
        for run in blocks(range(start, stop), size):
            yield run.start, run.stop


def check_volume(volume: Tensor, name: str, mask: Tensor) -> Float32[Tensor, "d h w"]:
    """Return the volume as float32; raise a MetricError for another grid, NaN or infinity."""
    if volume.shape != mask.shape:
        raise MetricError(
            f"MS-SSIM: volumes and mask must share one grid; found {name} of shape "
            f"{tuple(volume.shape)} where the grid is {tuple(mask.shape)}. "
            "Bring all of them to one space.",
            "another grid",
        )
    if not bool(torch.isfinite(volume).all()):
        raise MetricError(
            f"MS-SSIM: {name} holds NaN or infinity. Remove or fix it.", "intensities"
        )
    return volume.to(torch.float32)


def device_of() -> torch.device:
    """Return the GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
