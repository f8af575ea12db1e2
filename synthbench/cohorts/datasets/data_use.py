"""Terms of use by file: those of the dataset or the public cohort that a listed scan belongs to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from synthbench.cohorts.datasets.layouts import known_layouts
from synthbench.cohorts.datasets.layouts.bids import dataset_terms, is_derivative
from synthbench.cohorts.datasets.layouts.layout import Layout
from synthbench.cohorts.datasets.scans import NOT_KNOWN, DataUseTerms

UNKNOWN = DataUseTerms(
    name=NOT_KNOWN,
    url="",
    text="No dataset_description.json lies above the scans and their paths are those of no cohort "
    "that is known here, so it is not said under what terms they may be used: theirs bind you.",
)


def terms_of(files: Iterable[Path]) -> DataUseTerms:
    """Return the terms of use of scans, wherever they lie; of several datasets, all of them.

    A scan's terms are those of the nearest `dataset_description.json` above it; of a public
    cohort's own files, which are known by their paths, those of its layout.

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
        # A cohort's layout knows its terms better than what lies beside the scans; what was
        # derived from them carries the terms on.
        counts[stated if carried or cohort is None else cohort] += 1
    return _together(counts)


def _stated(folder: Path) -> tuple[DataUseTerms, bool]:
    """What the dataset around a folder says, and whether it carries on what it was derived from."""
    above = (folder, *folder.parents)
    root = next((f for f in above if (f / "dataset_description.json").is_file()), None)
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
