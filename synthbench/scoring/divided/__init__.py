"""Scorings that are divided among jobs."""
