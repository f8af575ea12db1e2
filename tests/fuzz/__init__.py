"""Fuzzing: damaged and hostile files for every parser, from small files that are made in code."""
