"""The settings of a study of downstream utility: all that can change its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from synthbench.errors import UsageError
from synthbench.scoring.settings import DEFAULT_EXTRACTOR
from synthbench.utility.network import NetworkSettings
from synthbench.utility.transfer import Transfer
from synthbench.volumes.intensity import Intensity

Model = Literal["probe", "cnn"]
RATIOS = (0.5, 1.0, 2.0, 5.0)
REFITS = 50


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """Settings of every study.

    Attributes
    ----------
    name
        The name of the synthetic volumes in tables; None: their generator's name.
    intensity
        As for `synthbench.score`.
    level, seed
        Nominal coverage of the intervals; seed of folds, halves, subsets and networks.
    assume_grid, accept
        As for `synthbench.score`.
    count_failures
        True: synthetic volumes that cannot be used are left out, and the record has their number
        and reasons. False: they are an error.
    """

    name: str | None = None
    intensity: Intensity = "percentile"
    level: float = 0.95
    seed: int = 0
    assume_grid: float | None = None
    accept: Sequence[str] = ()
    count_failures: bool = False


@dataclass(frozen=True, kw_only=True)
class UtilitySettings(StudySettings):
    """Settings of a study of a label, in addition to those of every study.

    Attributes
    ----------
    label
        A column: two classes, or numbers.
    synth_labels_file
        Table with the labels of synthetic volumes; None: `conditions.tsv` beside them, a
        participants table, or their sidecars; the first that exists.
    task
        "auto": two classes are a classification, other numbers a regression.
    model
        "probe": a linear model of an extractor's features. "cnn": a 3-D network on the volumes.
    extractor, refits
        The extractor of the probe's features; the number of refits on halves of its subjects.
    network
        Settings of the network; None: the defaults.
    ratios
        Numbers of synthetic volumes on the curve, in multiples of the real ones.
    splits
        Pool the real and the test cohort and split them so many times. It is refused where the
        generator is known to have been trained on them.
    transfer
        Pretrain on this label, then fine-tune on another cohort and label.

    Raises
    ------
    UsageError
        Settings contradict each other, or a number is out of its range.
    """

    label: str
    synth_labels_file: Path | None = None
    task: Literal["auto", "classification", "regression"] = "auto"
    model: Model = "probe"
    extractor: str = DEFAULT_EXTRACTOR
    refits: int = REFITS
    network: NetworkSettings | None = None
    ratios: Sequence[float] = RATIOS
    splits: int | None = None
    transfer: Transfer | None = None

    def __post_init__(self) -> None:
        if self.transfer is not None and self.model != "cnn":
            raise UsageError(
                "--transfer fine-tunes a network that was pretrained on volumes; a probe has "
                "nothing to fine-tune. Add --model cnn."
            )
        if self.transfer is not None and self.splits is not None:
            raise UsageError("--transfer and --splits are two studies: leave one of them out.")
        if self.splits is not None and self.splits < 2:
            raise UsageError(f"--splits: at least 2 are needed; found {self.splits}.")
        wrong = [ratio for ratio in self.ratios if not 0 < ratio < float("inf")]
        if wrong:
            raise UsageError(f"--ratios: finite multiples above 0 are needed; found {wrong[0]:g}.")
