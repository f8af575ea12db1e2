"""Cards that regulators and journals ask for, filled from a scorecard."""
