"""Growth of the time of each metric of volumes, and of memorization, with the number of volumes.

Usage: python studies/volume_metrics.py

Smooth random volumes of 84 x 128 x 84 inside an ellipsoid. The time is that from the volumes to
the value; the exponent is the slope of log time on log n over the last two columns.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float32
from scipy import ndimage

from synthbench import registry
from synthbench.metrics import memorization
from synthbench.metrics.inference import resampling
from synthbench.metrics.metric import CrossMetric, VolumeMetric

SHAPE = (84, 128, 84)
SPACING = (2.0, 2.0, 2.0)
SIZES = (4, 8, 16)
FEATURE_SIZES = (50, 100, 200)


def ellipsoid() -> Bool[np.ndarray, "d h w"]:
    """Return a mask of about 40% of the grid."""
    axes = np.meshgrid(*(np.linspace(-1, 1, side) for side in SHAPE), indexing="ij")
    return np.asarray(sum((axis / 0.92) ** 2 for axis in axes) < 1)


def volumes(n: int, seed: int, mask: Bool[np.ndarray, "d h w"]) -> Float32[np.ndarray, "n d h w"]:
    """Return smooth noise in [0, 1] inside the mask."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        noise = ndimage.gaussian_filter(rng.standard_normal(SHAPE, dtype=np.float32), 2)
        rows.append(np.clip(0.5 + 0.15 * noise / noise.std(), 0, 1) * mask)
    return np.stack(rows).astype(np.float32)


def seconds(function: Callable[[], object]) -> float:
    """Return the time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def value(metric: VolumeMetric, x: np.ndarray, y: np.ndarray, mask: np.ndarray) -> float:
    """Return the metric's value, from volumes."""
    settings = metric.freeze(None, None, spacing=SPACING)
    extra = {}
    if isinstance(metric, CrossMetric):
        extra["cross"] = metric.measure_across(x, y, mask, settings)
    real, synth = (metric.measure(v, mask, settings) for v in (x, y))
    return resampling.estimate(metric.prepare(real, synth, **extra, **settings))


def row(label: str, times: list[float]) -> str:
    """Return a row of the table, with its exponent."""
    exponent = np.log2(times[-1] / times[-2])
    return f"| {label} | {' | '.join(f'{t:.3g} s' for t in times)} | {exponent:.1f} |"


def main() -> None:
    """Print both tables."""
    mask = ellipsoid()
    x, y = (volumes(SIZES[-1], seed, mask) for seed in (0, 1))
    print(f"| n per side | {' | '.join(map(str, SIZES))} | exponent |")
    print("| --- |" + " ---: |" * (len(SIZES) + 1))
    for name in ("ms_ssim", "spectrum", "intensity", "mmd_linear", "g4r_ssim"):
        metric = registry.load("metrics", name)()
        value(metric, x[:2], y[:2], mask)  # work that is done once per process
        times = [seconds(lambda n=n: value(metric, x[:n], y[:n], mask)) for n in SIZES]  # noqa: B023
        print(row(metric.label, times), flush=True)
    print(f"\n| features per side, d = 512 | {' | '.join(map(str, FEATURE_SIZES))} | exponent |")
    print("| --- |" + " ---: |" * (len(FEATURE_SIZES) + 1))
    sets = [np.random.default_rng(s).standard_normal((FEATURE_SIZES[-1], 512)) for s in range(3)]
    times = [seconds(lambda n=n: memorization(*(s[:n] for s in sets))) for n in FEATURE_SIZES]
    print(row("memorization, 1,000 permutations and power", times))


if __name__ == "__main__":
    main()
