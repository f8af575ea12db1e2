"""Tests of synthbench.metrics.blocked."""
