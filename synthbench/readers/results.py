"""The result of a reader study, as a record."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from synthbench.records.base import Record, RecordFile
from synthbench.records.readers import Estimated, ReaderCorrelation, ReaderVerdict

KAPPA = (
    "Agreement on which of two volumes is real is not reported: where readers guess, kappa is near "
    "zero, and guessing is what good images cause. Agreement belongs to the ratings."
)


class Compared(Record):
    """How often readers found the real one of two volumes, for a generator or a control.

    Attributes
    ----------
    group
        The generator, or "blurred", "memorizer", "real".
    control
        True for a control.
    readers, cases, answers
        How many gave an answer, to how many pairs, and how many answers there are.
    accuracy
        The share of right answers.
    d_prime
        sqrt(2) times the normal quantile of the accuracy (Macmillan & Creelman 2005, ch. 7).
    equivalence_p
        Of two one-sided tests: is the accuracy within the margin of 0.5?
    verdict
        "told": the interval is above 0.5; "reversed": it is below; "equivalent": neither, and
        `equivalence_p` is below 0.05; else "unsure".
    per_reader
        The accuracy of each reader.
    """

    group: str
    control: bool
    readers: int
    cases: int
    answers: int
    accuracy: Estimated
    d_prime: Estimated
    equivalence_p: float | None
    verdict: ReaderVerdict
    per_reader: dict[str, float]


class Bias(Record):
    """Whether readers prefer a side.

    Attributes
    ----------
    left
        The share of answers "left"; 0.5 without a preference.
    criterion
        -(z(H) + z(F)) / 2 of the answers "left" where the real one was left (H) and right (F);
        positive: the readers prefer the right side.
    """

    left: Estimated
    criterion: float


class Difference(Record):
    """Two groups, by the same readers.

    Attributes
    ----------
    what
        "accuracy", or the key of a rated item.
    first, second
        The groups; the difference is the first less the second.
    p, adjusted_p
        Two-sided; and with Holm's correction over all differences of accuracy, or over all
        differences of ratings.
    """

    what: str
    first: str
    second: str
    difference: Estimated
    p: float
    adjusted_p: float


class Rated(Record):
    """One item of the ratings.

    Attributes
    ----------
    means
        By group, the mean level.
    alpha
        Krippendorff's alpha, ordinal, over all cases.
    ac2
        Gwet's AC2, quadratic weights.
    """

    item: str
    question: str
    levels: tuple[str, ...]
    means: dict[str, Estimated]
    alpha: Estimated | None
    ac2: Estimated | None


class Repeated(Record):
    """How often a reader gave the same answer to the same volumes again.

    Attributes
    ----------
    kind
        "2afc", or the key of a rated item.
    trials
        How many trials came twice and were answered twice, over all readers.
    same
        The share of equal answers, with Wilson's interval over trials.
    """

    kind: str
    trials: int
    same: Estimated


class Drift(Record):
    """Second half of the session less the first.

    Attributes
    ----------
    accuracy
        Difference of the accuracy on generators, with a t-interval over readers; None without
        two readers that answered in both halves.
    seconds
        The median time per trial in each half.
    """

    accuracy: Estimated | None
    seconds: tuple[float, float]


class Told(Record):
    """One pair: how many readers found the real one, and what they wrote.

    Attributes
    ----------
    volume
        The name of the volume that is not real.
    """

    group: str
    volume: str
    right: int
    readers: int
    comments: tuple[str, ...]


class Answered(Record):
    """How far a reader is."""

    answered: int
    asked: int


class Analysis(RecordFile):
    """What readers saw.

    Attributes
    ----------
    study
        The sha256 of the study's key.
    margin
        Half of the width of the region of equivalence.
    readers
        By reader, how far.
    compared, differences, rated, repeated, drift, bias, told
        Empty or None where the design does not have them.
    correlations
        Of metrics with what readers saw, where scorecards were given.
    """

    what: ClassVar[str] = "the analysis of a reader study"

    schema_version: Literal[1] = 1
    study: str
    margin: float
    readers: dict[str, Answered]
    compared: tuple[Compared, ...] = ()
    bias: Bias | None = None
    differences: tuple[Difference, ...] = ()
    rated: tuple[Rated, ...] = ()
    repeated: tuple[Repeated, ...] = ()
    drift: Drift | None = None
    told: tuple[Told, ...] = ()
    correlations: tuple[ReaderCorrelation, ...] = ()
    real_fingerprint: str
    fingerprints: dict[str, str]

    @classmethod
    def remedy(cls, file: Path) -> str:
        """Return the sentence that says how to get a usable file."""
        return "Write one: synthbench readers analyse STUDY --out analysis.json"
