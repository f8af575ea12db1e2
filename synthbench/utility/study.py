"""A study of downstream utility on a label: reading, training, comparison and record."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from synthbench.cohorts.cohort import Cohort, check_intensities
from synthbench.cohorts.listing import is_path
from synthbench.cohorts.preflight import check
from synthbench.errors import UsageError, WeightsError
from synthbench.metrics.inference.downstream import Estimate, repeated_splits
from synthbench.records.cohort import CohortRecord
from synthbench.records.protocol import ExtractorRecord, SpaceRecord
from synthbench.records.scorecard import software
from synthbench.runtime.callbacks import Log, Progress, shown, to_logger
from synthbench.runtime.processes import is_main
from synthbench.scoring.cache.store import Cache
from synthbench.scoring.features import extract, load_extractors
from synthbench.utility.arms import MEASURES, Compared, Division, Learner, compare_arms
from synthbench.utility.cohorts import (
    Labelled,
    LabelRule,
    Source,
    check_both_classes,
    check_enough,
    drawn_subjects,
    failure_notes,
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
from synthbench.utility.settings import UtilitySettings
from synthbench.utility.transfer import Transferred, target_of, transferred
from synthbench.volumes.grid import Space


@dataclass(frozen=True)
class _Sides:
    """The cohorts of a study, their labelled volumes, and notes for the reader."""

    cohorts: Mapping[str, Cohort]
    sources: Mapping[str, Labelled]
    rule: LabelRule
    notes: tuple[str, ...]

    @property
    def target(self) -> Space:
        """The grid that all volumes are resampled to: that of the real cohort."""
        return self.cohorts["real"].grid

    def without_refused(self, indices: Collection[int]) -> _Sides:
        """Return the sides in which these labelled synthetic volumes have failed.

        Raises
        ------
        CohortError
            Too few are left.
        """
        synth, cohort = self.sources["synth"], self.cohorts["synth"]
        lost = {synth.cohort.entries[i].name for i in indices}
        rows = np.setdiff1d(np.arange(len(synth)), list(indices))
        rest = replace(synth.subset(rows), left_out=synth.left_out)
        check_enough(rest.cohort, self.rule, "synth")
        check_both_classes(rest, self.rule, "synth")
        failed = [i for i, entry in enumerate(cohort.entries) if entry.name in lost]
        return replace(
            self,
            cohorts={**self.cohorts, "synth": cohort.with_failed(failed, "refused")},
            sources={**self.sources, "synth": rest},
        )


@dataclass(frozen=True)
class _Model:
    """The model of a study, the sides that it can learn from, and what the record says of it."""

    learner: Learner
    sides: _Sides
    extractor: ExtractorRecord | None
    details: dict[str, Any]


@dataclass(frozen=True)
class _Context:
    """Options that change no number."""

    workers: int
    cache: bool
    progress: Progress | None
    log: Log


def utility(
    real: Source,
    synth: Source,
    test: Source,
    label: str,
    *,
    workers: int = 2,
    cache: bool = True,
    progress: Progress | None = None,
    log: Log = to_logger,
    **settings: Any,
) -> UtilityRecord:
    """Return a study: training on real, synthetic and both, compared on the same real subjects.

    Parameters
    ----------
    real, synth, test
        As for `utility_study`.
    label, settings
        The fields of `synthbench.utility.settings.UtilitySettings`, by name.
    workers, cache, progress, log
        As for `utility_study`.

    Returns
    -------
    UtilityRecord
        With the verdict in `summary`.

    Raises
    ------
    SynthbenchError
        As for `utility_study`, or settings contradict each other.
    """
    chosen = UtilitySettings(label=label, **settings)
    return utility_study(
        real, synth, test, chosen, workers=workers, cache=cache, progress=progress, log=log
    )


def utility_study(
    real: Source,
    synth: Source,
    test: Source,
    settings: UtilitySettings,
    *,
    workers: int = 2,
    cache: bool = True,
    progress: Progress | None = None,
    log: Log = to_logger,
) -> UtilityRecord:
    """Return a study: training on real, synthetic and both, compared on the same real subjects.

    Parameters
    ----------
    real, test
        Training and test cohort with a participants table; anything that `read_cohort` reads. No
        subject is in both.
    synth
        Synthetic volumes with labels (`UtilitySettings.synth_labels_file`). All volumes are
        resampled to the grid of `real`.
    settings
        All that can change a number.
    workers
        Number of threads that read and resample volumes ahead.
    cache
        Keep features for later runs.
    progress, log
        Called with (what, done, total), and with sentences for the user.

    Returns
    -------
    UtilityRecord
        With the verdict in `summary`.

    Raises
    ------
    SynthbenchError
        A cohort or a label cannot be used, or subjects are in training and test.
    """
    check.check_rules(settings.accept)
    context = _Context(workers, cache, progress, log)
    sides = _read(real, synth, test, settings, context)
    # Checked before anything is trained, so that a fault is not reported hours later.
    tuned = None if settings.transfer is None else target_of(
        settings.transfer,
        read_side(settings.transfer.data, "transfer", settings.assume_grid, progress),
        sides.sources,
    )  # fmt: skip
    model = _learner(sides, settings, context)
    learner, sides = model.learner, model.sides
    n_test = len(set(sides.cohorts["test"].subjects))
    divisions = _divisions(sides, settings, n_test)
    compared = [
        compare_arms(
            learner, division, sides.rule.task, ratios=settings.ratios if index == 0 else (),
            level=settings.level, seed=settings.seed, progress=progress,
        )
        for index, division in enumerate(divisions)
    ]  # fmt: skip
    chosen = Settings(
        label=settings.label, task=sides.rule.task, levels=sides.rule.levels,
        model=settings.model, details=model.details, extractor=model.extractor,
        space=SpaceRecord.of(sides.target, settings.intensity), ratios=tuple(settings.ratios),
        splits=settings.splits, level=settings.level, seed=settings.seed,
    )  # fmt: skip
    onwards = None
    if settings.transfer is not None and tuned is not None:
        assert isinstance(learner, NetworkLearner)
        onwards = transferred(
            learner, settings.transfer, *tuned, settings_hash=chosen.hash,
            level=settings.level, seed=settings.seed,
        )  # fmt: skip
    return _record(sides, settings, chosen, divisions[0], compared, onwards)


# ---------------------------------------------------------------- cohorts and their checks


def _read(
    real: Source,
    synth: Source,
    test: Source,
    settings: UtilitySettings,
    context: _Context,
) -> _Sides:
    """Return the three cohorts with labels; real and test are pooled for repeated splits."""
    cohorts, notes = read_sides(
        real, synth, test, assume_grid=settings.assume_grid,
        count_failures=settings.count_failures, accept=settings.accept,
        progress=context.progress, log=context.log,
    )  # fmt: skip
    label = settings.label
    folder = Path(str(synth)) if is_path(synth) else None
    folder = folder if folder is not None and folder.is_dir() else None
    labels = {
        "real": real_labels(cohorts["real"], label, "real"),
        "synth": synth_labels(cohorts["synth"], label, folder, settings.synth_labels_file),
        "test": real_labels(cohorts["test"], label, "test"),
    }
    rule = label_rule(label, labels["real"], settings.task)
    sources = {r: labelled(cohorts[r], labels[r], rule, r) for r in cohorts}
    notes += [
        f"{role}: {s.left_out} volumes without a value of '{label}' are left out"
        for role, s in sources.items()
        if s.left_out
    ]
    target = cohorts["real"].grid
    for role, cohort in cohorts.items():
        if cohort.grid.same_grid(target):
            check_intensities(cohort, settings.intensity, role)
        else:
            notes.append(f"{role} resampled from {cohort.grid} to {target}")
    if settings.splits is not None:
        _check_splits(cohorts)
        notes.append(
            f"real and test were pooled and split {settings.splits} times: differences are means "
            "over the splits, arms are those of the first split"
        )
        sources = _pooled(sources)
    for role, source in sources.items():
        check_both_classes(source, rule, role)
    return _Sides(cohorts, sources, rule, tuple(notes))


def _check_splits(cohorts: Mapping[str, Cohort]) -> None:
    """Refuse a generator that was trained on `real`: it has seen subjects of other splits."""
    known = {cohorts["real"].fingerprint, cohorts["test"].fingerprint}
    if known & {sidecar.get("training_cohort") for sidecar in sidecars(cohorts["synth"])}:
        raise UsageError(
            "--splits: the generator was trained on --real, so another split would test on "
            "subjects that it has seen. Leave --splits out, or train it on other subjects."
        )


def _pooled(sources: Mapping[str, Labelled]) -> dict[str, Labelled]:
    """Return real and test volumes as one pool; equal names in both stay two persons."""
    real, test = sources["real"], sources["test"]
    entries = tuple(
        replace(entry, subject=f"{role}: {entry.subject}")
        for role in ("real", "test")
        for entry in sources[role].cohort.entries
    )
    together = replace(real.cohort, entries=entries)
    pool = Labelled(together, np.concatenate([real.labels, test.labels]))
    return {"real": pool, "synth": sources["synth"], "test": pool}


def _divisions(sides: _Sides, settings: UtilitySettings, n_test: int) -> list[Division]:
    sources, task = sides.sources, sides.rule.task
    synth = np.arange(len(sources["synth"]))
    if settings.splits is None:
        rows = {role: np.arange(len(sources[role])) for role in ("real", "test")}
        return [Division(rows["real"], synth, "test", rows["test"])]
    pool = sources["real"]
    found = []
    for split in range(settings.splits):
        key = [settings.seed, split]
        tested = np.isin(pool.subjects, drawn_subjects(pool, n_test, task, key))
        found.append(Division(np.flatnonzero(~tested), synth, "test", np.flatnonzero(tested)))
    return found


def _over_splits(
    compared: Sequence[Compared], task: Task, counts: tuple[int, int], level: float
) -> tuple[tuple[Difference, ...], Estimate]:
    """Return the mean differences over the splits, with Nadeau and Bengio's variance."""
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


# ---------------------------------------------------------------- models


def _learner(sides: _Sides, settings: UtilitySettings, context: _Context) -> _Model:
    if settings.model == "probe":
        return _probe(sides, settings, context)
    network = settings.network or NetworkSettings()
    learner = NetworkLearner.of(
        sides.sources, sides.target, settings.intensity, sides.rule.task, network, settings.seed,
        context.progress,
    )  # fmt: skip
    return _Model(learner, sides, None, network.model_dump())


def _probe(sides: _Sides, settings: UtilitySettings, context: _Context) -> _Model:
    """Return the probe. Where failures are counted, what the extractor refuses is one."""
    seed = settings.seed
    loaded = load_extractors([settings.extractor], context.log)
    if loaded.missing:
        raise WeightsError(
            f"{'; '.join(map(str, loaded.missing.values()))}. Or choose an extractor "
            "without weights: --extractor voxels, --extractor anatomy"
        )
    record = loaded.records[0]
    plugin = loaded.loaded[record.name]
    kept = Cache(log=context.log) if context.cache else None

    def features(volumes: Any, what: str, may_refuse: bool = False) -> np.ndarray:
        bar = shown(f"{record.name}, {what}", context.progress)
        return extract(
            plugin, volumes, None, bar, cache=kept, workers=context.workers, may_refuse=may_refuse
        ).astype(np.float64)

    volumes = {
        role: source.cohort.volumes(sides.target, settings.intensity, context.workers, role=role)
        for role, source in sides.sources.items()
    }
    found = {
        role: features(held, role, may_refuse=settings.count_failures and role == "synth")
        for role, held in volumes.items()
    }
    usable = np.isfinite(found["synth"]).all(axis=1)
    if settings.count_failures and not usable.all():
        sides = sides.without_refused(np.flatnonzero(~usable).tolist())
        found["synth"] = found["synth"][usable]
    sources = sides.sources
    rounds = -(-len(sources["synth"]) // len(sources["real"]))
    copies = [
        features(Augmented(volumes["real"], r, seed), f"real, augmented, round {r + 1}")
        for r in range(rounds)
    ]
    if kept is not None and is_main():
        kept.trim()
    learner = ProbeLearner(sources, found, copies, sides.rule.task, settings.refits, seed)
    details = {
        "penalties": list(PENALTIES), "folds": FOLDS, "refits": settings.refits,
        "augmentation": AUGMENTATION.model_dump(exclude={"seed"}),
    }  # fmt: skip
    return _Model(learner, sides, record, details)


# ---------------------------------------------------------------- records


def _record(
    sides: _Sides,
    settings: UtilitySettings,
    chosen: Settings,
    division: Division,
    compared: Sequence[Compared],
    onwards: Transferred | None,
) -> UtilityRecord:
    """Return the record of a study; the arms are those of the first `division`."""
    task, found = sides.rule.task, compared[0]
    differences, over = found.differences, found.verdict
    if settings.splits is not None:
        counts = (len(division.train), len(division.test))
        differences, over = _over_splits(compared, task, counts, settings.level)
    records = {role: CohortRecord.of(cohort) for role, cohort in sides.cohorts.items()}
    return UtilityRecord(
        name=settings.name or generator_of(sides.cohorts["synth"]) or "synth",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        settings=chosen,
        settings_hash=chosen.hash,
        cohorts=records,
        measures=tuple(m.name for m in MEASURES[task]),
        arms=found.arms,
        differences=differences,
        curve=found.curve,
        summary=summarised(
            MEASURES[task][0], over, found.arms, records, chosen.question,
            n_real=len(division.train), n_synth=len(division.synth),
        ),
        transfer=None if onwards is None else onwards.summary,
        transfer_arms=() if onwards is None else onwards.arms,
        notes=(
            *failure_notes(sides.cohorts["synth"]), *sides.notes,
            *_of_training(settings, found), *_degenerate(found),
        ),
        software=software(*PACKAGES),
    )  # fmt: skip


def _of_training(settings: UtilitySettings, found: Compared) -> list[str]:
    """Return notes on the trainings: a single seed, and ratios that were left out."""
    notes = []
    if settings.model == "cnn":
        notes += seeds_notes((settings.network or NetworkSettings()).seeds)
    drawn = [point.ratio for point in found.curve]
    left = [f"{ratio:g}x" for ratio in settings.ratios if ratio not in drawn]
    if left:
        notes.append(
            f"not on the curve, because there are too few synthetic volumes: {', '.join(left)}"
        )
    return notes


def _degenerate(found: Compared) -> list[str]:
    """Return a note where both arms are perfect, so that no difference can be seen."""
    perfect = [arm.name for arm in found.arms if _auc(arm) == 1]
    if REAL in perfect and BOTH in perfect:
        return ["both arms order all test subjects correctly, so no difference can be seen: use a "
                "harder label, fewer training subjects or more test subjects"]  # fmt: skip
    return []


def _auc(arm: Arm) -> float | None:
    return arm.values["auc"].value if "auc" in arm.values else None
