"""Benchmarks: a protocol frozen on one real cohort, in a YAML file that is enough to re-run it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from synthbench.cohort import Cohort
from synthbench.errors import ScorecardError
from synthbench.files import write_atomic
from synthbench.scorecard import ExtractorRecord, MaskRecord, Protocol

FILE = "benchmark.yaml"


class Benchmark(BaseModel):
    """A protocol frozen on one real cohort.

    Attributes
    ----------
    name
        As the leaderboard's folder.
    primary
        The metric that entries are ordered by.
    real_fingerprint, real_subjects
        Of the real cohort.
    protocol
        Every setting that can change a number.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    primary: str
    real_fingerprint: str
    real_subjects: int
    protocol: Protocol

    @classmethod
    def opened(cls, benchmark: Path | Benchmark) -> Benchmark:
        """Return a benchmark, read where it is named by its folder (see `load`)."""
        return benchmark if isinstance(benchmark, Benchmark) else cls.load(Path(benchmark))

    @classmethod
    def load(cls, folder: Path) -> Benchmark:
        """Read `benchmark.yaml` from a benchmark's folder, or the file itself.

        Raises
        ------
        ScorecardError
            It is not there, or not readable.
        """
        file = folder / FILE if folder.is_dir() else folder
        try:
            return cls.model_validate(yaml.safe_load(file.read_text()))
        except OSError as error:
            raise ScorecardError(
                f"{file}: cannot be read: {error.strerror}. "
                "Make a benchmark with synthbench benchmark init."
            ) from error
        except (ValidationError, yaml.YAMLError) as error:
            first = str(error).splitlines()[:3]
            raise ScorecardError(f"{file}: not a benchmark: {' '.join(first)}") from error

    def save(self, folder: Path) -> Path:
        """Write `benchmark.yaml`; a benchmark that is there is never overwritten.

        Raises
        ------
        ScorecardError
            It exists already.
        """
        file = folder / FILE
        if file.exists():
            raise ScorecardError(
                f"{file}: already there. A benchmark is frozen once: name another one."
            )
        folder.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, width=100)
        write_atomic(file, text.encode())
        return file

    def check_real(self, real: Cohort) -> None:
        """Raise where the real cohort is not the one that the benchmark was frozen on."""
        if real.fingerprint != self.real_fingerprint:
            raise ScorecardError(
                f"benchmark {self.name} was frozen on another real cohort: its fingerprint is "
                f"{self.real_fingerprint[:12]}... (n = {self.protocol.n_real}), this one's is "
                f"{real.fingerprint[:12]}... (n = {len(real)}). Score against that cohort."
            )

    def check_scaling(self, rule: str) -> None:
        """Raise where this version's intensity rule is not the frozen one."""
        if rule != self.protocol.space.scaling:
            raise ScorecardError(
                f"benchmark {self.name} was frozen with intensities "
                f"'{self.protocol.space.scaling}'; this version of synthbench has '{rule}'. "
                "Use the version that froze it, or freeze a new benchmark."
            )

    def check_mask(self, mask: MaskRecord) -> None:
        """Raise where the mask is not the frozen one."""
        if mask != self.protocol.mask:
            raise ScorecardError(
                f"benchmark {self.name}: the mask differs from the frozen one ({mask.voxels} "
                f"voxels, then {self.protocol.mask.voxels}): a library resamples differently. "
                "Compare the versions in the scorecards."
            )

    def check_extractors(self, records: Sequence[ExtractorRecord]) -> None:
        """Raise where an extractor's weights, layer or preprocessing are not the frozen ones."""
        for frozen, found in zip(self.protocol.extractors, records, strict=True):
            if frozen != found:
                differs = [
                    f"{field} {getattr(found, field)} instead of {getattr(frozen, field)}"
                    for field in ExtractorRecord.model_fields
                    if getattr(frozen, field) != getattr(found, field)
                ]
                raise ScorecardError(
                    f"benchmark {self.name}: the extractor {frozen.name} has {', '.join(differs)}."
                )
