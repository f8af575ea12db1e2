"""Checks that hold an extractor to its contract."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32
from scipy.ndimage import gaussian_filter

from synthbench.errors import MetricError, UsageError
from synthbench.metrics.extractors.extractor import Extractor
from synthbench.testing.checks import GRID, nothing_raised
from synthbench.volumes.grid import Space, resample

if TYPE_CHECKING:
    from torch import Tensor


BLUR_MM = 8.0
"""Standard deviation of the Gaussian that an extractor must see."""

MOVED = 1e-4
"""How far that blur moves the features at least, relative to their norm."""


def check_extractor(
    factory: Callable[[], Extractor],
    *,
    volumes: Float32[np.ndarray, "n d h w"] | None = None,
    seed: int = 0,
) -> None:
    """Hold an extractor to the contract of `synthbench.metrics.extractors.extractor.Extractor`.

    Its features must be the same, bit by bit, from call to call, from instance to instance, and
    whatever else is in the batch: a distance is compared with distances that were computed in
    other batches. Kernels depend on the batch size, so that usually takes volumes one at a time.

    Parameters
    ----------
    factory
        Makes an extractor, as its entry in the registry does: a class, or a `functools.partial`.
        It is called twice. Weights must be there already.
    volumes
        Two volumes or more that differ, in [0, 1] with a background of zero, on the extractor's
        grid. None simulates heads in MNI152: on the extractor's grid, or, where it takes any, on
        48 x 48 x 48 voxels of 4 mm.
    seed
        Seed of the simulation.

    Raises
    ------
    AssertionError
        The extractor breaks the contract; the message says which part of it.
    UsageError
        Fewer than two volumes are given.

    Examples
    --------
    >>> from synthbench.metrics.extractors.voxels import Voxels
    >>> check_extractor(Voxels)
    """
    import torch

    extractor, another = _built_without_torch(factory), _built_without_torch(factory)
    _check_extractor_attributes(extractor)
    space = extractor.space or _SIMULATED
    if volumes is None:
        volumes = np.stack([resample(head, _SIMULATED, space) for head in _heads(2, seed)])
    if volumes.ndim != 4 or len(volumes) < 2:
        raise UsageError(
            "volumes must be of shape (n, d, h, w), n at least 2; found "
            f"{volumes.shape}. Give two that differ, or leave them out."
        )
    given = torch.from_numpy(np.ascontiguousarray(volumes[:2, None], dtype=np.float32))
    sigma = [BLUR_MM / mm for mm in space.spacing]
    blurred = torch.from_numpy(gaussian_filter(volumes[0], sigma).clip(0, 1))[None, None].float()

    alone = _check_features(extractor, given[:1])
    _assert_same(extractor, extractor.features(given[:1]), alone, "from call to call")
    together = _check_features(extractor, torch.cat([given, blurred]))
    _assert_same(extractor, together[:1], alone, "with the rest of the batch")
    reversed_rows = _check_features(another, given.flip(0)).flip(0)
    _assert_same(extractor, reversed_rows, together[:2], "with the order, or between instances")
    assert extractor.weights_sha256 == another.weights_sha256, (
        f"{extractor.name}: two instances have the weights {extractor.weights_sha256} and "
        f"{another.weights_sha256}: hash them in a fixed order"
    )
    _check_weights_sha256(extractor)
    _check_sees(extractor, together)
    _check_volumes_refused(extractor, given)


# The checks of an extractor


_SIMULATED = Space.of(
    GRID,
    np.array([[4, 0, 0, -94], [0, 4, 0, -112], [0, 0, 4, -76], [0, 0, 0, 1]]),
)


def _heads(count: int, seed: int) -> list[Float32[np.ndarray, "d h w"]]:
    """Ellipsoids in the place of the MNI152 brain: dark ventricles, bright white, grey rind."""
    rng = np.random.default_rng(seed)
    voxels = np.indices(GRID).reshape(3, -1)
    mm = _SIMULATED.matrix[:3, :3] @ voxels + _SIMULATED.matrix[:3, 3:]
    from_centre = mm - np.array([[0.0], [-18.0], [5.0]])
    heads = []
    for _ in range(count):
        semi_axes = np.array([[68.0], [86.0], [74.0]]) * rng.uniform(0.93, 1.0)
        radius = np.linalg.norm(from_centre / semi_axes, axis=0).reshape(GRID)
        tissue = np.select([radius < rng.uniform(0.15, 0.25), radius < 0.7], [0.15, 0.8], 0.5)
        texture = gaussian_filter(rng.normal(size=GRID), 1.5)
        lively = tissue + 0.05 * texture / texture.std()
        heads.append(np.where(radius < 1, lively.clip(0.05, 1), 0).astype(np.float32))
    return heads


def _built_without_torch(factory: Callable[[], Extractor]) -> Extractor:
    """Build an extractor while torch cannot be imported: lists of extractors are made so."""
    torch = sys.modules.get("torch")
    # None is how the import system is told that there is no such module.
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        return factory()
    except ImportError as error:
        raise AssertionError(
            f"constructing an extractor must not import torch; found {error}: import it in the "
            "methods that need it, and read weights at the first call of features()"
        ) from error
    finally:
        if torch is None:
            del sys.modules["torch"]
        else:
            sys.modules["torch"] = torch


def _check_extractor_attributes(extractor: Extractor) -> None:
    name = getattr(extractor, "name", type(extractor).__name__)
    for field in ("name", "preprocessing", "layer", "summary", "needs"):
        words = getattr(extractor, field, None)
        assert isinstance(words, str), f"{name}: {field} must be words; found {words!r}"
        assert words.strip(), f"{name}: {field} is empty"
    # Tables and protocols write "metric | extractor"; a path would be of one machine only.
    assert not set(name) & set(" |/\\"), f"{name}: name must hold no space, '|' or path"
    dim = getattr(extractor, "dim", None)
    assert isinstance(dim, int), f"{name}: dim must be a number of features; found {dim!r}"
    assert dim > 0, f"{name}: dim must be a number of features; found {dim!r}"
    space = getattr(extractor, "space", "missing")
    assert space is None or isinstance(space, Space), (
        f"{name}: space must be a synthbench.Space, or None for any grid; found {space!r}"
    )
    _check_weights_sha256(extractor)
    assert isinstance(extractor, Extractor), f"{name}: features() is missing"


def _check_weights_sha256(extractor: Extractor) -> None:
    found = getattr(extractor, "weights_sha256", "missing")
    assert found is None or re.fullmatch("[0-9a-f]{64}", str(found)), (
        f"{extractor.name}: weights_sha256 must be 64 lower-case hexadecimal digits, or None for "
        f"a formula; found {found!r}"
    )


def _check_features(
    extractor: Extractor, volumes: Float32[Tensor, "b 1 d h w"]
) -> Float32[Tensor, "b dim"]:
    """Call `features`, and look at what it returns and at what it left behind."""
    import torch

    name, before = extractor.name, volumes.clone()
    with nothing_raised(name, "features()"):
        rows = extractor.features(volumes)
    assert torch.equal(volumes, before), (
        f"{name}: features() changes the volumes that it was given in place: copy them"
    )
    assert torch.is_tensor(rows), f"{name}: features() gives no tensor: {type(rows).__name__}"
    expected = (len(volumes), extractor.dim)
    assert tuple(rows.shape) == expected, (
        f"{name}: features() of {len(volumes)} volumes must have shape {expected}, one row per volume "
        f"and dim columns; found {tuple(rows.shape)}"
    )
    assert rows.dtype == torch.float32, f"{name}: features() gives {rows.dtype}, not float32"
    assert not rows.requires_grad, f"{name}: features() keeps the graph: use torch.no_grad()"
    assert bool(rows.isfinite().all()), f"{name}: features() is not finite"
    return rows


def _assert_same(extractor: Extractor, found: Tensor, expected: Tensor, words: str) -> None:
    difference = float((found - expected).abs().max())
    assert difference == 0, (
        f"{extractor.name}: the features of a volume differ {words}, by up to {difference:.3g}: "
        "take volumes one at a time, in eval mode and without random numbers"
    )


def _check_sees(extractor: Extractor, rows: Float32[Tensor, "3 dim"]) -> None:
    """Another head, and the first one blurred, have features of their own."""
    first, other, blurred = rows.double()
    for words, row in (("another head", other), (f"a blur of {BLUR_MM:g} mm", blurred)):
        moved = float((row - first).norm() / first.norm())
        assert moved > MOVED, (
            f"{extractor.name}: {words} moves the features by {moved:.2g} of their norm: they say "
            "nothing of the volume"
        )


def _check_volumes_refused(extractor: Extractor, volumes: Float32[Tensor, "2 1 d h w"]) -> None:
    """What is no volume in [0, 1] raises a MetricError that names the extractor."""

    def with_voxel(value: float) -> Tensor:
        changed = volumes.clone()
        changed[1, 0, 0, 0, 0] = value
        return changed

    bad = {
        "volumes without a channel axis": volumes[:, 0],
        "volumes of two channels": volumes.expand(-1, 2, -1, -1, -1),
        "no volume": volumes[:0],
        "volumes in float64": volumes.double(),
        "an intensity above 1": with_voxel(1.5),
        "a negative intensity": with_voxel(-0.5),
        "NaN": with_voxel(float("nan")),
    }
    for words, broken in bad.items():
        message = _volume_refusal(extractor, broken, words)
        assert extractor.name in message, (
            f"{extractor.name}: the error for {words} does not name the extractor: {message}"
        )


def _volume_refusal(extractor: Extractor, volumes: Tensor, words: str) -> str:
    found = "none"
    try:
        extractor.features(volumes)
    except MetricError as error:
        return str(error)
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    raise AssertionError(
        f"{extractor.name}: {words} must raise a MetricError; found {found}. "
        "Call check_volumes() first."
    )
