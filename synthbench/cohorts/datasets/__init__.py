"""Public datasets in the layouts of their downloads, and the selection of scans from them."""
