"""Structural similarity over pairs of volumes."""
