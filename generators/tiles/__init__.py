"""The parts of `dit-tiles`: tiling, labels, networks, samples, published weights."""
