"""The entries of a leaderboard: scorecards, and the sample data behind them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from synthbench.errors import ScorecardError
from synthbench.records.keys import JobKey
from synthbench.records.scorecard import Scorecard
from synthbench.records.verdict import scored_bytes
from synthbench.scoring.benchmark import Benchmark
from synthbench.scoring.sample_data import SampleData, load_sample_data

Source = Callable[[Scorecard], SampleData | None]
"""From a scorecard to the sample data that a machine keeps of it; None where it has none."""


@dataclass(frozen=True)
class Entry:
    """A comparable entry: the name of its file, its scorecard, and its sample data."""

    name: str
    card: Scorecard
    sample_data: SampleData


def read_entries(folder: Path) -> dict[str, Scorecard]:
    """Read a benchmark's scorecards, by the names of their files.

    Raises
    ------
    ScorecardError
        There are none, or one cannot be read.
    """
    files = sorted((folder / "entries").glob("*.json"))
    if not files:
        raise ScorecardError(
            f"{folder}: no entries. Score one into it: synthbench score --benchmark {folder} "
            f"--real REAL --synth SYNTH --out {folder}/entries/NAME.json"
        )
    return {file.stem: Scorecard.load(file) for file in files}


def comparable(cards: Mapping[str, Scorecard], benchmark: Benchmark) -> dict[str, Scorecard]:
    """Return the entries with the benchmark's protocol and real cohort."""
    return {
        name: card
        for name, card in cards.items()
        if card.protocol.hash == benchmark.protocol.hash
        and card.real.fingerprint == benchmark.real_fingerprint
    }


def in_order(cards: Mapping[str, Scorecard], primary: JobKey) -> list[str]:
    """Return the names of entries, the best by the primary metric first.

    Entries without a value of it come last. Equal ones are in the order of their names.
    """

    def place(name: str) -> tuple[bool, float, str]:
        row = cards[name].row(primary.metric, primary.extractor)
        if row is None or row.value is None:
            return (True, 0.0, name)
        loss = {"lower": row.value, "zero": abs(row.value), "higher": -row.value}
        return (False, loss[row.direction], name)

    return sorted(cards, key=place)


def entry_hashes(folder: Path, cards: Mapping[str, Scorecard]) -> dict[str, str]:
    """Return the sha256 of each entry's file as it was scored, by the entry's name.

    A verdict on utility that was added later changes no rank, so the hash leaves it out.
    """
    return {
        name: hashlib.sha256(scored_bytes(folder / "entries" / f"{name}.json")).hexdigest()
        for name in sorted(cards)
    }


def stale_entries(
    recorded: Mapping[str, str], folder: Path, cards: Mapping[str, Scorecard]
) -> list[str]:
    """Return one line per entry that is gone or changed since the hashes were recorded.

    An entry that was added since makes no record stale: what was found of the others still holds.
    """
    now = entry_hashes(folder, cards)
    return [
        *(f"{name} is gone" for name in recorded if name not in now),
        *(f"{name} changed" for name in now if recorded.get(name, now[name]) != now[name]),
    ]


def open_entries(
    folder: Path, benchmark: Benchmark, source: Source = load_sample_data
) -> list[Entry]:
    """Return the comparable entries with their sample data, as `source` gives them.

    Raises
    ------
    ScorecardError
        There are fewer than two, or this machine has no sample data of some.
    """
    cards = comparable(read_entries(folder), benchmark)
    if len(cards) < 2:
        raise ScorecardError(
            f"{folder}: at least 2 comparable entries are needed for a ranking; found "
            f"{len(cards)}. Score another one with --benchmark {folder}."
        )
    found = {name: source(card) for name, card in cards.items()}
    absent = [name for name, sample_data in found.items() if sample_data is None]
    if absent:
        files = ", ".join(f"{folder}/entries/{name}.json" for name in absent)
        raise ScorecardError(
            f"the volumes behind {files} were not scored on this machine: score them here "
            f"(synthbench score --benchmark {folder} ...), or add --sample-data FILE, which "
            "synthbench score --sample-data FILE writes on the machine that has them."
        )
    return [
        Entry(name, cards[name], sample_data)
        for name, sample_data in found.items()
        if sample_data is not None
    ]
