"""Downstream utility: do synthetic volumes help a model that is then used on real people?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from synthbench import preflight
from synthbench.cohort import Cohort, check_intensities
from synthbench.errors import UsageError, WeightsError
from synthbench.extraction import extract, load_extractors
from synthbench.feature_cache import FeatureCache
from synthbench.metrics.downstream import Estimate, repeated_splits
from synthbench.processes import is_main
from synthbench.runtime.callbacks import Log, Progress, shown
from synthbench.scorecard import CohortRecord, ExtractorRecord, SpaceRecord, software
from synthbench.scoring_settings import DEFAULT_EXTRACTOR
from synthbench.space import Intensity, Space
from synthbench.utility.arms import MEASURES, Compared, Division, Learner, compare_arms
from synthbench.utility.cohorts import (
    Labelled,
    check_both_classes,
    drawn_subjects,
    generator_of,
    label_rule,
    labelled,
    read_side,
    read_sides,
    real_labels,
    seeds_notes,
    sidecars,
    synth_labels,
)
from synthbench.utility.network import NetworkLearner, NetworkSettings
from synthbench.utility.probe import FOLDS, PENALTIES, Task
from synthbench.utility.probe_learner import AUGMENTATION, Augmented, ProbeLearner
from synthbench.utility.record import (
    BOTH,
    PACKAGES,
    REAL,
    Arm,
    Difference,
    Estimated,
    Settings,
    UtilityRecord,
    summarised,
)
from synthbench.utility.transfer import Transfer, target_of, transferred

Model = Literal["probe", "cnn"]
RATIOS = (0.5, 1.0, 2.0, 5.0)
REFITS = 50


def utility(
    real: Path | str | Cohort,
    synth: Path | str | Cohort,
    test: Path | str | Cohort,
    label: str,
    *,
    synth_labels_file: Path | None = None,
    task: Literal["auto", "classification", "regression"] = "auto",
    model: Model = "probe",
    extractor: str = DEFAULT_EXTRACTOR,
    refits: int = REFITS,
    network: NetworkSettings | None = None,
    ratios: Sequence[float] = RATIOS,
    splits: int | None = None,
    transfer: Transfer | None = None,
    name: str | None = None,
    intensity: Intensity = "percentile",
    level: float = 0.95,
    seed: int = 0,
    assume_grid: float | None = None,
    accept: Sequence[str] = (),
    workers: int = 2,
    cache: bool = True,
    progress: Progress | None = None,
    say: Log = lambda message: None,
) -> UtilityRecord:
    """Train on real, synthetic and both, test all on the same real subjects, and compare.

    Parameters
    ----------
    real, test
        Training and test cohort with a participants table; what `read_cohort` reads. No subject
        is in both.
    synth
        Synthetic volumes. Their labels are those of `synth_labels_file`, of `conditions.tsv`
        beside them, of a participants table, or of their sidecars: the first that there is.
    label
        A column: two classes, or numbers.
    task
        "auto": two classes are a classification, other numbers a regression.
    model
        "probe": a linear model of an extractor's features. "cnn": a 3-D network on the volumes.
    extractor, refits
        Of the probe: whose features, and how often it is refitted on halves of its subjects.
    network
        Of the network.
    ratios
        Synthetic volumes on the curve, in multiples of the real ones.
    splits
        Divide `real` and `test` together anew, this many times: refused where the generator is
        known to have been trained on them.
    transfer
        Pretrain on this label, then fine-tune on another cohort and label.
    name
        What tables call the synthetic volumes.
    intensity, assume_grid, accept, workers, cache, progress, say
        As for `synthbench.score`. All volumes are brought to the grid of `real`.
    level, seed
        Nominal coverage of the intervals; seed of folds, halves, subsets and networks.

    Returns
    -------
    UtilityRecord
        With the verdict in `summary`.

    Raises
    ------
    SynthbenchError
        A cohort or a label cannot be used, or subjects are in training and test.
    """
    preflight.check_rules(accept)
    _check(model, transfer, splits, ratios)
    cohorts, notes = read_sides(
        real, synth, test, assume_grid=assume_grid, accept=accept, progress=progress, say=say
    )
    folder = Path(synth) if isinstance(synth, (Path, str)) else None
    folder = folder if folder is not None and folder.is_dir() else None
    held = {
        "real": real_labels(cohorts["real"], label, "real"),
        "synth": synth_labels(cohorts["synth"], label, folder, synth_labels_file),
        "test": real_labels(cohorts["test"], label, "test"),
    }
    rule = label_rule(label, held["real"], task)
    sources = {r: labelled(cohorts[r], held[r], rule, r) for r in cohorts}
    notes += [
        f"{role}: {s.left_out} volumes without a value of '{label}' are left out"
        for role, s in sources.items()
        if s.left_out
    ]
    target = cohorts["real"].grid
    for role, cohort in cohorts.items():
        if cohort.grid.same_grid(target):
            check_intensities(cohort, intensity, role)
        else:
            notes.append(f"{role} resampled from {cohort.grid} to {target}")
    if splits is not None:
        _check_splits(cohorts)
        notes.append(
            f"real and test were divided anew {splits} times: differences are the mean over "
            "these, arms those of the first"
        )
        sources = _pooled(sources)
    for role, source in sources.items():
        check_both_classes(source, rule, role)
    # Before anything is trained: what is wrong with it should not be said hours later.
    tuned = None if transfer is None else target_of(
        transfer, read_side(transfer.data, "transfer", assume_grid, progress), sources
    )  # fmt: skip
    common = _Common(target, intensity, workers, cache, progress, say, seed)
    if model == "probe":
        learner, record, details = _probe(sources, rule.task, extractor, refits, common)
    else:
        settings = network or NetworkSettings()
        notes += seeds_notes(settings.seeds)
        learner = NetworkLearner.of(sources, target, intensity, rule.task, settings, seed, progress)
        record, details = None, settings.model_dump()
    divisions = _divisions(sources, splits, len(set(cohorts["test"].subjects)), rule.task, seed)
    compared = [
        compare_arms(
            learner, division, rule.task, ratios=ratios if index == 0 else (), level=level,
            seed=seed, progress=progress,
        )
        for index, division in enumerate(divisions)
    ]  # fmt: skip
    found, over = compared[0], compared[0].verdict
    differences = found.differences
    if splits is not None:
        counts = (len(divisions[0].train), len(divisions[0].test))
        differences, over = _over_splits(compared, rule.task, counts, level)
    left = [r for r in ratios if r not in [p.ratio for p in found.curve]]
    if left:
        notes.append(
            f"not on the curve for want of synthetic volumes: {', '.join(f'{r:g}x' for r in left)}"
        )
    chosen = Settings(
        label=label, task=rule.task, levels=rule.levels, model=model, details=details,
        extractor=record, space=SpaceRecord.of(target, intensity), ratios=tuple(ratios),
        splits=splits, level=level, seed=seed,
    )  # fmt: skip
    records = {role: CohortRecord.of(cohort) for role, cohort in cohorts.items()}
    summary = summarised(
        MEASURES[rule.task][0], over, found.arms, records, label=label, task=rule.task,
        model=model, n_real=len(divisions[0].train), n_synth=len(divisions[0].synth),
        settings_hash=chosen.hash,
    )  # fmt: skip
    onwards = None
    if transfer is not None and tuned is not None:
        assert isinstance(learner, NetworkLearner)
        onwards = transferred(
            learner, transfer, *tuned, settings_hash=chosen.hash, level=level, seed=seed,
        )  # fmt: skip
    return UtilityRecord(
        name=name or generator_of(cohorts["synth"]) or "synth",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        settings=chosen,
        settings_hash=chosen.hash,
        cohorts=records,
        measures=tuple(m.name for m in MEASURES[rule.task]),
        arms=found.arms,
        differences=differences,
        curve=found.curve,
        summary=summary,
        transfer=None if onwards is None else onwards.summary,
        transfer_arms=() if onwards is None else onwards.arms,
        notes=(*notes, *_degenerate(found)),
        software=software(*PACKAGES),
    )


# ---------------------------------------------------------------- what is read and refused


@dataclass(frozen=True)
class _Common:
    target: Space
    intensity: Intensity
    workers: int
    cache: bool
    progress: Progress | None
    say: Log
    seed: int


def _check(
    model: Model, transfer: Transfer | None, splits: int | None, ratios: Sequence[float]
) -> None:
    if transfer is not None and model != "cnn":
        raise UsageError(
            "--transfer fine-tunes a network that was pretrained on volumes; a probe has nothing "
            "to fine-tune. Add --model cnn."
        )
    if transfer is not None and splits is not None:
        raise UsageError("--transfer and --splits are two studies: leave one of them out.")
    if splits is not None and splits < 2:
        raise UsageError(f"--splits: at least 2 are needed; found {splits}.")
    wrong = [ratio for ratio in ratios if not 0 < ratio < float("inf")]
    if wrong:
        raise UsageError(f"--ratios: finite multiples above 0 are needed; found {wrong[0]:g}.")


def _check_splits(cohorts: Mapping[str, Cohort]) -> None:
    """A generator that was trained on `real` has seen what other divisions would test on."""
    known = {cohorts["real"].fingerprint, cohorts["test"].fingerprint}
    if known & {sidecar.get("training_cohort") for sidecar in sidecars(cohorts["synth"])}:
        raise UsageError(
            "--splits: the generator was trained on --real, so another division would test on "
            "subjects that it has seen. Leave --splits out, or train it on other subjects."
        )


def _pooled(sources: Mapping[str, Labelled]) -> dict[str, Labelled]:
    """Put real and test volumes together; their persons stay apart where they have one name."""
    real, test = sources["real"], sources["test"]
    entries = tuple(
        replace(entry, subject=f"{role}: {entry.subject}")
        for role in ("real", "test")
        for entry in sources[role].cohort.entries
    )
    together = replace(real.cohort, entries=entries)
    pool = Labelled(together, np.concatenate([real.labels, test.labels]))
    return {"real": pool, "synth": sources["synth"], "test": pool}


def _divisions(
    sources: Mapping[str, Labelled], splits: int | None, n_test: int, task: Task, seed: int
) -> list[Division]:
    synth = np.arange(len(sources["synth"]))
    if splits is None:
        rows = {role: np.arange(len(sources[role])) for role in ("real", "test")}
        return [Division(rows["real"], synth, "test", rows["test"])]
    pool = sources["real"]
    found = []
    for split in range(splits):
        tested = np.isin(pool.subjects, drawn_subjects(pool, n_test, task, [seed, split]))
        found.append(Division(np.flatnonzero(~tested), synth, "test", np.flatnonzero(tested)))
    return found


def _over_splits(
    compared: Sequence[Compared], task: Task, counts: tuple[int, int], level: float
) -> tuple[tuple[Difference, ...], Estimate]:
    """Average each difference over the splits, with Nadeau and Bengio's variance."""
    n_train, n_test = counts
    differences = []
    for index, one in enumerate(compared[0].differences):
        values = {}
        for measure in one.values:
            per_split = np.array([c.differences[index].values[measure].value for c in compared])
            values[measure] = repeated_splits(per_split, n_train, n_test, level)
        differences.append((one, values))
    records = tuple(
        Difference(
            arm=one.arm, against=one.against,
            values={m: Estimated.of(estimate, tested=True) for m, estimate in values.items()},
        )
        for one, values in differences
    )  # fmt: skip
    return records, differences[0][1][MEASURES[task][0].name]


# ---------------------------------------------------------------- the probe


def _probe(
    sources: Mapping[str, Labelled], task: Task, extractor: str, refits: int, common: _Common
) -> tuple[Learner, ExtractorRecord, dict[str, Any]]:
    loaded = load_extractors([extractor], common.say)
    if loaded.missing:
        raise WeightsError(
            f"{'; '.join(map(str, loaded.missing.values()))}. Or choose one that needs no weights: "
            "--extractor voxels, --extractor anatomy"
        )
    record = loaded.records[0]
    plugin = loaded.loaded[record.name]
    kept = FeatureCache(log=common.say) if common.cache else None

    def features(volumes: Any, what: str) -> np.ndarray:
        bar = shown(f"{record.name}, {what}", common.progress)
        return extract(
            plugin, volumes, None, bar, cache=kept, workers=common.workers
        ).astype(np.float64)  # fmt: skip

    volumes = {
        role: source.cohort.volumes(common.target, common.intensity, common.workers, role=role)
        for role, source in sources.items()
    }
    found = {role: features(held, role) for role, held in volumes.items()}
    rounds = -(-len(sources["synth"]) // len(sources["real"]))
    copies = [
        features(Augmented(volumes["real"], r, common.seed), f"real, augmented, round {r + 1}")
        for r in range(rounds)
    ]
    if kept is not None and is_main():
        kept.trim()
    learner = ProbeLearner(sources, found, copies, task, refits, common.seed)
    details = {
        "penalties": list(PENALTIES), "folds": FOLDS, "refits": refits,
        "augmentation": AUGMENTATION.model_dump(exclude={"seed"}),
    }  # fmt: skip
    return learner, record, details


# ---------------------------------------------------------------- records


def _degenerate(found: Compared) -> list[str]:
    """Log where a test set has nothing left to show."""
    perfect = [arm.name for arm in found.arms if _auc(arm) == 1]
    if REAL in perfect and BOTH in perfect:
        return ["both arms order all test subjects right: a difference cannot be seen here; use a "
                "harder label, fewer training subjects or more test subjects"]  # fmt: skip
    return []


def _auc(arm: Arm) -> float | None:
    return arm.values["auc"].value if "auc" in arm.values else None
