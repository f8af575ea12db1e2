"""Nearest neighbours among training and hold-out images."""
