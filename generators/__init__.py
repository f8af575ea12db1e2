"""Generators: plugins that fit on a cohort and sample volumes."""

if __name__ != "synthbench.generators":
    raise ImportError(f"import synthbench.generators, not {__name__}: one name, one module")
