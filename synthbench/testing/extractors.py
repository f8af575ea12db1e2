"""Checks that an extractor meets its contract."""

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
"""Standard deviation of the Gaussian blur that an extractor must detect."""

MOVED = 1e-4
"""Smallest change of the features by that blur, relative to their norm."""


def check_extractor(
    factory: Callable[[], Extractor],
    *,
    volumes: Float32[np.ndarray, "n d h w"] | None = None,
    seed: int = 0,
) -> None:
    """Check that an extractor meets its contract, `metrics.extractors.extractor.Extractor`.

    Its features must have the same bits from call to call, from instance to instance, and in any
    batch: a distance is compared with distances that were computed in other batches. Kernels
    depend on the batch size, so an extractor usually computes one volume at a time.

    Parameters
    ----------
    factory
        A function that returns an extractor, as the registry has them: a class, or a
        `functools.partial`. It is called twice. Weights must be in their folder already.
    volumes
        At least two different volumes, in [0, 1] with a background of zero, on the extractor's
        grid. None simulates heads in MNI152, on the extractor's grid, or on 48 x 48 x 48 voxels of
        4 mm where the extractor takes any grid.
    seed
        Seed of the simulation.

    Raises
    ------
    AssertionError
        The extractor breaks the contract; the message names the part.
    UsageError
        `volumes` holds fewer than two volumes.

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
            "volumes must have the shape (n, d, h, w), n at least 2; found "
            f"{volumes.shape}. Give two that differ, or leave them out."
        )
    pair = torch.from_numpy(np.ascontiguousarray(volumes[:2, None], dtype=np.float32))
    sigma = [BLUR_MM / mm for mm in space.spacing]
    blurred = torch.from_numpy(gaussian_filter(volumes[0], sigma).clip(0, 1))[None, None].float()

    alone = _check_features(extractor, pair[:1])
    _assert_same(extractor, extractor.features(pair[:1]), alone, "from call to call")
    together = _check_features(extractor, torch.cat([pair, blurred]))
    _assert_same(extractor, together[:1], alone, "with the rest of the batch")
    reversed_rows = _check_features(another, pair.flip(0)).flip(0)
    _assert_same(extractor, reversed_rows, together[:2], "with the order, or between instances")
    assert extractor.weights_sha256 == another.weights_sha256, (
        f"{extractor.name}: two instances have the weights {extractor.weights_sha256} and "
        f"{another.weights_sha256}: hash them in a fixed order"
    )
    _check_weights_sha256(extractor)
    _check_sees(extractor, together)
    _check_volumes_refused(extractor, pair)


_SIMULATED = Space.of(
    GRID,
    np.array([[4, 0, 0, -94], [0, 4, 0, -112], [0, 0, 4, -76], [0, 0, 0, 1]]),
)


def _heads(count: int, seed: int) -> list[Float32[np.ndarray, "d h w"]]:
    """Ellipsoids in the place of the MNI152 brain: dark inside, then bright, then grey."""
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
        textured = tissue + 0.05 * texture / texture.std()
        heads.append(np.where(radius < 1, textured.clip(0.05, 1), 0).astype(np.float32))
    return heads


def _built_without_torch(factory: Callable[[], Extractor]) -> Extractor:
    """Build an extractor while torch cannot be imported, as `synthbench list extractors` does."""
    torch = sys.modules.get("torch")
    # With None in sys.modules, an import raises an ImportError.
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
        text = getattr(extractor, field, None)
        assert isinstance(text, str), f"{name}: {field} must be a text; found {text!r}"
        assert text.strip(), f"{name}: {field} is empty"
    # Tables and protocols write "metric | extractor"; a path would exist on one machine only.
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
    """Return the features, after checks of them and that the volumes are unchanged."""
    import torch

    name, before = extractor.name, volumes.clone()
    with nothing_raised(name, "features()"):
        rows = extractor.features(volumes)
    assert torch.equal(volumes, before), (
        f"{name}: features() changes the volumes in place: copy them"
    )
    assert torch.is_tensor(rows), (
        f"{name}: features() must return a tensor; found {type(rows).__name__}"
    )
    expected = (len(volumes), extractor.dim)
    assert tuple(rows.shape) == expected, (
        f"{name}: features() of {len(volumes)} volumes must have the shape {expected}, one row "
        f"per volume and dim columns; found {tuple(rows.shape)}"
    )
    assert rows.dtype == torch.float32, (
        f"{name}: features() must return float32; found {rows.dtype}"
    )
    assert not rows.requires_grad, f"{name}: features() keeps the graph: use torch.no_grad()"
    assert bool(rows.isfinite().all()), f"{name}: features() is not finite"
    return rows


def _assert_same(extractor: Extractor, found: Tensor, expected: Tensor, when: str) -> None:
    difference = float((found - expected).abs().max())
    assert difference == 0, (
        f"{extractor.name}: the features of a volume differ {when}, by up to {difference:.3g}: "
        "compute volumes one at a time, in eval mode and without random numbers"
    )


def _check_sees(extractor: Extractor, rows: Float32[Tensor, "3 dim"]) -> None:
    """Check that another head, and the first one blurred, have different features."""
    first, other, blurred = rows.double()
    for change, row in (("another head", other), (f"a blur of {BLUR_MM:g} mm", blurred)):
        moved = float((row - first).norm() / first.norm())
        assert moved > MOVED, (
            f"{extractor.name}: {change} moves the features by {moved:.2g} of their norm, so they "
            "do not depend on the volume"
        )


def _check_volumes_refused(extractor: Extractor, volumes: Float32[Tensor, "2 1 d h w"]) -> None:
    """Check that wrong volumes raise a MetricError that names the extractor."""

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
    for fault, broken in bad.items():
        message = _volume_refusal(extractor, broken, fault)
        assert extractor.name in message, (
            f"{extractor.name}: the error for {fault} does not name the extractor: {message}"
        )


def _volume_refusal(extractor: Extractor, volumes: Tensor, fault: str) -> str:
    found = "none"
    try:
        extractor.features(volumes)
    except MetricError as error:
        return str(error)
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    raise AssertionError(
        f"{extractor.name}: {fault} must raise a MetricError; found {found}. "
        "Call check_volumes() first."
    )
