"""`python -m synthbench`, which `accelerate launch -m synthbench` needs."""

from __future__ import annotations

from synthbench.cli.app import main

main()
