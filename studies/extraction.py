"""Time and memory of feature extraction, compared with a plain loop over MONAI's network.

Usage: python studies/extraction.py [speed] [reading] [memory] [--volumes 8] [--threads 2]

Volumes of 84 x 128 x 84 on the grid of MedicalNet's extractors are made for the study, as gzipped
NIfTI. The network is MedicalNet's ResNet-50 with random weights: its speed does not depend on them.
"""

from __future__ import annotations

import argparse
import gzip
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from jaxtyping import Float32
from scipy import ndimage
from torch import Tensor, nn

from synthbench.cohorts.reading import read_cohort
from synthbench.metrics.extractors import resnet
from synthbench.metrics.extractors.medicalnet import MedicalNet
from synthbench.scoring.cache.store import Cache
from synthbench.scoring.features import extract
from synthbench.volumes.grid import PAPER_GRID
from synthbench.volumes.nifti import nifti_bytes
from synthbench.volumes.sets import Flipped

DEPTH: resnet.Depth = 50
MANY, FEW = 200, 10


def write_volumes(folder: Path, n: int) -> Path:
    """Write volumes of smooth random tissue in an ellipsoid, in [0, 1]; return their folder."""
    folder.mkdir(parents=True)
    axes = np.meshgrid(*(np.linspace(-1, 1, side) for side in PAPER_GRID.shape), indexing="ij")
    inside = sum((axis / 0.9) ** 2 for axis in axes) < 1
    rng = np.random.default_rng(0)
    for i in range(n):
        noise = ndimage.gaussian_filter(rng.standard_normal(PAPER_GRID.shape), 1.5)
        volume = np.clip(0.5 + 0.15 * noise / noise.std(), 0.05, 1) * inside
        content = nifti_bytes(volume.astype(np.float32), PAPER_GRID, "benchmark")
        (folder / f"sub-{i:03d}.nii.gz").write_bytes(content)
    return folder


def random_state(seed: int = 0) -> dict[str, Tensor]:
    """Return random weights with the published shapes; no normalisation is the identity."""
    rng = torch.Generator().manual_seed(seed)
    state = {}
    for key, shape in resnet.state_shapes(DEPTH).items():
        if len(shape) == 5:
            scale = math.sqrt(2 / math.prod(shape[1:]))
            state[key] = scale * torch.randn(shape, generator=rng)
        elif key.endswith(("bias", "running_mean")):
            state[key] = 0.1 * torch.randn(shape, generator=rng)
        else:
            state[key] = 0.5 + torch.rand(shape, generator=rng)
    return state


# ---------------------------------------------------------------- the loop that users write


def monai_network(state: dict[str, Tensor]) -> nn.Module:
    """Return MONAI's ResNet-50, with stages 3 and 4 dilated as in MedicalNet."""
    from monai.networks.nets import resnet50

    network: nn.Module = resnet50(
        n_input_channels=1, conv1_t_stride=2, feed_forward=False, shortcut_type="B",
        bias_downsample=False,
    )  # fmt: skip
    for stage, dilation in (("layer3", 2), ("layer4", 4)):
        for module in network.get_submodule(stage).modules():
            if isinstance(module, nn.Conv3d):
                module.stride = (1, 1, 1)
                if module.kernel_size == (3, 3, 3):
                    module.dilation = module.padding = (dilation,) * 3
    own = network.state_dict()
    counters = {key: own[key] for key in own if key.endswith("num_batches_tracked")}
    network.load_state_dict({**counters, **state})
    return network.eval()


def monai_loop(files: list[Path], network: nn.Module) -> Float32[np.ndarray, "n dim"]:
    """Return features: load, standardise and forward one volume after the other."""
    from monai.transforms import (
        Compose,
        EnsureChannelFirst,
        LoadImage,
        NormalizeIntensity,
        Orientation,
    )

    load = Compose(
        [
            LoadImage(image_only=True),
            EnsureChannelFirst(),
            Orientation(axcodes="RAS", labels=None),
            NormalizeIntensity(nonzero=True),
        ]
    )
    rows = []
    with torch.no_grad():
        for file in files:
            rows.append(network(load(file).as_tensor()[None]).flatten().numpy())
    return np.stack(rows)


# ---------------------------------------------------------------- the tables


def seconds(function: Callable[[], object]) -> float:
    """Return the time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def speed(folder: Path, n: int) -> None:
    """Print the times of both loops, in turn, on the same files and weights."""
    cohort = read_cohort(write_volumes(folder / "volumes", n))
    volumes, files = cohort.volumes(intensity="unit"), [entry.path for entry in cohort.entries]
    state = random_state()
    plain = monai_network(state)
    extractor = MedicalNet("medicalnet-resnet50")
    extractor._network = resnet.with_weights(DEPTH, state, "random weights")
    cache = Cache(folder / "cache", 2**30)
    expected, found = monai_loop(files[:1], plain), extract(extractor, volumes)[:1]
    times: dict[str, list[float]] = {}
    for _ in range(2):
        times.setdefault("MONAI's blocks, one file after the other", []).append(
            seconds(partial(monai_loop, files, plain))
        )
        times.setdefault("synthbench", []).append(seconds(partial(extract, extractor, volumes)))
    for label in ("synthbench, filling the cache", "synthbench, from the cache"):
        times[label] = [seconds(partial(extract, extractor, volumes, cache=cache))]
    slowest = min(next(iter(times.values())))
    print(f"\n| {n} volumes, torch {torch.__version__}, {torch.get_num_threads()} threads "
          "| s per volume | times as fast |\n| --- | ---: | ---: |")  # fmt: skip
    for label, taken in times.items():
        print(f"| {label} | {min(taken) / n:.3g} | {slowest / min(taken):.3g} |")
    print(f"\nLargest difference of a feature: {np.abs(found - expected).max():.1e}, of features "
          f"up to {expected.max():.3g}.")  # fmt: skip
    mirrored = seconds(lambda: [Flipped(volumes)[i] for i in range(n)])
    print(f"Reading and mirroring alone, one thread: {mirrored / n:.3f} s per volume.")


def reading(folder: Path, n: int) -> None:
    """Print the times of decompression by zlib and by ISA-L, and of reading."""
    from isal import igzip

    cohort = read_cohort(write_volumes(folder / "volumes", n))
    files = [entry.path for entry in cohort.entries]
    packed = [file.read_bytes() for file in files]
    one_millimetre = cohort.grid.regrid(spacing=1.0)
    tasks: dict[str, Callable[[int], object]] = {
        "decompress, zlib": lambda i: gzip.decompress(packed[i]),
        "decompress, ISA-L": lambda i: igzip.decompress(packed[i]),
        "nibabel, as float32": lambda i: nib.load(files[i]).get_fdata(dtype=np.float32),
        "read, RAS+, scaled by the percentile": cohort.volumes().__getitem__,
        "the same, resampled to 1 mm": cohort.volumes(one_millimetre).__getitem__,
    }
    size = sum(map(len, packed)) / n
    print(f"\n| one thread, files of {size / 1e6:.2f} MB | ms per volume |\n| --- | ---: |")
    for label, task in tasks.items():
        taken = seconds(lambda task=task: [task(i) for i in range(n)])  # type: ignore[misc]
        print(f"| {label} | {1e3 * taken / n:.1f} |")


class Means:
    """An extractor that costs almost nothing, so that the rest is reading and storing rows."""

    name, dim, weights_sha256, space = "means", 84, None, None
    preprocessing, layer, summary, needs = "none-v1", "", "", "nothing"

    def features(self, volumes: Float32[Tensor, "b 1 84 h w"]) -> Float32[Tensor, "b 84"]:
        """Return the mean of each plane."""
        return volumes.mean(dim=(1, 3, 4))


def peak(folder: Path) -> None:
    """Extract from every file of a folder, and print the largest resident size in bytes."""
    extract(Means(), read_cohort(folder).volumes(), cache=Cache(folder / "cache", 2**30))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def memory(folder: Path) -> None:
    """Print the largest resident size for few and many volumes, each in its own process."""
    few = write_volumes(folder / "few", FEW)
    many = folder / "many"
    many.mkdir()
    files = sorted(few.glob("*.nii.gz"))
    for i in range(MANY):
        (many / f"sub-{i:03d}.nii.gz").write_bytes(files[i % FEW].read_bytes())
    print("\n| volumes | peak resident size |\n| --- | ---: |")
    for each, n in ((few, FEW), (many, MANY)):
        command = [sys.executable, __file__, "peak", "--folder", str(each)]
        found = subprocess.run(
            command, check=True, capture_output=True, text=True, encoding="utf-8", errors="replace"
        )
        print(f"| {n} | {int(found.stdout.split()[-1]) / 1e6:.0f} MB |")


def main() -> None:
    """Print the tables that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", default=["speed", "reading", "memory"])
    parser.add_argument("--volumes", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.tables == ["peak"]:
        peak(given.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        for table in given.tables:
            place = Path(folder) / table
            if table == "memory":
                memory(place)
            else:
                {"speed": speed, "reading": reading}[table](place, given.volumes)


if __name__ == "__main__":
    main()
