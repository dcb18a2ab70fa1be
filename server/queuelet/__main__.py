"""`python -m queuelet` is `queuelet`."""

from queuelet.cli import main

main()
