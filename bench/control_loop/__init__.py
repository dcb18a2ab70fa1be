"""The cost of the operator, compared with a client that only writes, and with NACK on the same API server."""
