"""Sampling: from a run folder to volumes."""
