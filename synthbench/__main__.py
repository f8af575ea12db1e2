"""`python -m synthbench`, which `accelerate launch -m synthbench` needs."""

from synthbench.cli import main

main()
