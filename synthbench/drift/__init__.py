"""Drift: a difference between two scorecards that is not noise."""
