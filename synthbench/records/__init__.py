"""Records: what is written of a scoring, typed and versioned."""
