"""The page's sections on facts: cost, samples, accepted errors, other entries, the protocol."""

from __future__ import annotations

from typing import Any

from synthbench.leaderboard.board import Board, entry_title, ranked_keys
from synthbench.leaderboard.columns import COST, entries_of, filled, heads, rows_of, title_of
from synthbench.render.markdown import code, escaped, table, target
from synthbench.scoring.benchmark import Benchmark, protocol_differences


def cost(board: Board) -> str:
    """Return the table of what the entries cost, with their licences and dates."""
    key = ranked_keys(board)[0]
    columns = filled(COST, entries_of(board, key))
    rows = [
        [
            escaped(f"{number}. {title_of(entries)}"),
            *(column.of_row(entries).markdown() for column in columns),
        ]
        for number, entries in enumerate(rows_of(board, key), 1)
    ]
    head = ["entry", *heads(columns, board, key)]
    return f"## Cost, licence and date\n\n{table(head, rows)}"


def samples(board: Board) -> str:
    """Return the pictures of entries; empty where there are none."""
    found = [
        f"![Samples of {entry_title(name, board)}]({target(f'entries/{name}.png')})"
        for name in board.ordered
        if (board.folder / "entries" / f"{name}.png").is_file()
    ]
    return "## Samples\n\n" + "\n\n".join(found) if found else ""


def accepted(board: Board) -> str:
    """Return the errors of preflight that were accepted for entries; empty where there are none."""
    lines = [
        f"- {entry_title(name, board)}: {code(found.rule)} ({escaped(found.role)})"
        for name, card in board.ordered.items()
        for found in card.preflight
        if found.accepted
    ]
    return "\n".join(["## Scored in spite of preflight", "", *lines]) if lines else ""


def not_comparable(board: Board) -> str:
    """Return the other entries with the fields that differ; empty where there are none."""
    lines = []
    for name, card in sorted(board.cards.items()):
        if name in board.ordered:
            continue
        differs = protocol_differences(card.protocol, board.benchmark.protocol)
        if card.real.fingerprint != board.benchmark.real_fingerprint:
            differs.insert(
                0,
                f"real cohort: {card.real.fingerprint[:12]} instead of "
                f"{board.benchmark.real_fingerprint[:12]}",
            )
        causes = escaped("; ".join(differs))
        lines.append(f"- {escaped(board.called(name))} ({code(card.protocol_hash)}): {causes}")
    return "## Not comparable\n\n" + "\n".join(lines) if lines else ""


def protocol(benchmark: Benchmark) -> str:
    """Return the table of every setting of the protocol."""
    p = benchmark.protocol
    stored = ", stored" if benchmark.stored_mask else ""
    rows = [
        ["grid", str(p.space.grid)],
        ["intensities", p.space.scaling],
        ["mask", f"{p.mask.rule}; {p.mask.voxels} voxels, sha256 {p.mask.sha256[:12]}{stored}"],
        *([] if p.background is None else [["background", p.background.words]]),
        ["resamples, level, seed", f"{p.resamples}, {p.level:g}, {p.seed}"],
        ["floor", f"{p.floor_splits} random splits"],
    ]
    for e in p.extractors:
        rows.append([e.name, f"{e.layer}; {e.preprocessing}; {e.dim} features; sha256 "
                     f"{(e.weights_sha256 or 'none')[:12]}"])  # fmt: skip
    for key, settings in p.settings.items():
        words = "; ".join(f"{k} {_setting(v)}" if k != "formula" else str(v)
                          for k, v in settings.items())  # fmt: skip
        rows.append([key, words])
    rows += [[f"interval of {m}", method] for m, method in p.intervals.items()]
    cells = [[escaped(cell) for cell in row] for row in rows]
    return f"## Protocol `{p.hash}`\n\n{table(['setting', 'value'], cells, words=2)}"


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_setting(v) for v in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)
