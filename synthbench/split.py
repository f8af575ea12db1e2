"""Splitting a cohort by subject, so that nobody is on two sides."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from synthbench.cohort import read_cohort
from synthbench.errors import UsageError
from synthbench.files import write_atomic


def split(
    cohort: Path,
    sizes: Mapping[str, int],
    out: Path,
    *,
    seed: int = 0,
    assume_grid: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Path]:
    """Write one manifest a part, with all scans of a subject in the same part.

    Parameters
    ----------
    cohort
        Anything that `read_cohort` reads.
    sizes
        Part name to number of subjects; together at most as many as there are.
    out
        A folder; `<part>.tsv` is written there, with paths relative to it.
    seed
        Of the random order of subjects.
    assume_grid, progress
        See `read_cohort`.

    Returns
    -------
    dict of str to Path
        The manifests.

    Raises
    ------
    UsageError
        More subjects are asked for than there are, or a manifest exists already.
    """
    read = read_cohort(cohort, role="cohort", assume_grid=assume_grid, progress=progress)
    subjects = sorted({entry.subject for entry in read.entries})
    if any(size < 1 for size in sizes.values()) or sum(sizes.values()) > len(subjects):
        asked = ", ".join(f"{part}={size}" for part, size in sizes.items())
        raise UsageError(
            f"--sizes {asked}: positive numbers with a sum of at most {len(subjects)} subjects "
            "are needed."
        )
    manifests = {part: Path(out) / f"{part}.tsv" for part in sizes}
    for file in manifests.values():
        if file.exists():
            raise UsageError(f"{file}: already there. A split is drawn once: name another --out.")
    shuffled = [subjects[i] for i in np.random.default_rng(seed).permutation(len(subjects))]
    Path(out).mkdir(parents=True, exist_ok=True)
    start = 0
    for part, size in sizes.items():
        chosen = set(shuffled[start : start + size])
        start += size
        rows = [e for e in read.entries if e.subject in chosen]
        table = pd.DataFrame(
            {
                "participant_id": [e.subject for e in rows],
                "path": [os.path.relpath(e.path, out) for e in rows],
            }
        ).join(read.participants, on="participant_id")
        table = table.sort_values(["participant_id", "path"])
        text = table.to_csv(sep="\t", index=False, na_rep="n/a", lineterminator="\n")
        write_atomic(manifests[part], text.encode())
    return manifests
