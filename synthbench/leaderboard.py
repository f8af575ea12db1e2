"""Leaderboards: the scorecards of one benchmark as a page of markdown, with small pictures.

A benchmark's folder holds `benchmark.yaml`, `entries/*.json` and what is rendered from them:
`README.md` and `forest-*.svg`. Where `comparisons.json` fits the entries (see
`synthbench.comparisons`) the page has ranks and ties; without it, or where it is of other
entries, it says that they are wanting. Page and pictures are deterministic to the byte. Entries
whose protocol or real cohort differs are listed apart, with the fields that differ; they are
never ordered with the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from synthbench import multiverse as universes
from synthbench.asked_measured import asked_measured
from synthbench.benchmark import FILE, Benchmark, FrozenFloor, differences
from synthbench.comparisons import Comparisons, MetricRanking, comparable, read_entries
from synthbench.errors import CheckFailed, ScorecardError
from synthbench.fidelity_output import condition_charts, headline, leakage_lines
from synthbench.files import write_atomic
from synthbench.forest_plot import Band, Row, forest_plot
from synthbench.literature import REPORTED
from synthbench.multiverse import Multiverse
from synthbench.rank_grid import rank_grid
from synthbench.render.numbers import number, p_text
from synthbench.scorecard import FloorRecord, Scorecard, Value
from synthbench.table import BIASED, FOR_PAPERS, SATURATED, SATURATION, interval_words
from synthbench.utility.table import subject_words, trained_words, verdict_words

PAGE = "README.md"
NOTES = "notes.md"
GRID = "multiverse.svg"
ASKED = "asked-measured.svg"
FEW_SEEDS = 3
"""With fewer training seeds a row is of its volumes, not of the method that made them."""
NAMED = 3
"""Stale files that a message names."""
REASON = 80
"""Characters of the reason why a value is missing; its scorecard has all of them."""
MATRIX = 10
"""Entries up to which pairs are shown as a matrix."""

_ARROWS = {"lower": "↓", "higher": "↑", "zero": "→ 0"}
_ONE = "¹"


def render_leaderboard(folder: Path | str) -> str:
    """Return the markdown of one benchmark's leaderboard.

    Parameters
    ----------
    folder
        Holds `benchmark.yaml` and `entries/*.json`; a picture `entries/NAME.png` is shown for
        its entry, and the text of a `notes.md` is put under the tables.

    Raises
    ------
    ScorecardError
        There is no benchmark, no entry, or one cannot be read.
    """
    board = Board.read(Path(folder))
    parts = [_heading(board)]
    if board.ordered:
        parts += [
            _ranking(board),
            _differences_of(board),
            _other_metrics(board),
            _overall(board),
            _values(board),
            _conditional(board),
            _utility(board),
            _floors(board),
            _papers(board),
            _multiverse(board),
            _cost(board),
            _pictures(board),
            _accepted(board),
        ]
    parts.append(_not_comparable(board))
    if (board.folder / NOTES).is_file():
        parts.append((board.folder / NOTES).read_text().strip())
    parts.append(_protocol(board.benchmark))
    return "\n\n".join(part for part in parts if part) + "\n"


def render_pictures(folder: Path | str) -> dict[str, str]:
    """Return the page's pictures as SVG, by file name.

    A forest plot a metric; the multiverse, and what conditional entries were asked for, where
    there are any.
    """
    board = Board.read(Path(folder))
    if not board.ordered:
        return {}
    pictures = {_forest_file(key, board): _forest(key, board) for key in _ranked_keys(board)}
    if board.multiverse is not None:
        names = {name: _title(board, name) for name in board.ordered}
        pictures[GRID] = rank_grid(board.multiverse, names)
    asked = asked_measured({
        _title(board, name): card.fidelity
        for name, card in board.ordered.items()
        if card.fidelity is not None
    })  # fmt: skip
    if asked:
        pictures[ASKED] = asked
    return pictures


def write_leaderboard(folder: Path | str) -> Path:
    """Render a benchmark's leaderboard into its `README.md`, and the pictures beside it."""
    folder = Path(folder)
    pictures = render_pictures(folder)
    for old in _rendered(folder):
        if old.name not in pictures:
            old.unlink()
    for name, picture in pictures.items():
        write_atomic(folder / name, picture.encode())
    page = folder / PAGE
    write_atomic(page, render_leaderboard(folder).encode())
    return page


def check_leaderboard(folder: Path | str) -> None:
    """Raise where anything on disk is not what the scorecards give.

    Raises
    ------
    CheckFailed
        The page or a picture is stale or missing, or the comparisons are of other entries.
    """
    folder = Path(folder)
    board = Board.read(folder)
    for what in board.stale:
        raise CheckFailed(stale_words(board, what, folder))
    expected = {PAGE: render_leaderboard(folder), **render_pictures(folder)}
    stale = [name for name, text in expected.items() if not _holds(folder / name, text)]
    stale += [old.name for old in _rendered(folder) if old.name not in expected]
    if stale:
        files = ", ".join(str(folder / name) for name in stale[:NAMED])
        if len(stale) > NAMED:
            files += f" and {len(stale) - NAMED} others"
        are = "is" if len(stale) == 1 else "are"
        raise CheckFailed(f"{files} {are} stale: render with synthbench leaderboard {folder}")


def benchmarks_in(folder: Path | str) -> list[Path]:
    """Return the folder itself if it is a benchmark, else the benchmarks in it.

    Raises
    ------
    ScorecardError
        There are none.
    """
    folder = Path(folder)
    if (folder / FILE).is_file():
        return [folder]
    found = sorted(file.parent for file in folder.glob(f"*/{FILE}"))
    if not found:
        raise ScorecardError(
            f"{folder}: no benchmark here ({FILE} in it, or in a folder of it). "
            "Make one: synthbench benchmark init NAME --real REAL"
        )
    return found


# ---------------------------------------------------------------- what a page is made of


@dataclass(frozen=True)
class Board:
    """A benchmark's folder, as it was read.

    Attributes
    ----------
    folder, benchmark
        The benchmark.
    cards
        All its scorecards, by the names of their files.
    ordered
        The comparable ones, by the primary metric.
    comparisons, multiverse
        Where they are of these entries.
    stale
        By what is of other entries ("comparisons", "multiverse"), what changed since.
    """

    folder: Path
    benchmark: Benchmark
    cards: Mapping[str, Scorecard]
    ordered: Mapping[str, Scorecard]
    comparisons: Comparisons | None
    multiverse: Multiverse | None
    stale: Mapping[str, Sequence[str]]

    @classmethod
    def read(cls, folder: Path) -> Board:
        """Read a benchmark's folder.

        Raises
        ------
        ScorecardError
            There is no benchmark, no entry, or a file cannot be read.
        """
        benchmark = Benchmark.load(folder)
        cards = read_entries(folder)
        ordered = comparable(cards, benchmark)
        names = sorted(ordered, key=lambda name: _place(ordered[name], name, benchmark.primary))
        ordered = {name: ordered[name] for name in names}
        stale: dict[str, Sequence[str]] = {}
        comparisons = Comparisons.load(folder)
        if comparisons is not None:
            changed = comparisons.stale(folder, ordered, benchmark.protocol.hash)
            if changed:
                stale["comparisons"] = changed
                comparisons = None
        multiverse = Multiverse.load(folder)
        if multiverse is not None:
            changed = multiverse.stale(folder, ordered, benchmark.protocol.hash)
            if changed:
                stale["multiverse"] = changed
                multiverse = None
        return cls(folder, benchmark, cards, ordered, comparisons, multiverse, stale)

    def called(self, name: str) -> str:
        """What an entry's scorecard calls it, with its file's name where others are called so."""
        own = self.cards[name].name
        shared = sum(card.name == own for card in self.cards.values()) > 1
        return f"{own} ({name})" if shared and own != name else own

    def number(self, name: str) -> int:
        """An entry's number on the page, from 1."""
        return list(self.ordered).index(name) + 1


@dataclass(frozen=True)
class Key:
    """A row of scorecards: a metric, by one extractor where it uses features."""

    metric: str
    extractor: str | None
    label: str
    direction: str

    @property
    def family(self) -> str:
        """The metric that a part belongs to."""
        return self.metric.partition(".")[0]

    def of(self, card: Scorecard) -> Value | None:
        """The row in a card; `Scorecard.row` would take None for any extractor."""
        for value in card.values:
            if (value.metric, value.extractor) == (self.metric, self.extractor):
                return value
        return None


def _keys(cards: Iterable[Scorecard]) -> list[Key]:
    """All rows that any of the cards has, in the order in which they are met."""
    found = {
        (v.metric, v.extractor): Key(v.metric, v.extractor, v.label, v.direction)
        for card in cards
        for v in card.values
    }
    return list(found.values())


def _own_keys(board: Board) -> list[Key]:
    """The metrics' own rows, and MS-SSIM's two means; other parts stand at the floor's n."""
    return [
        key
        for key in _keys(board.ordered.values())
        if key.family not in FOR_PAPERS
        and ("." not in key.metric or key.metric in ("ms_ssim.synth", "ms_ssim.real"))
    ]


def _ranked_keys(board: Board) -> list[Key]:
    """The rows that entries are ordered by, the primary metric's first."""
    found = [key for key in _own_keys(board) if "." not in key.metric]
    return sorted(found, key=lambda key: key.metric != board.benchmark.primary)


def _place(card: Scorecard, name: str, primary: str) -> tuple[int, float, str]:
    row = card.row(primary)
    if row is None or row.value is None:
        return (1, 0.0, name)
    key = {"lower": row.value, "zero": abs(row.value), "higher": -row.value}[row.direction]
    return (0, key, name)


def stale_words(board: Board, what: str, folder: Path) -> str:
    """Say what is of other entries, and the command that mends it in that folder."""
    file, option = {
        "comparisons": ("comparisons.json", "--compare"),
        "multiverse": (universes.FILE, "--multiverse"),
    }[what]
    return (
        f"{file} is of other entries ({'; '.join(board.stale[what])}): run synthbench leaderboard "
        f"{folder} {option} where they were scored"
    )


def _usual_folder(board: Board) -> Path:
    """Where benchmarks are kept: a page is the same from wherever it is rendered."""
    return Path("leaderboards") / board.folder.resolve().name


def _title(board: Board, name: str) -> str:
    return f"{board.number(name)}. {board.called(name)}"


# ---------------------------------------------------------------- ranks


def _heading(board: Board) -> str:
    benchmark, protocol = board.benchmark, board.benchmark.protocol
    extractors = ", ".join(f"`{e.label}`" for e in protocol.extractors)
    what = f"Extractor {extractors}. " if extractors else ""
    return (
        f"# {benchmark.name}\n\n"
        f"{protocol.n_synth} synthetic against {protocol.n_real} real volumes "
        f"({benchmark.real_subjects} subjects), {protocol.space.grid}. "
        f"{what}Protocol `{protocol.hash}`, real cohort `{benchmark.real_fingerprint[:12]}`."
    )


def _ranking(board: Board) -> str:
    key = _ranked_keys(board)[0]
    found = _comparison(board, key)
    floor = _floor_of(key, board)
    level = f"{board.benchmark.protocol.level:.0%}"
    blurred = any(_blur(key.of(card)) for card in board.ordered.values())
    head = ["", "entry", "rank", "tied with", f"{_words(key, board)} [{level} CI]"]
    head += [f"at n = {floor.n} a side"] if floor else []
    head += ["as real, blurred by"] if blurred else []
    head += ["best"] if found else []
    head += ["n", "training seeds", "copies of training images"]
    studied = any(card.utility for card in board.ordered.values())
    head += ["[utility](#utility)"] if studied else []
    rows = []
    if floor:
        words = f"**{number(floor.mean)}** ({number(floor.low)} to {number(floor.high)})"
        rows.append(["", "**real vs real (floor)**", "", "", "", words])
        rows[0] += [""] * (len(head) - len(rows[0]))
    for name, card in board.ordered.items():
        row = key.of(card)
        cells = [
            str(board.number(name)),
            _cell(board.called(name)),
            *_rank_cells(name, found, board),
        ]
        cells.append("" if row is None else _value_words(row))
        cells += [number(row.floor.synth_mean) if row and row.floor else ""] if floor else []
        cells += [_blur(row)] if blurred else []
        cells += [_best(name, found)] if found else []
        cells += [str(card.synth.n), _seeds(card), _copies(card)]
        cells += [_cell(verdict_words(card.utility)) if card.utility else ""] if studied else []
        rows.append(cells)
    return (
        f"## Ranking by {_cell(key.label)}\n\n{_table(head, rows, words=2)}\n\n"
        + _ranking_words(board, found)
        + f"\n\n![{_cell(key.label)}: values, intervals and the floor]({_forest_file(key, board)})"
    )


def _ranking_words(board: Board, found: MetricRanking | None) -> str:
    lines = []
    if found is not None and board.comparisons is not None:
        c = board.comparisons
        lines.append(
            f"A rank interval runs from 1 + the number of entries that are significantly better to "
            f"K less the number that are significantly worse, of K = {len(found.places)}. Rows "
            f"that are tied cannot be told apart at {c.level:.0%}, over all pairs together. "
            '"Best" is the share of resamples in which the row is the best: a second figure, '
            "no p-value."
        )
    else:
        lines.append(
            f"{_sentence(stale_words(board, 'comparisons', _usual_folder(board)))} Until then the "
            "rows are only ordered."
            if "comparisons" in board.stale
            else "Ranks and ties need the images: run `synthbench leaderboard "
            f"{_usual_folder(board)} --compare` where the entries were scored. Until then the "
            "rows are only ordered: neighbours may be ties, and intervals that do not overlap are "
            "not a test."
        )
    if any(_few_seeds(card) for card in board.ordered.values()):
        lines.append(
            f"{_ONE} fewer than three training seeds: the row ranks these volumes, not the method."
        )
    primary = _ranked_keys(board)[0]
    if any(_is_saturated(primary, card) for card in board.ordered.values()):
        lines.append(f"{SATURATED} {SATURATION}: ranks among such rows mean nothing.")
    lines.append("A test for copies is no privacy guarantee.")
    return " ".join(lines)


def _comparison(board: Board, key: Key) -> MetricRanking | None:
    if board.comparisons is None:
        return None
    return board.comparisons.ranking(key.metric, key.extractor)


def _rank_cells(name: str, found: MetricRanking | None, board: Board) -> list[str]:
    if found is None or board.comparisons is None:
        return ["", ""]
    ties = found.ties(name, board.comparisons.level)
    if name in found.left_out:
        return ["-", "-"]
    return [_rank_words(name, found), ", ".join(str(board.number(tied)) for tied in ties) or "-"]


def _rank_words(name: str, found: MetricRanking) -> str:
    for place in found.places:
        if place.entry == name:
            low, high = place.rank_low, place.rank_high
            return str(low) if low == high else f"{low}–{high}"
    return "-"


def _best(name: str, found: MetricRanking) -> str:
    shares = [place.best for place in found.places if place.entry == name]
    return f"{shares[0]:.0%}" if shares else ""


def _differences_of(board: Board) -> str:
    key = _ranked_keys(board)[0]
    found = _comparison(board, key)
    if found is None or board.comparisons is None:
        return ""
    return (
        f"### Differences in {_cell(key.label)}\n\n{_pairs(found, board)}\n\n"
        f"{_how_compared(found, board.comparisons)}"
    )


def _how_compared(found: MetricRanking, comparisons: Comparisons) -> str:
    size = "distance from zero" if found.direction == "zero" else "value"
    how = {
        "studentized": "studentized paired bootstrap",
        "jackknife": "jackknife standard error, paired, the bootstrap giving the joint shape",
    }[found.method]
    left = f" {found.excluded} degenerate resamples were left out." if found.excluded else ""
    return (
        f"Column less row, in the {size}: [interval] and p, adjusted for all pairs by max-t; bold: "
        f"p ≤ {1 - comparisons.level:.2g}. {how[0].upper()}{how[1:]}; {comparisons.resamples} "
        f"resamples, seed {comparisons.seed}, shared weights on the real images.{left}"
    )


def _pairs(found: MetricRanking, board: Board) -> str:
    assert board.comparisons is not None
    names = [place.entry for place in found.places]
    level = board.comparisons.level

    def cell(first: str, second: str) -> str:
        pair = found.pair(first, second)
        assert pair is not None
        sign = 1 if pair.first == first else -1
        ends = sorted((sign * pair.low, sign * pair.high))
        words = f"{number(sign * pair.difference)} [{number(ends[0])}, {number(ends[1])}]"
        marked = f"**{words}**" if pair.p <= 1 - level + 1e-12 else words
        return f"{marked} p {p_text(pair.p)}"

    if len(names) > MATRIX:
        rows = [[_entry(a, board), _entry(b, board), cell(a, b)] for a, b in combinations(names, 2)]
        return _table(["row", "column", "difference"], rows, words=2)
    head = ["", *(str(board.number(name)) for name in names[1:])]
    rows = [
        [_entry(first, board), *("" if j <= i else cell(first, second)
         for j, second in enumerate(names) if j)]
        for i, first in enumerate(names[:-1])
    ]  # fmt: skip
    return _table(head, rows)


def _entry(name: str, board: Board) -> str:
    return _cell(_title(board, name))


def _other_metrics(board: Board) -> str:
    if board.comparisons is None:
        return ""
    primary, *others = _ranked_keys(board)
    ranked = [(key, _comparison(board, key)) for key in others]
    shown = [(key, found) for key, found in ranked if found is not None]
    if not shown:
        return ""
    head = ["entry", *(_words(key, board) for key, _ in shown)]
    rows = [
        [
            _entry(name, board),
            *(
                _rank_words(name, found) + (f" {SATURATED}" if _is_saturated(key, card) else "")
                for key, found in shown
            ),
        ]
        for name, card in board.ordered.items()
    ]
    details = [
        f"<details><summary>{_html(key, board)}: differences</summary>\n\n"
        f"![{_cell(key.label)}: values, intervals and the floor]({_forest_file(key, board)})\n\n"
        f"{_pairs(found, board)}\n\n{_how_compared(found, board.comparisons)}\n\n</details>"
        for key, found in shown
    ]
    lacking = [
        f"- {_cell(u.label)}{_cell(f', {u.extractor}') if u.extractor else ''}: {_cell(u.why)}"
        for u in board.comparisons.unranked
    ]
    return "\n\n".join(
        [
            f"## Ranks under the other metrics\n\n{_table(head, rows)}",
            f"Rank intervals, each metric by itself over its own pairs. {_cell(primary.label)} is "
            "the benchmark's declared metric: a claim under several at once takes p over metrics × "
            "pairs, `p_all` in `comparisons.json`.",
            *details,
            *(["Not ranked:\n\n" + "\n".join(lacking)] if lacking else []),
        ]
    )


def _overall(board: Board) -> str:
    overall = None if board.comparisons is None else board.comparisons.overall
    if overall is None:
        return ""
    head = [
        "entry",
        "mean rank",
        "place",
        "95% of resamples",
        "keeps its place",
        "without a metric",
    ]
    rows = [
        [
            _entry(found.entry, board),
            f"{found.mean_rank:.2f}",
            str(found.place),
            _range(found.low, found.high),
            f"{found.kept:.0%}",
            _range(*found.without_one),
        ]
        for found in overall.places
    ]
    return (
        f"## Over all metrics\n\n{_table(head, rows)}\n\nThe mean rank over "
        f"{len(overall.metrics)} metrics, each counting alike: a summary and a choice, no test. "
        f"{overall.kept:.0%} of the resamples give this order. The last column is the range of "
        "places where any one metric is left out."
    )


def _range(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}–{high}"


# ---------------------------------------------------------------- values and floors


def _values(board: Board) -> str:
    protocol = board.benchmark.protocol
    tables = [
        f"{title}\n\n"
        + _by_entry(board, keys, lambda row: "" if row is None else _value_words(row))
        for title, keys in _groups(_own_keys(board), board)
    ]
    cards = board.ordered.values()
    saturated = any(value.saturated for card in cards for value in card.values)
    tests = [[_entry(name, board), p_text(row.p)] for name, card in board.ordered.items()
             if (row := card.row("mmd2")) is not None]  # fmt: skip
    words = [
        f"{BIASED}. ↓ lower is better, ↑ higher, → 0 nearest to zero. MMD² is the unbiased "
        "estimate and may be negative. The MS-SSIM gap is synthetic minus real: above zero the "
        "synthetic volumes are too alike."
    ]
    if saturated:
        words.append(f"{SATURATED} {SATURATION}.")
    parts = [f"## Values, with {protocol.level:.0%} intervals", *tables, " ".join(words)]
    if tests:
        parts.append(
            "Permutation test on MMD² that both sets come from one distribution: "
            + "; ".join(f"{entry} p {p}" for entry, p in tests)
            + "."
        )
    return "\n\n".join(parts)


def _conditional(board: Board) -> str:
    """How entries whose conditions are known follow them; empty where none is conditional."""
    cards = {name: card for name, card in board.ordered.items() if card.fidelity is not None}
    records = [card.fidelity for card in cards.values() if card.fidelity is not None]
    names = list(dict.fromkeys(c.name for record in records for c in record.conditions))
    if not names:
        return ""
    rows = []
    for name, record in zip(cards, records, strict=True):
        found = {condition.name: headline(condition) for condition in record.conditions}
        leaks = sum(line.shown for line in leakage_lines(record))
        rows.append(
            [_entry(name, board), *(_cell(found.get(n, "")) for n in names),
             f"{leaks} of {len(record.leakage)}" if record.leakage else "", _effects(cards[name])]
        )  # fmt: skip
    head = ["entry", *(_cell(n) for n in names), "leaks", "effects replicated"]
    drawn = any(condition_charts(record) for record in records)
    picture = f"![Asked against measured]({ASKED})\n\n" if drawn else ""
    return (
        f"## Conditional fidelity\n\n{picture}{_table(head, rows)}\n\nAsked against measured: the "
        "correlation of a number, the area under the curve (AUC) of two levels, the accuracy of "
        "more, with its interval, and of what the same measure reaches on the real volumes. "
        "Leaks: pairs in which asking for one condition moves the measure of another beyond what "
        "it does in the real volumes. Unranked: entries may have been asked for other values."
    )


def _utility(board: Board) -> str:
    """Which entries helped a model that is used on real people; empty where none was asked."""
    rows = [
        [_entry(name, board), _cell(verdict_words(found)), _cell(trained_words(found)),
         _cell(subject_words(found)), _cell(found.model), p_text(found.p)]
        for name, card in board.ordered.items()
        if (found := card.utility) is not None
    ]  # fmt: skip
    if not rows:
        return ""
    head = ["entry", "real + synthetic less real", "trained on", "tested on", "model", "p"]
    return (
        f"## Utility\n\n{_table(head, rows, words=5)}\n\nWhether training on the synthetic volumes "
        "too serves real people better than training on the real ones alone, on the same test "
        'subjects. "Did not help" includes "cannot tell": look at the '
        "interval's width. Unranked: labels, training volumes and test subjects may differ."
    )


def _effects(card: Scorecard) -> str:
    if card.replication is None or not card.replication.effects:
        return ""
    words = [effect.word for effect in card.replication.effects]
    untold = words.count("cannot tell")
    told = f"{words.count('replicated')} of {len(words)}"
    return f"{told} ({untold} cannot be told)" if untold else told


def _groups(keys: Sequence[Key], board: Board) -> list[tuple[str, list[Key]]]:
    """Tables that fit a screen: the rows of each extractor, and those of the volumes."""
    extractors = dict.fromkeys(key.extractor for key in keys)
    groups = []
    for extractor in sorted(extractors, key=lambda e: (e is None, list(extractors).index(e))):
        title = (
            "Of the volumes"
            if extractor is None
            else f"On features of `{_label(extractor, board)}`"
        )
        groups.append((f"**{title}**", [key for key in keys if key.extractor == extractor]))
    return groups


def _label(extractor: str, board: Board) -> str:
    labels = {e.name: e.label for e in board.benchmark.protocol.extractors}
    return labels.get(extractor, extractor)


def _by_entry(board: Board, keys: Sequence[Key], cell: Callable[[Value | None], str]) -> str:
    head = ["entry", *(_words(key, board, extractor=False) for key in keys)]
    rows = [
        [_entry(name, board), *(cell(key.of(card)) for key in keys)]
        for name, card in board.ordered.items()
    ]
    return _table(head, rows)


def _floors(board: Board) -> str:
    """Values at the floor's n beside the floor, for the rows that have one."""
    keys = [key for key in _keys(board.ordered.values()) if _floor_of(key, board)]
    if not keys:
        return ""
    tables = []
    for title, group in _groups(keys, board):
        floors = [_floor_of(key, board) for key in group]
        head = ["entry", *(_words(key, board, extractor=False, n=False) for key in group)]
        first = ["**real vs real (floor)**"] + [
            f"{number(f.mean)} ({number(f.low)} to {number(f.high)})" for f in floors if f
        ]
        rows = [first]
        for name, card in board.ordered.items():
            matched = [key.of(card) for key in group]
            rows.append(
                [_entry(name, board)]
                + [number(row.floor.synth_mean) if row and row.floor else "" for row in matched]
            )
        tables.append(f"{title}\n\n{_table(head, rows)}")
    n = "/".join(map(str, sorted({f.n for key in keys if (f := _floor_of(key, board))})))
    return "\n\n".join(
        [
            f"## Against the real-vs-real floor, at n = {n} a side",
            *tables,
            "The floor is the mean (2.5th to 97.5th percentile) over random disjoint halves of the "
            "real cohort; entries are means over random subsets of the same size.",
        ]
    )


def _floor_of(key: Key, board: Board) -> FrozenFloor | FloorRecord | None:
    """The benchmark's own floor of a row, else the one that the first entry found."""
    for floor in board.benchmark.floors:
        if (floor.metric, floor.extractor) == (key.metric, key.extractor):
            return floor
    rows = [key.of(card) for card in board.ordered.values()]
    return next((row.floor for row in rows if row and row.floor), None)


def _papers(board: Board) -> str:
    keys = [key for key in _keys(board.ordered.values()) if key.family in FOR_PAPERS]
    own = ""
    if keys:
        cells = _by_entry(board, keys, lambda row: "" if row is None else _value_words(row))
        own = f"Of measures that papers print, this benchmark's entries, unranked:\n\n{cells}\n\n"
    head = ["model", "FID", "MMD", "MS-SSIM", "4-G-R-SSIM", "s a volume", "source"]
    rows = [
        [_cell(r.model), _cell(r.fid), _cell(r.mmd), _cell(r.ms_ssim), _cell(r.g4r_ssim),
         _cell(r.seconds_a_volume), _cell(f"{r.source}. {r.protocol}")]
        for r in REPORTED
    ]  # fmt: skip
    return (
        f"## Reported in papers, under other protocols\n\n{own}As printed. None of these compares "
        "with a number on this page, nor the rows of one paper with those of another: cohort, n, "
        f"features, kernel and estimator differ.\n\n{_table(head, rows)}"
    )


# ---------------------------------------------------------------- the multiverse


def _multiverse(board: Board) -> str:
    found = board.multiverse
    if found is None:
        if "multiverse" not in board.stale:
            return ""
        words = stale_words(board, "multiverse", _usual_folder(board))
        return f"## Under other choices\n\n{_sentence(words)}"
    names = list(board.ordered)
    swaps = {(s.ahead, s.behind): s for s in found.swaps}
    if len(names) > MATRIX:
        pairs = [[_entry(s.ahead, board), _entry(s.behind, board), _swap_words(s)]
                 for s in found.swaps if s.probability > 0]  # fmt: skip
        table = _table(["ahead here", "behind here", "change places"], pairs, words=2)
    else:
        rows = [
            [_entry(a, board), *(_swap_words(swaps[a, b]) if (a, b) in swaps else ""
             for b in names[1:])]
            for a in names[:-1]
        ]  # fmt: skip
        table = _table(["", *(str(board.number(name)) for name in names[1:])], rows)
    absent = "; ".join(_cell(words) for words in found.absent)
    return (
        f"## Under other choices\n\n![Ranks under every choice]({GRID})\n\n{table}\n\n"
        f"Over {len(found.universes)} choices of extractor, kernel and preset: the probability "
        "that the two rows change places (the mean over choices of the share of paired resamples "
        "that turn them round), and in brackets the share of choices whose estimates do. Each "
        "choice counts alike: a description of this family of choices, no test."
        + (f" Not to be had here: {absent}." if absent else "")
    )


def _swap_words(swap: universes.Swap) -> str:
    return f"{swap.probability:.0%} ({swap.universes:.0%})"


# ---------------------------------------------------------------- cost, pictures, the rest


def _cost(board: Board) -> str:
    head = ["entry", "generator", "parameters", "training", "energy", "training seeds", "sampler",
            "s a volume", "licence", "protocol", "scored"]  # fmt: skip
    rows = []
    for name, card in board.ordered.items():
        o = card.origin
        cells = [
            o.generator,
            None if o.parameters is None else f"{o.parameters / 1e6:.1f} M",
            None if o.training_seconds is None else _duration(o.training_seconds),
            None if o.training_energy_kwh is None else f"{number(o.training_energy_kwh)} kWh",
            _seeds(card),
            f"{o.sampler}, {o.steps} steps" if o.sampler else None,
            None if o.seconds_a_volume is None else number(o.seconds_a_volume),
            o.licence,
        ]
        rows.append(
            [_entry(name, board), *(_cell(cell or "") for cell in cells),
             f"`{card.protocol_hash}`",
             f"{card.created[:10]}, {card.synth.n} of {card.synth.available}"]
        )  # fmt: skip
    filled = [i for i in range(len(head)) if any(row[i] for row in rows)]
    rows = [[row[i] for i in filled] for row in rows]
    return f"## Cost, licence and date\n\n{_table([head[i] for i in filled], rows)}"


def _seeds(card: Scorecard) -> str:
    known = _training_seeds(card)
    if known is None:
        return "" if card.origin.generator is None else f"not stated {_ONE}"
    return f"{known} {_ONE}" if known < FEW_SEEDS else str(known)


def _training_seeds(card: Scorecard) -> int | None:
    if card.origin.training_seeds is not None:
        return card.origin.training_seeds
    return None if card.origin.weights_sha256 is None else 1


def _few_seeds(card: Scorecard) -> bool:
    return card.origin.generator is not None and (_training_seeds(card) or 0) < FEW_SEEDS


def _copies(card: Scorecard) -> str:
    if not card.memorization:
        return "not assessed"
    tests = [(r.space, t) for r in card.memorization for t in (r.plain, r.flipped) if t]
    found: dict[str, float] = {}
    for space, test in tests:
        if test.words.startswith("copying"):
            found[space] = min(test.p, found.get(space, 1.0))
    if found:
        exact = max(record.exact_copies for record in card.memorization)
        spaces = ", ".join(f"{_cell(space)} (p {p_text(p)})" for space, p in found.items())
        return f"**detected** in {spaces}" + (f"; {exact} exact" if exact else "")
    best = min((t.detectable_share for _, t in tests if t.detectable_share), default=None)
    power = "power below 80% at 50%" if best is None else f"80% power at {best:.0%}"
    return f"none detected ({power})"


def _pictures(board: Board) -> str:
    found = [
        f"![Samples of {_entry(name, board)}](entries/{name}.png)"
        for name in board.ordered
        if (board.folder / "entries" / f"{name}.png").is_file()
    ]
    return "## Samples\n\n" + "\n\n".join(found) if found else ""


def _accepted(board: Board) -> str:
    """Say which entries were scored although preflight would have stopped them."""
    lines = [
        f"- {_entry(name, board)}: `{found.rule}` ({found.role})"
        for name, card in board.ordered.items()
        for found in card.preflight
        if found.accepted
    ]
    return "\n".join(["## Scored in spite of preflight", "", *lines]) if lines else ""


def _not_comparable(board: Board) -> str:
    lines = []
    for name, card in sorted(board.cards.items()):
        if name in board.ordered:
            continue
        differs = differences(card.protocol, board.benchmark.protocol)
        if card.real.fingerprint != board.benchmark.real_fingerprint:
            differs.insert(
                0,
                f"real cohort: {card.real.fingerprint[:12]} instead of "
                f"{board.benchmark.real_fingerprint[:12]}",
            )
        lines.append(
            f"- {_cell(board.called(name))} (`{card.protocol_hash}`): {_cell('; '.join(differs))}"
        )
    return "## Not comparable\n\n" + "\n".join(lines) if lines else ""


def _protocol(benchmark: Benchmark) -> str:
    p = benchmark.protocol
    stored = ", stored" if benchmark.stored_mask else ""
    rows = [
        ["grid", str(p.space.grid)],
        ["intensities", p.space.scaling],
        ["mask", f"{p.mask.rule}; {p.mask.voxels} voxels, sha256 {p.mask.sha256[:12]}{stored}"],
        ["resamples, level, seed", f"{p.resamples}, {p.level:g}, {p.seed}"],
        ["floor", f"{p.floor_splits} random splits"],
    ]
    for e in p.extractors:
        rows.append([_cell(e.name), f"{e.layer}; {e.preprocessing}; {e.dim} features; sha256 "
                     f"{(e.weights_sha256 or 'none')[:12]}"])  # fmt: skip
    for key, settings in p.settings.items():
        words = "; ".join(f"{k} {_setting(v)}" if k != "formula" else str(v)
                          for k, v in settings.items())  # fmt: skip
        rows.append([_cell(key), _cell(words)])
    rows += [[_cell(f"interval of {m}"), method] for m, method in p.intervals.items()]
    return f"## Protocol `{p.hash}`\n\n{_table(['setting', 'value'], rows, words=2)}"


# ---------------------------------------------------------------- forest plots


def _forest(key: Key, board: Board) -> str:
    floor = _floor_of(key, board)
    rows = []
    for name, card in board.ordered.items():
        row = key.of(card)
        interval = row.interval if row else None
        rows.append(
            Row(
                name=_title(board, name),
                value=row.value if row else None,
                low=interval.low if interval else None,
                high=interval.high if interval else None,
                matched=row.floor.synth_mean if row and row.floor else None,
            )
        )
    level = f"{board.benchmark.protocol.level:.0%} intervals"
    band = Band(floor.low, floor.high, floor.n) if floor else None
    title = f"{_plain(key, board)} {_ARROWS[key.direction]}"
    return forest_plot(title, rows, band, note=level)


def _forest_file(key: Key, board: Board) -> str:
    several = len({k.extractor for k in _ranked_keys(board) if k.metric == key.metric}) > 1
    words = f"{key.metric}-{key.extractor}" if several and key.extractor else key.metric
    return f"forest-{''.join(c if c.isalnum() else '-' for c in words)}.svg"


def _rendered(folder: Path) -> list[Path]:
    return sorted([*folder.glob("forest-*.svg"), *folder.glob(GRID), *folder.glob(ASKED)])


def _holds(file: Path, text: str) -> bool:
    return file.is_file() and file.read_bytes() == text.encode()


# ---------------------------------------------------------------- words and cells


def _plain(key: Key, board: Board, *, extractor: bool = True, n: bool = True) -> str:
    label = f"FID (n={_n(board.benchmark)})" if key.metric == "fid" and n else key.label
    several = len(board.benchmark.protocol.extractors) > 1
    return f"{label}, {key.extractor}" if several and extractor and key.extractor else label


def _words(key: Key, board: Board, *, extractor: bool = True, n: bool = True) -> str:
    # A part takes the whole's direction, and a mean of one set has none of its own.
    aimless = "." in key.metric and key.direction == "zero"
    arrow = "" if aimless else f" {_ARROWS[key.direction]}"
    return _cell(_plain(key, board, extractor=extractor, n=n)) + arrow


def _html(key: Key, board: Board) -> str:
    from html import escape

    return escape(_plain(key, board))


def _value_words(row: Value) -> str:
    if row.value is None:
        words = row.missing or "missing"
        return _cell(words if len(words) <= REASON else f"{words[:REASON]}…")
    mark = f" {SATURATED}" if row.saturated else ""
    return f"{number(row.value)}{mark} {interval_words(row)}"


def _is_saturated(key: Key, card: Scorecard) -> bool:
    row = key.of(card)
    return row is not None and bool(row.saturated)


def _blur(row: Value | None) -> str:
    texts = [] if row is None else [e.text for e in row.equivalents if e.corruption == "blur"]
    return _cell(texts[0]) if texts else ""


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_setting(v) for v in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _n(benchmark: Benchmark) -> int:
    return min(benchmark.protocol.n_real, benchmark.protocol.n_synth)


def _sentence(text: str) -> str:
    return f"{_cell(text)}."


def _cell(text: str) -> str:
    """Escape what would end a cell or start markup: names in scorecards are not trusted."""
    for sign in ("\\", "|", "<", ">", "*", "_", "`", "[", "]", "#", "!"):
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 1) -> str:
    """A markdown table whose first columns, so many as `words`, are aligned to the left."""
    lines = [head, ["---"] * words + ["---:"] * (len(head) - words), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
