"""The conditions that a user requests of a generator: one row per volume."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from synthbench.cohorts.conditions import (
    MISSING,
    Conditions,
    Row,
    as_number,
    check_name,
    uniform,
    within,
)
from synthbench.cohorts.tables.text_table import read_text_table
from synthbench.errors import CohortError, UsageError

# Columns that identify the volume of a row, in tables that synthbench reads or writes.
_IDENTITY = ("participant_id", "path", "file", "seed", "extrapolated")


@dataclass(frozen=True)
class Between:
    """Values drawn uniformly between two numbers, in natural units."""

    low: float
    high: float


@dataclass(frozen=True)
class Among:
    """Each of several values in turn; a single value is always taken."""

    values: tuple[float | str | None, ...]


Choice = Between | Among


def parse_condition(
    text: str, conditions: Conditions, option: str = "--condition"
) -> tuple[str, Choice]:
    """Return the condition and choice of a text: `age=20:80`, `sex=F`, `sex=F,M` or `age=n/a`.

    That is a range, one or several values, and a missing value. `option` is its name in messages.

    Raises
    ------
    UsageError
        It has another form, or there is no such condition or level.
    """
    name, equals, wanted = (part.strip() for part in text.partition("="))
    if not equals or not name or not wanted:
        raise UsageError(
            f"{option} {text}: write it as name=value, name=low:high or name=a,b: for example "
            "age=60, age=20:80, sex=F,M."
        )
    condition = conditions[name]
    if condition.kind == "numeric" and ":" in wanted:
        return name, _between(f"{option} {text}", wanted)
    values = tuple(condition.value(part.strip()) for part in wanted.split(","))
    return name, Among(values)


def parse_choices(
    texts: Iterable[str], conditions: Conditions, option: str = "--condition"
) -> dict[str, Choice]:
    """Return the choices of several texts for `parse_condition`, by condition.

    Raises
    ------
    UsageError
        One cannot be read, or two name the same condition.
    """
    choices: dict[str, Choice] = {}
    for text in texts:
        name, choice = parse_condition(text, conditions, option)
        if name in choices:
            raise UsageError(
                f"{option} {text}: {name} is asked for twice. Several values go into one: "
                f"{name}=a,b."
            )
        choices[name] = choice
    return choices


def read_conditions(file: Path | str, conditions: Conditions) -> list[Row]:
    """Return the conditions that a CSV or TSV requests: a column per condition, a row per volume.

    An empty cell, or `n/a`, asks for a missing value. A condition without a column is not asked
    for. Columns that identify the volume (participant_id, path, file, seed, extrapolated) are
    skipped, so the file may be a participants table or a `conditions.tsv`.

    Raises
    ------
    UsageError
        The file is not a table, has no rows or no condition, or has a column that is not a
        condition; or a cell is not a number, or not a level of the training split (the message
        names its row).
    """
    file = Path(file)
    try:
        table = read_text_table(file).cells
    except CohortError as error:
        raise UsageError(f"--conditions {error}") from error
    named = [str(column) for column in table.columns]
    wanted = [column for column in named if column not in _IDENTITY]
    for column in wanted:
        check_name(column, conditions.names, f"--conditions {file}: the run has no condition")
    if not wanted or table.empty:
        lacks = "rows" if wanted else "column of a condition"
        raise UsageError(
            f"--conditions {file}: has no {lacks}. It needs a header of names "
            f"({', '.join(conditions.names)}) and one row per volume."
        )
    rows: list[Row] = []
    for number, cells in enumerate(table[wanted].itertuples(index=False), 1):
        try:
            rows.append({n: conditions[n].value(str(c).strip() or None)
                         for n, c in zip(wanted, cells, strict=True)})  # fmt: skip
        except UsageError as error:
            raise UsageError(f"--conditions {file}, row {number}: {error}") from error
    return rows


def rows_for(
    conditions: Conditions,
    seeds: Sequence[int],
    *,
    choices: Mapping[str, Choice] | None = None,
    table: Sequence[Row] | None = None,
) -> list[Row]:
    """Return one complete row of conditions per seed.

    A condition that is neither in the table nor chosen is drawn from its training marginal,
    independently of the others. A row depends only on its seed, the choices, and its row of the
    table, not on the number of rows.

    Parameters
    ----------
    conditions
        Those of the run.
    seeds
        One per row.
    choices
        From `parse_choices`. Several values are taken in turn, by seed. Where several conditions
        have several values, all combinations are taken in turn.
    table
        From `read_conditions`: one row per seed, all with the same conditions.

    Raises
    ------
    UsageError
        The numbers of rows and seeds differ, rows have different conditions, or a condition of the
        table is also chosen.
    """
    choices = choices or {}
    rows: list[Row] = list(table) if table is not None else [{} for _ in seeds]
    if len(rows) != len(seeds):
        raise UsageError(
            f"--conditions has {len(rows)} rows, one per volume, but {len(seeds)} volumes are "
            "requested. Leave out --n, or give the table as many rows."
        )
    if any(set(row) != set(rows[0]) for row in rows):
        raise UsageError(
            f"--conditions: all rows must name the same conditions, missing values as {MISSING}."
        )
    both = sorted(set(choices) & set(requested_for(rows)))
    if both:
        raise UsageError(
            f"{', '.join(both)}: asked for by --condition and by --conditions. Leave out one."
        )
    return [_row(conditions, seed, choices, row) for seed, row in zip(seeds, rows, strict=True)]


def requested_for(table: Sequence[Row] | None) -> tuple[str, ...]:
    """Return the conditions of a table, which are the same in all of its rows."""
    return tuple(table[0]) if table else ()


def _row(conditions: Conditions, seed: int, choices: Mapping[str, Choice], requested: Row) -> Row:
    row: dict[str, float | str | None] = {}
    turn = seed
    for condition in conditions.conditions:
        name, choice = condition.name, choices.get(condition.name)
        if name in requested:
            row[name] = condition.value(requested[name])
        elif isinstance(choice, Between):
            drawn = choice.low + (choice.high - choice.low) * uniform(seed, name)
            row[name] = within(drawn, choice.low, choice.high)
        elif isinstance(choice, Among):
            turn, index = divmod(turn, len(choice.values))
            row[name] = choice.values[index]
        else:
            row[name] = condition.draw(seed)
    return row


def _between(text: str, wanted: str) -> Between:
    ends = [as_number(part) for part in wanted.split(":")]
    if len(ends) != 2 or ends[0] is None or ends[1] is None or not ends[0] < ends[1]:
        raise UsageError(f"{text}: a range is two numbers, the lower one first: for example 20:80.")
    return Between(ends[0], ends[1])
