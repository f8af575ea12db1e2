"""Time and memory of whole cohorts: simulate, train, sample into shards, check and score.

Usage: python studies/large_cohort.py --n 1000 4000 20000 --max-memory 2GiB
       python studies/large_cohort.py --n 100000 --real 4000 --score="--extractor voxels"

The real volumes are mixtures of 200 simulated brains, each with a smooth field of its own, so that
no two are alike; pca-gaussian is fitted to the 200. Each verb is a process of its own. The table
has wall and processor seconds, and the largest resident memory of the process and its children
together, which is looked up ten times a second.
"""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
from scipy import ndimage

from synthbench.cohorts.preflight.check import RULES
from synthbench.runtime.memory import VARIABLE
from synthbench.simulation.cohort import atlas_cohort

FITTED = 200
"""Simulated brains: the generator is fitted to them, and the real volumes are their mixtures."""

PER_FOLDER = 1000
PER_SHARD = 100


@dataclass(frozen=True)
class Step:
    """What one command took: seconds, and the largest resident memory in bytes."""

    wall: float
    cpu: float
    peak: int


def mixtures(base: Path, folder: Path, first: int, last: int) -> None:
    """Write the real volumes with these numbers: mixtures of two brains, with a smooth field."""
    images = [nib.load(file) for file in sorted(base.rglob("*_T1w.nii.gz"))]
    brains = [np.asarray(image.dataobj, dtype=np.float32) for image in images]
    top = max(float(brain.max()) for brain in brains)
    for number in range(first, last):
        rng = np.random.default_rng([1, number])
        one, other = rng.choice(len(brains), 2, replace=False)
        share = rng.uniform(0.2, 0.8)
        mixed = share * brains[one] + (1 - share) * brains[other]
        field = ndimage.gaussian_filter(rng.standard_normal(mixed.shape), 1.0)
        mixed *= 1 + 0.1 * field / field.std()
        stored = np.clip(mixed / top * 200, 0, 255).astype(np.uint8)
        file = folder / f"{number // PER_FOLDER:03d}" / f"sub-{number:06d}_T1w.nii.gz"
        file.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(stored, images[0].affine), file)


def simulated(base: Path, folder: Path, n: int) -> None:
    """Write n real volumes, in as many processes as there are cores."""
    starts = range(0, n, PER_FOLDER)
    ends = [min(start + PER_FOLDER, n) for start in starts]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(mixtures, repeat(base), repeat(folder), starts, ends))


def measured(command: list[str], limit: str, cache: Path) -> Step:
    """Run a verb, and return its time and memory; stop where it fails."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, VARIABLE: limit, "SYNTHBENCH_CACHE": str(cache)}
    with tempfile.TemporaryFile() as said:
        process = psutil.Popen(
            [sys.executable, "-m", "synthbench", *command],
            env=environment, stdout=said, stderr=subprocess.STDOUT,
        )  # fmt: skip
        peak = 0
        while process.poll() is None:
            peak = max(peak, resident(process))
            time.sleep(0.1)
        if process.returncode:
            said.seek(0)
            raise SystemExit(said.read().decode(errors="replace"))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Step(time.perf_counter() - start, cpu, peak)


def resident(process: psutil.Process) -> int:
    """Return the resident memory of a process and its children in bytes; 0 where it ended."""
    total = 0
    try:
        for one in (process, *process.children(recursive=True)):
            total += one.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return total


def main(typed: Sequence[str] | None = None) -> None:
    """Print a row per step and size."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, nargs="+", default=[1000, 4000])
    parser.add_argument("--real", type=int, help="real volumes; as many as synthetic by default")
    parser.add_argument("--shape", type=int, nargs=3, default=[24, 28, 24])
    parser.add_argument("--max-memory", default="2GiB")
    parser.add_argument("--keep", type=Path, help="a folder that keeps the volumes")
    parser.add_argument(
        "--score", default="--extractor random-resnet10", help="options of synthbench score"
    )
    chosen = parser.parse_args(typed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = chosen.keep or Path(scratch)
        base, run = folder / "base", folder / "run"
        cache = folder / "cache"
        if not base.exists():
            atlas_cohort(FITTED, base, shape=tuple(chosen.shape))
        accepted = [word for rule in RULES for word in ("--accept", rule)]
        print("| n | step | wall, s | CPU, s | peak, GiB |")
        print("| ---: | --- | ---: | ---: | ---: |")
        for n in chosen.n:
            n_real = chosen.real or n
            real, synth = folder / f"real-{n_real}", folder / f"synth-{n}"
            if not real.exists():
                simulated(base, real, n_real)
            steps = {}
            if not run.exists():
                steps["train"] = ["train", "pca-gaussian", "--real", str(base), "--out", str(run)]
                steps["train"] += accepted
            if not synth.exists():
                steps["sample"] = ["sample", str(run), "--n", str(n)]
                steps["sample"] += ["--shards", str(max(1, n // PER_SHARD)), "--out", str(synth)]
            steps["score"] = ["score", "--real", str(real), "--synth", str(synth)]
            steps["score"] += shlex.split(chosen.score)
            steps["score"] += ["--out", str(folder / f"card-{n}.json"), "--no-cache", *accepted]
            for name, command in steps.items():
                found = measured(command, chosen.max_memory, cache)
                print(
                    f"| {n:,} | {name} | {found.wall:.0f} | {found.cpu:.0f} | "
                    f"{found.peak / 2**30:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
