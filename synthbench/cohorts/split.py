"""Splitting a cohort by subject, stratified, so that nobody is in two parts.

A split is a folder with one manifest per part (such as `train.tsv`), which any verb takes as a
cohort, and `split.tsv`. This file lists the subject, the part and the hash of the content of every
volume. A manifest is compared with it whenever it is read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from synthbench.cohorts.choice import CohortFiles
from synthbench.cohorts.cohort import Cohort, Entry
from synthbench.cohorts.reading import read_cohort
from synthbench.cohorts.split_record import RECORD
from synthbench.errors import CohortError, UsageError, near_miss
from synthbench.render.delimited import table_text
from synthbench.runtime.files import write_atomic
from synthbench.runtime.lock import only_writer

SPLITS = "splits.tsv"
"""The table of several splits of one cohort."""

PART_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
STRATIFIED_BY = ("site", "sex", "age")
PARTS: dict[str, int | float] = {"train": 0.6, "validation": 0.1, "holdout": 0.3}
"""The default shares. Tests for copies compare the training volumes with as many held-out ones,
and floors are computed on the held-out volumes: with few of them, both say little."""

BINS = 3
"""Levels of a number that is balanced, but is not the one that subjects are ordered by."""


@dataclass(frozen=True)
class Split:
    """A split of a cohort.

    Attributes
    ----------
    manifests
        By part, the file to give to `--real`, `--train` or `--holdout`.
    subjects
        One row per subject, indexed by participant: its part, and its covariates.
    stratified_by
        The covariates that the parts were balanced on.
    remarks
        What was left out of the cohort, and what of its table was read by a rule.
    """

    manifests: dict[str, Path]
    subjects: pd.DataFrame
    stratified_by: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    @property
    def left_out(self) -> int:
        """The number of subjects that are in no part."""
        return int(self.subjects["part"].isna().sum())

    def balance(self) -> pd.DataFrame:
        """Return one row per part: the number of subjects, and a summary of each covariate."""
        rows = {}
        for part in self.manifests:
            inside = self.subjects[self.subjects["part"] == part]
            summaries = {
                name: _described(inside[name], in_numbers=_is_continuous(self.subjects[name]))
                for name in self.stratified_by
            }
            rows[part] = {"subjects": len(inside), **summaries}
        return pd.DataFrame.from_dict(rows, orient="index")


def split(
    cohort: Path | CohortFiles,
    sizes: Mapping[str, int | float] | None,
    out: Path,
    *,
    by: Sequence[str] | None = None,
    seed: int = 0,
    assume_grid: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> Split:
    """Draw a split at random, write it and return it. All scans of a subject are in one part.

    Parameters
    ----------
    cohort
        Anything that `read_cohort` reads.
    sizes
        Part name (letters, digits, dots, dashes and underscores) to a number of subjects (int)
        or a share of them (float up to 1). Subjects in no part are left out. None: `PARTS`.
    out
        A folder; `split.tsv` and `<part>.tsv` are written there, with paths relative to it.
    by
        Columns of the participants table to balance the parts on; None: those of
        `STRATIFIED_BY` that it has.
    seed
        Seed of the random draw.
    assume_grid, progress
        As for `read_cohort`.

    Raises
    ------
    UsageError
        A part's name is not usable, more subjects are asked for than there are, a column is
        unknown, or the folder holds a split already.
    """
    check_part_names(sizes or PARTS)
    with only_writer(out):
        _refuse_there(Path(out) / RECORD)
        read = read_cohort(cohort, role="cohort", assume_grid=assume_grid, progress=progress)
        _check_one_name_a_volume(read.entries)
        drawn, files = _drawn(read, sizes, out, by, seed)
        _write(files)
    return drawn


def split_repeatedly(
    cohort: Path | CohortFiles,
    sizes: Mapping[str, int | float] | None,
    out: Path,
    repeat: int,
    *,
    by: Sequence[str] | None = None,
    seed: int = 0,
    assume_grid: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Split]:
    """Draw several splits, each with a seed of its own, and write and return them.

    What is found in one split may be its luck. Volumes are read once.

    Parameters
    ----------
    cohort, sizes, by, assume_grid, progress
        As for `split`.
    out
        A folder; the splits are the folders `split-1`, `split-2`, ... in it. `splits.tsv` has the
        folder and the seed of each.
    repeat
        The number of splits.
    seed
        Seed of the first split; the others have the numbers after it.

    Raises
    ------
    UsageError
        As for `split`, before anything is written; or `repeat` is below 1.
    """
    if repeat < 1:
        raise UsageError(f"--repeat: at least 1 split is needed; found {repeat}.")
    check_part_names(sizes or PARTS)
    with only_writer(out):
        _refuse_there(Path(out) / SPLITS)
        seeds = range(seed, seed + repeat)
        return _split_into(cohort, sizes, out, seeds, by, assume_grid, progress)


def _split_into(
    cohort: Path | CohortFiles,
    sizes: Mapping[str, int | float] | None,
    out: Path,
    seeds: range,
    by: Sequence[str] | None,
    assume_grid: float | None,
    progress: Callable[[int], None] | None,
) -> list[Split]:
    """Draw a split per seed, as the only writer into the folder; write and return them."""
    folders = [Path(out) / f"split-{number}" for number in range(1, len(seeds) + 1)]
    read = read_cohort(cohort, role="cohort", assume_grid=assume_grid, progress=progress)
    _check_one_name_a_volume(read.entries)
    found: list[Split] = []
    files: dict[Path, pd.DataFrame] = {}
    for folder, own in zip(folders, seeds, strict=True):
        drawn, of_split = _drawn(read, sizes, folder, by, own)
        found.append(drawn)
        files |= of_split
    # The table comes last: without it, the folder does not hold all splits.
    files[Path(out) / SPLITS] = pd.DataFrame(
        {"folder": [folder.name for folder in folders], "seed": list(seeds)}
    )
    _write(files)
    return found


def _drawn(
    read: Cohort,
    sizes: Mapping[str, int | float] | None,
    out: Path,
    by: Sequence[str] | None,
    seed: int,
) -> tuple[Split, dict[Path, pd.DataFrame]]:
    """Draw a split of a cohort; return it, and its tables by file."""
    names = sorted({entry.subject for entry in read.entries})
    counts = _counts(sizes or PARTS, len(names))
    manifests = {part: Path(out) / f"{part}.tsv" for part in counts}
    covariates = read.participants.reindex(names)
    chosen = _columns(covariates, by)
    parts = draw(covariates[list(chosen)], counts, np.random.default_rng(seed))

    table = pd.DataFrame(
        {
            "participant_id": [e.subject for e in read.entries],
            "path": [os.path.relpath(e.path, out) for e in read.entries],
            "part": [parts.get(e.subject) for e in read.entries],
            "content": [e.digest for e in read.entries],
        }
    )
    known = read.covariates.reset_index(drop=True)
    table = table.dropna(subset="part").sort_values(["part", "participant_id", "path"])
    files = {}
    for part, file in manifests.items():
        rows = table[table["part"] == part].drop(columns=["part", "content"])
        files[file] = rows.join(known)
    # The record comes last: without it, the folder is not a split.
    files[Path(out) / RECORD] = table
    drawn = covariates.assign(part=pd.Series(parts))
    remarks = tuple(remark.message for remark in read.remarks)
    return Split(manifests, drawn, chosen, remarks), files


def check_part_names(names: Iterable[str]) -> None:
    """Check that every name can be the name of a manifest, and that no two are the same.

    Raises
    ------
    UsageError
        A name has other characters, is that of the record, or occurs twice (in any case: on some
        systems `Train.tsv` is `train.tsv`).
    """
    seen: set[str] = set()
    for name in names:
        if not re.fullmatch(PART_NAME, name):
            raise UsageError(
                f"--part {name}: a part's name has letters, digits, dots, dashes and underscores, "
                "and begins with a letter or digit; its manifest is NAME.tsv."
            )
        if name.lower() == RECORD.removesuffix(".tsv"):
            raise UsageError(
                f"--part {name}: that is the name of the record; give the part another name."
            )
        if name.lower() in seen:
            raise UsageError(f"--part {name}: named twice. Give every part a name of its own.")
        seen.add(name.lower())


def draw(
    covariates: pd.DataFrame, counts: Mapping[str, int], random: np.random.Generator
) -> dict[Any, str]:
    """Return the part of each subject, drawn so that the parts have similar covariates.

    Subjects are ordered by their categories and, within those, by the first number (age). Parts
    are assigned along this order in proportion to their sizes, and shuffled within blocks of
    neighbours: stratified block randomisation, with age as a matching variable (Kernan et al.
    1999, J Clin Epidemiol 52:19, on stratified randomisation).

    Parameters
    ----------
    covariates
        One row per subject. No columns: a plain random split.
    counts
        Part name to number of subjects; the other subjects are in no part.
    random
        CohortFiles of random numbers.

    Returns
    -------
    The part of each subject that is in one, by the index of `covariates`.
    """
    n = len(covariates)
    strata, ordering = _strata(covariates)
    # lexsort sorts by its last key first; ties are in random order.
    order = np.lexsort((random.permutation(n), ordering, strata))
    # Rolled by a random number of places: without that, a subject alone in its stratum would be in
    # the same part in every draw.
    labels = np.roll(_dealt({**counts, "": n - sum(counts.values())}, n), random.integers(n))
    block = int(np.ceil(n / min(size for size in counts.values())))
    for stratum in np.unique(strata):
        places = np.flatnonzero(strata[order] == stratum)
        for start in range(0, len(places), block):
            here = places[start : start + block]
            labels[here] = random.permutation(labels[here])
    dealt = zip(covariates.index[order], labels, strict=True)
    return {subject: str(part) for subject, part in dealt if part}


def _check_one_name_a_volume(entries: Sequence[Entry]) -> None:
    owner: dict[str, Entry] = {}
    for entry in entries:
        other = owner.setdefault(entry.digest, entry)
        if other.subject != entry.subject:
            raise CohortError(
                f"cohort: {other.name} and {entry.name} are the same volume under two subjects, "
                "who could be in different parts. Remove one of them, or name their common "
                "participant_id in a manifest."
            )


def _counts(sizes: Mapping[str, int | float], subjects: int) -> dict[str, int]:
    """Return the number of subjects of each part, with shares converted."""
    requested = ", ".join(
        f"{part}={f'{size:.0%}' if isinstance(size, float) else size}"
        for part, size in sizes.items()
    )
    counts = {
        part: int(np.floor(size * subjects + 0.5)) if isinstance(size, float) else size
        for part, size in sizes.items()
    }
    shares = sum(size for size in sizes.values() if isinstance(size, float))
    if all(isinstance(size, float) for size in sizes.values()) and abs(shares - 1) < 1e-9:
        # The largest part takes the subjects that are left after rounding.
        largest = max(counts, key=lambda part: counts[part])
        counts[largest] += subjects - sum(counts.values())
    if any(size < 1 for size in counts.values()) or sum(counts.values()) > subjects:
        raise UsageError(
            f"--part {requested}: every part needs at least one subject, and together they have at "
            f"most {subjects}, the subjects of the cohort."
        )
    return counts


def _columns(covariates: pd.DataFrame, by: Sequence[str] | None) -> tuple[str, ...]:
    if by is None:
        return tuple(name for name in STRATIFIED_BY if name in covariates)
    for name in by:
        if name not in covariates:
            known = near_miss(name, covariates.columns) if len(covariates.columns) else "none here."
            raise UsageError(f"--by {name}: no such column in the participants table: {known}")
    return tuple(dict.fromkeys(by))


def _strata(covariates: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return each subject's stratum as a number, and a number to order by within strata."""
    ordering = np.zeros(len(covariates))
    keys = []
    ordered = False
    for name in covariates:
        column = covariates[name]
        continuous = _is_continuous(column)
        if continuous and not ordered:
            # Subjects without an age come after the others.
            ordering, ordered = column.fillna(np.inf).to_numpy(dtype=np.float64), True
        elif continuous:
            keys.append(pd.qcut(column, BINS, labels=False, duplicates="drop"))
        else:
            keys.append(column)
    if not keys:
        return np.zeros(len(covariates), dtype=np.int64), ordering
    # dropna=False: subjects of unknown sex are a stratum of their own.
    strata = pd.concat(keys, axis=1).groupby([key.name for key in keys], dropna=False).ngroup()
    return strata.to_numpy(dtype=np.int64), ordering


def _dealt(counts: Mapping[str, int], n: int) -> np.ndarray:
    """Return n labels: each part as often as its count, and spread evenly."""
    names = [part for part, size in counts.items() if size]
    left = np.array([counts[part] for part in names])
    share = left / n
    given = np.zeros(len(names))
    labels = []
    for place in range(1, n + 1):
        lag = np.where(given < left, share * place - given, -np.inf)
        chosen = int(np.argmax(lag))
        given[chosen] += 1
        labels.append(names[chosen])
    return np.array(labels, dtype=object)


def _is_continuous(column: pd.Series) -> bool:
    """Return True for a number to order by: ages, and others with more values than a code has."""
    several = column.name == "age" or column.nunique() > 2 * BINS
    return bool(pd.api.types.is_numeric_dtype(column) and several)


def _described(column: pd.Series, in_numbers: bool) -> str:
    known = column.dropna()
    if in_numbers and len(known):
        spread = f" ± {known.std():.1f}" if len(known) > 1 else ""
        summary = f"{known.mean():.1f}{spread}"
    else:
        summary = ", ".join(f"{k} {v}" for k, v in known.value_counts().sort_index().items())
    unknown = len(column) - len(known)
    return summary + (f" ({unknown} n/a)" if unknown else "")


def _refuse_there(file: Path) -> None:
    if file.exists():
        raise UsageError(f"{file}: already there, and not overwritten. Name another --out.")


def _write(tables: Mapping[Path, pd.DataFrame]) -> None:
    """Write the tables of a split in their order; the last one makes it complete.

    A call that was killed may have written some of them. They are kept where the bytes are the
    same, and nothing else is overwritten.

    Raises
    ------
    UsageError
        There is another file of one of these names; nothing was written.
    """
    contents = {file: table_text(table).encode() for file, table in tables.items()}
    for file, content in contents.items():
        if not (file.is_file() and file.read_bytes() == content):
            _refuse_there(file)
    for file, content in contents.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, content)
