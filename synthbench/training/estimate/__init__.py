"""What a training would take: memory and time."""
