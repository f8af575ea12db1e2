"""Diffusion: schedules, training objective, samplers."""
