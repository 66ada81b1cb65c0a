"""`python -m sim` is `equiran`."""

from sim.cli import main

main()
