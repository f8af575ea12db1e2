"""Training: from a cohort to a run folder."""

from synthbench.training.training import train

__all__ = ["train"]
