"""What synthbench writes down: typed records, their files, and how old files are read."""
