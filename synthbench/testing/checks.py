"""Constants and functions that the checks of metrics, generators and extractors share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

GRID = (48, 48, 48)
"""Shape of the simulated volumes."""

ROUNDING = 1e-12
"""Relative difference between two sums of the same numbers in different orders."""


@contextmanager
def nothing_raised(name: str, part: str) -> Iterator[None]:
    """Raise an AssertionError that names the part of the contract in which the plugin failed."""
    try:
        yield
    except Exception as error:
        raise AssertionError(f"{name}: {part} raised {type(error).__name__}: {error}") from error


def letters(text: str) -> str:
    """Return the letters and digits in lower case, so that "MS-SSIM" matches ms_ssim."""
    return "".join(c for c in text.lower() if c.isalnum())
