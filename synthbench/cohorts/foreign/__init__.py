"""Volumes that were made elsewhere: what is wrong with them, and the rules that bring them in."""
