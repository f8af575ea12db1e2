"""The options of `synthbench utility`, checked before anything is read, and its study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from synthbench.cohorts.choice import CohortFiles
from synthbench.cohorts.cohort import Cohort
from synthbench.cohorts.reading import read_cohort
from synthbench.errors import ScorecardError, UsageError, near_miss
from synthbench.records.scorecard import Scorecard
from synthbench.records.utility import Utility
from synthbench.records.verdict import add_verdict
from synthbench.runtime.callbacks import Log, Progress, to_logger
from synthbench.scoring.inputs import scored_cohort
from synthbench.utility.network import NetworkSettings
from synthbench.utility.record import UtilityRecord
from synthbench.utility.segmentation import SegmentationSettings, segmentation_utility
from synthbench.utility.settings import StudySettings, UtilitySettings
from synthbench.utility.study import utility_study
from synthbench.utility.transfer import Transfer

MODELS = ("probe", "cnn")


@dataclass(frozen=True)
class Choices:
    """The options that choose the study, as the user typed them."""

    label: str | None
    synth_labels: Path | None
    model: str
    extractor: str
    network: str
    seeds: int
    epochs: int
    batch_size: int
    ratios: str
    splits: int | None
    transfer: str | None
    segmentation: bool


def run(
    real: Path | CohortFiles,
    synth: Path | CohortFiles,
    test: Path | CohortFiles,
    chosen: Choices,
    study: StudySettings,
    *,
    cache: bool = True,
    progress: Progress | None = None,
    log: Log = to_logger,
) -> UtilityRecord:
    """Run the study of the options, and return its record.

    Parameters
    ----------
    real, synth, test
        Cohorts.
    chosen
        The options.
    study
        The settings of every study.
    cache, progress, log
        As for `synthbench.utility.study.utility_study`.

    Raises
    ------
    UsageError
        Options contradict each other.
    SynthbenchError
        The study could not be run.
    """
    if chosen.segmentation:
        _refuse_with_segmentation(chosen)
        settings = SegmentationSettings(
            seeds=chosen.seeds, epochs=chosen.epochs, batch_size=chosen.batch_size
        )
        return segmentation_utility(
            real, synth, test, settings=settings, study=study, progress=progress, log=log
        )
    if chosen.label is None:
        raise UsageError("--label: name a column to predict, such as sex; or add --segmentation.")
    if chosen.model not in MODELS:
        raise UsageError(f"--model {chosen.model}: {near_miss(chosen.model, MODELS)}")
    if chosen.model == "probe":
        _refuse_with_probe(chosen)
    settings_of_label = UtilitySettings(
        label=chosen.label,
        synth_labels_file=chosen.synth_labels,
        model="cnn" if chosen.model == "cnn" else "probe",
        extractor=chosen.extractor,
        network=_network(chosen),
        ratios=_ratios(chosen.ratios),
        splits=chosen.splits,
        transfer=None if chosen.transfer is None else Transfer.parse(chosen.transfer),
        **vars(study),
    )
    return utility_study(
        real, synth, test, settings_of_label, cache=cache, progress=progress, log=log
    )


def add_to_scorecard(
    record: UtilityRecord, file: Path, synth: Path | CohortFiles | Cohort
) -> Utility | None:
    """Write the verdict into a scorecard of the same synthetic volumes.

    A benchmark may have scored only some of them, drawn by its seed, and an extractor of the study
    or of the scorecard may have refused some; `synth` is read to check it.

    Returns
    -------
    The verdict that is replaced; None where there was none.

    Raises
    ------
    ScorecardError
        The scorecard is of other volumes.
    """
    card = Scorecard.load(file)
    if card.synth.fingerprint != record.cohorts["synth"].fingerprint and not _scored(card, synth):
        raise ScorecardError(
            f"{file}: a scorecard of other synthetic volumes (fingerprint "
            f"{card.synth.fingerprint[:12]}, here {record.cohorts['synth'].fingerprint[:12]}). "
            "Name the scorecard of these."
        )
    add_verdict(file, record.summary)
    return card.utility


def _scored(card: Scorecard, synth: Path | CohortFiles | Cohort) -> bool:
    """Return True where the scorecard is of these volumes, or of some of them."""
    cohort = synth
    if not isinstance(cohort, Cohort):
        counted = card.synth.failed is not None
        cohort = read_cohort(cohort, role="synth", count_failures=counted)
    return scored_cohort(cohort, card.synth, "synth", card.protocol.seed) is not None


def _refuse_with_segmentation(chosen: Choices) -> None:
    changed: Mapping[str, bool] = {
        "--label": chosen.label is not None,
        "--synth-labels": chosen.synth_labels is not None,
        "--splits": chosen.splits is not None,
        "--transfer": chosen.transfer is not None,
        "--model": chosen.model != MODELS[0],
        "--network": chosen.network != NetworkSettings().network,
    }
    wrong = [option for option, differs in changed.items() if differs]
    if wrong:
        raise UsageError(f"--segmentation learns label maps: leave out {', '.join(wrong)}.")


def _refuse_with_probe(chosen: Choices) -> None:
    """Refuse settings of a network that are not the defaults: a probe would ignore them."""
    defaults = NetworkSettings()
    changed: Mapping[str, bool] = {
        "--network": chosen.network != defaults.network,
        "--seeds": chosen.seeds != defaults.seeds,
        "--epochs": chosen.epochs != defaults.epochs,
        "--batch-size": chosen.batch_size != defaults.batch_size,
    }
    wrong = [option for option, differs in changed.items() if differs]
    if wrong:
        raise UsageError(
            f"--model probe trains no network: leave out {', '.join(wrong)}, or add --model cnn."
        )


def _network(chosen: Choices) -> NetworkSettings:
    try:
        return NetworkSettings(
            network=chosen.network,
            seeds=chosen.seeds, epochs=chosen.epochs, batch_size=chosen.batch_size,
        )  # fmt: skip
    except ValidationError:
        hint = near_miss(chosen.network, ("resnet10", "densenet121"))
        raise UsageError(f"--network {chosen.network}: {hint}") from None


def _ratios(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise UsageError(f"--ratios {text}: write numbers as 0.5,1,2,5.") from None
