"""Checks that a plugin meets its contract: the message of an AssertionError tells what to fix."""

from synthbench.testing.extractors import check_extractor
from synthbench.testing.generators import check_generator
from synthbench.testing.metrics import check_metric

__all__ = ["check_extractor", "check_generator", "check_metric"]
