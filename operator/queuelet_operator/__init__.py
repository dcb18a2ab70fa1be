"""Queues as Kubernetes manifests: everything about Kubernetes, and nothing about how queues work.

The operator comes in the next release. It will watch `Queue` objects and make the queues of a running server match
them, through `queuelet.client` like any other user of the server.
"""
