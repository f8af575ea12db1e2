"""Extractors: networks or formulas that turn a volume into a feature vector."""

if __name__ != "synthbench.metrics.extractors":
    raise ImportError(f"import synthbench.metrics.extractors, not {__name__}")
