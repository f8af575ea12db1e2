"""Diffusion: noise schedules, the training loss, samplers, guidance."""
