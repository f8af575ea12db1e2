"""The record of regional morphometry: the regions of the brain, each against the real ones."""

from __future__ import annotations

from pydantic import Field

from synthbench.records.base import Record


class RegionRecord(Record):
    """One region: the difference of its mean volumes, in real standard deviations."""

    name: str
    d: float = Field(description="(mean synth - mean real) / sd real")
    low: float = Field(description="of the simultaneous interval over all regions")
    high: float
    p: float = Field(description="adjusted for the number of regions (max-t)")
    p_alone: float = Field(description="of this region by itself")


class MorphometryRecord(Record):
    """All regions of one source: an extractor, or a table that another program wrote."""

    source: str = Field(description='the extractor, or "table"')
    unit: str = Field(description="what the volumes are stated in")
    n_real: int = Field(description="images")
    n_synth: int
    level: float
    regions: tuple[RegionRecord, ...]
    distance: float = Field(description="mean Wasserstein-1 distance, in real sd, at floor_n")
    distance_low: float = Field(description="2.5th percentile of the same between real halves")
    distance_high: float
    within: float = Field(description="share of regions with |d| below 0.2, at floor_n")
    within_low: float = Field(description="2.5th percentile of the same between real halves")
    within_high: float
    floor_n: int = Field(description="subjects per side")
    rejects_real: int = Field(description="images with a region beyond 5 real sd")
    rejects_synth: int

    @property
    def worst(self) -> list[RegionRecord]:
        """The regions, the most surely different ones first."""
        half = {one.name: (one.high - one.low) / 2 for one in self.regions}
        return sorted(self.regions, key=lambda one: -abs(one.d) / max(half[one.name], 1e-12))
