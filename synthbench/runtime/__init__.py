"""Files, threads, processes, progress and callbacks."""
