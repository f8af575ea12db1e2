"""Corruptions: known damage to real volumes, in doses."""
