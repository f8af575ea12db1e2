"""What a board says, in at most five sentences that are made from its data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from synthbench.leaderboard.board import (
    Board,
    Key,
    floor_of,
    is_saturated,
    ranked_keys,
    ranking_by,
    stale_words,
)
from synthbench.leaderboard.columns import Entry, rows_of, title_of
from synthbench.leaderboard.methods import beats, kind_of, not_all_compared, row_ranks
from synthbench.leaderboard.ranking import MetricRanking
from synthbench.report.memorization import copies_found
from synthbench.report.standing import families, family_of, ranked_rows, verdict
from synthbench.report.verdicts import copied_parts

NAMED = 4
"""Rows that a sentence names at most."""

Entries = Sequence[Entry]
"""The entries of one row."""


def takeaways(board: Board, folder: Path) -> list[str]:
    """Return at most five sentences of plain text; none where no entry is comparable.

    They say which rows the primary metric cannot tell from real volumes, which rows share the
    first place, who copies, which baselines beat which trained generators, and what the primary
    metric does not show. Names of entries are in them: each page escapes the sentences.

    Parameters
    ----------
    board
        The benchmark's folder, as it was read.
    folder
        Its path, for the command that ranks the entries.
    """
    if not board.ordered:
        return []
    key = ranked_keys(board)[0]
    rows = rows_of(board, key)
    found = (
        _like_real(rows, key, board),
        _first_place(rows, key, board, folder),
        _copies(rows),
        _baselines(rows, board),
        _not_shown(rows, key, board),
    )
    return [sentence for sentence in found if sentence]


def not_ranked(board: Board, folder: Path) -> str:
    """Return why the rows are only ordered, and the command that ranks them."""
    if "comparisons" in board.stale:
        why = f"{stale_words(board, 'comparisons', folder)}."
    else:
        why = (
            f"Ranks and ties need the images: run synthbench leaderboard {folder} --compare on "
            "the machine that scored the entries."
        )
    return (
        f"{why} Until then the rows are only ordered: neighbours may be ties, and comparing "
        "intervals is not a test."
    )


# ---------------------------------------------------------------- the sentences


def _like_real(rows: Sequence[Entries], key: Key, board: Board) -> str:
    floor = floor_of(key, board)
    standings = [(row, _standings(row, key)) for row in rows]
    judged = [(row, found) for row, found in standings if found]
    if floor is None or not judged:
        return ""
    within = [row for row, found in judged if found == {"within"}]
    nearer = [row for row, found in judged if "other side" in found]
    label, n, at = _label(key, board), len(judged), f"n = {floor.n} per side"
    if n == 1:
        tells = "cannot tell" if within else "tells"
        words = f"{label} {tells} {_names([judged[0][0]])} from real volumes at {at}"
    elif not within:
        words = f"{label} tells {'both' if n == 2 else f'all {n}'} rows from real volumes at {at}"
    else:
        every = "both" if n == 2 else f"all {n}"
        count = every if len(within) == n else f"{len(within)} of {n}"
        words = f"{label} cannot tell {count} rows from real volumes at {at}: {_names(within)}"
    if nearer and key.direction == "lower":
        words += f"; nearer to real than real is to itself, so look for copies: {_names(nearer)}"
    tested = [
        row for row in within if any(e.row is not None and "but p" in verdict(e.row).words
                                     for e in row)
    ]  # fmt: skip
    if tested:
        words += f"; a test of all volumes finds a difference for {_names(tested)}"
    return f"{words}."


def _standings(row: Entries, key: Key) -> set[str]:
    """Return how the entries of a row stand against the floor; empty where one has no floor."""
    values = [key.of(entry.card) for entry in row]
    found = {verdict(value).standing if value else "missing" for value in values}
    return set() if found & {"missing", "no floor"} else set(found)


def _first_place(rows: Sequence[Entries], key: Key, board: Board, folder: Path) -> str:
    if len(rows) < 2:
        return ""
    found = ranking_by(board, key)
    if found is None or board.comparisons is None:
        return not_ranked(board, folder)
    level = board.comparisons.level
    later = [row for row in rows if _is_later(row, found)]
    compared, first = 0, []
    for row in rows:
        ranks = row_ranks(_entry_names(row), board.rows, found, level)
        if ranks is not None and row not in later:
            compared += 1
            first += [row] if ranks[0] == 1 else []
    # The old seed of a row may be better than all others: then none of them is first.
    placed = {place.entry for place in found.places}
    old_seeds = any(entry.name in placed for row in later for entry in row)
    if later and (old_seeds or compared < 2):
        return f"No row can be called the first: {_names(later)} {_are(later)} not compared yet."
    if len(first) == 1:
        words = f"{_names(first)} is first, significantly better than every other row"
    else:
        words = (
            f"The first place is shared by {len(first)} rows, between which {level:.0%} confidence "
            f"shows no difference: {_names(first)}"
        )
    if later:
        words = f"Of the rows that were compared: {words[0].lower()}{words[1:]}; not compared yet: "
        words += _names(later)
    return f"{words}."


def _is_later(row: Entries, found: MetricRanking) -> bool:
    """Return True where an entry of a row came after the comparison."""
    return not_all_compared(_entry_names(row), found)


def _entry_names(row: Entries) -> tuple[str, ...]:
    return tuple(entry.name for entry in row)


def _are(rows: Sequence[Entries]) -> str:
    return "is" if len(rows) == 1 else "are"


def _copies(rows: Sequence[Entries]) -> str:
    by: dict[str | None, list[Entries]] = {}
    for row in rows:
        found = [copies_found(entry.card).verdict for entry in row]
        order = ("copies", "sides_differ", "nearer", "none", None)
        by.setdefault(min(found, key=order.index), []).append(row)

    def named(verdict: str | None) -> str:
        return _names(by[verdict], lambda entry: copies_found(entry.card).verdict == verdict)

    def has_parts(entry: Entry) -> bool:
        return entry.card.local_copying is not None and copied_parts(entry.card).standing == "worse"

    parts = [row for row in rows if any(map(has_parts, row))]
    if len(by.get(None, [])) == len(rows) and not parts:
        return "Copying of training images was not tested."
    clauses = []
    if "copies" in by:
        clauses.append(f"exact or near copies of training images in {named('copies')}")
    if parts:
        clauses.append(f"copied parts in {_names(parts, has_parts)}")
    if "nearer" in by:
        clauses.append(f"nearer to training than to unseen images: {named('nearer')}")
    if "sides_differ" in by:
        clauses.append(f"cannot be told for {named('sides_differ')}")
    if None in by:
        clauses.append(f"not tested for {named(None)}")
    if "none" in by:
        count = len(by["none"])
        others = f"the other {count} rows" if count > 1 else "the other row"
        where = f"none found in {others}"
        if not clauses:
            where = f"no copies of training images found in {_names(by['none'])}"
        clauses.append(f"{where} ({_power(by['none'])})")
    return f"Copying: {'; '.join(clauses)}."


def _power(rows: Sequence[Entries]) -> str:
    """Return the share of copies that every test would have found."""
    shares = [copies_found(entry.card).share for row in rows for entry in row]
    known = [share for share in shares if share is not None]
    if len(known) < len(shares):
        return "some of the tests are too weak to find any"
    return f"{max(known):.0%} or more would have been"


def _baselines(rows: Sequence[Entries], board: Board) -> str:
    key = ranked_keys(board)[0]
    found = ranking_by(board, key)
    if found is None or board.comparisons is None:
        return ""
    placed = {place.entry for place in found.places}
    known = [
        row for row in rows
        if any(entry.name in placed for entry in row) and not _is_later(row, found)
    ]  # fmt: skip
    among = ", of the rows that were compared" if found.added else ""
    baselines = [row for row in known if kind_of(row[0].card) == "baseline"]
    trained = [row for row in known if kind_of(row[0].card) == "trained"]
    if not baselines or not trained:
        return ""
    better: dict[tuple[int, ...], list[Entries]] = {}
    for row in baselines:
        names = _entry_names(row)
        beaten = tuple(
            i for i, other in enumerate(trained)
            if beats(names, _entry_names(other), found, board.comparisons.level)
        )  # fmt: skip
        if beaten:
            better.setdefault(beaten, []).append(row)
    if not better:
        return (
            "No baseline without a network is significantly better than a trained generator"
            f"{among}."
        )
    clauses = []
    for beaten, winners in better.items():
        if len(beaten) == len(trained) > 1:
            count = "both" if len(trained) == 2 else f"all {len(trained)}"
            whom = f"{count} trained generators"
        else:
            whom = _names([trained[i] for i in beaten])
        clauses.append(f"{_names(winners)} {_are(winners)} significantly better than {whom}")
    return f"Baselines without a network{among}: {'; '.join(clauses)}."


def _not_shown(rows: Sequence[Entries], key: Key, board: Board) -> str:
    """Return what the primary metric does not show of the rows that look best by it."""
    label = _label(key, board)
    clauses = []
    for row in rows:
        if _standings(row, key) != {"within"}:
            continue
        outside = [name for entry in row for name in _outside(entry, key, board)]
        if outside:
            named = ", ".join(dict.fromkeys(outside))
            clauses.append(f"{_names([row])} is not like real by {named}")
    if len(clauses) > NAMED:
        clauses[NAMED:] = [f"{len(clauses) - NAMED} more rows likewise"]
    saturated = [row for row in rows if any(is_saturated(key, entry.card) for entry in row)]
    if saturated:
        clauses.append(
            f"it is near its upper limit, so ranks mean nothing, among {_names(saturated)}"
        )
    cards = [entry.card for row in rows for entry in row]
    if any(key.extractor in card.untrained_extractors for card in cards):
        clauses.append(
            f"its features ({key.extractor}) were never trained on an image, so it sees intensity "
            "and coarse shape, and less of anatomy"
        )
    return f"What {label} does not show: {'; '.join(clauses)}." if clauses else ""


def _outside(entry: Entry, key: Key, board: Board) -> list[str]:
    """Return the families outside their floor; of the primary metric's own family, the metrics."""
    own = family_of(key.row)
    found = families(ranked_rows(entry.card))
    others = [
        _label(other, board)
        for other in ranked_keys(board)
        if family_of(other.row) == own and (row := other.of(entry.card))
        and verdict(row).standing in ("worse", "other side")
    ]  # fmt: skip
    return [*others, *(name for name in found if name != own and found[name] != "within")]


def _label(key: Key, board: Board) -> str:
    """Return a metric's label, with its extractor where there are several."""
    several = len(board.benchmark.protocol.extractors) > 1
    return f"{key.label} on {key.extractor}" if several and key.extractor else key.label


def _names(rows: Sequence[Entries], holds: Callable[[Entry], bool] | None = None) -> str:
    """Return the names of rows in quotation marks; the first ones where there are many.

    A row of which `holds` is not true for all training seeds has the number of those.
    """
    names = []
    for row in rows:
        own = [entry for entry in row if holds is None or holds(entry)]
        names.append(
            f'"{title_of(row)}"' + ("" if len(own) == len(row) else f" (in {len(own)} of them)")
        )
    if len(names) > NAMED + 1:
        names[NAMED:] = [f"{len(names) - NAMED} more"]
    if len(names) == 1:
        return names[0]
    return f"{', '.join(names[:-1])} and {names[-1]}"
