"""A utility record as tables for a terminal: verdict, arms, differences and curve."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group

from synthbench.metrics.inference.downstream import AUC, DICE, MAE, Measure
from synthbench.records.utility import Utility
from synthbench.render.numbers import p_text
from synthbench.render.terminal import Table, Text
from synthbench.utility.record import Arm, Estimated, UtilityRecord, written

TITLES = {"auc": "AUC", "balanced_accuracy": "balanced accuracy", "mae": "MAE", "r2": "R²"}
SOURCES = {
    "test subjects": "which subjects were tested",
    "training subjects": "which were trained on",
    "training seeds": "the trainings' seeds",
    "training seeds of the other arm": "and of the other arm's",
    "repeated splits": "the splits",
}

_PRIMARY: Mapping[str, Measure] = {"classification": AUC, "regression": MAE, "segmentation": DICE}


def title(measure: str) -> str:
    """Return the name of a measure in tables."""
    return TITLES.get(measure, measure.replace("dice_", "Dice, ").replace("dice", "Dice"))


def cell(found: Estimated | None, *, signed: bool = False) -> str:
    """Return a value with its interval as text.

    >>> cell(Estimated(value=0.8, low=0.7, high=0.9, se=0.05, df=9, variance={}))
    '0.800 [0.700, 0.900]'
    """
    if found is None:
        return "-"
    sign = "+" if signed else ""
    digits = 3 if abs(found.value) < 10 else 1
    value, low, high = (f"{x:{sign}.{digits}f}" for x in (found.value, found.low, found.high))
    return f"{value} [{low}, {high}]"


def verdict_words(found: Utility) -> str:
    """Return a verdict as the text of a cell: the word, the difference, its unit and the label.

    >>> verdict_words(Utility(
    ...     label="sex", task="classification", model="probe", measure="auc", difference=0.195,
    ...     low=0.091, high=0.299, level=0.95, p=0.001, verdict="helped", sentence="", arms={},
    ...     n_real=20, n_synth=200, n_test=300, settings_hash="0" * 12))
    'helped: +19.5 [9.1, 29.9] points AUC (sex, 20 real)'
    """
    scale, unit, digits = written(_PRIMARY[found.task], found.low, found.high)
    low, high = (f"{scale * x:.{digits}f}" for x in (found.low, found.high))
    value = f"{scale * found.difference:+.{digits}f}"
    return f"{found.verdict}: {value} [{low}, {high}] {unit} ({found.label}, {found.n_real} real)"


def trained_words(found: Utility) -> str:
    """Return what the arm of the verdict was trained on, as text."""
    return f"{found.n_real} real and {found.n_synth} synthetic volumes"


def subject_words(found: Utility) -> str:
    """Return who was tested: the number of subjects, and their cohort where it is recorded."""
    cohort = found.cohorts.get("test")
    of = "" if cohort is None else f" of cohort {cohort.fingerprint[:12]}"
    return f"{found.n_test} real subjects{of}"


def utility_table(record: UtilityRecord) -> Group:
    """Return the record as a Rich renderable."""
    chosen = record.settings
    head = " | ".join(
        [record.name, f"label {chosen.label}", chosen.model,
         *([] if chosen.extractor is None else [chosen.extractor.label]),
         f"tested on {record.summary.n_test} subjects", f"settings {record.settings_hash}"]
    )  # fmt: skip
    parts: list[Text | Table] = [
        Text(head, style="bold"),
        Text(record.summary.sentence),
        _arms(record.arms, record),
        _differences(record),
    ]
    if record.curve:
        parts.append(_curve(record))
    if record.transfer is not None:
        parts += [
            Text(f"fine-tuned on {record.transfer.label}: {record.transfer.sentence}"),
            _arms(record.transfer_arms, record),
        ]
    parts.append(Text(_variance_text(record), style="dim"))
    parts += [Text(f"note: {note}", style="dim") for note in record.notes]
    return Group(*parts)


def _arms(arms: tuple[Arm, ...], record: UtilityRecord) -> Table:
    table = Table()
    table.add_column("trained on")
    for source in ("real", "synth", "augmented"):
        table.add_column(source, justify="right")
    measures = list(arms[0].values)
    for measure in measures:
        heading = f"{title(measure)}, {record.settings.level:.0%} CI"
        table.add_column(heading, justify="right")
    for arm in arms:
        counts = (str(n) if n else "-" for n in (arm.real, arm.synth, arm.augmented))
        table.add_row(arm.name, *counts, *(cell(arm.values.get(m)) for m in measures))
    return table


def _differences(record: UtilityRecord) -> Table:
    table = Table()
    table.add_column("difference")
    for measure in record.measures:
        table.add_column(title(measure), justify="right")
    table.add_column("p", justify="right")
    for found in record.differences:
        primary = found.values[record.measures[0]]
        table.add_row(
            f"{found.arm} minus {found.against}",
            *(cell(found.values.get(m), signed=True) for m in record.measures),
            p_text(primary.p),
        )
    return table


def _curve(record: UtilityRecord) -> Table:
    measure = record.measures[0]
    table = Table()
    table.add_column("synthetic volumes added")
    table.add_column(title(measure), justify="right")
    table.add_column("minus real alone", justify="right")
    for point in record.curve:
        table.add_row(
            f"{point.ratio:g}x ({point.synth})",
            cell(point.arm[measure]),
            cell(point.difference[measure], signed=True),
        )
    return table


def _variance_text(record: UtilityRecord) -> str:
    """Return the sources of the variance of the verdict, with their shares."""
    found = record.differences[0].values[record.measures[0]]
    total = sum(found.variance.values())
    if not total:
        return "the arms do not differ"
    shares = (
        f"{SOURCES.get(source, source)} {variance / total:.0%}"
        for source, variance in found.variance.items()
    )
    return f"the verdict's variance: {', '.join(shares)}"
