"""Cohorts: reading, checking, splitting and preparing them; their conditions and datasets."""
