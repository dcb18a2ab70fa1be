"""Queuelet: message queues for Kubernetes and laptops.

This package is everything about queues: server, client and command line.
"""

from importlib.metadata import version

__version__ = version("queuelet")
