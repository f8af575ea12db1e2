"""Adversarial networks of volumes: a generator, its discriminator, and their losses."""
