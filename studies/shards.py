"""Whole-volume reads of shards against single files: time, bytes and files of each form.

Prints the table of docs/shards.md. Volumes are simulated brains with other noise in each, in the
16-bit NIfTI form that `synthbench sample` writes, and are read in random order with a warm cache,
as scoring reads them. The rows of zarr need the package zarr (version 3), which synthbench does not
need.

    python studies/shards.py --shape 24 28 24 --n 1000 --per-shard 100
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from synthbench.cohorts.reading import read_cohort
from synthbench.runtime import tar
from synthbench.simulation.cohort import atlas_cohort
from synthbench.volumes.image_file import read_stored
from synthbench.volumes.nifti import nifti_bytes

FORMS = ("files, .nii.gz", "tar, .nii.gz", "files, .nii", "tar, .nii", "zarr v3, sharded")


def volumes(n: int, shape: tuple[int, int, int], folder: Path) -> Iterator[bytes]:
    """Yield the bytes of .nii.gz files."""
    atlas_cohort(4, folder, shape=shape)
    cohort = read_cohort(folder)
    scaled = list(cohort.volumes())
    rng = np.random.default_rng(0)
    for i in range(n):
        noise = rng.normal(0, 0.01, shape).astype(np.float32)
        volume = np.where(scaled[i % 4] > 0.05, scaled[i % 4] + noise, 0)
        yield nifti_bytes(volume, cohort.grid, "SYNTHETIC: synthbench")


def stored(form: str, contents: list[bytes], per: int, out: Path) -> Callable[[int], np.ndarray]:
    """Write the volumes in a form, and return the function that reads one by its number."""
    out.mkdir()
    ending = ".nii.gz" if form.endswith("gz") else ".nii"
    if form.startswith("zarr"):
        return _zarr(contents, per, out)
    plain = contents if ending == ".nii.gz" else [gzip.decompress(c) for c in contents]
    paths = []
    if form.startswith("files"):
        for i, content in enumerate(plain):
            paths.append(out / f"synth-{i:06d}{ending}")
            paths[-1].write_bytes(content)
    else:
        for low in range(0, len(plain), per):
            shard = out / f"{low:06d}.tar"
            held = [(f"synth-{i:06d}{ending}", plain[i])
                    for i in range(low, min(low + per, len(plain)))]  # fmt: skip
            shard.write_bytes(b"".join(tar.entry(*one) for one in held) + tar.END)
            paths += [shard / name for name, _ in held]
    return lambda i: read_stored(paths[i]).values


def _zarr(contents: list[bytes], per: int, out: Path) -> Callable[[int], np.ndarray]:
    import nibabel as nib
    import zarr

    images = [nib.Nifti1Image.from_bytes(gzip.decompress(c)) for c in contents]
    shape = images[0].shape
    array = zarr.create_array(
        str(out / "volumes.zarr"), shape=(len(images), *shape), dtype="uint16",
        chunks=(1, *shape), shards=(per, *shape),
    )  # fmt: skip
    for low in range(0, len(images), per):
        some = [np.asarray(image.dataobj.get_unscaled()) for image in images[low : low + per]]
        array[low : low + per] = np.stack(some)
    return lambda i: array[i] * np.float64(1 / 65535)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=(24, 28, 24))
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--per-shard", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    contents = list(volumes(options.n, tuple(options.shape), folder / "simulated"))
    order = np.random.default_rng(1).permutation(options.n).tolist()
    print("| form | ms per volume (CPU) | KiB per volume | files |\n|---|---|---|---|")
    for form in FORMS:
        out = folder / "stored"
        try:
            read = stored(form, contents, options.per_shard, out)
        except ImportError:
            print(f"| {form} | not measured: zarr is not installed | | |")
            continue
        took = []
        for _ in range(options.rounds):
            began = time.process_time()
            for i in order:
                read(i)
            took.append((time.process_time() - began) / options.n * 1e3)
        files = [file for file in out.rglob("*") if file.is_file()]
        size = sum(file.stat().st_size for file in files) / options.n / 1024
        print(f"| {form} | {min(took):.2f} | {size:.1f} | {len(files):,} |", flush=True)
        shutil.rmtree(out)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
