"""The key of a row in records: a metric, one of its parts, and the extractor that it works on."""

from __future__ import annotations

from typing import NamedTuple, Self

_PART, _EXTRACTOR = ".", " | "


class JobKey(NamedTuple):
    """A metric, its part where the row is one, and the extractor where it works on features.

    Examples
    --------
    >>> str(JobKey("fid", extractor="qiu2022")), str(JobKey("ms_ssim", "synth"))
    ('fid | qiu2022', 'ms_ssim.synth')
    >>> JobKey.parse("spectrum.seam_z")
    JobKey(metric='spectrum', part='seam_z', extractor=None)
    """

    metric: str
    part: str | None = None
    extractor: str | None = None

    @classmethod
    def parse(cls, text: str, extractor: str | None = None) -> Self:
        """Return the key from its text, as `str` writes it.

        Parameters
        ----------
        text
            A key, or the name of a row ("ms_ssim.synth").
        extractor
            Of the row, where its name stands without one.
        """
        # Names of metrics contain neither sign; the name of an extractor may contain a dot.
        name, _, named = text.partition(_EXTRACTOR)
        metric, _, part = name.partition(_PART)
        return cls(metric, part or None, named or extractor)

    @property
    def row(self) -> str:
        """The name of the row, without its extractor: "ms_ssim.synth"."""
        return self.metric if self.part is None else f"{self.metric}{_PART}{self.part}"

    @property
    def job(self) -> JobKey:
        """The key of the whole metric, which protocols and sample data use."""
        return JobKey(self.metric, None, self.extractor)

    @property
    def source(self) -> str:
        """The source of the metric's matrices: the extractor, or the metric itself on volumes."""
        return self.extractor or self.metric

    def __str__(self) -> str:
        return self.row if self.extractor is None else f"{self.row}{_EXTRACTOR}{self.extractor}"
