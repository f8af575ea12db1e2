"""Cohorts: reading, checking, splitting, preparing."""
