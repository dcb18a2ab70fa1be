"""Forwarding: several servers share the queues of a database, and each serves any queue by calling its owner."""
