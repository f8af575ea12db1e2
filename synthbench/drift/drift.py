"""Drift: is the difference between two scorecards noise, and if not, what changed?

The question depends on what the two share.

The same images, scored again: nothing random separates the two, so a change is compared with the
terms that the metric is a sum of (`Value.magnitude`).

New samples against the same real images: did the generator change, did a metric change, and is the
change within a margin that does not matter (`synthbench.drift.two_samples`)? Comparing the two
intervals answers none of these questions.

Two generators: the same statistics say which of them is closer.

Other real images: nothing can be compared, and the differing fields are named.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from synthbench.drift.causes import (
    ROUNDING,
    SMALL,
    Cause,
    differences,
    images_in_common,
    moved_reals,
    relative,
)
from synthbench.drift.result import Drift, Kind, Outcome
from synthbench.drift.two_samples import (
    NO_CHANGE,
    NO_CLOSER,
    GeneratorTest,
    MetricDrift,
    Requested,
    Rivals,
    Status,
    Terms,
    compare_samples,
    excludes_zero,
    share_seeds,
)
from synthbench.errors import UsageError, near_miss
from synthbench.records.keys import JobKey
from synthbench.records.scorecard import Scorecard
from synthbench.records.values import Missing, Value
from synthbench.render.numbers import p_text
from synthbench.scoring.sample_data import SampleData, load_sample_data, require_sample_data

MOSTLY_THE_SAME = 0.5
"""Share of equal images above which a set is the same one with images exchanged."""


@dataclass(frozen=True)
class _Pair:
    """Two scorecards, how they differ, and the options of their comparison.

    `files` are their names in messages, `names` those in tables.
    """

    baseline: Scorecard
    current: Scorecard
    files: tuple[str, str]
    names: tuple[str, str]
    causes: tuple[Cause, ...]
    metrics: Sequence[str] | None
    deltas: Mapping[str, float]
    alpha: float
    gate: bool

    def result(
        self,
        kind: Kind,
        statement: str,
        outcome: Outcome,
        verdict: str,
        *,
        generator: Sequence[GeneratorTest] = (),
        metrics: Sequence[MetricDrift] = (),
        notes: Sequence[str] = (),
    ) -> Drift:
        return Drift(
            kind=kind, baseline=self.names[0], current=self.names[1], statement=statement,
            outcome=outcome, verdict=verdict, alpha=self.alpha, causes=self.causes,
            generator=tuple(generator), metrics=tuple(metrics), notes=tuple(notes),
        )  # fmt: skip


def drift(
    baseline: Scorecard | Path | str,
    current: Scorecard | Path | str,
    *,
    metrics: Sequence[str] | None = None,
    deltas: Mapping[str, float] | None = None,
    alpha: float = 0.05,
    sample_data: Sequence[Path] = (),
    gate: bool = False,
) -> Drift:
    """Return the comparison of two scorecards: what differs, and whether it is noise.

    Parameters
    ----------
    baseline, current
        Scorecards, or their files.
    metrics
        Names of rows ("fid", "ms_ssim.synth"), for every extractor. None: all rows for the same
        images; for samples all metrics, without their parts and without those for papers.
    deltas
        By name, the margin within which a difference of samples does not matter, in the metric's
        unit. A metric with a margin here passes exactly where equivalence is shown. For other
        metrics the margin is the baseline's minimum detectable effect, and equivalence is
        reported without deciding.
    alpha
        Probability of a false alarm. Between samples, half is for the generator's test and half
        for the metrics together.
    sample_data
        Files of `synthbench score --sample-data`, for volumes that were scored elsewhere.
    gate
        True: a difference between two generators counts as drift.

    Returns
    -------
    Drift
        Its `exit_code` is that of the command.

    Raises
    ------
    ScorecardError
        A scorecard cannot be read, or sample data that are needed are not on this machine.
    UsageError
        There is no such metric, or a margin or alpha has no allowed value.
    """
    if not 0 < alpha < 1:
        raise UsageError(f"--alpha: must lie between 0 and 1; found {alpha}. Use 0.05.")
    (first, first_file), (second, second_file) = _opened(baseline), _opened(current)
    pair = _Pair(
        baseline=first, current=second, files=(first_file, second_file),
        names=_called(first, second), causes=differences(first, second), metrics=metrics,
        deltas=deltas or {}, alpha=alpha, gate=gate,
    )  # fmt: skip
    if first.real.fingerprint != second.real.fingerprint:
        return _other_reals(pair, sample_data)
    if first.synth.fingerprint == second.synth.fingerprint:
        return _rescored(pair)
    one = require_sample_data(first, first_file, sample_data)
    other = require_sample_data(second, second_file, sample_data)
    common = images_in_common(one, other, "synth") or 0
    if common > MOSTLY_THE_SAME * min(first.synth.n, second.synth.n):
        return _exchanged(pair, common)
    return _resampled(pair, one, other, common)


# ---------------------------------------------------------------- other real images


def _other_reals(pair: _Pair, sample_data: Sequence[Path]) -> Drift:
    one, other = (load_sample_data(card, sample_data) for card in (pair.baseline, pair.current))
    notes, n = [], pair.current.real.n
    common = images_in_common(one, other, "real") if one and other else None
    if common:
        notes.append(
            f"{common} of {n} real volumes are in both scorings, to the bit; {n - common} changed"
        )
    return pair.result(
        "not comparable",
        "the real volumes are not the same: values against two references are two quantities",
        "not comparable",
        "nothing can be compared: score both against one real cohort",
        notes=notes,
    )


# ---------------------------------------------------------------- the same images


def _rescored(pair: _Pair) -> Drift:
    """Judge each row by its change over its terms."""
    rows = _changes(pair)
    outcome = _outcome(rows, (), warn=any(cause.small for cause in pair.causes))
    real, synth = pair.baseline.real.n, pair.baseline.synth.n
    return pair.result(
        "rescore",
        f"the same images scored again ({real} real, {synth} synthetic)",
        outcome,
        _rescore_verdict(outcome, rows, pair.causes),
        metrics=rows,
        notes=_notes_on_terms(pair),
    )


def _exchanged(pair: _Pair, common: int) -> Drift:
    """Judge a set that shares `common` images with the baseline: it is not a new sample."""
    rows, n = _changes(pair), pair.current.synth.n
    outcome: Outcome = "drift" if _outcome(rows, ()) != "not comparable" else "not comparable"
    return pair.result(
        "changed images",
        f"neither a re-scoring nor new samples: {common} of {n} synthetic volumes are those of "
        "the baseline, to the bit",
        outcome,
        f"drift: {n - common} of {n} synthetic volumes are other images than in the baseline"
        if outcome == "drift"
        else _partly(rows),
        metrics=rows,
        notes=_notes_on_terms(pair),
    )


def _changes(pair: _Pair) -> list[MetricDrift]:
    if pair.deltas:
        raise UsageError(
            "--delta: a margin is for new samples; these are the same images, whose values may "
            "change by rounding only. Leave it out."
        )
    return [
        change(before, after) if (why := _refusal(before, after, pair.causes)) is None
        else _not_compared(before, why)
        for before, after in _rows(pair, everything=True)
    ]  # fmt: skip


def change(before: Value, after: Value) -> MetricDrift:
    """Return the judgement on a row of the same images, by its change over the row's terms.

    The terms are the larger `Value.magnitude` of the two; where neither has one, the values. An
    MMD^2 near zero is a difference of large terms, and rounding is small compared with these.
    """
    assert before.value is not None
    assert after.value is not None
    sizes = [row.magnitude for row in (before, after) if row.magnitude is not None]
    terms = max(sizes or [abs(before.value), abs(after.value)])
    share = relative(after.value - before.value, terms)
    status: Status = "pass" if share <= ROUNDING else "warn" if share <= SMALL else "fail"
    words = {
        "pass": "the same" if share == 0 else "rounding",
        "warn": f"more than rounding (over {ROUNDING:g})",
        "fail": f"moved (over {SMALL:g})",
    }
    return MetricDrift(
        metric=after.metric, extractor=after.extractor, label=after.label, status=status,
        words=words[status], baseline=before.value, current=after.value, relative=share,
        difference=after.value - before.value,
    )  # fmt: skip


def _notes_on_terms(pair: _Pair) -> list[str]:
    if all(row.magnitude is not None for row in pair.baseline.values if row.value is not None):
        return []
    return ["the baseline has no magnitudes: those of the current scorecard are used"]


def _rescore_verdict(outcome: Outcome, rows: Sequence[MetricDrift], causes: Sequence[Cause]) -> str:
    if outcome == "not comparable":
        return _partly(rows)
    if outcome == "pass":
        return "no drift: values agree to rounding"
    moved = [row.name for row in rows if row.status in ("warn", "fail")]
    what = ", ".join(moved) or "a number that the protocol froze on the real volumes"
    software = [f"{c.field} {c.baseline} -> {c.current}" for c in causes if c.kind == "software"]
    why = (
        f"what differs is the software: {', '.join(software)}"
        if software
        else "images, protocol and recorded versions are the same: another machine or device, or "
        "a library whose version is not recorded"
    )
    return f"{'drift' if outcome == 'drift' else 'small drift'}: {what} moved; {why}"


# ---------------------------------------------------------------- new samples


def _resampled(pair: _Pair, one: SampleData, other: SampleData, common: int) -> Drift:
    """Judge new samples, or two generators, by `synthbench.drift.two_samples`."""
    pair = replace(pair, causes=(*pair.causes, *moved_reals(one, other, pair.causes)))
    rival = _two_generators(pair)
    chosen = list(_rows(pair, everything=False))
    _check_deltas(pair.deltas, [before.metric for before, _ in chosen])
    refused, requested = [], []
    for before, after in chosen:
        why = _refusal(before, after, pair.causes)
        if why is None:
            requested.append(_requested(before, pair.deltas))
        else:
            refused.append(_not_compared(before, why))
    protocol = pair.current.protocol
    terms = Terms(
        alpha=pair.alpha, resamples=protocol.resamples, permutations=protocol.permutations,
        seed=protocol.seed, rivals=Rivals(pair.names, pair.gate) if rival else None,
    )  # fmt: skip
    tests, compared = compare_samples(one, other, requested, terms)
    rows = [*compared, *refused]
    outcome = _outcome(rows, tests, warn=any(cause.small for cause in pair.causes))
    return pair.result(
        "side by side" if rival else "resample",
        _statement(pair, rival, _seeds(one, other)),
        outcome,
        _resample_verdict(outcome, rows, tests, pair.names, rival),
        generator=tests,
        metrics=rows,
        notes=[
            *([] if rival else _notes_on_seeds(_seeds(one, other))),
            *_notes_on_samples(common, rows, pair.alpha, tested=bool(tests)),
        ],
    )


def _two_generators(pair: _Pair) -> bool:
    """Return True where sidecars name two generators, or two trained networks of one."""
    origins = pair.baseline.origin, pair.current.origin
    named = [[getattr(o, field) for o in origins] for field in ("generator", "weights_sha256")]
    return any(None not in (one, other) and one != other for one, other in named)


def _requested(row: Value, deltas: Mapping[str, float]) -> Requested:
    margin = deltas.get(row.metric)
    # Zero, where all splits of the real set scored the same, is no margin.
    effect = (row.floor.minimum_detectable_effect if row.floor else None) or None
    return Requested(
        metric=row.metric, extractor=row.extractor, label=row.label,
        direction=row.direction, role=row.role,
        delta=effect if margin is None else margin, given=margin is not None,
    )  # fmt: skip


def _check_deltas(deltas: Mapping[str, float], known: Sequence[str]) -> None:
    for name, delta in deltas.items():
        if name not in known:
            raise UsageError(f"--delta {name}: it is not compared; {near_miss(name, known)}")
        if not (math.isfinite(delta) and delta > 0):
            raise UsageError(f"--delta {name}: a positive number is needed; found {delta}.")


@dataclass(frozen=True)
class _Seeds:
    """Which seeds two samples have in common: all, some (`shared`) or none; or it is not known."""

    named: bool
    same: bool
    shared: int

    @property
    def words(self) -> str:
        if self.same:
            return "of the same seeds"
        if not self.named:
            return "seeds not named"
        return f"{self.shared} seeds in both" if self.shared else "of other seeds"


def _seeds(one: SampleData, other: SampleData) -> _Seeds:
    if one.seeds is None or other.seeds is None:
        return _Seeds(named=False, same=False, shared=0)
    return _Seeds(True, share_seeds(one, other), len({*one.seeds} & {*other.seeds}))


def _notes_on_seeds(seeds: _Seeds) -> list[str]:
    if seeds.same:
        return []
    gain = (
        "with the same seeds on both sides the standard deviation of a difference is up to 7 times "
        "smaller"
    )
    if not seeds.named:
        return [f"not every volume has a sidecar that names its seed; {gain}"]
    if not seeds.shared:
        return [f"the seeds differ; {gain}"]
    return [
        f"{seeds.shared} seeds are in both samples and the others in one: the tests take all "
        f"volumes as independent, which is careful; {gain}"
    ]


def _statement(pair: _Pair, rival: bool, seeds: _Seeds) -> str:
    n, m = pair.baseline.synth.n, pair.current.synth.n
    if rival:
        first, second = pair.names
        return f"two generators against the same real volumes: {first} ({n}), {second} ({m})"
    real = pair.current.real.n
    return f"new samples ({n} and {m}, {seeds.words}) against the same {real} real volumes"


def _resample_verdict(
    outcome: Outcome,
    rows: Sequence[MetricDrift],
    tests: Sequence[GeneratorTest],
    names: tuple[str, str],
    rival: bool,
) -> str:
    if outcome == "not comparable":
        return _partly(rows)
    if rival:
        clauses = []
        for name in names:
            found = [row.name for row in rows if row.closer == name]
            clauses += [f"{name} is closer in {', '.join(found)}"] if found else []
        nothing = "no difference shown at this n, which is no proof of equality"
        return "; ".join(clauses) or nothing + _uncorrected(rows)
    if outcome == "drift":
        failed = [
            f"the generator changed ({test.extractor}, p {p_text(test.p_adjusted)})"
            for test in tests
            if test.status == "fail"
        ]
        failed += [f"{row.name}: {row.words}" for row in rows if row.status == "fail"]
        return f"drift: {'; '.join(failed)}"
    nothing = "no drift shown at this n, which is no proof that nothing changed"
    return nothing + _uncorrected(rows)


def _uncorrected(rows: Sequence[MetricDrift]) -> str:
    """Return, for a verdict, which differences are shown only until they are corrected."""
    tested = sum(row.p_adjusted is not None for row in rows)
    alone = [
        f"{row.name} (p {p_text(row.p)} alone, {p_text(row.p_adjusted)} corrected)"
        for row in rows
        if row.p_adjusted is not None and excludes_zero(row) and row.words in (NO_CHANGE, NO_CLOSER)
    ]
    if not alone:
        return ""
    return (
        f". Taken alone, the interval of {', '.join(alone)} excludes zero; among {tested} metrics "
        "chance gives such a one, which Holm's correction accounts for"
    )


def _notes_on_samples(
    common: int, rows: Sequence[MetricDrift], alpha: float, *, tested: bool
) -> Iterator[str]:
    corrected = sum(row.p_adjusted is not None for row in rows)
    if corrected:
        level = f"{alpha / 2:g} (half of {alpha:g}; the other half is for the generator's test)"
        yield (
            f"p is corrected for {corrected} metrics (Holm) and shows a change where it is at most "
            f"{level if tested else f'{alpha:g}'}; each interval is of its metric alone, "
            "uncorrected"
        )
    if common:
        yield f"{common} synthetic volumes are in both samples, to the bit"
    without = [row.metric for row in rows if row.delta is None and row.difference is not None]
    if without:
        yield f"no margin for {', '.join(dict.fromkeys(without))}: --delta METRIC=VALUE gives one"


# ---------------------------------------------------------------- rows and words


def _opened(card: Scorecard | Path | str) -> tuple[Scorecard, str]:
    if isinstance(card, Scorecard):
        return card, f"'{card.name}'"
    return Scorecard.load(Path(card)), str(card)


def _called(first: Scorecard, second: Scorecard) -> tuple[str, str]:
    if first.name != second.name:
        return first.name, second.name
    return f"{first.name} (baseline)", f"{second.name} (current)"


def _rows(pair: _Pair, *, everything: bool) -> Iterator[tuple[Value, Value]]:
    """Yield pairs of rows; where one card lacks a row, its place has one that says so.

    A pair without a value on either side is left out, unless it was named.
    """
    before, after = (
        {(row.metric, row.extractor): row for row in card.values}
        for card in (pair.baseline, pair.current)
    )
    keys = list(dict.fromkeys([*before, *after]))
    known = {metric for metric, _ in keys}
    for name in pair.metrics or ():
        if name not in known:
            raise UsageError(f"--metric {name}: no such row; {near_miss(name, known)}")
    for key in keys:
        one = before.get(key) or _absent(after[key])
        other = after.get(key) or _absent(one)
        scored = one.value is not None or other.value is not None
        usual = everything or not (one.key.part or one.role == "for_papers")
        if (scored and usual) if pair.metrics is None else key[0] in pair.metrics:
            yield one, other


def _absent(row: Value) -> Value:
    """Return the row for a scorecard that was not scored with this metric."""
    missing = Missing(reason="not scored", text="not scored")
    return Value(
        metric=row.metric, label=row.label, extractor=row.extractor, direction=row.direction,
        role=row.role, target=row.target, missing=missing,
    )  # fmt: skip


def _refusal(before: Value, after: Value, causes: Sequence[Cause]) -> str | None:
    """Return why a row cannot be compared; None where it can."""
    for row, side in ((before, "baseline"), (after, "current")):
        if row.value is None:
            return f"no value in {side}: {row.missing}"
    fields = [cause.field for cause in causes if cause.touches(after)]
    return f"another quantity: {', '.join(fields)}" if fields else None


def _not_compared(row: Value, why: str) -> MetricDrift:
    return MetricDrift(
        metric=row.metric, extractor=row.extractor, label=row.label, status="not compared",
        words=why,
    )  # fmt: skip


def _outcome(
    rows: Sequence[MetricDrift], tests: Sequence[GeneratorTest], *, warn: bool = False
) -> Outcome:
    if not rows or any(row.status == "not compared" for row in rows):
        return "not comparable"
    found = {row.status for row in rows} | {test.status for test in tests}
    if "fail" in found:
        return "drift"
    return "warn" if warn or "warn" in found else "pass"


def _partly(rows: Sequence[MetricDrift]) -> str:
    """Return which metrics cannot be compared, and how to compare the others."""
    left_out = list(dict.fromkeys(row.metric for row in rows if row.status == "not compared"))
    others = dict.fromkeys(row.metric for row in rows if row.metric not in left_out)
    benchmark = "a benchmark keeps one protocol for both (synthbench score --benchmark ...)"
    if not others:
        return f"no metric can be compared; {benchmark}"
    options = " ".join(
        f"--metric {name}"
        for name in others
        if JobKey.parse(name).part is None or JobKey.parse(name).metric not in others
    )
    return f"{', '.join(left_out)} cannot be compared, others can: {options}; {benchmark}"
