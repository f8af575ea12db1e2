"""The dataset card of a folder of samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from synthbench.cohorts.conditions import MISSING, Conditions
from synthbench.errors import UsageError
from synthbench.runs.card import (
    CARD,
    UNCONDITIONAL,
    Log,
    about_the_cohort,
    card,
    changes_section,
    conditions,
    cost,
    counted,
    generator_table,
    limits,
    line,
    responsibility,
    section,
    table,
    tags,
    write_unless_edited,
)
from synthbench.runs.folder import Run
from synthbench.runs.licence import hub_licence
from synthbench.runs.sidecar import Sidecar, read_sidecar

_HUB_SIZES = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"))


def write_dataset_card(
    out: Path, run: Run, volumes: Sequence[Path], *, log: Log = lambda message: None
) -> Path:
    """Write the card of sampled volumes, `OUT/README.md`, and return its file.

    Parameters
    ----------
    out
        The folder of the volumes.
    run
        The run that they were sampled from.
    volumes
        All volumes of the folder, each with the sidecar that `synthbench sample` writes.
    log
        Called with a message where a card is kept because somebody edited it.

    Returns
    -------
    Path
        The card. The same run and sidecars give the same bytes.

    Raises
    ------
    UsageError
        There is no volume, a volume has no sidecar, or it was sampled from other weights.
    """
    record = run.record
    needs = ("seed", "conditions") if Conditions.of_run(record).names else ("seed",)
    sidecars = _sidecars(volumes, run.weights_sha256, needs)
    n = len(sidecars)
    generator = line(record["generator"])
    front = {
        **hub_licence(record),
        "pretty_name": f"Synthetic brain MRI, {counted(n, 'volume')} of {record['generator']}",
        "size_categories": [_hub_size(n)],
        **({} if conditions(record) else {"task_categories": [UNCONDITIONAL]}),
        "tags": tags(record),
    }
    sections = [
        f"# Synthetic brain MRI: {counted(n, 'volume')} of {generator}",
        "No volume here is a scan of a person. Each has a sidecar (JSON) that says so, with its "
        "seed and its origin.",
        section("What it holds", table(_contents(run, sidecars))),
        _requested_section(record, sidecars),
        section("The generator", generator_table(run)),
        changes_section(run),
        *about_the_cohort(record),
        *responsibility(record, "these volumes"),
        section("Known limits", limits(run, len(sidecars))),
        section("Cost", table({**cost(record), "time per volume": _time_per_volume(sidecars)})),
    ]
    return write_unless_edited(Path(out) / CARD, card(front, sections), log)


def _hub_size(n: int) -> str:
    return next((label for below, label in _HUB_SIZES if n < below), "n>1M")


def _sidecars(volumes: Sequence[Path], weights: str | None, needs: Sequence[str]) -> list[Sidecar]:
    if not volumes:
        raise UsageError("a dataset card needs at least one volume; sample some first.")
    sidecars = []
    for volume in volumes:
        sidecar = read_sidecar(volume, needs)
        if sidecar.get("weights_sha256") != weights:
            raise UsageError(
                f"{volume}: was sampled from weights {str(sidecar.get('weights_sha256'))[:12]}, "
                f"the run has {str(weights)[:12]}. Use one folder per run."
            )
        sidecars.append(sidecar)
    return sidecars


def _contents(run: Run, sidecars: Sequence[Mapping[str, Any]]) -> dict[str, str | int | None]:
    return {
        "volumes": len(sidecars),
        "seeds": _ranges([int(s["seed"]) for s in sidecars]),
        "sampler": _common(sidecars, "sampler"),
        "denoising steps": _common(sidecars, "steps"),
        "guidance": _common(sidecars, "guidance"),
        "precision": _common(sidecars, "precision"),
        "cleaned": _common(sidecars, "cleaned"),
        "watermark": "a faint one in the voxels" if _common(sidecars, "watermark") else None,
        "weights, sha256": run.weights_sha256,
        "format": "NIfTI, 16 bits, on the grid below",
    }


def _requested_section(record: Mapping[str, Any], sidecars: Sequence[Mapping[str, Any]]) -> str:
    """Return the section on the requests, one row per condition; empty without conditions."""
    names = Conditions.of_run(record).names
    if not names:
        return ""
    head = "| condition | | values | extrapolated |\n|---|---|---|---|\n"
    lines = [
        f"| {line(name)} | {_who_chose(name, sidecars)} | "
        f"{line(_distribution([s['conditions'].get(name) for s in sidecars]))} | "
        f"{sum(name in s.get('extrapolated', ()) for s in sidecars):,} |"
        for name in names
    ]
    remarks = [
        "Extrapolated: volumes that were requested beyond the training range. A request is not a "
        "measurement of the volume."
    ]
    if any(sidecar.get("drawn") for sidecar in sidecars):
        remarks.insert(
            0,
            "A condition that was not requested was drawn from the training split's distribution, "
            "each by itself: such combinations may not occur among people.",
        )
    table = head + "\n".join(lines)
    return section("What was requested", f"{table}\n\n{' '.join(remarks)}")


def _who_chose(name: str, sidecars: Sequence[Mapping[str, Any]]) -> str:
    drawn = sum(name in sidecar.get("drawn", ()) for sidecar in sidecars)
    if drawn in (0, len(sidecars)):
        return "drawn" if drawn else "requested"
    return f"requested: {len(sidecars) - drawn:,}, drawn: {drawn:,}"


def _distribution(values: Sequence[float | str | None]) -> str:
    """Return the range and median of numbers, or the count of each level."""
    numbers = [value for value in values if isinstance(value, (int, float))]
    missing = values.count(None)
    absent = f"; {MISSING}: {missing:,}" if missing else ""
    if not numbers:
        levels = Counter(MISSING if value is None else str(value) for value in values)
        return ", ".join(f"{level}: {levels[level]:,}" for level in sorted(levels))
    low, high, median = (_digits(x) for x in (min(numbers), max(numbers), np.median(numbers)))
    return (low if low == high else f"{low} to {high}, median {median}") + absent


def _digits(number: float) -> str:
    """Return a number to four digits, with commas at thousands."""
    rounded = float(f"{number:.4g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 1000 else f"{rounded:g}"


def _common(sidecars: Sequence[Mapping[str, Any]], key: str) -> str | None:
    """Return the different values of a field of the sidecars, or None without any."""
    return ", ".join(sorted({str(s[key]) for s in sidecars if s.get(key) is not None})) or None


def _time_per_volume(sidecars: Sequence[Mapping[str, Any]]) -> str | None:
    seconds = [float(s["seconds"]) for s in sidecars if "seconds" in s]
    if not seconds:
        return None
    return f"median {np.median(seconds):.3g} s, from {min(seconds):.3g} to {max(seconds):.3g} s"


def _ranges(seeds: Sequence[int]) -> str:
    """Return whole numbers as ranges, such as "0 to 3, 7"."""
    ranges, ordered = [], sorted(set(seeds))
    breaks = [0, *(i for i in range(1, len(ordered)) if ordered[i] != ordered[i - 1] + 1)]
    for start, stop in zip(breaks, [*breaks[1:], len(ordered)], strict=True):
        low, high = ordered[start], ordered[stop - 1]
        ranges.append(str(low) if low == high else f"{low} to {high}")
    return ", ".join(ranges)
