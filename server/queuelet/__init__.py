"""Queuelet: message queues for Kubernetes and laptops.

This package has the server, the client and the command line; the operator is a package of its own.
"""

from importlib.metadata import version

__version__ = version("queuelet")
