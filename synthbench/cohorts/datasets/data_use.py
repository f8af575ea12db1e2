"""The terms of use of scans: those of the dataset or public cohort that each belongs to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from synthbench.cohorts.datasets.layouts import known_layouts
from synthbench.cohorts.datasets.layouts.bids import dataset_terms, is_derivative
from synthbench.cohorts.datasets.layouts.layout import Layout
from synthbench.cohorts.datasets.scans import NOT_KNOWN, DataUseTerms
from synthbench.errors import CohortError
from synthbench.runtime.documents import is_there

UNKNOWN = DataUseTerms(
    name=NOT_KNOWN,
    url="",
    text="No dataset_description.json lies above the scans, and their paths are not those of a "
    "known cohort. So their terms of use are not stated here. These terms bind you all the same.",
)


def terms_of(files: Iterable[Path]) -> DataUseTerms:
    """Return the terms of use of scans; where they are from several datasets, the terms of all.

    A scan's terms are those of the nearest `dataset_description.json` above it. A public cohort's
    own files are recognised by their paths, and have the terms of its layout.

    Raises
    ------
    CohortError
        A `dataset_description.json` is not valid JSON.
    UsageError
        A layout's plugin cannot be loaded.
    """
    layouts = tuple(known_layouts().values())
    folders: dict[Path, tuple[DataUseTerms, bool]] = {}
    counts: Counter[DataUseTerms] = Counter()
    for file in files:
        if file.parent not in folders:
            folders[file.parent] = _stated(file.parent)
        stated, carried = folders[file.parent]
        cohort = _of_the_cohort(file, layouts)
        # A cohort's layout states its terms better than a file beside the scans. But a derivative
        # keeps the terms that it was made under.
        counts[stated if carried or cohort is None else cohort] += 1
    return _together(counts)


def _stated(folder: Path) -> tuple[DataUseTerms, bool]:
    """Return the terms of the dataset around a folder; True where it is a derivative with terms."""
    above = (folder, *folder.parents)
    root = next((f for f in above if is_there(f / "dataset_description.json", CohortError)), None)
    if root is None:
        return UNKNOWN, False
    terms = dataset_terms(root)
    return terms, is_derivative(root) and terms.name != NOT_KNOWN


def _of_the_cohort(file: Path, layouts: Iterable[Layout]) -> DataUseTerms | None:
    return next((layout.terms for layout in layouts if layout.holds(file)), None)


def _together(counts: Counter[DataUseTerms]) -> DataUseTerms:
    if len(counts) == 1:
        return next(iter(counts))
    parts = [f"{n} scans: {t.name}. {t.url} {t.text}" for t, n in counts.most_common()]
    return DataUseTerms(
        name="; ".join(terms.name for terms, _ in counts.most_common()),
        url="",
        text="\n".join(["Each scan is under the terms of its own dataset.", *parts]),
    )
