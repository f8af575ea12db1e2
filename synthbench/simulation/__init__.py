"""Simulated brains with known age, sex and volumes."""
