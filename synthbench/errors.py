"""The exceptions that synthbench raises on purpose, and their exit codes.

Every message names the parameter or file, the rule, what was found, and the next step.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class SynthbenchError(Exception):
    """Something could not be run; the command line exits with `exit_code`."""

    exit_code = 2


class UsageError(SynthbenchError):
    """An argument, option or configuration value is not usable."""


class CohortError(SynthbenchError):
    """A cohort, or a file in it, cannot be used as it is."""


class MetricError(SynthbenchError):
    """A metric cannot be computed from its input.

    Parameters
    ----------
    message
        For the person who scores; it may name files. It is printed, and no record holds it.
    code, numbers
        What a record may hold of it: a key of `synthbench.records.reasons.REASONS`, and the
        numbers in its words.
    """

    def __init__(self, message: str = "", code: str = "refused", **numbers: float) -> None:
        super().__init__(message)
        self.code, self.numbers = code, numbers

    def at(self, where: str) -> MetricError:
        """Return the same error with the place that it is about before the message."""
        return MetricError(f"{where}: {self}", self.code, **self.numbers)


class WeightsError(SynthbenchError):
    """An extractor's weights are absent, or are not the ones that the protocol names."""


class RunError(SynthbenchError):
    """A run folder, or a checkpoint in it, cannot be used."""


class InUseError(SynthbenchError):
    """Another process writes into the same folder, or writes the same file."""


class Stopped(SynthbenchError):
    """A signal stopped the work; its results so far are kept. The exit code is 128 + the signal."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal


class ScorecardError(SynthbenchError):
    """A scorecard or benchmark is unreadable, or does not fit the data it is used with."""


class CheckFailed(SynthbenchError):
    """A check ran and failed (exit code 1): a stale leaderboard, a drift."""

    exit_code = 1


def near_miss(wrong: str, known: Iterable[str]) -> str:
    """Return the end of an error message: the closest known name, or all of them.

    >>> near_miss("ddmp3d", ["ddpm3d", "noise"])
    "did you mean 'ddpm3d'?"
    >>> near_miss("x", ["ddpm3d", "noise"])
    'known: ddpm3d, noise.'
    """
    names = sorted(known)
    close = get_close_matches(wrong, names, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(names)}."
