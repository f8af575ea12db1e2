"""Scoring: from two cohorts to a scorecard."""
