"""Preflight: rules that volumes must pass before anything is computed."""
