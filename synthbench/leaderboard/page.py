"""Leaderboards: the scorecards of one benchmark as two pages of markdown, with small pictures.

A benchmark's folder holds `benchmark.yaml`, `entries/*.json` and what is rendered from them:
`README.md`, the first page (`synthbench.leaderboard.front`), `details.md` with all tables, and
pictures. Where `comparisons.json` (`synthbench.leaderboard.ranking`) is there, and none of its
entries has changed, the pages have ranks and ties; otherwise they say that these are missing. Pages
and pictures are the same to the byte each time. Entries with another protocol or real cohort are
listed apart, with the fields that differ; they are never ordered with the others.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from synthbench.errors import CheckFailed, ScorecardError
from synthbench.leaderboard import facts, ranks, values
from synthbench.leaderboard.board import Board, stale_words
from synthbench.leaderboard.choices import choices
from synthbench.leaderboard.front import front
from synthbench.leaderboard.pictures import ASKED, GRID, pictures
from synthbench.leaderboard.repeats import seeds, splits
from synthbench.render.markdown import escaped
from synthbench.runtime.documents import check_own, read_text
from synthbench.runtime.files import write_atomic
from synthbench.runtime.text import visible
from synthbench.scoring.benchmark import FILE

PAGE = "README.md"
DETAILS = "details.md"
NOTES = "notes.md"
NAMED = 3
"""Stale files that a message names at most."""

SECTIONS: tuple[Callable[[Board], str], ...] = (
    ranks.ranking,
    ranks.differences,
    ranks.other_metrics,
    ranks.overall,
    values.values,
    values.conditional,
    values.utility,
    values.readers,
    values.floors,
    values.papers,
    choices,
    splits,
    seeds,
    facts.cost,
    facts.samples,
    facts.accepted,
)
"""The second page's sections, in order: each returns markdown, empty where there is nothing."""


def render_leaderboard(folder: Path | str) -> str:
    """Return the first page of one benchmark's leaderboard: sentences, a table, a picture.

    Parameters
    ----------
    folder
        Holds `benchmark.yaml` and `entries/*.json`.

    Raises
    ------
    ScorecardError
        There is no benchmark, no entry, or one cannot be read.
    """
    return _first_page(Board.read(Path(folder)))


def _first_page(board: Board) -> str:
    parts = [ranks.heading(board)]
    if board.ordered:
        parts.append(front(board))
    apart = len(board.cards) - len(board.ordered)
    if apart:
        which = "entry has" if apart == 1 else "entries have"
        parts.append(
            f"{apart} other {which} another protocol or real cohort, and no place here "
            f"([which]({DETAILS}#not-comparable))."
        )
    notes = " Its notes say what the numbers show, and how they were made." * _has_notes(board)
    parts.append(
        f"**[All tables]({DETAILS})**: differences and their p, ranks under the other metrics, "
        f"values, floors, cost and licence, the protocol.{notes}"
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def render_details(folder: Path | str) -> str:
    """Return the second page of one benchmark's leaderboard: all tables.

    Parameters
    ----------
    folder
        As for `render_leaderboard`. A picture `entries/NAME.png` is shown for its entry, and the
        text of `notes.md` is added below the tables.

    Raises
    ------
    ScorecardError
        There is no benchmark, no entry, or one cannot be read.
    """
    return _second_page(Board.read(Path(folder)))


def _second_page(board: Board) -> str:
    parts = [
        f"# {escaped(board.benchmark.name)}: all tables",
        f"What they show, in a minute: [{PAGE}]({PAGE}).",
    ]
    if board.ordered:
        parts += [section(board) for section in SECTIONS]
    parts.append(facts.not_comparable(board))
    if _has_notes(board):
        parts.append(_notes(board.folder / NOTES))
    parts.append(facts.protocol(board.benchmark))
    return "\n\n".join(part for part in parts if part) + "\n"


def render_pictures(folder: Path | str) -> dict[str, str]:
    """Return the page's pictures as SVG, by file name."""
    return pictures(Board.read(Path(folder)))


def _has_notes(board: Board) -> bool:
    return (board.folder / NOTES).is_file()


def _notes(file: Path) -> str:
    check_own(file, file.parent, ScorecardError)
    text = read_text(file, error=ScorecardError, fix="Save it as UTF-8.").strip()
    return visible(text, kept="\n\t")


def write_leaderboard(folder: Path | str) -> Path:
    """Write a benchmark's pages and the pictures beside them; return the first page's file.

    Pictures of an earlier page that are no longer shown are removed.
    """
    folder = Path(folder)
    files = _files(Board.read(folder))
    for old in _rendered(folder):
        if old.name not in files:
            old.unlink()
    for name, text in reversed(files.items()):  # a page comes after what it shows
        write_atomic(folder / name, text.encode())
    return folder / PAGE


def check_leaderboard(folder: Path | str) -> None:
    """Raise where a file of the folder is not what the scorecards give.

    Raises
    ------
    CheckFailed
        A page or a picture is stale or missing, or the comparisons are of other entries.
    """
    folder = Path(folder)
    board = Board.read(folder)
    for what in board.stale:
        raise CheckFailed(stale_words(board, what, folder))
    expected = _files(board)
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
        There is no benchmark.
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


def _files(board: Board) -> dict[str, str]:
    """Return the texts of all rendered files by name, the first page first."""
    return {PAGE: _first_page(board), DETAILS: _second_page(board), **pictures(board)}


def _rendered(folder: Path) -> list[Path]:
    return sorted([*folder.glob("forest-*.svg"), *folder.glob(GRID), *folder.glob(ASKED)])


def _holds(file: Path, text: str) -> bool:
    return file.is_file() and file.read_bytes() == text.encode()
