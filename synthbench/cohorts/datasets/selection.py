"""Selecting scans by the covariates of person and visit, into a manifest."""

from __future__ import annotations

import ast
import copy
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from synthbench.cohorts.choice import CohortFiles
from synthbench.cohorts.datasets.data_use import terms_of
from synthbench.cohorts.datasets.find import find_scans
from synthbench.cohorts.datasets.scans import NOT_KNOWN, DataUseTerms, natural_order, visit_order
from synthbench.cohorts.file_names import file_name
from synthbench.cohorts.tables.participants import ids_of, typed
from synthbench.cohorts.tables.text_table import read_text_table
from synthbench.cohorts.volume_file import name as name_below
from synthbench.errors import CohortError, UsageError, near_miss
from synthbench.render.delimited import safe, table_text
from synthbench.runtime.files import write_atomic

Which = Literal["first", "last"]
_SHOWN_VALUES = 8
_OF_THE_SCAN = ("path", "participant_id", "session", "run", "axes")
_LISTED = ("participant_id", "session", "run", "age", "sex", "diagnosis", "site", "path")


@dataclass(frozen=True)
class Selection:
    """The chosen scans, and the reasons why others were left out.

    Attributes
    ----------
    rows
        One row per scan, in order: path (absolute), participant_id, session, run, covariates.
    found
        The number of scans before any rule.
    dropped
        One sentence per rule that dropped scans, with their number.
    source
        The source of the scans: a layout, or "manifest".
    terms
        The terms of use of the data; for a manifest, those of its scans' datasets.
    notes
        What the layout left out before any rule.
    """

    rows: pd.DataFrame
    found: int
    dropped: tuple[str, ...]
    source: str
    terms: DataUseTerms
    notes: tuple[str, ...]

    def account(self) -> list[str]:
        """Return lines that say what was found, dropped and kept, and the terms of use."""
        subjects = self.rows["participant_id"].nunique()
        covariates = [str(name) for name in self.rows if name not in _OF_THE_SCAN]
        return [
            f"{self.source}: {self.found} scans found",
            *(f"note: {note}" for note in self.notes),
            *self.dropped,
            f"{len(self.rows)} scans of {subjects} subjects kept",
            f"covariates: {', '.join(covariates) or 'none'}",
            f"terms of use: {self.terms.name} {self.terms.url}".rstrip(),
            f"  {self.terms.text}",
        ]


def select(
    source: Path | str | CohortFiles,
    out: Path | str,
    *,
    where: str | None = None,
    one_scan_per_subject: bool = False,
    scan: str = "first",
    layout: str | None = None,
) -> pd.DataFrame:
    """Write a manifest of the scans that fit a condition, and return its rows.

    Parameters
    ----------
    source
        A cohort's folder in a known layout, prepared BIDS derivatives, or a CSV/TSV manifest with
        the columns `path` and `participant_id`.
    out
        A new `.csv` or `.tsv`; paths in it are relative to its folder.
    where
        A condition on the covariates, such as "diagnosis == 'CN' and age > 50": comparisons,
        `and`, `or`, `not`, `in`, arithmetic, and methods such as `.isna()`, `.isin([...])`,
        `.str.contains('...')`; names such as `M/F` stand in backticks. A comparison with a missing
        value is false. None takes all.
    one_scan_per_subject
        Keep one scan of each participant: from the visit that `scan` names, the scan that the
        layout prefers (in a manifest: the lowest run, then the first path).
    scan
        "first" takes a participant's earliest visit among those that fit `where`, "last" the
        latest.
    layout
        A name that `synthbench list layouts` shows; None to recognise it.

    Returns
    -------
    DataFrame
        The manifest's rows.

    Raises
    ------
    CohortError
        The source is not usable, or no scan fits.
    UsageError
        The condition is not usable, or `out` exists or is neither `.csv` nor `.tsv`.
    """
    check_out(Path(out))
    chosen = chosen_scans(
        source, where=where, one_scan_per_subject=one_scan_per_subject, scan=scan, layout=layout
    )
    return write_manifest(chosen, Path(out))


def chosen_scans(
    source: Path | str | CohortFiles,
    *,
    where: str | None = None,
    one_scan_per_subject: bool = False,
    scan: str = "first",
    layout: str | None = None,
) -> Selection:
    """Return chosen scans; nothing is written. Parameters and errors are those of `select`."""
    visit = _which(scan)
    rows, name, terms, notes = _rows(Path(str(source)), layout)
    found, dropped = len(rows), []
    if isinstance(source, CohortFiles) and source.choice:
        kept = _of_choice(rows, source)
        dropped.append(f"{len(rows) - len(kept)} scans dropped by {source.choice}")
        rows = kept
    if where is not None:
        fits = matching(rows, where)
        if not fits.any():
            raise CohortError(
                f'--where "{where}": none of {found} scans fits. The values are:\n'
                + _values(rows, sorted(columns_of(where, list(rows.columns))))
            )
        dropped.append(_dropped_by(where, rows, fits))
        rows = rows[fits]
    if one_scan_per_subject:
        kept = one_each(rows, visit)
        dropped.append(
            f"{len(rows) - len(kept)} scans skipped by --one-scan-per-subject "
            f"({scan} visit, preferred scan)"
        )
        rows = kept
    return Selection(
        rows=rows.reset_index(drop=True),
        found=found,
        dropped=tuple(dropped),
        source=name,
        terms=terms or terms_of(Path(path) for path in rows["path"]),
        notes=notes,
    )


def _of_choice(rows: pd.DataFrame, source: CohortFiles) -> pd.DataFrame:
    """Return the rows whose files were chosen by their names."""
    root = source.path if source.path.is_dir() else source.path.parent
    paths = [Path(path) for path in rows["path"]]
    names = [file_name(path, name_below(path, root.resolve())) for path in paths]
    kept = {named.file for named in source.choice.of(names, "cohort", str(source))}
    return rows[[path in kept for path in paths]]


def _which(scan: str) -> Which:
    if scan == "first":
        return "first"
    if scan == "last":
        return "last"
    raise UsageError(f"--scan {scan}: give first or last.")


def check_out(out: Path) -> None:
    """Check that a manifest can be written.

    Raises
    ------
    UsageError
        The file exists, or its name ends neither in `.csv` nor `.tsv`.
    """
    if out.suffix.lower() not in (".csv", ".tsv"):
        raise UsageError(f"--out {out}: a manifest is a .csv or .tsv file; name one.")
    if out.exists():
        raise UsageError(f"--out {out}: already there, and not overwritten. Name another.")


def write_manifest(chosen: Selection, out: Path) -> pd.DataFrame:
    """Write the chosen scans as a manifest, and return its rows.

    Raises
    ------
    UsageError
        The file exists, or its name ends neither in `.csv` nor `.tsv`.
    """
    check_out(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = out.parent.resolve()
    paths = [_relative(path, folder) for path in chosen.rows["path"]]
    manifest = chosen.rows.assign(path=paths)
    separator = "\t" if out.suffix.lower() == ".tsv" else ","
    write_atomic(out, table_text(manifest, separator).encode())
    return manifest


# ---------------------------------------------------------------- the rows


def _rows(
    source: Path, layout: str | None
) -> tuple[pd.DataFrame, str, DataUseTerms | None, tuple[str, ...]]:
    """Return rows, the name of their source, its terms of use if it states any, and notes."""
    if source.is_file() and source.suffix.lower() in (".csv", ".tsv"):
        if layout is not None:
            raise UsageError(
                f"--layout {layout}: {source} is a manifest, which has no layout. Leave it out."
            )
        return _manifest(source), "manifest", None, ()
    table = find_scans(source, layout)
    rows = table.covariates()
    rows["path"] = [_absolute(Path(path)) for path in rows["path"]]
    # A folder of links to a dataset's subjects states no terms of its own.
    terms = None if table.terms.name == NOT_KNOWN else table.terms
    return rows.drop(columns=_empty(rows)), table.layout, terms, table.notes


def _absolute(path: Path) -> str:
    # The folder is resolved, but not the file: under git-annex or DataLad the files are links, and
    # their targets do not have the scans' names.
    return str(path.parent.resolve() / path.name)


def _empty(rows: pd.DataFrame) -> list[str]:
    """Return the empty columns to drop; `session` always stays."""
    return [name for name in ("run", "axes") if rows[name].isna().all()]


def _manifest(file: Path) -> pd.DataFrame:
    """Return a manifest's rows in order, with absolute paths."""
    texts = ("path", "participant_id", "session", "run")
    table = read_text_table(file, texts)
    table.require("path", "participant_id")
    ids_of(table, "path")
    ids_of(table)
    rows, _ = typed(table, text=texts)
    if "session" not in rows:
        rows["session"] = None
    rows["path"] = [_absolute(file.parent / path) for path in rows["path"]]
    lacking = [path for path in rows["path"] if not Path(path).is_file()]
    if lacking:
        raise CohortError(
            f"{file}: {len(lacking)} of {len(rows)} listed files do not exist (first: "
            f"{lacking[0]}). Paths are relative to the manifest's folder."
        )
    return rows.iloc[_manifest_order(rows)].reset_index(drop=True)


def _manifest_order(rows: pd.DataFrame) -> list[int]:
    """Return the order of rows: by participant, visit, run and path, as in the layouts."""
    missing = [None] * len(rows)
    days, dates, runs = (rows.get(name, missing) for name in ("days", "date", "run"))
    keys = [
        (person, *visit_order(_text(session), day, date), natural_order(_text(run)), path)
        for person, session, day, date, run, path in zip(
            rows["participant_id"], rows["session"], days, dates, runs, rows["path"], strict=True
        )
    ]
    return sorted(range(len(rows)), key=keys.__getitem__)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def one_each(rows: pd.DataFrame, scan: Which) -> pd.DataFrame:
    """Return one row per participant, from the first or last visit, in the rows' order.

    Parameters
    ----------
    rows
        Ordered by participant, visit and preference, with columns `participant_id` and
        `session`.
    scan
        The visit; the first of its scans is taken.
    """
    keys = ["participant_id", "session"]
    visits = rows.drop_duplicates(keys)
    return visits.drop_duplicates("participant_id", keep=scan)


# ---------------------------------------------------------------- the condition

_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`(?P<name>[^`]*)`")
_METHODS = frozenset(
    {"isna", "notna", "isnull", "notnull", "isin", "between", "abs", "round", "eq", "ne"}
)
_TEXT_METHODS = frozenset(
    {"contains", "startswith", "endswith", "fullmatch", "match", "lower", "upper", "strip", "len"}
)
_ALLOWED = (
    *(ast.Expression, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Name, ast.Load),
    *(ast.Constant, ast.List, ast.Tuple, ast.boolop, ast.operator, ast.unaryop, ast.cmpop),
    *(ast.Call, ast.keyword, ast.Attribute),
)


def matching(rows: pd.DataFrame, where: str) -> pd.Series:
    """Return a mask of the rows that fit the condition.

    Raises
    ------
    UsageError
        The condition is not usable: an unknown column, an expression that is no comparison, or
        values that cannot be compared.
    """
    columns_of(where, list(rows.columns))
    aliased, names = _without_backticks(where, list(rows.columns))
    frame = rows.rename(columns=names)
    try:
        fits = frame.eval(aliased, engine="python", parser="pandas", local_dict={}, global_dict={})
    except Exception as error:  # pandas lets through whatever the comparison raises
        used = columns_of(where, list(rows.columns))
        types = ", ".join(f"{name} ({_kind(rows[name])})" for name in sorted(used))
        raise UsageError(
            f'--where "{where}": cannot be evaluated: {error}. Its columns: {types}. '
            "Compare numbers with numbers and words with quoted words."
        ) from error
    if not (isinstance(fits, pd.Series) and pd.api.types.is_bool_dtype(fits.dtype)):
        raise UsageError(
            f'--where "{where}": is not a condition: it does not give true or false for each scan. '
            'Write a comparison, for example "age > 50".'
        )
    return fits.fillna(False).astype(bool)


def columns_of(where: str, columns: list[str]) -> set[str]:
    """Return the columns that a condition uses, after checking its syntax.

    Raises
    ------
    UsageError
        It is not an expression, has a part that is not allowed, or names an unknown column.
    """
    if "@" in _QUOTED.sub("", where):
        raise UsageError(f"--where \"{where}\": '@' is not allowed: write the value itself.")
    aliased, names = _without_backticks(where, columns)
    back = {alias: name for name, alias in names.items()}
    try:
        tree = ast.parse(aliased.strip(), mode="eval")
    except SyntaxError as error:
        raise UsageError(
            f'--where "{where}": is not an expression ({error.msg}). Compare with == (not =), '
            "quote words, and put names such as `M/F` in backticks."
        ) from error
    used = set()
    for node in ast.walk(tree):
        if not _is_part_of_a_condition(node):
            raise UsageError(
                f"--where \"{where}\": '{ast.unparse(node)}' is not allowed. A condition has "
                "columns, values, comparisons, and, or, not, in, arithmetic, and "
                f"{', '.join('.' + m + '()' for m in sorted(_METHODS))} and .str methods."
            )
        if isinstance(node, ast.Name):
            used.add(back.get(node.id, node.id))
    for name in sorted(used):
        if name not in columns:
            hint = _quoted_hint(tree, name, names)
            raise UsageError(f"--where: no column '{name}'{hint}; {near_miss(name, columns)}")
    if not used:
        raise UsageError(f'--where "{where}": names no column; known: {", ".join(columns)}.')
    return used


def _quoted_hint(tree: ast.Expression, name: str, aliases: Mapping[str, str]) -> str:
    """Return the condition with an unknown name as a word, where it is compared with a column."""
    compared = (
        value
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        for side in node.comparators
        for value in (side.elts if isinstance(side, ast.List | ast.Tuple) else [side])
    )
    if not any(isinstance(value, ast.Name) and value.id == name for value in compared):
        return ""

    class AsWord(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.AST:
            return ast.Constant(name) if node.id == name else node

    words = ast.unparse(AsWord().visit(copy.deepcopy(tree)))
    for column, alias in aliases.items():
        words = words.replace(alias, f"`{column}`")
    return f'. If it is a value, quote it: --where "{words}"'


def _is_part_of_a_condition(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute)
    if isinstance(node, ast.Attribute):
        inner = node.value
        of_text = isinstance(inner, ast.Attribute) and inner.attr == "str"
        return node.attr == "str" or node.attr in (_TEXT_METHODS if of_text else _METHODS)
    return isinstance(node, _ALLOWED)


def _without_backticks(where: str, columns: Iterable[str]) -> tuple[str, dict[str, str]]:
    """Return the condition with plain names for those in backticks, and {column: plain name}."""
    names: dict[str, str] = {}

    def plain(found: re.Match[str]) -> str:
        name = found["name"]
        if name is None:
            return found[0]
        if name not in columns:
            raise UsageError(f"--where: no column '{name}'; {near_miss(name, columns)}")
        return names.setdefault(name, f"backticked_{len(names)}")

    return _QUOTED.sub(plain, where), names


def _kind(values: pd.Series) -> str:
    return "numbers" if pd.api.types.is_numeric_dtype(values) else "words"


# ---------------------------------------------------------------- summaries


def _relative(path: Path | str, folder: Path) -> str:
    """Return a path from a folder; one that a spreadsheet would compute starts with "./"."""
    relative = os.path.relpath(path, folder)
    return relative if safe(relative) == relative else os.path.join(os.curdir, relative)


def _dropped_by(where: str, rows: pd.DataFrame, fits: pd.Series) -> str:
    gaps = []
    for column in sorted(columns_of(where, list(rows.columns))):
        missing = int((rows[column].isna() & ~fits).sum())
        if missing:
            gaps.append(f"{missing} without {column}")
    summary = f"{int((~fits).sum())} scans dropped by --where"
    return summary + (f" ({', '.join(gaps)})" if gaps else "")


def listing(rows: pd.DataFrame) -> str:
    """Return the chosen scans as tab-separated lines with a header."""
    return table_text(_shown(rows)).rstrip("\n")


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the chosen scans as values that JSON can hold, with the columns of `listing`."""
    fields: list[dict[str, Any]] = json.loads(_shown(rows).to_json(orient="records"))
    return fields


def _shown(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[[name for name in _LISTED if name in rows]]


def _values(rows: pd.DataFrame, columns: Iterable[str]) -> str:
    return "\n".join(f"  {name}: {describe(rows[name])}" for name in columns)


def describe(values: pd.Series) -> str:
    """Return a summary of a column in one line: the range of numbers, the counts of words.

    >>> describe(pd.Series([61.5, 70.25, 66, None]))
    '61.5 to 70.25, missing 1'
    >>> describe(pd.Series(["CN", "AD", "CN"]))
    'CN 2, AD 1'
    """
    missing = int(values.isna().sum())
    known = values.dropna()
    numeric = pd.api.types.is_numeric_dtype(known) and not pd.api.types.is_bool_dtype(known)
    if len(known) and numeric and known.nunique() > 2:
        parts = [f"{known.min():g} to {known.max():g}"]
    else:
        counts = known.value_counts()
        parts = [f"{value} {count}" for value, count in counts.head(_SHOWN_VALUES).items()]
        if len(counts) > _SHOWN_VALUES:
            parts.append(f"and {len(counts) - _SHOWN_VALUES} other values")
    if missing:
        parts.append(f"missing {missing}")
    return ", ".join(parts)
