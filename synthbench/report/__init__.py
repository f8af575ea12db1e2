"""Scorecards for people: tables, sentences, the HTML report."""
