"""Sensitivity: what metrics show of known damage."""
