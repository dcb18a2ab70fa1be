"""Runs the command line: `python -m queuelet` is the same as `queuelet`."""

from queuelet.cli import main

main()
