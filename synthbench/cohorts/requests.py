"""What is requested of a conditional generator: one row of conditions per volume."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from synthbench.cohorts.conditions import (
    MISSING,
    Conditions,
    Row,
    as_number,
    check_name,
    uniform,
    within,
)
from synthbench.errors import UsageError

# Columns that say which volume a row is of, in tables that synthbench reads or writes.
_IDENTITY = ("participant_id", "path", "file", "seed", "extrapolated")


@dataclass(frozen=True)
class Between:
    """Uniform between two numbers, in natural units."""

    low: float
    high: float


@dataclass(frozen=True)
class Among:
    """Each of some values in turn; one value: always that."""

    values: tuple[float | str | None, ...]


Choice = Between | Among


def parse_condition(
    text: str, conditions: Conditions, option: str = "--condition"
) -> tuple[str, Choice]:
    """Read `age=20:80` (a range), `sex=F` or `sex=F,M` (values), `age=n/a` (missing).

    `option` is what messages call it.

    Raises
    ------
    UsageError
        It is not written so, there is no such condition, or no such level.
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
    """Read several of what `parse_condition` reads, each of another condition.

    Raises
    ------
    UsageError
        One cannot be read, or two are of one condition.
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
    """Read a CSV or TSV of wanted conditions: a column a condition, a row a volume.

    An empty cell, or `n/a`, asks for a missing value. A condition without a column is not asked
    for. Columns that say which volume a row is of (participant_id, path, file, seed,
    extrapolated) are passed over, so a participants table will do, or a `conditions.tsv`.

    Raises
    ------
    UsageError
        The file is no table, has no rows or no condition, or has a column that is none; or a cell
        is no number, or no level of the training split (its row is named).
    """
    file = Path(file)
    separator = "\t" if file.suffix.lower() == ".tsv" else ","
    try:
        table = pd.read_csv(
            file, sep=separator, dtype=str, keep_default_na=False, skipinitialspace=True
        )
    except OSError as error:
        raise UsageError(f"--conditions {file}: cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UsageError(f"--conditions {file}: cannot be read as a table: {error}") from error
    named = [str(column).strip() for column in table.columns]
    table.columns = pd.Index(named)
    wanted = [column for column in named if column not in _IDENTITY]
    for column in wanted:
        check_name(column, conditions.names, f"--conditions {file}: the run has no condition")
    if not wanted or table.empty:
        lacks = "rows" if wanted else "column of a condition"
        raise UsageError(
            f"--conditions {file}: has no {lacks}. It needs a header of names "
            f"({', '.join(conditions.names)}) and a row a volume."
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
    """Return one complete row of conditions a seed.

    Whatever is neither in the table nor chosen is drawn from its training marginal, each
    condition independently of the others. A row depends on its seed, the choices, and its row of
    the table alone, not on how many are made.

    Parameters
    ----------
    conditions
        Of the run.
    seeds
        One a row.
    choices
        What `parse_choices` returns. Several values are taken in turn by seed; of several
        conditions with several values, all combinations in turn.
    table
        What `read_conditions` returns, one row a seed, all of the same conditions.

    Raises
    ------
    UsageError
        The table has not as many rows as there are seeds, its rows are of different conditions,
        or what it holds is also chosen.
    """
    choices = choices or {}
    rows: list[Row] = list(table) if table is not None else [{} for _ in seeds]
    if len(rows) != len(seeds):
        raise UsageError(
            f"--conditions has {len(rows)} rows, one a volume, and {len(seeds)} volumes are asked "
            "for. Leave out --n, or give the table as many rows."
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
    """Return the conditions that a table has, which all of its rows name."""
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
