"""Many scorecards in time: has a number drifted, since when, and which run showed it?

Two scorecards cannot show slow drift, because each pair differs by less than noise. A history can:
each metric has a control chart (`synthbench.drift.control_chart`) that decides, and a piecewise
constant line (`synthbench.drift.steps`) that describes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from synthbench.drift.causes import ROUNDING, SMALL, differences, relative
from synthbench.drift.control_chart import Way, chart, runs_to_see
from synthbench.drift.result import Outcome
from synthbench.drift.steps import pieces
from synthbench.drift.two_samples import Status
from synthbench.errors import ScorecardError, UsageError, near_miss
from synthbench.metrics.metric import Direction
from synthbench.records.base import Record
from synthbench.records.scorecard import Scorecard
from synthbench.records.values import Value

FEWEST = 10
"""Number of samples from which a history is judged: after fewer, one minimum detectable effect
need not be seen within five runs (docs/drift.md)."""

FALSE_ALARM_RUNS = 200
"""Mean number of runs between false alarms, of all metrics together."""


class HistoryRun(Record):
    """One scoring of the history."""

    file: str
    name: str
    created: str
    again: int | None = Field(
        default=None, description="the earlier run whose synthetic images these are, from 0"
    )


class LeftOut(Record):
    """A scorecard that cannot be compared with the newest."""

    file: str
    name: str
    why: str


class Level(Record):
    """Runs at one level, from 0, both ends counted."""

    first: int
    last: int
    level: float = Field(description="median of their values")


class MetricHistory(Record):
    """One metric over the runs."""

    metric: str
    extractor: str | None
    label: str
    status: Status
    words: str
    values: tuple[float | None, ...] = Field(default=(), description="one per run")
    points: tuple[int, ...] = Field(
        default=(), description="the runs of the chart, from 0: one per set of images"
    )
    up: tuple[float, ...] = Field(default=(), description="sum above, one per point")
    down: tuple[float, ...] = Field(default=(), description="sum below, one per point")
    limit: float | None = Field(default=None, description="sum at which the chart signals, h")
    alarm: int | None = Field(default=None, description="the run that showed a change, from 0")
    since: int | None = Field(default=None, description="the run with which it began, from 0")
    way: Way | None = None
    levels: tuple[Level, ...] = ()
    sd: float | None = Field(default=None, description="of the runs before the change")
    largest_pair: float | None = Field(
        default=None, description="largest difference between two neighbouring points"
    )
    effect: float | None = Field(default=None, description="minimum detectable effect")
    runs_to_see: int | None = Field(
        default=None, description="runs until one such effect is seen; None: above 50"
    )

    @property
    def name(self) -> str:
        """The label, with the extractor."""
        return self.label if self.extractor is None else f"{self.label} ({self.extractor})"

    @property
    def moved(self) -> float | None:
        """Level of the newest runs minus that before the change, in the metric's unit.

        None: no change was shown.
        """
        if self.since is None or self.alarm is None:
            return None
        known = [(i, v) for i in self.points if (v := self.values[i]) is not None]
        before = [v for i, v in known if i < self.since]
        after = [v for i, v in known if i >= self.since]
        # Of slow drift the last runs say how far it went.
        return float(np.median(after[-3:]) - np.median(before)) if before else None


class History(Record):
    """The scorecards of a folder in time: what drifted, since when."""

    schema_version: Literal[1] = 1
    kind: Literal["history"] = "history"
    statement: str = Field(description="what was looked at")
    outcome: Outcome
    verdict: str
    false_alarm_runs: float
    runs: tuple[HistoryRun, ...]
    left_out: tuple[LeftOut, ...] = ()
    metrics: tuple[MetricHistory, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0: no drift; 1: drift; 2: the runs cannot be compared, or are too few."""
        return {"pass": 0, "warn": 0, "drift": 1, "not comparable": 2}[self.outcome]


def read_history(folder: Path | str) -> list[tuple[str, Scorecard]]:
    """Return the scorecards of a folder with the names of their files, the oldest first.

    Raises
    ------
    UsageError
        There is no such folder, or no scorecard in it.
    ScorecardError
        A JSON file in it is no scorecard, or states no date.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"--history {folder}: there is no such folder. Name one with scorecards.")
    files = sorted(f for f in folder.glob("*.json") if not f.name.startswith("."))
    if not files:
        raise UsageError(
            f"--history {folder}: no scorecard (*.json) is in it. Write each run's with synthbench "
            f"score --out {folder}/NAME.json."
        )
    cards = [(file.name, Scorecard.load(file)) for file in files]
    order = sorted(range(len(cards)), key=lambda i: (_time(files[i], cards[i][1]), i))
    return [cards[i] for i in order]


def _time(file: Path, card: Scorecard) -> datetime:
    try:
        time = datetime.fromisoformat(card.created)
    except ValueError:
        raise ScorecardError(
            f"{file}: created: must be a date and time (ISO 8601); found '{card.created}'. Score "
            "again."
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def history(
    cards: Sequence[tuple[str, Scorecard]],
    *,
    metrics: Sequence[str] | None = None,
    false_alarm_runs: float = FALSE_ALARM_RUNS,
) -> History:
    """Return whether a metric drifted over many runs, since when, and by how much.

    Runs are compared that have the newest one's real volumes, protocol and generator. Others are
    named and left out. A set of synthetic images counts once for the chart; where it was scored
    again, the values must be the same.

    Parameters
    ----------
    cards
        Names of files and scorecards, the oldest first (`read_history`).
    metrics
        Names of rows ("fid", "ms_ssim.synth"), for every extractor. None: all metrics, without
        their parts and without those for papers.
    false_alarm_runs
        Mean number of runs between false alarms, of all metrics together: each metric has this
        number times the number of metrics.

    Returns
    -------
    History
        Its `exit_code` is that of the command.

    Raises
    ------
    UsageError
        There is no such metric, or `false_alarm_runs` has no allowed value.
    """
    newest = cards[-1][1]
    kept, left_out = _comparable(cards)
    runs = _runs(kept)
    fresh = [i for i, run in enumerate(runs) if run.again is None]
    rows = list(_rows(newest, metrics))
    gating = sum(row.role != "descriptive" for row in rows)
    each = false_alarm_runs * max(gating, 1)
    found = [_metric(row, [card for _, card in kept], runs, fresh, each) for row in rows]
    outcome = _outcome(found, runs, fresh)
    first, last = runs[0].created[:10], runs[-1].created[:10]
    again = f" ({len(fresh)} of them new samples)" if len(fresh) < len(runs) else ""
    return History(
        statement=f"{len(runs)} runs{again} of {newest.name}, {first} to {last}, against the same "
        f"{newest.real.n} real volumes",
        outcome=outcome,
        verdict=_verdict(outcome, found, runs, fresh),
        false_alarm_runs=false_alarm_runs,
        runs=tuple(runs),
        left_out=tuple(left_out),
        metrics=tuple(found),
        notes=tuple(_notes(found, false_alarm_runs, len(fresh))),
    )


# ---------------------------------------------------------------- which runs


def _comparable(
    cards: Sequence[tuple[str, Scorecard]],
) -> tuple[list[tuple[str, Scorecard]], list[LeftOut]]:
    kept, left_out = [], []
    for file, card in cards:
        why = why_not_comparable(cards[-1][1], card)
        if why is None:
            kept.append((file, card))
        else:
            left_out.append(LeftOut(file=file, name=card.name, why=why))
    return kept, left_out


def why_not_comparable(newest: Scorecard, card: Scorecard, *, rivals: bool = False) -> str | None:
    """Return why a scorecard's values are other quantities than the newest's; None: they are not.

    Numbers that a protocol froze may differ by rounding. With `rivals`, another generator is none.
    """
    if card.real.fingerprint != newest.real.fingerprint:
        return f"other real volumes ({card.real.fingerprint[:12]})"
    fields = [c.field for c in differences(newest, card) if c.kind == "protocol"]
    if fields:
        more = f" and {len(fields) - 3} more" if len(fields) > 3 else ""
        return f"another protocol ({card.protocol_hash}): {', '.join(fields[:3])}{more}"
    names = newest.origin.generator, card.origin.generator
    if not rivals and None not in names and names[0] != names[1]:
        return f"another generator ({names[1]})"
    return None


def _runs(kept: Sequence[tuple[str, Scorecard]]) -> list[HistoryRun]:
    seen: dict[str, int] = {}
    runs = []
    for i, (file, card) in enumerate(kept):
        earlier = seen.setdefault(card.synth.fingerprint, i)
        runs.append(
            HistoryRun(file=file, name=card.name, created=card.created,
                       again=None if earlier == i else earlier)
        )  # fmt: skip
    return runs


def _rows(newest: Scorecard, metrics: Sequence[str] | None) -> Iterator[Value]:
    known = dict.fromkeys(row.metric for row in newest.values)
    for name in metrics or ():
        if name not in known:
            raise UsageError(f"--metric {name}: no such row; {near_miss(name, known)}")
    for row in newest.values:
        usual = not (row.key.part or row.role == "for_papers") and row.value is not None
        if usual if metrics is None else row.metric in metrics:
            yield row


# ---------------------------------------------------------------- one metric


def _metric(
    newest: Value,
    cards: Sequence[Scorecard],
    runs: Sequence[HistoryRun],
    fresh: Sequence[int],
    false_alarm_runs: float,
) -> MetricHistory:
    rows = [_same_row(card, newest) for card in cards]
    found = MetricHistory(
        metric=newest.metric, extractor=newest.extractor, label=newest.label,
        status="not compared", words="", values=tuple(row and row.value for row in rows),
    )  # fmt: skip
    if newest.value is None:
        return _with(found, words=f"no value in the newest run: {newest.missing}")
    again = _moved_again(rows, runs)
    points = [i for i in fresh if found.values[i] is not None]
    charted = len(points) >= FEWEST
    if charted:
        found = _charted(found, points, rows, false_alarm_runs)
    shown = newest.role == "descriptive"
    if again is not None:
        status: Status = "shown" if shown else again[0]
        return _with(found, status=status, words=again[1])
    if not charted:
        if len(fresh) == 1 and len(runs) > 1:
            return _with(found, status="pass", words="the same images have the same value")
        return _with(found, words=f"{len(points)} samples with a value, {FEWEST} needed")
    if found.alarm is None:
        return _with(found, status="shown" if shown else "pass", words="no change shown")
    words = _change_words(found, newest.direction, runs)
    return _with(found, status="shown" if shown else "fail", words=words)


def _with(found: MetricHistory, **changes: object) -> MetricHistory:
    return found.model_copy(update=changes)


def _same_row(card: Scorecard, newest: Value) -> Value | None:
    for row in card.values:
        if (row.metric, row.extractor) == (newest.metric, newest.extractor):
            return row
    return None


def _moved_again(
    rows: Sequence[Value | None], runs: Sequence[HistoryRun]
) -> tuple[Status, str] | None:
    """Return the judgement on the run whose value of the same images moved most; None: rounding."""
    largest, words = ROUNDING, ""
    for i, run in enumerate(runs):
        if run.again is None:
            continue
        before, after = rows[run.again], rows[i]
        if before is None or after is None or before.value is None or after.value is None:
            continue
        moved = relative(after.value - before.value, max(_terms(before), _terms(after)))
        if moved > largest:
            largest = moved
            words = (
                f"run {i + 1} scores the images of run {run.again + 1} again: moved by {moved:.2g} "
                "of its terms"
            )
    return (("fail" if largest > SMALL else "warn"), words) if words else None


def _terms(row: Value) -> float:
    return row.magnitude if row.magnitude is not None else abs(row.value or 0.0)


def _charted(
    found: MetricHistory,
    points: Sequence[int],
    rows: Sequence[Value | None],
    false_alarm_runs: float,
) -> MetricHistory:
    known = [row for i in points if (row := rows[i]) is not None]
    values = np.array([row.value for row in known], np.float64)
    rounding = ROUNDING * max(map(_terms, known))
    drawn = chart(values, false_alarm_runs, smallest_sd=rounding)
    before = values if drawn.since is None else values[: drawn.since]
    sd = max(float(np.std(before, ddof=1)), rounding) if before.size > 1 else None
    effects = [e for row in known if row.floor and (e := row.floor.minimum_detectable_effect)]
    effect = effects[0] if effects else None
    seen = None
    if effect is not None and sd:
        seen = runs_to_see(min(effect / sd, 1e6), values.size, drawn.limit)
    return _with(
        found,
        points=tuple(points),
        up=tuple(drawn.up.tolist()),
        down=tuple(drawn.down.tolist()),
        limit=drawn.limit,
        alarm=_run(drawn.alarm, points),
        since=_run(drawn.since, points),
        way=drawn.way,
        levels=tuple(
            Level(first=points[p.first], last=points[p.last], level=p.level)
            for p in pieces(values, rounding)
        ),
        sd=sd,
        largest_pair=float(np.abs(np.diff(values)).max()),
        effect=effect,
        runs_to_see=seen,
    )


def _run(point: int | None, points: Sequence[int]) -> int | None:
    return None if point is None else points[point]


def _change_words(found: MetricHistory, direction: Direction, runs: Sequence[HistoryRun]) -> str:
    assert found.since is not None
    assert found.alarm is not None
    higher = found.way == "up"
    worse = higher if direction == "lower" else not higher
    if direction == "zero":
        last = [v for i in found.points if (v := found.values[i]) is not None][-1]
        worse = last > 0 if higher else last < 0
    words = (
        f"{'higher' if higher else 'lower'} ({'worse' if worse else 'better'}) since run "
        f"{found.since + 1} ({runs[found.since].created[:10]}), seen at run {found.alarm + 1}"
    )
    moved, pair = found.moved, found.largest_pair
    if found.effect and moved is not None and pair is not None:
        words += f"; by {abs(moved) / found.effect:.2g} of the min. detectable effect"
        if pair < abs(moved):
            words += f" (no two neighbouring runs show more than {pair / found.effect:.2g})"
    return words


# ---------------------------------------------------------------- all metrics


def _outcome(
    found: Sequence[MetricHistory], runs: Sequence[HistoryRun], fresh: Sequence[int]
) -> Outcome:
    statuses = {row.status for row in found}
    if "fail" in statuses:
        return "drift"
    if len(runs) < 2 or not found or "not compared" in statuses:
        return "not comparable"
    return "warn" if "warn" in statuses else "pass"


def _verdict(
    outcome: Outcome,
    found: Sequence[MetricHistory],
    runs: Sequence[HistoryRun],
    fresh: Sequence[int],
) -> str:
    if outcome == "drift":
        failed = [f"{row.name} {_in_short(row)}" for row in found if row.status == "fail"]
        return f"drift: {'; '.join(failed)}"
    if outcome == "warn":
        moved = [f"{row.name}: {row.words}" for row in found if row.status == "warn"]
        return f"small drift: {'; '.join(moved)}"
    if outcome == "pass":
        return (
            "no drift shown, which is no proof that nothing changed"
            if len(fresh) > 1
            else "no drift: the same images have the same values, to rounding"
        )
    if len(fresh) < FEWEST:
        return (
            f"too few runs to tell: {len(fresh)} comparable samples, {FEWEST} needed; go on "
            "scoring with this benchmark and real cohort"
        )
    lacking = [row.metric for row in found if row.status == "not compared"]
    return f"{', '.join(dict.fromkeys(lacking))} cannot be judged; --metric names the others"


def _in_short(row: MetricHistory) -> str:
    if row.since is None or row.way is None:
        return row.words
    return f"{'higher' if row.way == 'up' else 'lower'} since run {row.since + 1}"


def _notes(found: Sequence[MetricHistory], false_alarm_runs: float, samples: int) -> Iterator[str]:
    charted = [row for row in found if row.limit is not None]
    if not charted:
        return
    yield (
        f"where nothing changes, a false alarm comes once in {false_alarm_runs:g} runs or more, "
        "for all metrics together"
    )
    late = [row for row in charted if row.status == "pass" and row.effect and _is_late(row)]
    if late:
        words = ", ".join(
            f"{row.name} ({'more than 50' if row.runs_to_see is None else row.runs_to_see} runs)"
            for row in late
        )
        yield f"after {samples} samples, one min. detectable effect takes more than 5 runs: {words}"
    without = [row.metric for row in charted if row.effect is None]
    if without:
        yield f"no minimum detectable effect is recorded for {', '.join(dict.fromkeys(without))}"


def _is_late(row: MetricHistory) -> bool:
    return row.runs_to_see is None or row.runs_to_see > 5
