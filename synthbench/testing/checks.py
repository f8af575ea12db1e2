"""What the checks of metrics, generators and extractors share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

GRID = (48, 48, 48)
"""Shape of the simulated volumes."""

ROUNDING = 1e-12
"""Relative difference that one sum in another order may make."""


@contextmanager
def nothing_raised(name: str, part: str) -> Iterator[None]:
    """Turn an error of the plugin into one that names the part of the contract."""
    try:
        yield
    except Exception as error:
        raise AssertionError(f"{name}: {part} raised {type(error).__name__}: {error}") from error


def letters(words: str) -> str:
    """The letters and digits alone: "MS-SSIM" names ms_ssim."""
    return "".join(c for c in words.lower() if c.isalnum())
