"""Metrics: named statistics of (real, synth), each a function of weights over images."""

if __name__ != "synthbench.metrics":
    raise ImportError(f"import synthbench.metrics, not {__name__}: one name, one module")
