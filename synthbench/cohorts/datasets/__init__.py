"""Datasets as they are distributed, and the scans chosen from them."""
