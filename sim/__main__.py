"""`python -m sim` is `nexttrial`."""

from sim.cli import main

main()
