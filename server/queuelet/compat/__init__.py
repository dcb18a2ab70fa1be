"""The protobuf of negz/q, generated from q.proto, for reflection: calls to its service are served from queuelet.v1."""
