"""The report: scorecards as one self-contained HTML page that people look at.

The page needs no network: style, script and pictures are in it, and its content security policy
forbids everything else. What it shows of scorecards are aggregates; where folders are named it
also shows volumes (see `synthbench.exhibits`), and says at its top whether people are among them.
Everything that comes from data (names of files, of subjects, of entries) is untrusted: it is
escaped, and characters that a reader cannot see are written out.
"""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from synthbench import __version__, registry
from synthbench.benchmark import differences
from synthbench.charts import Band, LineChart, MetricChart, Series, line_chart, metric_chart
from synthbench.errors import ScorecardError, SynthbenchError, UsageError
from synthbench.exhibits import Cohorts, Exhibits, cohorts_of, exhibits
from synthbench.fidelity_output import (
    Line,
    beyond_chance,
    condition_charts,
    condition_lines,
    effect_lines,
    fidelity_sentences,
    leakage_lines,
    parity_lines,
    published_words,
)
from synthbench.leaderboard import Board, stale_words
from synthbench.render.numbers import number, p_text
from synthbench.scorecard import Scorecard, Value
from synthbench.table import BIASED, FOR_PAPERS, SATURATED, SATURATION, header, interval_words
from synthbench.utility.table import subject_words, title, trained_words, verdict_words
from synthbench.verdicts import (
    Verdict,
    copies,
    limits,
    ranked_rows,
    read_back_words,
    summary,
    value_words,
    verdict,
)

if TYPE_CHECKING:
    from synthbench.dose_response import Row, Sensitivity
    from synthbench.evaluation import Progress, Say

PICTURE_BUDGET = 7_000_000
"""Characters of all pictures of a page together."""

_NO_FOLDERS = (
    "Pictures, the most and the least typical volumes, nearest training volumes, spectra and "
    "subgroups: name the folders that were scored (--real DIR --synth DIR, and --train DIR)."
)
_INVISIBLE = {"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"}


def report(
    scorecards: Sequence[Path],
    *,
    real: Path | None = None,
    synths: Sequence[Path] = (),
    train: Path | None = None,
    sensitivity: Path | None = None,
    real_pictures: bool = True,
    assume_grid: Literal["real"] | float | None = None,
    progress: Progress | None = None,
    say: Say = lambda message: None,
) -> str:
    """Return the report on scorecards, with what the folders show where they are named.

    Parameters
    ----------
    scorecards
        Files; several are shown side by side.
    real, synths, train
        The folders that were scored, found by their fingerprints; a folder of synthetic volumes
        a scorecard, in any order.
    sensitivity
        A record of `synthbench.sensitivity.sensitivity`, for its curves.
    real_pictures
        Whether volumes of `real` and `train` are pictured and named.
    assume_grid
        See `synthbench.scoring.score`.
    progress, say
        See `synthbench.scoring.score`.

    Returns
    -------
    An HTML page: the same bytes for the same input.

    Raises
    ------
    UsageError
        There is no scorecard, or only one of `real` and `synths` is named.
    ScorecardError
        A file cannot be read, or a folder is not one that was scored.
    """
    if not scorecards:
        raise UsageError("report: name a scorecard (synthbench score ... --out FILE writes one).")
    if (real is None) != (not synths):
        raise UsageError("report: --real and --synth are needed together, for one shows nothing.")
    if train is not None and real is None:
        raise UsageError("--train: add --real and --synth, whose volumes are compared with it.")
    cards = [Scorecard.load(file) for file in scorecards]
    study = None
    if sensitivity is not None:
        from synthbench.dose_response import Sensitivity

        study = Sensitivity.load(sensitivity)
    shown: dict[int, Exhibits] = {}
    if real is not None:
        from synthbench.feature_cache import FeatureCache

        found = _matched(cards, real, synths, train, assume_grid, progress)
        for index, cohorts in found.items():
            shown[index] = exhibits(
                cards[index], cohorts, budget=PICTURE_BUDGET // len(found),
                real_pictures=real_pictures, cache=FeatureCache(say=say), progress=progress,
                say=say,
            )  # fmt: skip
    return render_report(cards, shown=shown, study=study)


def _matched(
    cards: Sequence[Scorecard],
    real: Path,
    synths: Sequence[Path],
    train: Path | None,
    assume_grid: Literal["real"] | float | None,
    progress: Progress | None,
) -> dict[int, Cohorts]:
    """Read the folders, and find the scorecard that each synthetic one belongs to."""
    from synthbench.cohort import read_cohort
    from synthbench.evaluation import checking

    spacing = assume_grid if isinstance(assume_grid, float) else None
    of_real = read_cohort(
        real, role="real", assume_grid=spacing, progress=checking("real", progress)
    )
    stored = of_real.stored_grid if assume_grid == "real" else spacing

    def read(path: Path, role: str) -> Any:
        return read_cohort(path, role=role, assume_grid=stored, progress=checking(role, progress))

    of_synth = {path: read(path, "synth") for path in synths}
    of_train = None if train is None else read(train, "train")
    found: dict[int, Cohorts] = {}
    for index, card in enumerate(cards):
        cohorts = cohorts_of(card, of_real, list(of_synth.values()), of_train)
        if cohorts is not None:
            found[index] = cohorts
    for path, cohort in of_synth.items():
        if not any(cohorts_of(card, of_real, [cohort], None) for card in cards):
            raise ScorecardError(
                f"--synth {path}: none of the scorecards is about these {len(cohort)} volumes "
                f"(fingerprint {cohort.fingerprint[:12]}...). Score them: synthbench score "
                f"--real {real} --synth {path} --out FILE."
            )
    return found


def leaderboard_report(folder: Path | str) -> str:
    """Return a benchmark's comparable entries as one page, ordered by its primary metric.

    Ranks, ties and the matrix of differences are shown where `comparisons.json` fits the entries;
    where it does not, the page says so.

    Raises
    ------
    ScorecardError
        There is no benchmark, no entry of it can be compared, or one cannot be read.
    """
    board = Board.read(Path(folder))
    name, primary = board.benchmark.name, board.benchmark.primary
    if not board.ordered:
        raise ScorecardError(
            f"{folder}: none of its {len(board.cards)} entries has the benchmark's protocol and "
            f"real cohort. Score one: synthbench score --benchmark {folder} --real REAL --synth "
            f"SYNTH --out {folder}/entries/NAME.json"
        )
    notes = [stale_words(board, what, Path(folder)) for what in board.stale]
    ranking = _ranking(board)
    if ranking is None:
        notes.append(
            f"Ordered by {primary}. An order is no ranking: neighbours may be ties, and intervals "
            f"that do not overlap are not a test. synthbench leaderboard {folder} --compare ranks "
            "where the entries were scored."
        )
    apart = sorted(board.called(entry) for entry in board.cards if entry not in board.ordered)
    if apart:
        notes.append(f"Of another protocol or real cohort, and left out: {', '.join(apart)}.")
    return render_report(
        list(board.ordered.values()),
        names=[board.called(entry) for entry in board.ordered],
        title=f"Leaderboard {name}",
        notes=notes,
        ranking=ranking,
    )


def _ranking(board: Board) -> Ranking | None:
    comparisons = board.comparisons
    found = comparisons and comparisons.ranking(board.benchmark.primary)
    if not comparisons or not found:
        return None
    titles = {entry: board.called(entry) for entry in board.ordered}
    rows = tuple(
        RankRow(
            name=titles[place.entry],
            rank=str(place.rank_low)
            if place.rank_low == place.rank_high
            else f"{place.rank_low} to {place.rank_high}",
            tied=tuple(titles[tied] for tied in found.ties(place.entry, comparisons.level)),
            value=number(place.value),
            best=f"{place.best:.0%}",
            copies=copies(board.ordered[place.entry]),
            utility=_verdict_of(board.ordered[place.entry]),
        )
        for place in found.places
    )
    pairs = tuple(
        (
            titles[pair.first],
            titles[pair.second],
            f"{number(pair.difference)} [{number(pair.low)}, {number(pair.high)}]",
            p_text(pair.p),
            pair.p,
        )
        for pair in found.pairs
    )
    words = (
        f"By {found.label}. A rank interval runs from 1 + the number of entries that are "
        f"significantly better to {len(rows)} less the number that are significantly worse; tied "
        f"entries cannot be told apart at {comparisons.level:.0%}, over all pairs together "
        f"(max-t, {comparisons.resamples} resamples). 'Best' is the share of resamples in which "
        "an entry is the best: a second figure, no p-value. Ranks are of these volumes, and not "
        "of a method of fewer than three training seeds."
    )
    return Ranking(words, rows, pairs)


# ---------------------------------------------------------------- what the template shows


@dataclass(frozen=True)
class RankRow:
    """An entry's place in a ranking."""

    name: str
    rank: str
    tied: tuple[str, ...]
    value: str
    best: str
    copies: Verdict
    utility: str = ""


@dataclass(frozen=True)
class Ranking:
    """A benchmark's ranking: its entries, and all pairs as first, second, difference and p."""

    words: str
    rows: tuple[RankRow, ...]
    pairs: tuple[tuple[str, str, str, str, float], ...]


@dataclass(frozen=True)
class _TableRow:
    """A row of the table of values: words, and numbers to sort by."""

    label: str
    part: bool
    volumes: str
    verdict: Verdict
    value: str
    interval: str
    matched: str
    floor: str
    shows: str
    p: str
    blur: str
    sort: Mapping[str, float | None]


@dataclass(frozen=True)
class _Compared:
    """Scorecards of one protocol and one real cohort: what may stand on one axis."""

    words: str
    names: tuple[str, ...]
    matrix: tuple[tuple[str, tuple[tuple[Verdict, str], ...]], ...]
    copies: tuple[Verdict, ...]
    rows: tuple[_TableRow, ...]
    charts: tuple[MetricChart, ...]
    for_papers: tuple[MetricChart, ...]
    n: str
    level: str
    blurred: bool


@dataclass(frozen=True)
class _Conditions:
    """What was asked of a scorecard's volumes and what was measured, as tables and charts."""

    about: tuple[str, ...]
    charts: tuple[LineChart, ...]
    tables: tuple[tuple[str, tuple[Line, ...]], ...]


@dataclass(frozen=True)
class _Utility:
    """The verdict of a study of utility, what it is of, and the measure of each arm."""

    sentence: str
    about: str
    label: str
    arms: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Card:
    """A scorecard as the page tells of it."""

    name: str
    anchor: str
    header: str
    summary: tuple[str, ...]
    exhibits: Exhibits | None
    conditions: _Conditions | None
    utility: _Utility | None
    limits: tuple[str, ...]
    provenance: tuple[tuple[str, str], ...]
    protocol: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Curves:
    """The curves of one metric under every corruption."""

    label: str
    charts: tuple[LineChart, ...]


@dataclass(frozen=True)
class _About:
    """What a metric is, for a reader who has never met it."""

    label: str
    formula: str
    sees: str
    misses: str


def render_report(
    cards: Sequence[Scorecard],
    *,
    names: Sequence[str] | None = None,
    shown: Mapping[int, Exhibits] | None = None,
    study: Sensitivity | None = None,
    title: str = "",
    notes: Sequence[str] = (),
    ranking: Ranking | None = None,
) -> str:
    """Return the page on scorecards.

    Parameters
    ----------
    cards
        One at least. Those of one protocol and real cohort share axes; others stand apart.
    names
        What to call them. None: what they call themselves, numbered where several share a name.
    shown
        By position in `cards`, what their volumes show.
    study
        Sensitivity curves.
    title, notes
        Above everything; no title names the scorecards.
    ranking
        Of the scorecards, where they were compared.
    """
    shown = shown or {}
    names = _distinct([card.name for card in cards]) if names is None else names
    style, script = _asset("report.css"), _asset("report.js")
    pictured = [e for e in shown.values() if e.galleries]
    page = _environment().from_string(_asset("report.html.jinja"))
    return page.render(
        title=title or f"synthbench report: {', '.join(names)}",
        notes=notes,
        ranking=ranking,
        differing=_differing(cards, names),
        policy=_policy(style, script),
        style=Markup(style),  # noqa: S704 - a file of this package
        script=Markup(script),  # noqa: S704 - likewise
        version=__version__,
        people=any(e.people for e in pictured),
        pictured=bool(pictured),
        conditioned=any(card.fidelity for card in cards),
        studied=any(card.utility for card in cards),
        cards=[_card(i, card, names[i], shown.get(i)) for i, card in enumerate(cards)],
        compared=[
            _compared([cards[i] for i in group], [names[i] for i in group])
            for group in _groups(cards)
        ],
        curves=[] if study is None else _curves(study, cards, names),
        about=_about(cards),
        missing=_missing(cards, names, shown, study),
        biased=BIASED,
        saturated=f"{SATURATED} {SATURATION}"
        if any(value.saturated for card in cards for value in card.values)
        else "",
    )


def _distinct(names: Sequence[str]) -> list[str]:
    """Number the names that several scorecards share."""
    return [
        f"{name} ({names[: i + 1].count(name)})" if names.count(name) > 1 else name
        for i, name in enumerate(names)
    ]


def _groups(cards: Sequence[Scorecard]) -> list[list[int]]:
    groups: dict[tuple[str, str], list[int]] = {}
    for i, card in enumerate(cards):
        groups.setdefault((card.protocol_hash, card.real.fingerprint), []).append(i)
    return list(groups.values())


def _differing(cards: Sequence[Scorecard], names: Sequence[str]) -> list[str]:
    """Say in what the first scorecard of each further group differs from the first of all."""
    first, *others = _groups(cards)
    said = []
    for group in others:
        one, other = cards[group[0]], cards[first[0]]
        settings = differences(one.protocol, other.protocol)
        if one.real.fingerprint != other.real.fingerprint:
            settings = ["another real cohort", *settings]
        more = f"; and {len(settings) - 6} more" if len(settings) > 6 else ""
        together = ", ".join(names[i] for i in group)
        said.append(f"{together}, beside {names[first[0]]}: {'; '.join(settings[:6])}{more}")
    return said


def _card(index: int, card: Scorecard, name: str, shown: Exhibits | None) -> _Card:
    return _Card(
        name=name,
        anchor=f"card-{index + 1}",
        header=header(card),
        summary=(*summary(card), *fidelity_sentences(card), *_utility_sentences(card)),
        exhibits=shown,
        conditions=_conditions(card),
        utility=_utility(card),
        limits=tuple(limits(card)),
        provenance=tuple(_provenance(card)),
        protocol=card.protocol.model_dump_json(indent=1),
        notes=card.notes,
    )


def _conditions(card: Scorecard) -> _Conditions | None:
    found, replicated = card.fidelity, card.replication
    if found is None:
        return None
    about = [f"Asked: {found.source}. Extrapolation: {found.range}."]
    about += [f"{c.name}: {c.missing or f'measured by {c.measure}'}." for c in found.conditions]
    about += [f"{words[0].upper()}{words[1:]}." for words in [published_words(card)] if words]
    tables = [
        ("Asked against measured", condition_lines(found)),
    ]
    for words, lines in (
        ("Leakage: asked → measured, all else asked alike", leakage_lines(found)),
        ("Parity: errors of a group less those of the others", parity_lines(found)),
    ):
        tables.append((f"{words} ({beyond_chance(lines)})", lines))
    if replicated is not None:
        about.append(f"Words of effects: {replicated.margins}.")
        about += [f"{note}." for note in replicated.notes]
        tables.append(
            (
                f"Effect replication: {replicated.n} synthetic, {replicated.n_real} real volumes",
                effect_lines(card),
            )
        )
    return _Conditions(
        tuple(about), tuple(condition_charts(found)),
        tuple((words, tuple(lines)) for words, lines in tables if lines),
    )  # fmt: skip


def _verdict_of(card: Scorecard) -> str:
    return "" if card.utility is None else verdict_words(card.utility)


def _utility_sentences(card: Scorecard) -> list[str]:
    """Say what a study of utility found; nothing where there was none."""
    found = card.utility
    return [] if found is None else [f"Utility ({found.label}): {found.sentence}."]


def _utility(card: Scorecard) -> _Utility | None:
    found = card.utility
    if found is None:
        return None
    return _Utility(
        f"{found.sentence[0].upper()}{found.sentence[1:]}.",
        f"Label {found.label}, model {found.model}: trained on {trained_words(found)}, tested on "
        f"{subject_words(found)}. p {p_text(found.p)}, settings {found.settings_hash}.",
        title(found.measure),
        tuple((arm, f"{value:.3f}") for arm, value in found.arms.items()),
    )


def _provenance(card: Scorecard) -> list[tuple[str, str]]:
    origin = card.origin
    rows = [
        ("scored", card.created),
        ("benchmark", card.benchmark or ""),
        ("protocol", card.protocol_hash),
        *(
            (role, f"{r.n} volumes of {r.subjects} subjects, fingerprint {r.fingerprint[:12]}")
            for role in ("real", "synth", "train", "holdout")
            if (r := getattr(card, role)) is not None
        ),
        ("generator", origin.generator or ""),
        ("sampler", f"{origin.sampler}, {origin.steps} steps" if origin.sampler else ""),
        ("parameters", "" if origin.parameters is None else f"{origin.parameters / 1e6:.1f} M"),
        (
            "training",
            "" if origin.training_seconds is None else f"{origin.training_seconds / 60:.3g} min",
        ),
        ("software", ", ".join(f"{name} {v}" for name, v in card.software.items())),
    ]
    return [(name, words) for name, words in rows if words]


def _compared(cards: Sequence[Scorecard], names: Sequence[str]) -> _Compared:
    first = cards[0]
    several = len(first.protocol.extractors) > 1
    keys = list(dict.fromkeys((v.metric, v.extractor) for card in cards for v in card.values))
    charts: dict[bool, list[MetricChart]] = {False: [], True: []}
    rows = []
    for metric, extractor in keys:
        found = [
            (name, row)
            for name, card in zip(names, cards, strict=True)
            if (row := _row(card, metric, extractor)) is not None
        ]
        label = _label(found[0][1], first, several)
        rows += [_table_row(label, name, row) for name, row in found]
        if any(row.value is not None for _, row in found):
            charts[metric.partition(".")[0] in FOR_PAPERS].append(metric_chart(label, found))
    own = [(row.metric, row.extractor) for row in ranked_rows(first)]
    matrix = tuple(
        (
            _label(next(r for c in cards if (r := _row(c, *key))), first, several),
            tuple(_cell(_row(card, *key)) for card in cards),
        )
        for key in own
    )
    n = sorted({v.floor.n for card in cards for v in card.values if v.floor})
    return _Compared(
        words=f"{first.protocol.n_synth} synthetic against {first.real.n} real volumes, "
        f"{first.protocol.space.grid}, protocol {first.protocol_hash}, real cohort "
        f"{first.real.fingerprint[:12]}",
        names=tuple(names),
        matrix=matrix,
        copies=tuple(copies(card) for card in cards),
        rows=tuple(rows),
        charts=tuple(charts[False]),
        for_papers=tuple(charts[True]),
        n="/".join(map(str, n)),
        level=f"{first.protocol.level:.0%}",
        blurred=any(row.blur for row in rows),
    )


def _row(card: Scorecard, metric: str, extractor: str | None) -> Value | None:
    """`Scorecard.row`, with None for a row without an extractor."""
    rows = (v for v in card.values if (v.metric, v.extractor) == (metric, extractor))
    return next(rows, None)


def _cell(value: Value | None) -> tuple[Verdict, str]:
    if value is None:
        return Verdict("missing", "not scored"), "–"
    return verdict(value), value_words(value)


def _label(value: Value, card: Scorecard, several: bool) -> str:
    label = f"FID (n={min(card.real.n, card.synth.n)})" if value.metric == "fid" else value.label
    return f"{label}, {value.extractor}" if several and value.extractor else label


def _table_row(label: str, name: str, value: Value) -> _TableRow:
    floor = value.floor
    return _TableRow(
        label=label,
        part="." in value.metric,
        volumes=name,
        verdict=verdict(value),
        value=value_words(value),
        interval=interval_words(value),
        matched="" if floor is None else number(floor.synth_mean),
        floor=""
        if floor is None
        else f"{number(floor.mean)} ({number(floor.low)} to {number(floor.high)})",
        shows="" if floor is None or floor.detectable is None else f"+{number(floor.detectable)}",
        p=p_text(value.p),
        blur=read_back_words(value),
        sort={
            "value": value.value,
            "matched": None if floor is None else floor.synth_mean,
            "floor": None if floor is None else floor.mean,
            "shows": None if floor is None else floor.detectable,
            "p": value.p,
        },
    )


def _about(cards: Sequence[Scorecard]) -> list[_About]:
    """Return the sentences of the metrics that are installed here."""
    found = []
    for name in dict.fromkeys(m for card in cards for m in card.protocol.intervals):
        try:
            metric = registry.load("metrics", name)()
        except SynthbenchError:
            # A scorecard of another machine may hold metrics of packages that are not here.
            continue
        found.append(_About(metric.label, metric.formula, metric.sees, metric.misses))
    return found


def _missing(
    cards: Sequence[Scorecard],
    names: Sequence[str],
    shown: Mapping[int, Exhibits],
    study: Sensitivity | None,
) -> list[str]:
    words = [] if shown else [_NO_FOLDERS]
    for i, name in enumerate(names):
        about = f"{name}: " if len(cards) > 1 else ""
        if shown and i not in shown:
            words.append(f"{about}pictures: none of the --synth folders is this scorecard's.")
        words += [f"{about}{line}" for line in (shown[i].missing if i in shown else ())]
    if study is None:
        words.append(
            "Sensitivity curves: --sensitivity FILE, which synthbench sensitivity --real DIR "
            "writes."
        )
    return words


# ---------------------------------------------------------------- sensitivity curves


def _curves(study: Sensitivity, cards: Sequence[Scorecard], names: Sequence[str]) -> list[_Curves]:
    by_metric: dict[tuple[str, str | None], list[Row]] = {}
    for row in study.rows:
        by_metric.setdefault((row.metric, row.extractor), []).append(row)
    return [
        _Curves(
            rows[0].label + (f", {extractor}" if extractor else ""),
            tuple(_curve_chart(row, _levels(study, row, cards, names)) for row in rows),
        )
        for (_, extractor), rows in by_metric.items()
    ]


def _levels(
    study: Sensitivity, row: Row, cards: Sequence[Scorecard], names: Sequence[str]
) -> list[tuple[str, float]]:
    """Where the scorecards' values lie on a curve: those of its cohort, settings and n."""
    key = row.metric.partition(".")[0] + (f" | {row.extractor}" if row.extractor else "")
    found = []
    for card, name in zip(cards, names, strict=True):
        value = _row(card, row.metric, row.extractor)
        alike = (
            card.real.fingerprint == study.real.fingerprint
            and card.protocol.space == study.protocol.space
            and card.protocol.mask == study.protocol.mask
            and card.protocol.settings.get(key) == study.protocol.settings.get(key)
        )
        if alike and value is not None and value.floor and value.floor.n == row.curve.floor.n:
            found.append((name, value.floor.synth_mean))
    return found


def _curve_chart(row: Row, levels: Sequence[tuple[str, float]]) -> LineChart:
    curve = row.curve
    ends = curve.doses[0], curve.doses[-1]
    seen = (
        "does not leave the floor"
        if curve.leaves_floor is None
        else f"leaves the floor at {number(curve.leaves_floor)} {curve.unit}"
    )
    turns = "" if curve.monotone else "; turns round: more damage can score less"
    rewards = "; the metric rewards this damage" if curve.response == "better" else ""
    lines = [Series(row.label, "real", curve.doses, curve.values)]
    lines += [Series(name, "synth", ends, (level, level)) for name, level in levels]
    return line_chart(
        row.corruption_label,
        curve.unit,
        row.label,
        f"{seen}{turns}{rewards}",
        lines,
        [Band("floor", "floor", ends, (curve.floor.low,) * 2, (curve.floor.high,) * 2)],
        floor_width=curve.floor.high - curve.floor.low,
    )


# ---------------------------------------------------------------- the page


def _environment() -> Environment:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=_visible,
    )  # fmt: skip
    environment.filters["figures"] = number
    return environment


def _visible(content: Any) -> Any:
    """Write out what a reader cannot see: controls, and marks that turn the reading direction.

    A file's name may hold them to pass for another one; escaping leaves them as they are.
    """
    if isinstance(content, Markup) or not isinstance(content, str):
        return content
    return "".join(
        f"\\u{ord(c):04x}" if unicodedata.category(c) in _INVISIBLE and c != "\n" else c
        for c in content
    )


def _asset(name: str) -> str:
    return (files("synthbench") / "templates" / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """The page's content security policy: this style, this script, inlined pictures; no more."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_source(style)}'; "
        f"script-src '{_source(script)}'; base-uri 'none'; form-action 'none'"
    )


def _source(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
