"""Leaderboards: the scorecards of one benchmark as a page of markdown.

A benchmark's folder holds `benchmark.yaml`, `entries/*.json` and the rendered `README.md`. The
page is deterministic to the byte. Entries whose protocol or real cohort differs are listed
apart, with the fields that differ; they are never ordered with the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from synthbench.benchmark import FILE, Benchmark
from synthbench.errors import CheckFailed, ScorecardError
from synthbench.files import write_atomic
from synthbench.scorecard import Scorecard, Value
from synthbench.table import (
    BIASED,
    FOR_PAPERS,
    SATURATED,
    SATURATION,
    interval_words,
    number,
    p_words,
)

PAGE = "README.md"
NOTES = "notes.md"


def render_leaderboard(folder: Path | str) -> str:
    """Return the markdown of one benchmark's leaderboard.

    Parameters
    ----------
    folder
        Holds `benchmark.yaml` and `entries/*.json`; the text of a `notes.md` beside them is put
        under the tables.

    Raises
    ------
    ScorecardError
        There is no benchmark, no entry, or one cannot be read.
    """
    folder = Path(folder)
    benchmark = Benchmark.load(folder)
    files = sorted((folder / "entries").glob("*.json"))
    if not files:
        raise ScorecardError(
            f"{folder}: no entries. Score one into it: synthbench score --benchmark {folder} "
            f"--real REAL --synth SYNTH --out {folder}/entries/NAME.json"
        )
    cards = [Scorecard.load(file) for file in files]
    comparable = [card for card in cards if not _differences(card, benchmark)]
    others = [card for card in cards if _differences(card, benchmark)]
    ordered = sorted(comparable, key=lambda card: _place(card, benchmark.primary))
    parts = [_heading(benchmark)]
    if ordered:
        parts += [_main_table(ordered, benchmark), _floor_table(ordered), _cost_table(ordered)]
    if any(found.accepted for card in ordered for found in card.preflight):
        parts.append(_accepted(ordered))
    if others:
        parts.append(_not_comparable(others, benchmark))
    if (folder / NOTES).is_file():
        parts.append((folder / NOTES).read_text().strip())
    parts.append(_protocol(benchmark))
    return "\n\n".join(parts) + "\n"


def write_leaderboard(folder: Path | str) -> Path:
    """Render a benchmark's leaderboard into its `README.md`."""
    page = Path(folder) / PAGE
    write_atomic(page, render_leaderboard(folder).encode())
    return page


def check_leaderboard(folder: Path | str) -> None:
    """Raise where the page on disk is not what its scorecards render to.

    Raises
    ------
    CheckFailed
        The page is stale or missing.
    """
    page = Path(folder) / PAGE
    if not page.is_file() or page.read_text() != render_leaderboard(folder):
        raise CheckFailed(f"{page} is stale: render it with synthbench leaderboard {folder}")


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


# ---------------------------------------------------------------- parts of the page


def _place(card: Scorecard, primary: str) -> tuple[int, float, str]:
    row = card.row(primary)
    if row is None or row.value is None:
        return (1, 0.0, card.name)
    key = {"lower": row.value, "zero": abs(row.value), "higher": -row.value}[row.direction]
    return (0, key, card.name)


def _heading(benchmark: Benchmark) -> str:
    protocol = benchmark.protocol
    extractors = ", ".join(f"`{e.label}`" for e in protocol.extractors)
    return (
        f"# {benchmark.name}\n\n"
        f"{protocol.n_synth} synthetic against {protocol.n_real} real volumes "
        f"({benchmark.real_subjects} subjects), {protocol.space.grid}. "
        f"Extractor {extractors}. Protocol `{protocol.hash}`, real cohort "
        f"`{benchmark.real_fingerprint[:12]}`.\n\n"
        f"Ordered by {benchmark.primary}. An order is no ranking: neighbours whose intervals "
        "overlap may be ties, and intervals that do not overlap are not a test."
    )


def _main_table(cards: Sequence[Scorecard], benchmark: Benchmark) -> str:
    keys = [(v.metric, v.extractor) for v in cards[0].values if _in_main_table(v)]
    several = len(benchmark.protocol.extractors) > 1
    level = f"{benchmark.protocol.level:.0%}"
    head = ["entry"]
    for metric, extractor in keys:
        row = cards[0].row(metric, extractor)
        assert row is not None
        words = f"FID (n={_n(benchmark)})" if metric == "fid" else row.label
        head.append(_cell(f"{words}, {extractor}" if several and extractor else words))
    head.append("p (MMD²)")
    copies = any(card.memorization or card.not_assessed for card in cards)
    if copies:
        head.append("copies of training images")
    rows = []
    for card in cards:
        cells = [_cell(card.name)]
        for metric, extractor in keys:
            row = card.row(metric, extractor)
            cells.append("" if row is None else _value_words(row))
        test = card.row("mmd2")
        cells.append(p_words(test.p if test else None))
        rows.append([*cells, _copies(card)] if copies else cells)
    return (
        f"## Values, with {level} intervals\n\n{_table(head, rows)}\n\n{BIASED}. MMD² is the "
        "unbiased estimate and may be negative; its p-value is a permutation test that both "
        "sets come from one distribution. The MS-SSIM gap is synthetic minus real: above zero "
        "the synthetic volumes are too alike."
        + (
            f" {SATURATED} {SATURATION}."
            if any(v.saturated for c in cards for v in c.values)
            else ""
        )
        + (" A test for copies is no privacy guarantee." if copies else "")
    )


def _in_main_table(row: Value) -> bool:
    """Whether a row is a metric's own, or MS-SSIM's two means; others stand at the floor's n."""
    family, _, part = row.metric.partition(".")
    return family not in FOR_PAPERS and (
        not part or row.metric in ("ms_ssim.synth", "ms_ssim.real")
    )


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
        spaces = ", ".join(f"{_cell(space)} (p {p_words(p)})" for space, p in found.items())
        return f"**detected** in {spaces}" + (f"; {exact} exact" if exact else "")
    best = min((t.detectable_share for _, t in tests if t.detectable_share), default=None)
    power = "power below 80% at 50%" if best is None else f"80% power at {best:.0%}"
    return f"none detected ({power})"


def _value_words(row: Value) -> str:
    if row.value is None:
        return _cell(row.missing or "missing")
    mark = f" {SATURATED}" if row.saturated else ""
    return f"{number(row.value)}{mark} {interval_words(row)}"


def _floor_table(cards: Sequence[Scorecard]) -> str:
    """Render values at the floor's n beside the floor, for the rows that have one."""
    with_floor = [(v.metric, v.extractor, v.label) for v in cards[0].values if v.floor]
    if not with_floor:
        return ""
    n = next(v.floor.n for v in cards[0].values if v.floor)
    head = ["entry", *(_cell(label) for _, _, label in with_floor)]
    floors = ["**real vs real (floor)**"]
    for metric, extractor, _ in with_floor:
        row = cards[0].row(metric, extractor)
        assert row is not None
        assert row.floor is not None
        f = row.floor
        floors.append(f"{number(f.mean)} ({number(f.low)} to {number(f.high)})")
    rows = [floors]
    for card in cards:
        cells = [_cell(card.name)]
        for metric, extractor, _ in with_floor:
            row = card.row(metric, extractor)
            cells.append(number(row.floor.synth_mean) if row and row.floor else "")
        rows.append(cells)
    return (
        f"## Against the real-vs-real floor, at n = {n} a side\n\n{_table(head, rows)}\n\n"
        "The floor is the mean (2.5th to 97.5th percentile) over random disjoint halves of the "
        "real cohort; entries are means over random subsets of the same size."
    )


def _accepted(cards: Sequence[Scorecard]) -> str:
    """Say which entries were scored although preflight would have stopped them."""
    lines = [
        f"- {_cell(card.name)}: `{found.rule}` ({found.role})"
        for card in cards
        for found in card.preflight
        if found.accepted
    ]
    return "\n".join(["## Scored in spite of preflight", "", *lines])


def _cost_table(cards: Sequence[Scorecard]) -> str:
    head = ["entry", "generator", "parameters", "training", "sampler", "s a volume", "scored"]
    rows = []
    for card in cards:
        o = card.origin
        sampler = f"{o.sampler}, {o.steps} steps" if o.sampler else ""
        rows.append(
            [
                _cell(card.name),
                o.generator or "",
                "" if o.parameters is None else f"{o.parameters / 1e6:.1f} M",
                "" if o.training_seconds is None else _duration(o.training_seconds),
                sampler,
                "" if o.seconds_a_volume is None else number(o.seconds_a_volume),
                f"{card.created[:10]}, {card.synth.n} of {card.synth.available}",
            ]
        )
    return f"## Cost and date\n\n{_table(head, rows)}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _differences(card: Scorecard, benchmark: Benchmark) -> list[str]:
    """Name the protocol fields, or the cohort, in which a card differs from the benchmark."""
    differs = []
    if card.real.fingerprint != benchmark.real_fingerprint:
        differs.append("real cohort")
    own = card.protocol.model_dump(mode="json")
    frozen = benchmark.protocol.model_dump(mode="json")
    return differs + [
        f"{field}: {_short(own[field])} instead of {_short(frozen[field])}"
        for field in frozen
        if own[field] != frozen[field]
    ]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _not_comparable(cards: Sequence[Scorecard], benchmark: Benchmark) -> str:
    lines = [
        f"- {_cell(card.name)} (`{card.protocol_hash}`): {'; '.join(_differences(card, benchmark))}"
        for card in sorted(cards, key=lambda card: card.name)
    ]
    return "## Not comparable\n\n" + "\n".join(lines)


def _protocol(benchmark: Benchmark) -> str:
    p = benchmark.protocol
    rows = [
        ["grid", str(p.space.grid)],
        ["intensities", p.space.scaling],
        ["mask", f"{p.mask.rule}; {p.mask.voxels} voxels, sha256 {p.mask.sha256[:12]}"],
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
    return f"## Protocol `{p.hash}`\n\n{_table(['setting', 'value'], rows)}"


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_setting(v) for v in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _n(benchmark: Benchmark) -> int:
    return min(benchmark.protocol.n_real, benchmark.protocol.n_synth)


def _cell(text: str) -> str:
    """Escape what would end a cell or start markup: names in scorecards are not trusted."""
    for sign in ("\\", "|", "<", ">", "*", "_", "`", "[", "]"):
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
