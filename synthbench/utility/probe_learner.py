"""A learner on features: a linear probe, and its augmented volumes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from synthbench.generators.loop.augmentation import AugmentationSettings, augment
from synthbench.metrics.inference.downstream import Predictions
from synthbench.utility.arms import Portion
from synthbench.utility.cohorts import Labelled
from synthbench.utility.probe import Kept, Part, Task, left_out, predict
from synthbench.volumes.grid import Space
from synthbench.volumes.sets import Readable, identity_of, name_of

AUGMENTATION = AugmentationSettings(flip=True, affine=5.0)
"""Classical augmentation, the control: mirrors, rotations by up to 5 degrees, scales by up to 5%,
shifts by up to 2.5% of a side."""


@dataclass(frozen=True)
class ProbeLearner:
    """The probe on extracted features.

    Attributes
    ----------
    sources
        Labels and subjects of "real", "synth" and "test".
    features
        By source, one row per volume.
    copies
        Features of changed copies of the real volumes, one matrix per round of copies.
    task
        Classification or regression.
    refits
        Number of fits on random halves of the training subjects.
    seed
        Seed of the folds and the halves.
    """

    sources: Mapping[str, Labelled]
    features: Mapping[str, Float64[np.ndarray, "n d"]]
    copies: Sequence[Float64[np.ndarray, "n d"]]
    task: Task
    refits: int
    seed: int = 0

    def predict(
        self, portions: Sequence[Portion], tested: str, rows: Int64[np.ndarray, " m"]
    ) -> Predictions:
        """Return predictions of volumes, from fits on the portions and on halves of subjects."""
        originals = [self._part(portion) for portion in portions]
        parts = list(originals)
        several = len(portions) > 1
        for index, portion in enumerate(portions):
            # Real training volumes decide the penalty where there are any: tests are on real ones.
            if several and portion.source == "synth":
                parts[index] = _unjudged(parts[index])
            parts += self._copies(portion)
        kept: Kept = left_out(originals, self.task, self.refits, self.seed)
        return predict(parts, self.features[tested][rows], self.task, kept, self.seed)

    def _part(self, portion: Portion) -> Part:
        source = self.sources[portion.source]
        return Part(
            portion.source, self.features[portion.source][portion.rows],
            source.labels[portion.rows], source.subjects[portion.rows],
        )  # fmt: skip

    def _copies(self, portion: Portion) -> Iterator[Part]:
        """Yield changed copies, round by round, up to the number of the portion."""
        source, remaining = self.sources[portion.source], portion.augmented
        for features in self.copies:
            rows = portion.rows[:remaining]
            if len(rows):
                yield Part(
                    portion.source, features[rows], source.labels[rows], source.subjects[rows],
                    judged=False,
                )  # fmt: skip
            remaining -= len(rows)


def _unjudged(part: Part) -> Part:
    return Part(part.source, part.features, part.labels, part.subjects, judged=False)


@dataclass(frozen=True)
class Augmented:
    """Volumes after a random mirror and a small affine, computed when they are read.

    Attributes
    ----------
    volumes
        The originals.
    round
        Number of the round of copies: each round has other random changes.
    seed
        Seed of the changes.
    """

    volumes: Readable
    round: int
    seed: int

    @property
    def space(self) -> Space:
        """The grid of every volume."""
        return self.volumes.space

    def name(self, index: int) -> str:
        """Return the volume's name for messages."""
        return f"{name_of(self.volumes, index)}, augmented"

    def identity(self, index: int) -> str | None:
        """Return what the changed voxels depend on; None where it is not known."""
        original = identity_of(self.volumes, index)
        drawn = f"{AUGMENTATION.model_dump_json()}, round {self.round}, {index}, seed {self.seed}"
        return None if original is None else f"augmented by {drawn}: {original}"

    def __len__(self) -> int:
        return len(self.volumes)

    def __getitem__(self, index: int) -> Float32[np.ndarray, "d h w"]:
        import torch

        key = np.random.SeedSequence([self.seed, self.round, index]).generate_state(1)[0]
        draws = torch.Generator().manual_seed(int(key))
        volume = torch.from_numpy(self.volumes[index])[None, None]
        changed = augment(volume, AUGMENTATION, [draws], self.space.spacing)
        found: Float32[np.ndarray, "d h w"] = changed[0, 0].numpy()
        return found

    def __iter__(self) -> Iterator[Float32[np.ndarray, "d h w"]]:
        for index in range(len(self)):
            yield self[index]
