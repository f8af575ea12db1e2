"""How synthbench runs on a machine: files, processes, progress and callbacks."""
