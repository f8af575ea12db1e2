"""The folder of a study, and its key.

STUDY/study.json has which copies each reader sees, in which order; nothing in it tells what they
are. STUDY/scales.yaml: what is rated. STUDY/cases/NAME.nii: blinded copies.
STUDY/answers/NAME.jsonl: what a reader answered, a line each, only ever appended to.
STUDY.key.json, beside the folder: what each copy is; the server never opens it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints, model_validator

from synthbench.errors import UsageError
from synthbench.readers.scales import Scales, read_scales
from synthbench.records.base import Record, RecordFile
from synthbench.runtime.files import write_atomic

CaseName = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12}$")]
TrialName = Annotated[str, StringConstraints(pattern=r"^t[0-9]{4}$")]
ReaderName = Annotated[str, StringConstraints(pattern=r"^reader-[0-9]{1,3}$")]

VOXEL_OFFSET = 352
"""Bytes of a copy's header; the voxels follow, one byte each, x fastest."""


class Trial(Record):
    """One thing that a reader is asked.

    Attributes
    ----------
    trial
        Its name, unique for the reader; in the order of the session.
    kind
        "2afc": which of two is real; "rating": one volume on the scales.
    cases
        The copies: left and right, or one.
    practice
        True: it does not count.
    """

    trial: TrialName
    kind: Literal["2afc", "rating"]
    cases: Annotated[tuple[CaseName, ...], Field(min_length=1, max_length=2)]
    practice: bool = False

    @model_validator(mode="after")
    def _as_many(self) -> Trial:
        if len(self.cases) != (2 if self.kind == "2afc" else 1):
            raise ValueError(f"{self.trial}: {self.kind} with {len(self.cases)} cases")
        return self


class Study(RecordFile):
    """What the server reads: `study.json`.

    Attributes
    ----------
    shape, spacing
        The grid of all copies: voxels, and their size in mm.
    readers
        By reader, the trials in their order.
    key_sha256
        The sha256 of the key, so that nobody can change it after the first answer.
    """

    what: ClassVar[str] = "a reader study"

    schema_version: Literal[1] = 1
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    readers: dict[ReaderName, tuple[Trial, ...]]
    key_sha256: str

    @classmethod
    def remedy(cls, file: Path) -> str:
        """Return the sentence that says how to get a usable file."""
        return "Make the study again: synthbench readers init STUDY --real REAL --synth SYNTH"


class Case(Record):
    """What a copy is.

    Attributes
    ----------
    group
        "real", "blurred", "memorizer" or the name of a generator.
    volume
        The name of its file in its cohort.
    """

    group: str
    volume: str


class Pair(Record):
    """Two copies that are compared.

    Attributes
    ----------
    group
        The generator or control; "real" for two real volumes.
    right
        The real one; of two real volumes, one drawn by lot.
    other
        The other one.
    """

    group: str
    right: CaseName
    other: CaseName


class Key(RecordFile):
    """What each copy is: the file beside the study's folder, for its owner only.

    Attributes
    ----------
    seed
        The seed that all of the study was drawn with.
    cases
        By copy, what it is.
    pairs
        The pairs of the trials that count.
    generators
        The names of the generators, in the order they were given.
    real_fingerprint
        The fingerprint of the real cohort.
    fingerprints
        That of each generator's cohort.
    """

    what: ClassVar[str] = "the key of a reader study"

    schema_version: Literal[1] = 1
    seed: int
    cases: dict[CaseName, Case]
    pairs: tuple[Pair, ...]
    generators: tuple[str, ...]
    real_fingerprint: str
    fingerprints: dict[str, str]

    def content(self) -> bytes:
        """Return the bytes of its file."""
        return (self.model_dump_json(indent=1) + "\n").encode()

    def save(self, file: Path) -> Path:
        """Write the key for its owner only."""
        write_atomic(Path(file), self.content(), private=True)
        return Path(file)


def key_file(folder: Path) -> Path:
    """Return where the key of a study lies: beside the folder, which readers may see."""
    whole = Path(folder).absolute()
    return whole.with_name(f"{whole.name}.key.json")


def study_file(folder: Path) -> Path:
    """Return the file of a study's plan."""
    return Path(folder) / "study.json"


def case_file(folder: Path, case: str) -> Path:
    """Return the file of a copy."""
    return Path(folder) / "cases" / f"{case}.nii"


def answers_file(folder: Path, reader: str) -> Path:
    """Return the file of a reader's answers."""
    return Path(folder) / "answers" / f"{reader}.jsonl"


def scales_file(folder: Path) -> Path:
    """Return the file of a study's scales."""
    return Path(folder) / "scales.yaml"


def read_study(folder: Path) -> tuple[Study, Scales]:
    """Return a study's plan and scales.

    Raises
    ------
    UsageError
        There is no study in the folder, or its scales are not usable.
    ScorecardError
        Its plan cannot be read.
    """
    if not study_file(folder).is_file():
        raise UsageError(
            f"{folder}: no reader study is there. Make one: synthbench readers init {folder} "
            "--real REAL --synth SYNTH"
        )
    return Study.load(study_file(folder)), read_scales(scales_file(folder))


def read_key(folder: Path, study: Study, file: Path | None = None) -> Key:
    """Return the key of a study.

    Parameters
    ----------
    file
        Where it lies; None: beside the folder.

    Raises
    ------
    UsageError
        It is not there, or is not the key that the study was made with.
    ScorecardError
        It cannot be read.
    """
    file = file or key_file(folder)
    if not file.is_file():
        raise UsageError(f"{file}: the key of the study is not there. Name it: --key FILE")
    if hashlib.sha256(file.read_bytes()).hexdigest() != study.key_sha256:
        raise UsageError(
            f"{file}: this is not the key that {folder} was made with, or it was changed. Give the "
            "file that `readers init` wrote."
        )
    return Key.load(file)
