"""Segmentation utility: train on synthetic volumes with their label maps, test on real ones.

A label map is in the same folder as its volume and has its name, with `dseg` in place of `T1w`
(`synthbench data atlas --labels` writes such maps). 0 is background, every other value a tissue.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64, Int64, UInt8
from pydantic import BaseModel, ConfigDict, Field

from synthbench.cohorts.cohort import Cohort, Volumes, assumed_grid, check_intensities
from synthbench.cohorts.preflight import check
from synthbench.cohorts.volume_file import read
from synthbench.errors import CohortError
from synthbench.metrics.inference.downstream import DICE, Predictions, difference, value
from synthbench.records.cohort import CohortRecord
from synthbench.records.protocol import SpaceRecord
from synthbench.records.scorecard import software
from synthbench.runtime.callbacks import Log, Progress, to_logger
from synthbench.utility.cohorts import Source, failure_notes, generator_of, read_sides, seeds_notes
from synthbench.utility.record import (
    BOTH,
    PACKAGES,
    REAL,
    SYNTHETIC,
    Arm,
    Difference,
    Estimated,
    Settings,
    UtilityRecord,
    summarised,
)
from synthbench.utility.settings import StudySettings
from synthbench.volumes.intensity import Intensity

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


COMPARED = ((BOTH, REAL), (SYNTHETIC, REAL))


class SegmentationSettings(BaseModel):
    """Settings of the 3-D U-Net and its training; all arms have the same number of steps."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    channels: tuple[int, ...] = Field(default=(8, 16, 32), min_length=2)
    seeds: int = Field(default=3, ge=1, description="trainings of each arm")
    epochs: int = Field(default=20, ge=1, description="passes over the largest arm")
    batch_size: int = Field(default=2, ge=1)
    learning_rate: float = Field(default=3e-3, gt=0, description="AdamW; falls to 0 as a cosine")
    weight_decay: float = Field(default=1e-4, ge=0)


@dataclass(frozen=True)
class Mapped:
    """A cohort with a label map beside every volume, on the volumes' own grid."""

    cohort: Cohort
    volumes: Volumes
    files: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.files)

    def labels(self, index: int) -> UInt8[np.ndarray, "d h w"]:
        """Return one label map in RAS+.

        Raises
        ------
        CohortError
            It has another grid than its volume, or its values are not labels.
        """
        file, grid = self.files[index], self.cohort.grid
        try:
            found = read(file, assumed_grid(self.cohort.entries[index]))
        except CohortError as error:
            raise CohortError(f"{file}: {error}") from error
        array = found.data
        if not found.grid.same_grid(grid, tolerance_mm=1e-3):
            raise CohortError(
                f"{file}: a label map must have its volume's grid, {grid}; found {found.grid}. "
                "Write it again with the volume's affine."
            )
        whole = np.rint(array)
        if not np.array_equal(whole, array) or whole.min() < 0 or whole.max() > 255:
            raise CohortError(
                f"{file}: the values of a label map are whole numbers from 0 to 255. Fix the file."
            )
        return np.asarray(whole, dtype=np.uint8)


def segmentation_utility(
    real: Source,
    synth: Source,
    test: Source,
    *,
    settings: SegmentationSettings | None = None,
    study: StudySettings | None = None,
    progress: Progress | None = None,
    log: Log = to_logger,
) -> UtilityRecord:
    """Return a study of a U-Net trained on real, synthetic and both, by Dice on real subjects.

    Dice is computed for each tissue and test subject; it is 1 for a tissue in neither map.

    Parameters
    ----------
    real, synth, test
        Training, synthetic and test cohort on one grid, with label maps.
    settings
        Settings of the network; None: the defaults.
    study
        The settings of every study; None: the defaults.
    progress, log
        Called with (what, done, total), and with sentences for the user.

    Raises
    ------
    CohortError
        A label map is missing or does not fit, grids differ, or subjects are in training and
        test.
    """
    study = study or StudySettings()
    check.check_rules(study.accept)
    settings = settings or SegmentationSettings()
    cohorts, notes = read_sides(
        real, synth, test, assume_grid=study.assume_grid, count_failures=study.count_failures,
        accept=study.accept, progress=progress, log=log,
    )  # fmt: skip
    mapped = {role: _mapped(cohort, role, study.intensity) for role, cohort in cohorts.items()}
    _check_grids(cohorts)
    found = {role: _tissues(held, role) for role, held in mapped.items()}
    tissues = found["real"]
    notes += [*failure_notes(cohorts["synth"]), *seeds_notes(settings.seeds)]
    for role in ("synth", "test"):
        notes += _other_tissues(found[role], tissues, role)
    return _studied(mapped, tissues, settings, study, notes, progress)


def _studied(
    mapped: dict[str, Mapped],
    tissues: tuple[int, ...],
    settings: SegmentationSettings,
    study: StudySettings,
    notes: list[str],
    progress: Progress | None,
) -> UtilityRecord:
    level, seed = study.level, study.seed
    plans = {REAL: ("real",), SYNTHETIC: ("synth",), BOTH: ("real", "synth")}
    largest = len(mapped["real"]) + len(mapped["synth"])
    steps = settings.epochs * math.ceil(largest / settings.batch_size)
    found: dict[str, Float64[np.ndarray, "s n k"]] = {}
    for done, (arm, sources) in enumerate(plans.items(), 1):
        found[arm] = np.stack(
            [
                _dice_of_training(
                    [mapped[s] for s in sources], mapped["test"], tissues, settings, steps,
                    [seed, number],
                )
                for number in range(settings.seeds)
            ]
        )  # fmt: skip
        if progress:
            progress(arm, done, len(plans))
    subjects = mapped["test"].cohort.subjects
    predictions = {arm: _predictions(dice, subjects, tissues) for arm, dice in found.items()}
    measures = list(predictions[REAL])
    truth = np.zeros(int(subjects.max()) + 1)

    def values(arm: str) -> dict[str, Estimated]:
        return {m: Estimated.of(value(DICE, predictions[arm][m], truth, level)) for m in measures}

    def differences(arm: str, against: str) -> dict[str, Estimated]:
        return {
            m: Estimated.of(
                difference(DICE, predictions[arm][m], predictions[against][m], truth, level),
                tested=True,
            )
            for m in measures
        }

    arms = tuple(
        Arm(
            name=arm, tested=len(truth), values=values(arm),
            real=len(mapped["real"]) if "real" in sources else 0,
            synth=len(mapped["synth"]) if "synth" in sources else 0,
        )
        for arm, sources in plans.items()
    )  # fmt: skip
    over = difference(DICE, predictions[BOTH]["dice"], predictions[REAL]["dice"], truth, level)
    chosen = Settings(
        label="tissues", task="segmentation", levels=tuple(map(str, tissues)), model="unet",
        details=settings.model_dump(mode="json"), extractor=None,
        space=SpaceRecord.of(mapped["real"].volumes.space, mapped["real"].volumes.intensity),
        ratios=(), splits=None, level=level, seed=seed,
    )  # fmt: skip
    records = {role: CohortRecord.of(held.cohort) for role, held in mapped.items()}
    return UtilityRecord(
        name=study.name or generator_of(mapped["synth"].cohort) or "synth",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        settings=chosen,
        settings_hash=chosen.hash,
        cohorts=records,
        measures=tuple(measures),
        arms=arms,
        differences=tuple(
            Difference(arm=one, against=other, values=differences(one, other))
            for one, other in COMPARED
        ),
        summary=summarised(
            DICE, over, arms, records, chosen.question,
            n_real=len(mapped["real"]), n_synth=len(mapped["synth"]),
        ),
        notes=tuple(notes),
        software=software(*PACKAGES),
    )  # fmt: skip


def _predictions(
    dice: Float64[np.ndarray, "s m k"], subjects: np.ndarray, tissues: Sequence[int]
) -> dict[str, Predictions]:
    """Return Dice by subject: the mean over tissues, and that of each tissue."""
    share = np.zeros((len(subjects), int(subjects.max()) + 1))
    share[np.arange(len(subjects)), subjects] = 1
    by_subject = np.einsum("smk,mn->snk", dice, share / share.sum(axis=0))
    each = {f"dice_{t}": Predictions(by_subject[..., k]) for k, t in enumerate(tissues)}
    return {"dice": Predictions(by_subject.mean(axis=2)), **each}


def dice_scores(
    found: UInt8[np.ndarray, "d h w"], truth: UInt8[np.ndarray, "d h w"], labels: Sequence[int]
) -> Float64[np.ndarray, " k"]:
    """Return Dice's coefficient of each label: twice the overlap over the sum of both sizes.

    It is 1 for a label in neither map (Dice 1945, Ecology 26:297-302).
    """
    scores = []
    for label in labels:
        one, other = found == label, truth == label
        sizes = int(one.sum()) + int(other.sum())
        scores.append(1.0 if sizes == 0 else 2 * int((one & other).sum()) / sizes)
    return np.array(scores, dtype=np.float64)


# ---------------------------------------------------------------- label maps


def _mapped(cohort: Cohort, role: str, intensity: Intensity) -> Mapped:
    check_intensities(cohort, intensity, role)
    files = tuple(
        entry.path.with_name(entry.path.name.replace("_T1w.", "_dseg.")) for entry in cohort.entries
    )
    missing = [
        file
        for file, entry in zip(files, cohort.entries, strict=True)
        if file == entry.path or not file.is_file()
    ]
    if missing:
        raise CohortError(
            f"{role}: {len(missing)} of {len(cohort)} volumes have no label map beside them "
            f"(first: {missing[0]}). Its name is the volume's, with _dseg. in place of _T1w.; "
            "for simulated cohorts, type synthbench data atlas --labels"
        )
    return Mapped(cohort, cohort.volumes(intensity=intensity, role=role), files)


def _check_grids(cohorts: dict[str, Cohort]) -> None:
    """Check that all grids are the same: resampling a label map would move its borders."""
    grid = cohorts["real"].grid
    for role, cohort in cohorts.items():
        if not cohort.grid.same_grid(grid):
            raise CohortError(
                f"{role}: its grid is {cohort.grid}, that of the real cohort is {grid}. Resample "
                "volumes and label maps to one grid."
            )


def _tissues(mapped: Mapped, role: str) -> tuple[int, ...]:
    """Return the labels in all label maps; every map is read before anything is trained."""
    found: set[int] = set()
    for index in range(len(mapped)):
        found |= set(np.unique(mapped.labels(index)).tolist())
    tissues = tuple(sorted(found - {0}))
    if not tissues:
        raise CohortError(f"{role}: the label maps have only background. Add tissues.")
    return tissues


def _other_tissues(found: Sequence[int], tissues: Sequence[int], role: str) -> list[str]:
    """Return notes on labels that differ from those of the real cohort.

    Raises
    ------
    CohortError
        No label is the same.
    """
    here, real = (", ".join(map(str, labels)) for labels in (found, tissues))
    if not set(found) & set(tissues):
        raise CohortError(
            f"{role}: the label maps have {here}, those of the real cohort {real}. Use the same "
            "numbers for the tissues."
        )
    more = sorted(set(found) - set(tissues))
    fewer = sorted(set(tissues) - set(found))
    notes = []
    if more:
        notes.append(
            f"{role}: labels that are not in the real maps count as background: "
            f"{', '.join(map(str, more))}"
        )
    if fewer:
        notes.append(
            f"{role}: labels of the real maps that are missing here: {', '.join(map(str, fewer))}"
        )
    return notes


# ---------------------------------------------------------------- the network


def _dice_of_training(
    training: Sequence[Mapped],
    test: Mapped,
    tissues: tuple[int, ...],
    settings: SegmentationSettings,
    steps: int,
    key: Sequence[int],
) -> Float64[np.ndarray, "m k"]:
    """Return Dice of each test volume and tissue, after a training on all of these."""
    import torch

    from synthbench.utility.network import fit

    examples = [(held, index) for held in training for index in range(len(held))]

    def batch(chosen: Sequence[int], draws: torch.Generator) -> tuple[Tensor, Tensor]:
        volumes = [examples[c][0].volumes[examples[c][1]] for c in chosen]
        maps = [_classes(examples[c][0].labels(examples[c][1]), tissues) for c in chosen]
        return torch.from_numpy(np.stack(volumes)[:, None]), torch.from_numpy(np.stack(maps))

    network = fit(
        _unet(settings, len(tissues), key), len(examples), batch, _loss, settings, steps, key
    )
    network.eval()
    device = next(network.parameters()).device
    scores = []
    with torch.inference_mode():
        for index in range(len(test)):
            volume = torch.from_numpy(test.volumes[index])[None, None].to(device)
            classes = network(volume).argmax(dim=1)[0].to(torch.uint8).cpu().numpy()
            truth = _classes(test.labels(index), tissues).astype(np.uint8)
            scores.append(dice_scores(classes, truth, range(1, len(tissues) + 1)))
    return np.stack(scores)


def _unet(settings: SegmentationSettings, tissues: int, key: Sequence[int]) -> nn.Module:
    """Return a U-Net for any grid; its first weights depend on the key alone."""
    import torch
    from monai.networks.nets import UNet

    from synthbench.utility.network import Padded, seed_of

    halvings = len(settings.channels) - 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(key))
        network = UNet(
            spatial_dims=3, in_channels=1, out_channels=1 + tissues, channels=settings.channels,
            strides=(2,) * halvings, num_res_units=1, norm="instance",
        )  # fmt: skip
    return Padded(network, 2**halvings)


def _classes(
    labels: UInt8[np.ndarray, "d h w"], tissues: Sequence[int]
) -> Int64[np.ndarray, "d h w"]:
    """Return labels with tissues numbered from 1; labels of no real training map are 0."""
    number = np.zeros(256, dtype=np.int64)
    number[list(tissues)] = 1 + np.arange(len(tissues))
    return np.asarray(number[labels])


def _loss(output: Tensor, target: Tensor) -> Tensor:
    """Return the sum of soft Dice loss and cross-entropy."""
    from monai.losses import DiceCELoss

    loss = DiceCELoss(softmax=True, to_onehot_y=True, include_background=False)
    found: Tensor = loss(output, target[:, None])
    return found
