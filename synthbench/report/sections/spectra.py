"""The section on power spectra."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from synthbench.cohorts.cohort import Volumes
from synthbench.errors import MetricError
from synthbench.metrics.radial_spectrum import radial_profile
from synthbench.render.charts import Band, LineChart, Series, line_chart
from synthbench.report.album.at_hand import AtHand
from synthbench.report.sections.section import Page, Section
from synthbench.runtime.callbacks import shown


def _build(page: Page) -> Mapping[str, Any] | None:
    drawn = [
        (page.names[index], chart)
        for index, at_hand in page.at_hand.items()
        if (chart := spectrum(at_hand)) is not None
    ]
    return {"cards": drawn, "several": page.several} if drawn else None


def spectrum(at_hand: AtHand) -> LineChart | None:
    """Return a chart of both sets' mean radial power spectra, with 95% of the real volumes.

    None where the mask is too small for a spectrum.
    """
    samples, mask = at_hand.samples, at_hand.mask
    profiles = {}
    try:
        for role in ("real", "synth"):
            volumes = samples[role].volumes
            assert isinstance(volumes, Volumes)
            bar = shown(f"spectra, {role}", at_hand.progress)
            rows = []
            for index, volume in enumerate(volumes):
                frequencies, row = radial_profile(volume, mask, volumes.space.spacing)
                rows.append(row)
                if bar is not None:
                    bar(index + 1, len(volumes))
            profiles[role] = np.array(rows)
    except MetricError:
        return None
    low, high = np.percentile(profiles["real"], [2.5, 97.5], axis=0)
    means = {role: rows.mean(axis=0) for role, rows in profiles.items()}
    gap = means["synth"] - means["real"]
    at = int(np.abs(gap).argmax())
    return line_chart(
        "Radial power spectrum",
        "cycles/mm",
        "dB",
        f"Mean log power of synthetic and real volumes. They differ most at "
        f"{frequencies[at]:.2g} cycles/mm, by {gap[at]:+.1f} dB (synthetic minus real).",
        [
            Series("real", "real", frequencies, means["real"]),
            Series("synthetic", "synth", frequencies, means["synth"]),
        ],
        [Band("95% of the real volumes", frequencies, low, high)],
    )


SECTION = Section("spectra", "Spectra", "Power spectra", 70, _build)
