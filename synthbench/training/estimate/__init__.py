"""The estimate of a training: memory and time."""
