"""`python -m runner.simulator`."""

from runner.simulator.process import main

main()
