"""Conditional generators: measured against requested conditions, and effects of covariates."""
