"""Typed records of what synthbench finds: their fields, their files, and upgrades of old files."""
