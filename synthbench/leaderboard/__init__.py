"""Leaderboards: scorecards of one benchmark, ranked."""
