"""Finding the scans of a dataset in the layout of its download."""

from __future__ import annotations

from pathlib import Path

from synthbench.cohorts.datasets.layouts import known_layouts, load_layout
from synthbench.cohorts.datasets.layouts.files import NAME
from synthbench.cohorts.datasets.layouts.layout import Layout
from synthbench.cohorts.datasets.scans import ScanTable
from synthbench.errors import CohortError
from synthbench.runtime.walk import dicom_advice, files_below


def find_scans(folder: Path | str, layout: str | None = None) -> ScanTable:
    """Return the T1-weighted scans of a cohort, in the layout of its download.

    Parameters
    ----------
    folder
        The folder that the download was unpacked into.
    layout
        A name that `synthbench list layouts` shows; None to recognise it from the content of
        the folder.

    Returns
    -------
    ScanTable
        At least one scan.

    Raises
    ------
    CohortError
        The folder does not exist, its layout is not recognised or fits several, it holds no
        scan that can be used, or a table beside the scans is unreadable or contradicts itself.
    UsageError
        `layout` names no layout, or a layout's plugin cannot be loaded.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "it is a file" if folder.exists() else "no such folder"
        raise CohortError(f"{folder}: {what}. Give the folder that the cohort was unpacked into.")
    found = _recognised(folder) if layout is None else load_layout(layout)
    return found.read(folder)


def _recognised(folder: Path) -> Layout:
    layouts = known_layouts()
    fitting = [name for name, layout in layouts.items() if layout.fits(folder)]
    # Loose files are what is left where no layout is known.
    if len(fitting) > 1:
        fitting = [name for name in fitting if name != NAME]
    if len(fitting) > 1:
        # Some cohorts come as BIDS; their own layout also knows their tables and terms.
        fitting = [name for name in fitting if name != "bids"]
    if len(fitting) == 1:
        return layouts[fitting[0]]
    if fitting:
        raise CohortError(
            f"{folder}: fits several layouts: {', '.join(fitting)}. "
            f"Name the right one, for example --layout {fitting[0]}"
        )
    if advice := dicom_advice(folder, files_below(folder)):
        raise CohortError(f"{folder}: holds no volumes in a known layout. {advice}")
    looked_for = "\n  ".join(f"{name}: {layout.signs}" for name, layout in layouts.items())
    raise CohortError(
        f"{folder}: the layout is not recognised. Looked for\n  {looked_for}\n"
        "Give the folder that the download was unpacked into, name the layout (--layout NAME), "
        "or list the scans in a CSV with the columns path and participant_id."
    )
