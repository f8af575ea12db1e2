"""Statistics of large sets, computed in blocks of rows: no matrix over pairs of images is held."""
