"""Volumes as arrays on grids, and the template that they are compared with."""
