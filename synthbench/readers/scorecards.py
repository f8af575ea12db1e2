"""What readers saw, in the scorecards of the volumes that they saw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from synthbench.errors import ScorecardError, UsageError
from synthbench.readers.results import Analysis
from synthbench.records.readers import ReaderComparison, ReaderRating, ReaderResult
from synthbench.records.scorecard import Scorecard
from synthbench.records.verdict import add_readers
from synthbench.report.readers import correlations


def result_of(found: Analysis, fingerprint: str, what: str) -> ReaderResult:
    """Return what readers saw of the volumes with a fingerprint.

    Parameters
    ----------
    found
        The analysis of a study.
    fingerprint
        Of all volumes of a generator.
    what
        What has the fingerprint: the start of the message of an error.

    Raises
    ------
    ScorecardError
        Readers saw other volumes, or have not answered anything about these.
    """
    names = [name for name, own in found.fingerprints.items() if own == fingerprint]
    if not names:
        shown = ", ".join(f"{name} {own[:12]}" for name, own in found.fingerprints.items())
        raise ScorecardError(
            f"{what}: readers saw other volumes (fingerprint {fingerprint[:12]}; in the study: "
            f"{shown}). Name the volumes, or the analysis, of the same generator."
        )
    name = names[0]
    ratings = tuple(
        ReaderRating(
            item=one.item, question=one.question, levels=one.levels, mean=one.means[name],
            real=one.means.get("real"), alpha=one.alpha, ac2=one.ac2,
        )
        for one in found.rated if name in one.means
    )  # fmt: skip
    compared = {one.group: one for one in found.compared if not one.control}.get(name)
    if compared is None and not ratings:
        raise ScorecardError(f"{what}: no reader has answered anything about {name} yet.")
    return ReaderResult(
        study=found.study,
        generator=name,
        readers=sum(one.answered > 0 for one in found.readers.values()),
        comparison=None if compared is None else ReaderComparison(
            readers=compared.readers, cases=compared.cases, accuracy=compared.accuracy,
            equivalence_p=compared.equivalence_p, margin=found.margin, verdict=compared.verdict,
        ),
        controls={one.group: one.accuracy for one in found.compared if one.control},
        ratings=ratings,
        real_fingerprint=found.real_fingerprint,
    )  # fmt: skip


def add_to_scorecards(found: Analysis, files: Sequence[Path]) -> Analysis:
    """Write what readers saw into scorecards of the same volumes.

    All files are checked before one is changed.

    Returns
    -------
    The analysis with the correlations of the metrics of these scorecards.

    Raises
    ------
    ScorecardError
        A file is no scorecard, is of volumes that readers did not see, or of a draw from them.
    UsageError
        The scorecards cannot be compared: they have several protocols or real cohorts, or one
        file is named twice.
    """
    cards = {file: Scorecard.load(file) for file in files}
    if len(cards) < len(files):
        raise UsageError("--scorecard: a file is named twice.")
    results = {}
    for file, card in cards.items():
        if card.synth.available != card.synth.drawn:
            raise ScorecardError(
                f"{file}: {card.synth.drawn} of {card.synth.available} volumes were drawn for it, "
                "so it cannot be seen here whether readers saw the same set. Score again with "
                "synthbench score --readers ANALYSIS, which has all volumes."
            )
        results[file] = result_of(found, card.synth.fingerprint, str(file))
    compared = {(card.protocol.hash, card.real.fingerprint) for card in cards.values()}
    if len(compared) > 1:
        raise UsageError(
            f"--scorecard: the {len(cards)} scorecards have {len(compared)} protocols or real "
            "cohorts, so their values cannot be compared. Name those of one protocol and one real "
            "cohort."
        )
    for file, result in results.items():
        add_readers(file, result)
    seen = [card.model_copy(update={"readers": results[file]}) for file, card in cards.items()]
    return found.model_copy(update={"correlations": tuple(correlations(seen))})
