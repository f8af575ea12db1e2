"""Tests of paired measures of whole cohorts."""
