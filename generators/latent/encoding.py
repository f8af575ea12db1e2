"""The encoding of conditions: the numbers that the network gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from synthbench.cohorts.conditions import Conditions, Row
from synthbench.errors import RunError, UsageError
from synthbench.generators.latent.settings import LDM3DSettings
from synthbench.runs.folder import Run


@dataclass(frozen=True)
class ConditionEncoding:
    """The encoding of rows of conditions as numbers for the network.

    Without a null embedding, a row is its values between 0 and 1, as in the published network.
    With one, a row is k values from -gain to gain, 0 where missing, then k flags, `gain` where
    missing. The network learns the weights of the flags: they are the null embedding. So no value,
    however far outside the training range, can be mistaken for a missing one. The gain is needed
    because the noise beside values between 0 and 1 would hide them for hundreds of steps.

    Attributes
    ----------
    conditions
        Conditions of the run.
    null_embedding
        True where there are flags.
    gain
        Half the width of the range of the values (`LDM3DSettings.condition_gain`).
    """

    conditions: Conditions
    null_embedding: bool
    gain: float = 1.0

    @property
    def width(self) -> int:
        """The number of columns of the encoded conditions."""
        return self.conditions.width * (2 if self.null_embedding else 1)

    @property
    def unconditional(self) -> Float32[np.ndarray, " k"]:
        """The row of no condition."""
        absent = np.zeros(self.width, np.float32)
        absent[self.conditions.width :] = self.gain
        return absent

    @property
    def hidden(self) -> Float32[np.ndarray, " k"] | None:
        """The row that replaces hidden conditions in training; None without a null embedding."""
        return self.unconditional if self.null_embedding and self.width else None

    def rows(self, rows: Sequence[Row]) -> Float32[np.ndarray, "n k"]:
        """Return the encoded conditions of rows in natural units.

        Raises
        ------
        UsageError
            A row has other conditions, or a value is missing without a null embedding.
        """
        values, present = self.conditions.encode(rows)
        if self.null_embedding:
            scaled = np.where(present, 2 * values - 1, 0)
            return (self.gain * np.concatenate([scaled, ~present], axis=1)).astype(np.float32)
        if not present.all():
            of = [c.name for c in self.conditions.conditions for _ in c.columns]
            missing = sorted({of[column] for column in np.nonzero(~present)[1]})
            raise UsageError(
                f"conditions: {', '.join(missing)}: this network has no null embedding, so every "
                "condition needs a value."
            )
        return values


def encoding_of(settings: LDM3DSettings, run: Run) -> ConditionEncoding:
    """Return the encoding of a run's conditions.

    Raises
    ------
    RunError
        The conditions of the run's record are not those of the settings.
    """
    conditions = Conditions.of_run(run.record)
    if conditions.names != settings.conditions:
        raise RunError(
            f"{run.folder}: its record holds the conditions {list(conditions.names)}, its "
            f"configuration {list(settings.conditions)}. Train it with synthbench.train, which "
            "writes both."
        )
    return ConditionEncoding(conditions, settings.null_embedding, settings.condition_gain)
