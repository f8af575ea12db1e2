"""Which files of a folder are the volumes of a cohort.

A dataset holds more than one image per scan: masks, label maps, other contrasts, and what was
derived from them. What the names of files say decides (`synthbench.cohorts.file_names`). What is
left out is listed, and where several images of one scan could be meant, the user chooses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from synthbench.cohorts.file_names import CONTRASTS, ENTITIES, FileName, file_name
from synthbench.cohorts.tables.persons import person_key
from synthbench.cohorts.volume_file import name as name_below
from synthbench.errors import CohortError, UsageError, near_miss

NO_VALUE = "none"
"""The value of `--filter` that chooses names without an entity."""

_LEAST_SCANS = 3
"""Words that are no contrasts tell images of one scan apart where so many scans have the same."""

_SHOWN = 3


@dataclass(frozen=True)
class Choice:
    """The choice among the images of a folder, by what their names say.

    Attributes
    ----------
    suffix
        Whole words that the name ends with, in any case, such as "T1w"; None: not chosen by it.
    filters
        By BIDS entity, the values of which a name has one; `NO_VALUE` for none.
    """

    suffix: str | None = None
    filters: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @classmethod
    def parse(cls, suffix: str | None, filters: Iterable[str]) -> Choice:
        """Return the choice of `--suffix` and of several `--filter ENTITY=VALUE`.

        Raises
        ------
        UsageError
            A filter has another form, or names no entity of BIDS.
        """
        values: dict[str, list[str]] = {}
        for text in filters:
            entity, equals, value = (part.strip() for part in text.partition("="))
            if not equals or not entity or not value:
                raise UsageError(
                    f"--filter {text}: write it as ENTITY=VALUE, for example ses=1, or space="
                    f"{NO_VALUE} for names without the entity."
                )
            if entity not in ENTITIES:
                raise UsageError(
                    f"--filter {text}: no entity of BIDS; {near_miss(entity, ENTITIES)}"
                )
            # "ses-1" is what stands in the name.
            values.setdefault(entity, []).append(value.removeprefix(f"{entity}-"))
        return cls(suffix or None, tuple((key, tuple(v)) for key, v in values.items()))

    def __bool__(self) -> bool:
        """Return True where something was chosen."""
        return self.suffix is not None or bool(self.filters)

    def __str__(self) -> str:
        parts = [] if self.suffix is None else [f"--suffix {self.suffix}"]
        parts += [f"--filter {key}={value}" for key, values in self.filters for value in values]
        return " ".join(parts)

    def of(self, names: Sequence[FileName], role: str, where: str) -> list[FileName]:
        """Return the files that were chosen.

        An entity that no name of the set has says nothing of synthetic volumes: there, the filter
        is passed over. In a real set it is an error.

        Raises
        ------
        CohortError
            No file fits. The message lists what there is.
        """
        kept = list(names)
        if self.suffix is not None:
            found = [name for name in kept if name.ends_with(self.suffix)]
            plain = not any(name.suffix or name.contrast for name in kept)
            if not found and not (role == "synth" and plain):
                raise CohortError(
                    f"{role}: {where}: no name ends with '{self.suffix}' (--suffix). There are: "
                    f"{_counted(name.kind or 'names without a suffix' for name in kept)}."
                )
            kept = found or kept
        for entity, wanted in self.filters:
            having = [name for name in kept if entity in name.entities]
            if not having and role == "synth":
                continue
            found = [name for name in kept if _is_among(name.entities.get(entity), wanted)]
            if not found:
                values = _counted(name.entities.get(entity, NO_VALUE) for name in kept)
                raise CohortError(
                    f"{role}: {where}: no name has {entity}={' or '.join(wanted)} (--filter). "
                    f"Values of {entity}: {values}."
                )
            kept = found
        return kept


def _is_among(value: str | None, wanted: Sequence[str]) -> bool:
    if value is None:
        return NO_VALUE in wanted
    return any(person_key(value) == person_key(one) for one in wanted)


@dataclass(frozen=True)
class CohortFiles:
    """A cohort's path, and the choice among its files; what `read_cohort` takes beside a path."""

    path: Path
    choice: Choice = Choice()

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class Chosen:
    """The files that are a cohort's volumes.

    Attributes
    ----------
    names
        The volumes.
    left_out
        By reason, the files that were left out.
    """

    names: tuple[FileName, ...]
    left_out: dict[str, tuple[FileName, ...]]


def choose(files: Sequence[Path], root: Path, choice: Choice, role: str) -> Chosen:
    """Return which of the volume files below a folder are the cohort.

    Files below `derivatives/`, `sourcedata/` and `code/` are left out where there are others. So
    are masks and label maps, unless `--suffix` chose them, and in BIDS, images of another suffix
    than T1w where there are T1w images.

    Parameters
    ----------
    files
        All volume files below `root`.
    choice
        What the user chose; it does not reach into `derivatives/`.
    role
        The cohort's name in messages.

    Raises
    ------
    CohortError
        Several images of one scan are left, or no file fits the choice.
    """
    names = [file_name(file, name_below(file, root)) for file in files]
    left_out: dict[str, tuple[FileName, ...]] = {}

    def without(kept: list[FileName], reason: str) -> list[FileName]:
        ids = {id(name) for name in kept}
        gone = tuple(name for name in names if id(name) not in ids)
        if not kept or not gone:
            return names
        left_out[reason] = gone
        return kept

    names = without([n for n in names if n.nested is None], "below derivatives, sourcedata or code")
    if choice:
        names = without(choice.of(names, role, str(root)), f"not chosen by {choice}")
    if choice.suffix is None:
        names = without(
            [n for n in names if not n.is_label_map], "masks, label maps and other maps"
        )
    if choice.suffix is None and _is_bids(names, root):
        t1w = [n for n in names if n.suffix.lower() == "t1w"]
        names = without(t1w, "other images than T1w")
    _check_one_image_per_scan(names, root, role)
    return Chosen(tuple(names), left_out)


def _is_bids(names: Iterable[FileName], root: Path) -> bool:
    described = (root / "dataset_description.json").is_file()
    return described or any("sub" in name.entities and name.suffix == "T1w" for name in names)


def _check_one_image_per_scan(names: Sequence[FileName], root: Path, role: str) -> None:
    """Raise where one scan has several images: contrasts, versions, or maps of any name."""
    scans: dict[tuple[str, ...], set[str]] = {}
    for name in names:
        scans.setdefault(name.scan, set()).add(name.kind)
    several = [kinds for kinds in scans.values() if len(kinds) > 1]
    if not several:
        return
    counts = Counter(name.kind for name in names)
    shared = {kind for kind, n in Counter(k for kinds in several for k in kinds).items() if n > 1}
    by_contrast = [kinds for kinds in several if _contrasts(kinds)]
    bids = any(len(kinds) > 1 and scan[0].startswith("sub-") for scan, kinds in scans.items())
    same = [kinds for kinds in several if len(kinds & shared) > 1 and _are_words(kinds)]
    if not (by_contrast or bids or len(same) >= _LEAST_SCANS):
        return
    listed = ", ".join(f"{kind or 'no suffix'} {n}" for kind, n in counts.most_common(8))
    example = next((k for k, _ in counts.most_common() if k), "T1w").rpartition("_")[2]
    raise CohortError(
        f"{role}: {root} holds several images of one scan: {len(several)} of {len(scans)} scans "
        f"have more than one. There are: {listed}. Each would count as a volume of its own. Choose "
        f"one kind by the end of the name, for example --suffix {example}"
        + (", or by an entity, for example --filter desc=brain or space=none" if bids else "")
        + ". If they are visits of a person, list them in a manifest (a CSV with the columns path "
        "and participant_id)."
    )


def _contrasts(kinds: Iterable[str]) -> bool:
    """Return True where at least two kinds name a contrast."""
    return sum(kind.rpartition("_")[2].lower() in CONTRASTS for kind in kinds) > 1


def _are_words(kinds: Iterable[str]) -> bool:
    """Return True where kinds are words, and no numbers or single letters."""
    return sum(kind.isalpha() and len(kind) > 1 for kind in kinds) > 1


def _counted(kinds: Iterable[str]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in Counter(kinds).most_common(8))


def first_names(names: Sequence[FileName]) -> str:
    """Return the first names of a list, and how many more there are."""
    shown = ", ".join(name.name for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
