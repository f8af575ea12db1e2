"""Metrics of measures that a person can name: limits of anatomy, image quality."""
