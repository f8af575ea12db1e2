"""Known damage to real volumes."""
