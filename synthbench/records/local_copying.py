"""The record of copied parts: cubes of synthetic volumes against the same cubes of real ones."""

from __future__ import annotations

from pydantic import Field

from synthbench.metrics.nearest.verdict import CopyVerdict
from synthbench.records.base import Record


class LocalScaleRecord(Record):
    """The finding for cubes of one side."""

    side: int = Field(description="of the cubes, in voxels")
    share: float = Field(description="of cubes that are copies of training subjects, over chance")
    share_low: float
    share_high: float
    least: float = Field(description="the share from which it is of the size of copies")
    p: float = Field(description="permutation test of the share, adjusted for the scales")
    gap: float = Field(description="mean log(d_holdout / d_train); above zero: nearer training")
    gap_low: float | None = Field(description="None: a single synthetic volume")
    gap_high: float | None
    nearer_p: float = Field(description="permutation test that cubes are nearest to training")


class PlaceMapRecord(Record):
    """Where copied parts lie, as an aggregate over all synthetic volumes and all subjects."""

    side: int = Field(description="of the cubes, in voxels: the scale of strongest evidence")
    stride: int = Field(description="voxels between neighbouring places")
    places: tuple[tuple[int, int, int], ...] = Field(description="voxels of the common grid")
    share: tuple[float, ...] = Field(
        description="per place, the share of volumes with a copied cube, over chance"
    )
    threshold: float = Field(description="by chance, a place exceeds it with probability `level`")
    p: float = Field(description="of the largest share, over all places")


class LocalCopyingRecord(Record):
    """Copied parts inside the mask, as the volumes are or mirrored."""

    verdict: CopyVerdict
    text: str = Field(description="the finding in words")
    level: float = Field(description="of each test")
    n_train: int = Field(description="subjects")
    n_holdout: int
    sides_p: float = Field(description="test that training and hold-out are of one population")
    part: float = Field(description="share of a volume that the copied part takes, for power")
    detectable_share: float | None = Field(
        description="smallest share of volumes with such a part that is found with 80% probability"
    )
    scales: tuple[LocalScaleRecord, ...]
    map: PlaceMapRecord
    sampled: int | None = Field(
        default=None, description="random volumes of each set that has more; None: all volumes"
    )
