"""Measured against requested: condition adherence and effects."""
